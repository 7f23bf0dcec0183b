"""The best candidates on a real engine, and the ranking by what was measured."""

import importlib.util
import types
from typing import Any

import pytest

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.answer import measured as measuring
from shapelaw.search.answer.query import Budget, query
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.engines import Timing
from shapelaw.search.space.space import Range, Space
from shapelaw.search.workload import Workload
from tests.published_law import LITERATURE

SPACE = Space(
    name="few",
    d_model=Range(256, 1024, 256),
    n_blocks=[4, 8, 16],
    sharing=[1, 2],
    gqa_group=[1, 4],
    mlp_attention_ratio=[1.0, 3.0],
    vocab_size=4096,
)


def engine(speed: Any) -> types.SimpleNamespace:
    """An engine that is as fast as `speed(architecture)` tokens a second."""

    def run(architecture: Architecture, **_: Any) -> Timing:
        return Timing(prefill_s=0.1, decode_s=1 / speed(architecture), spread=0.02)

    return types.SimpleNamespace(measure=run)


def test_the_pick_is_the_least_loss_among_what_is_fast_enough_as_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Wide shapes turn out slow here, whatever the model of the device says.
    monkeypatch.setattr(
        measuring, "_engine", lambda name: engine(lambda a: 10.0 if a.d_model > 768 else 50.0)
    )
    answer = query(
        "raspberry-pi-5",
        LITERATURE,
        Budget(memory_bytes="1GB", decode_tokens_per_s=20, tokens=1e12),
        "chat",
        SPACE,
        measure=30,
    )
    assert answer.measured is not None
    assert len(answer.measured) == 30
    fast = [row for row in answer.measured if row["measured_tokens_per_s"] >= 20]
    assert fast
    assert answer.best.architecture.d_model <= 768
    assert answer.best.loss == min(row["loss"] for row in fast)
    assert [row["chosen"] for row in answer.measured] == [True] + [False] * 29
    assert any("not raspberry-pi-5" in warning for warning in answer.warnings)
    assert any("changed the pick" in warning for warning in answer.warnings)


def test_where_nothing_is_fast_enough_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_engine", lambda name: engine(lambda a: 1.0 + 1 / a.d_model))
    answer = query(
        "raspberry-pi-5",
        LITERATURE,
        Budget(decode_tokens_per_s=20, tokens=1e12),
        "chat",
        SPACE,
        measure=3,
    )
    assert answer.measured is not None
    assert not any(row["feasible"] for row in answer.measured)
    assert any("none of the 3" in warning for warning in answer.warnings)


def test_several_sequences_at_once_are_not_measured() -> None:
    busy = Workload(name="busy", prompt=64, generated=64, batch=8)
    with pytest.raises(BadInput, match="measure"):
        query("raspberry-pi-5", LITERATURE, Budget(tokens=1e12), busy, SPACE, measure=2)


@pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="needs xllamacpp")
def test_two_candidates_really_run_here() -> None:
    tiny = Space(
        name="tiny",
        d_model=[256],
        n_blocks=[2, 4],
        gqa_group=1,
        mlp_attention_ratio=2.0,
        vocab_size=2048,
    )
    answer = query(
        load_device("raspberry-pi-5"), LITERATURE, Budget(tokens=1e10), "chat", tiny, measure=2
    )
    assert answer.measured is not None
    assert len(answer.measured) == 2
    assert all(row["measured_tokens_per_s"] > 1 for row in answer.measured)
