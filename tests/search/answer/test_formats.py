"""Formats searched with the shape: exactness against searching each alone, prices, words."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.mixes import mix
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.format_choice import fallback
from shapelaw.search.answer.query import answer_command
from shapelaw.search.architectures import load_architecture
from shapelaw.search.pareto.priced_law import PricedLaw

pytestmark = pytest.mark.usefixtures("exact_devices")

SPACE = """
name = "small"
d_model = [512, 576, 1024, 1600]
n_blocks = [8, 16, 24]
gqa_group = 4
head_dim = 64
mlp_attention_ratio = [2, 4]
vocab_size = 32000
"""
FORMATS = "q8_0,q4_k_m,q4_0,q2_k"


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "small.toml"
    path.write_text(SPACE)
    return path


def ask(space: Path, device: str = "m2", **options: Any) -> Answer:
    asked: dict[str, Any] = {"law": "reference", "memory": "400MB", "tokens": "1T"} | options
    return answer_command(device, space=str(space), **asked)


@pytest.fixture(scope="module")
def together(space: Path, exact_devices: None) -> Answer:
    return ask(space, formats=FORMATS)


def test_the_joint_optimum_is_the_best_of_the_formats(space: Path, together: Answer) -> None:
    alone = {name: ask(space, formats=name).best.loss for name in FORMATS.split(",")}
    assert {o.format: o.loss for o in together.formats} == pytest.approx(alone)
    assert together.best.loss == pytest.approx(min(alone.values()))
    assert [o.format for o in together.formats if o.chosen] == [min(alone, key=lambda n: alone[n])]


def test_losses_hold_the_price_and_the_answer_says_so(together: Answer) -> None:
    found = together.to_dict()
    best = found["best"]
    price = best["format_price"]
    assert price["in_loss"]
    assert price["interval"][0] < price["nats"] < price["interval"][1]
    assert "published" in price["source"]
    one = ArchitectureBatch.of([together.best.architecture])
    bare = load_law("reference").loss_draws(one, 1e12).mean()
    assert best["loss"] - bare == pytest.approx(price["nats"], rel=0.1)
    low, high = best["loss_interval"]
    bare_low, bare_high = load_law("reference").interval(one, 1e12)
    assert high - low > bare_high[0] - bare_low[0]
    assert [option["format"] for option in found["formats"]] == FORMATS.split(",")
    assert best["file_bytes"] < 400e6


def test_what_a_format_costs_and_gains(together: Answer) -> None:
    by_name = {option.format: option for option in together.formats}
    assert by_name["q8_0"].trade is None
    for name in ("q4_k_m", "q4_0", "q2_k"):
        trade, wide = by_name[name].trade, by_name["q8_0"]
        assert trade is not None
        assert trade.beside == "q8_0"
        # By all draws; the losses compared are means over the few that stand for them.
        assert trade.gain - trade.cost == pytest.approx(wide.loss - by_name[name].loss, abs=2e-3)
        price, wide_price = by_name[name].price, wide.price
        assert price is not None
        assert wide_price is not None
        assert trade.cost == pytest.approx(price.nats - wide_price.nats, rel=0.05)
        assert trade.net_interval is not None
        assert trade.net_interval[0] < trade.gain - trade.cost < trade.net_interval[1]


def test_prices_rise_with_tokens_and_the_choice_follows(together: Answer) -> None:
    rows = together.format_by_tokens
    assert [row["tokens_per_parameter"] for row in rows][:: len(rows) - 1] == [20, 5000]
    for name in FORMATS.split(","):
        prices = [row["prices"][name] for row in rows]
        assert prices == sorted(prices)
        assert prices[-1] > 3 * prices[0]
    # The narrower the format, the sooner tokens make it too dear: never back to it.
    width = {name: place for place, name in enumerate(("q2_k", "q4_0", "q4_k_m", "q8_0"))}
    chosen = [width[row["format"]] for row in rows]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]


def test_the_pick_changes_its_format_with_the_tokens(space: Path, together: Answer) -> None:
    early = ask(space, formats=FORMATS, tokens="4.2B")
    picks = [
        next(o.format for o in answer.formats if o.chosen)
        for answer in (early, together)  # 20 and 5,000 tokens a parameter
    ]
    assert picks == ["q4_k_m", "q8_0"]


def test_a_format_is_costed_with_an_engine_that_reads_it(space: Path) -> None:
    answer = ask(space, formats="q4_k_m,int8", device="iphone-13", memory="380MB")
    by_name = {option.format: option for option in answer.formats}
    assert by_name["q4_k_m"].engine.startswith("llama.cpp")
    assert by_name["int8"].engine.startswith("ExecuTorch")
    assert any("q4_k_m: ExecuTorch" in warning for warning in answer.warnings)
    assert answer.device.engine == next(o.engine for o in answer.formats if o.chosen)
    with pytest.raises(BadInput, match=r"q4_k_m.*no file of it runs.*MLX"):
        ask(space, formats="q4_k_m", device="m2@mlx")


def test_a_price_that_nobody_measured_is_no_pick_below_8_bits(space: Path) -> None:
    asked = {"formats": "int4_g32", "memory": "240MB", "tokens": "20B", "law": "evidence"}
    answer = ask(space, device="iphone-13", **asked)
    by_name = {option["format"]: option for option in answer.to_dict()["formats"]}
    assert by_name["int8"]["chosen"]
    assert not by_name["int4_g32"]["chosen"]
    assert not by_name["int4_g32"]["price_known"]
    assert by_name["int4_g32"]["loss"] < by_name["int8"]["loss"]
    assert any("int4_g32: nobody published" in warning for warning in answer.warnings)


def test_a_format_by_name_only_is_told_from_one_that_stores_its_type() -> None:
    wide = load_architecture("mobilellm-125m")  # 576: rows of no whole super-blocks
    aligned = dataclasses.replace(wide, d_model=768, n_heads=12, n_kv_heads=4, d_ff=1536)
    assert fallback(mix("q2_k"), wide) == pytest.approx(4.23, abs=0.01)  # but for its down matrices
    assert fallback(mix("q2_k"), aligned) is None
    assert fallback(mix("q4_k_m"), wide) is None
    assert fallback(mix("q4_0"), wide) is None


def test_bits_name_the_usual_format(space: Path) -> None:
    assert ask(space, bits="8").to_dict()["best"]["format"] == "q8_0"
    assert ask(space, bits="4").to_dict()["best"]["format"] == "q4_k_m"
    plain = ask(space).to_dict()["best"]
    assert plain["format"] == "q8_0"
    assert plain["format_price"]["nats"] < 0.005
    assert not plain["format_price"]["in_loss"]


def test_a_format_that_does_not_fit_is_said(space: Path) -> None:
    answer = ask(space, formats="f16,q2_k", memory="105MB")
    by_name = {option["format"]: option for option in answer.to_dict()["formats"]}
    assert not by_name["f16"]["feasible"]
    assert by_name["f16"]["loss"] is None
    assert by_name["q2_k"]["chosen"]


def test_words_that_mean_no_format(space: Path) -> None:
    with pytest.raises(BadInput, match=r"q9.*q8_0"):
        ask(space, formats="q9")
    with pytest.raises(BadInput, match="name one of them"):
        ask(space, formats="q8_0", bits="8")
    with pytest.raises(BadInput, match="one or more"):
        ask(space, formats=" , ")


def test_draws_of_law_and_price_meet_one_to_one() -> None:
    law, prices = load_law("reference"), public_format_prices()
    priced = PricedLaw(law, mix("q4_k_m"), prices)
    batch = ArchitectureBatch.of([load_architecture("mobilellm-125m")])
    bare, both = law.loss_draws(batch, 1e12), priced.loss_draws(batch, 1e12)
    cost = (both - bare)[:, 0]
    drawn = prices.draws(mix("q4_k_m"), batch, 1e12)[:, 0]
    assert cost == pytest.approx(np.resize(drawn, len(bare)))
    assert math.isclose(
        priced.loss(batch, 1e12)[0] - law.loss(batch, 1e12)[0], drawn.mean(), rel_tol=0.06
    )
    assert dataclasses.replace(priced, mix=mix("f32")).loss(batch, 1e12) == law.loss(batch, 1e12)


def test_a_cache_of_fewer_bits_is_priced_and_leaves_room(space: Path) -> None:
    asked = {"formats": "q8_0", "workload": "long-context", "memory": "3GB"}
    wide, narrow = (ask(space, kv_format=name, **asked) for name in (None, "q8_0"))
    best = narrow.to_dict()["best"]
    assert wide.to_dict()["best"]["kv_format"] == "f16"
    assert best["kv_format"] == "q8_0"
    assert best["kv_bits"] == 8.5
    price = best["kv_format_price"]
    assert price["interval"][0] < price["nats"] < price["interval"][1]
    shape = np.array([wide.best.weight_bits])
    batch = ArchitectureBatch.of([wide.best.architecture])
    held, less = (each.problem.cost(batch, shape, ("memory_bytes",)) for each in (wide, narrow))
    assert less["memory_bytes"] < held["memory_bytes"]
    paid = narrow.problem.law.loss(batch, 1e12) - wide.problem.law.loss(batch, 1e12)
    assert paid == pytest.approx(price["nats"], abs=3e-4)
    with pytest.raises(BadInput, match="keeps f16, q8_0"):
        ask(space, kv_format="fp8")
