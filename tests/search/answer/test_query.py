"""Queries against brute force, their budgets, and what they say of themselves."""

import dataclasses
import json
import subprocess
import sys
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.query import (
    Budget,
    Infeasible,
    answer_command,
    feasible_architectures,
    query,
)
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import costs
from shapelaw.search.space.space import Pattern, Range, Space
from shapelaw.search.workload import load_workload
from tests.published_law import LITERATURE

pytestmark = pytest.mark.usefixtures("exact_devices")

PHONE = Space(
    name="small-phone",
    d_model=Range(256, 1536, 128),
    n_blocks=Range(4, 40, 4),
    sharing=[1, 2, 3],
    gqa_group=[1, 2, 3, 4],
    mlp_attention_ratio=Range(0.5, 5, 0.5),
    weight_bits=[4, 8],
)

WINDOWS = Space(
    name="windows",
    d_model=Range(512, 3072, 256),
    n_blocks=Range(8, 32, 8),
    sharing=[1, 2],
    head_dim=[64, 128],
    gqa_group=[1, 4],
    mlp_attention_ratio=Range(0.5, 6, 0.25),
    attention=["full", Pattern(512, 4), Pattern(256)],
    vocab_size=[32_000, 128_256],
)

SERVER = Space(
    name="server",
    d_model=Range(1024, 8192, 512),
    n_blocks=Range(8, 64, 4),
    sharing=[1, 2],
    head_dim=[64, 128],
    gqa_group=[1, 4, 8],
    attention_width=[0.5, 1, 2],
    mlp_attention_ratio=Range(0.5, 6, 0.5),
    weight_bits=[8, 16],
)

SMALL_BUDGET = Budget(memory_bytes="400MB", decode_tokens_per_s=20, tokens=1e12)


@dataclasses.dataclass
class Table:
    """Every point of a space, priced by the cost model's own front door and the law."""

    batch: ArchitectureBatch
    bits: np.ndarray
    columns: dict[str, np.ndarray]

    @classmethod
    def of(cls, answer: Answer) -> "Table":
        batches = list(answer.space.enumerate(10**9))
        assert len(batches) == 1
        batch, bits = batches[0]
        found = costs(batch, answer.device, answer.workload, weight_bits=bits)
        tokens = answer.problem.budget.training_tokens(batch)
        columns = {
            name: getattr(found, name)
            for name in (
                "decode_tokens_per_s",
                "ttft_s",
                "memory_bytes",
                "energy_per_token_j",
                "decode_s",
            )
        }
        columns["loss"] = answer.problem.law.loss(batch, tokens)
        mean = load_law(LITERATURE).loss_draws(batch, tokens).mean(axis=0)
        assert np.abs(columns["loss"] / mean - 1).max() < 1e-3
        columns["training_flops"] = batch.training_flops_per_token(2048) * tokens
        return cls(batch, bits, columns)

    def feasible(self, answer: Answer, **slack: float) -> np.ndarray:
        """Written from the meaning of each budget."""
        b, c, met = cast(Any, answer.problem.budget), self.columns, np.ones(len(self.bits), bool)
        if b.memory_bytes is not None:
            met &= c["memory_bytes"] <= b.memory_bytes * slack.get("memory", 1)
        if b.decode_tokens_per_s is not None:
            met &= c["decode_tokens_per_s"] >= b.decode_tokens_per_s / slack.get("decode", 1)
        if b.ttft_s is not None:
            met &= c["ttft_s"] <= b.ttft_s * slack.get("ttft", 1)
        if b.energy_j is not None:
            met &= c["energy_per_token_j"] <= b.energy_j * slack.get("energy", 1)
        if answer.problem.target_loss is not None:
            met &= c["loss"] <= answer.problem.target_loss
        return met


def brute_front(objectives: np.ndarray) -> list[int]:
    """Rows of a front of two minimised objectives: sort, then sweep. Of equals the first row."""
    best, kept = np.inf, []
    for row in np.lexsort((np.arange(len(objectives)), objectives[:, 1], objectives[:, 0])):
        if objectives[row, 1] < best:
            kept.append(int(row))
            best = objectives[row, 1]
    return kept


def owned() -> Any:
    """A law that passes for one of the user's own runs."""
    return dataclasses.replace(load_law(LITERATURE), label="my-runs")


QUESTIONS = {
    "phone": ("iphone-13", PHONE, SMALL_BUDGET),
    "phone, no budget": ("iphone-13", PHONE, Budget(tokens=1e12)),
    "flops": ("raspberry-pi-5", PHONE, Budget(flops=1e21, ttft_s=2.0)),
    "windows": ("pixel-9", WINDOWS, Budget(memory_bytes="1.15GB", energy_j=0.5, tokens=3e11)),
    "server": ("h100", SERVER, Budget(memory_bytes="40GB", decode_tokens_per_s=50, tokens=5e11)),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_front_is_brute_forces_point_for_point(name: str) -> None:
    device, space, budget = QUESTIONS[name]
    answer = query(device, LITERATURE, budget, "chat", space)
    table = Table.of(answer)
    rows = np.flatnonzero(table.feasible(answer))
    objectives = np.stack(
        [table.columns["loss"][rows], -table.columns["decode_tokens_per_s"][rows]], axis=1
    )
    expected = rows[brute_front(objectives)]
    assert [c.architecture for c in answer.front] == [table.batch[row] for row in expected]
    assert [c.weight_bits for c in answer.front] == table.bits[expected].tolist()
    assert answer.best.architecture == table.batch[int(rows[np.argmin(objectives[:, 0])])]
    assert answer.certificate.exact
    assert answer.certificate.hypervolume_ratio == 1
    assert answer.certificate.space_size == len(table.bits)
    assert answer.certificate.feasible == len(rows)


def test_a_front_of_four_objectives_is_exact_too() -> None:
    space = msgspec.structs.replace(PHONE, mlp_attention_ratio=[1.0, 3.0], sharing=[1, 2])
    answer = query(
        "iphone-13", LITERATURE, SMALL_BUDGET, "chat", space, objectives="loss,decode,ttft,memory"
    )
    table = Table.of(answer)
    rows = np.flatnonzero(table.feasible(answer))
    objectives = np.stack(
        [
            table.columns["loss"],
            -table.columns["decode_tokens_per_s"],
            table.columns["ttft_s"],
            table.columns["memory_bytes"],
        ],
        axis=1,
    )[rows]
    kept = [
        row
        for row, point in zip(rows, objectives, strict=True)
        if not ((objectives <= point).all(axis=1) & (objectives < point).any(axis=1)).any()
    ]
    assert {(c.architecture, c.weight_bits) for c in answer.front} == {
        (table.batch[int(row)], float(table.bits[row])) for row in kept
    }


def test_every_budget_is_obeyed_by_the_best_and_by_the_whole_front() -> None:
    budget = Budget(
        memory_bytes="1100MB",
        decode_tokens_per_s=15,
        ttft_s="1.5s",
        energy_j=0.3,
        tokens=1e12,
        bits="4,8",
    )
    answer = query("pixel-9", LITERATURE, budget, "chat", PHONE)
    everyone = [answer.best, *answer.front, *(b.candidate for b in answer.near_ties)]
    assert len(everyone) > 5
    for candidate in everyone:
        # Priced once more, one by one, through the cost model's own front door.
        again = costs(
            ArchitectureBatch.of([candidate.architecture]),
            answer.device,
            answer.workload,
            weight_bits=candidate.weight_bits,
        )
        assert again.memory_bytes[0] <= 1100e6
        assert again.decode_tokens_per_s[0] >= 15
        assert again.ttft_s[0] <= 1.5
        assert again.energy_per_token_j[0] <= 0.3
        assert candidate.weight_bits in (4, 8)
        assert candidate.loss_interval[0] <= candidate.loss <= candidate.loss_interval[1]


def test_relaxing_is_priced_over_the_whole_space() -> None:
    answer = query("iphone-13", LITERATURE, SMALL_BUDGET, "chat", PHONE)
    table = Table.of(answer)
    loss = table.columns["loss"]
    for name, step in (("memory", 400e6 * 0.1), ("decode", 20 - 20 / 1.1)):
        relaxed = loss[table.feasible(answer, **{name: 1.1})].min()
        assert answer.relax[name] == pytest.approx((answer.best.loss - relaxed) / step, abs=1e-15)
        assert (name in answer.binding) == (relaxed < answer.best.loss)
    more = answer.problem.law.loss(table.batch, 1.1e12)[table.feasible(answer)].min()
    assert answer.relax["tokens"] == pytest.approx((answer.best.loss - more) / 1e11)


def test_flops_buy_shared_shapes_fewer_tokens() -> None:
    answer = query("iphone-13", LITERATURE, Budget(flops=1e21), "chat", PHONE)
    for candidate in answer.front:
        each = candidate.architecture.training_flops_per_token(2048)
        assert candidate.training_tokens == pytest.approx(1e21 / each)
        assert candidate.training_flops == pytest.approx(1e21)
    assert "flops" in answer.relax


def test_an_impossible_budget_says_the_least_that_would_have_to_give() -> None:
    budget = Budget(memory_bytes="100MB", decode_tokens_per_s=5_000, tokens=1e12)
    with pytest.raises(Infeasible) as caught:
        query("iphone-13", LITERATURE, budget, "chat", PHONE)
    assert isinstance(caught.value, NoAnswer)
    assert "\n" not in str(caught.value)
    relaxation = caught.value.relaxation
    # What it says would do, does; a hair less does not.
    memory, speed = relaxation.alone.get("memory"), relaxation.alone.get("decode")
    assert memory is not None or speed is not None
    for field, value, generous in (("memory_bytes", memory, 1), ("decode_tokens_per_s", speed, -1)):
        if value is None:
            continue
        enough, less = cast(
            Any, tuple({field: value * (1 + generous * hair)} for hair in (1e-6, -1e-3))
        )
        assert query(
            "iphone-13",
            LITERATURE,
            dataclasses.replace(budget, **enough),
            "chat",
            PHONE,
        ).best
        with pytest.raises(Infeasible):
            query(
                "iphone-13",
                LITERATURE,
                dataclasses.replace(budget, **less),
                "chat",
                PHONE,
            )
    assert relaxation.together is not None
    for slack, fits in ((relaxation.together * 1.0001, True), (relaxation.together * 0.999, False)):
        wider = Budget(memory_bytes=100e6 * slack, decode_tokens_per_s=5_000 / slack, tokens=1e12)
        if fits:
            assert query("iphone-13", LITERATURE, wider, "chat", PHONE).best
        else:
            with pytest.raises(Infeasible):
                query("iphone-13", LITERATURE, wider, "chat", PHONE)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"memory": "-5MB"}, "memory"),
        ({"memory": "much"}, "memory"),
        ({"decode": 0}, "decode"),
        ({"decode": float("nan")}, "decode"),
        ({"ttft": -1}, "ttft"),
        ({"energy": float("inf")}, "energy"),
        ({"tokens": 1e12, "flops": 1e21}, "tokens and flops"),
        ({"bits": "0"}, "bits"),
        ({"objectives": "loss,beauty"}, "beauty"),
        ({"objectives": "loss"}, "objectives"),
        ({"space": "nowhere.toml"}, "space"),
        ({"law": "nowhere.json"}, "law"),
        ({"workload": "nothing"}, "workload"),
        ({"target_loss": -1}, "target_loss"),
    ],
)
def test_bad_input_is_one_line_that_names_it(arguments: dict, named: str) -> None:
    with pytest.raises(BadInput, match=named) as caught:
        answer_command("iphone-13", **arguments)
    assert "\n" not in str(caught.value)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(BadInput, match="device"):
        answer_command("abacus")


def test_energy_cannot_be_asked_of_a_device_without_energy_figures() -> None:
    device = msgspec.structs.replace(load_device("iphone-13"), energy=None)
    with pytest.raises(BadInput, match="energy"):
        query(device, LITERATURE, Budget(energy_j=1), "chat", PHONE)


def test_the_answer_has_the_contracts_keys_and_is_json() -> None:
    answer = query("iphone-13", LITERATURE, SMALL_BUDGET, "chat", PHONE)
    found = json.loads(json.dumps(answer.to_dict()))
    assert {"device", "law", "budget", "best", "front", "certificate", "relax"} <= set(found)
    assert {
        "architecture",
        "loss",
        "loss_interval",
        "decode_tokens_per_s",
        "ttft_s",
        "memory_bytes",
        "energy_per_token_j",
        "scarce",
        "runner_up_probability",
    } <= set(found["best"])
    assert {"space_size", "exact", "hypervolume_ratio"} <= set(found["certificate"])
    assert found["device"] == "iphone-13"
    assert found["law"] == "literature"
    assert Architecture.from_dict(found["best"]["architecture"]) == answer.best.architecture
    assert 0 <= found["best"]["runner_up_probability"] <= 1
    assert set(found["relax"]) == {"memory", "decode", "tokens"}


def test_near_ties_are_near_and_better_in_what_they_claim() -> None:
    answer = query("iphone-13", LITERATURE, SMALL_BUDGET, "chat", PHONE)
    best = answer.best
    for beside in answer.near_ties:
        assert beside.candidate.loss <= best.loss * 1.0025
        better = {
            "faster": beside.candidate.decode_tokens_per_s > best.decode_tokens_per_s,
            "smaller": beside.candidate.memory_bytes < best.memory_bytes,
            "plainer": True,
        }
        assert all(better[word] for word in beside.why.split(", "))
    shapes = [beside.candidate.architecture for beside in answer.near_ties]
    assert len(shapes) == len(set(shapes))


def test_the_familiar_choices_are_llama_like_and_mobilellm_and_lose() -> None:
    # A budget MobileLLM-125M was made for; the space holds its shape.
    answer = query(
        "iphone-13",
        LITERATURE,
        Budget(memory_bytes="300MB", decode_tokens_per_s=30),
        "chat",
        "phone",
    )
    llama, mobile = answer.baselines[:2]
    shape = llama.candidate.architecture
    assert shape.sharing == 1
    assert shape.d_ff / shape.d_model == pytest.approx(8 / 3, rel=0.1)
    assert 60 <= shape.d_model / shape.n_blocks <= 140
    assert (mobile.candidate.architecture.d_model, mobile.candidate.architecture.n_blocks) == (
        576,
        30,
    )
    assert mobile.loss_difference > 0
    low, high = mobile.loss_difference_interval
    assert low <= mobile.loss_difference <= high
    # Shared draws: the difference is known far better than either loss.
    own = mobile.candidate.loss_interval
    assert high - low < 0.8 * (own[1] - own[0])


def test_extrapolation_is_named_with_its_factor() -> None:
    answer = query(
        "iphone-13", LITERATURE, Budget(memory_bytes="150MB", tokens=4e12), "chat", PHONE
    )
    seen = load_law(LITERATURE).range["tokens"][1]
    assert answer.best.extrapolated["tokens"] == pytest.approx(4e12 / seen)
    assert any("tokens" in warning and "8 times" in warning for warning in answer.warnings)
    # Weight bits vary in this space, and no law knows what they do to loss.
    assert any("weight bits" in warning for warning in answer.warnings)


def test_a_loss_to_reach_gives_the_fastest_shape_that_reaches_it() -> None:
    budget = Budget(memory_bytes="0.4GB", tokens=1e12)
    answer = query("iphone-13", owned(), budget, "chat", PHONE, target_loss=2.6)
    table = Table.of(answer)
    draws = load_law(LITERATURE).loss_draws(table.batch, 1e12)
    reaches = (draws <= 2.6).mean(axis=0) >= 0.9
    speeds = table.columns["decode_tokens_per_s"][table.feasible(answer) & reaches]
    assert answer.budget_probability["target_loss"] >= 0.9
    assert answer.best.decode_tokens_per_s == pytest.approx(speeds.max(), rel=1e-12)
    assert answer.best.loss <= 2.6
    assert all(candidate.loss <= 2.6 for candidate in answer.front)
    with pytest.raises(Infeasible, match="target_loss"):
        query("iphone-13", owned(), budget, "chat", PHONE, target_loss=1.0)


def test_sharing_is_chosen_where_memory_is_scarce_and_not_where_compute_is() -> None:
    phone = query("iphone-13", LITERATURE, Budget(memory_bytes="200MB", decode_tokens_per_s=30))
    assert phone.best.architecture.sharing > 1
    assert "bandwidth" in phone.best.scarce
    busy = msgspec.structs.replace(load_workload("chat"), batch=256)
    server = query(
        "h100", LITERATURE, Budget(memory_bytes="70GB", decode_tokens_per_s=20_000), busy
    )
    assert server.best.architecture.sharing == 1
    assert server.best.scarce == "compute"


def test_the_search_says_what_fits_for_further_runs() -> None:
    shapes = feasible_architectures(
        load_law(LITERATURE), device="iphone-13", memory="300MB", decode=20.0, space=PHONE
    )
    assert len(shapes) > 50
    assert len(set(shapes)) == len(shapes)
    found = costs(
        ArchitectureBatch.of(shapes), load_device("iphone-13"), load_workload("chat"), weight_bits=4
    )
    assert found.memory_bytes.max() <= 300e6


def test_asking_twice_gives_the_same_answer() -> None:
    first, second = (
        query("iphone-13", LITERATURE, SMALL_BUDGET, "chat", PHONE).to_dict() for _ in range(2)
    )
    assert first == second


def test_a_query_imports_nothing_heavy() -> None:
    code = (
        "import sys; from shapelaw.search.answer.query import answer_command; "
        "answer_command('iphone-13', memory='300MB', decode=20, tokens=1e12).to_dict(); "
        "heavy = {'jax', 'flax', 'matplotlib', 'scipy', 'plotly', 'pyarrow', 'rich', "
        "'optuna'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_space_follows_the_device_whatever_the_law() -> None:
    small = query("iphone-13", "reference", Budget(tokens=1e9))
    assert small.space.name == "phone"


def test_a_law_asked_far_beyond_its_runs_is_heard_and_does_not_judge() -> None:
    own = dataclasses.replace(load_law("reference"), label="my-runs")
    answer = query("iphone-13", own, SMALL_BUDGET, "chat", PHONE)
    assert answer.law.label != "my-runs"
    assert any("my-runs" in warning and "tokens" in warning for warning in answer.warnings)
    assert answer.best.architecture.non_embedding_parameters > 1e7
    # Asked about what it saw, it judges.
    near = msgspec.structs.replace(PHONE, d_model=[64, 128], n_blocks=[2, 4], vocab_size=1024)
    small = query("iphone-13", own, Budget(tokens=own.range["tokens"][1]), "chat", near)
    assert small.law.label == "my-runs"


def test_a_loss_to_reach_needs_a_law_of_ones_own() -> None:
    with pytest.raises(BadInput, match="level"):
        query("iphone-13", "evidence", SMALL_BUDGET, "chat", PHONE, target_loss=2.6)


def test_what_the_pick_rests_on_is_said() -> None:
    answer = query("iphone-13", LITERATURE, SMALL_BUDGET, "chat", PHONE)
    found = json.loads(json.dumps(answer.to_dict()))
    assert {edge["axis"] for edge in found["edges"]} >= {"sharing"}  # the space ends at three
    assert {source["from"] for source in found["sources"]} >= {"literature", "reference"}
    for contrary in answer.otherwise:
        assert 0 < contrary.belief.probability <= 1
        assert contrary.belief.gain > 0
    values = [each.value for each in answer.measurements]
    assert values == sorted(values, reverse=True)
    # No measurement is worth more than knowing everything.
    assert values[0] <= answer.regret[0]
    assert found["best"]["training_cost"]["gpu_hours"] > 0
    assert answer.equal_flops is not None
    equal = answer.equal_flops.candidate
    assert equal.training_flops == pytest.approx(answer.best.training_flops)
