"""Rounds of timing: what is kept of them, and in which order shapes are visited."""

import numpy as np
import pytest

from shapelaw.search.devices.calibration import timing
from shapelaw.search.devices.calibration.timing_shapes import jax_cases, llama_cpp_cases
from shapelaw.search.devices.engines import best, settled


def test_of_many_rounds_the_luckiest_tenth_is_set_aside() -> None:
    assert settled([2.0]) == 2.0
    assert settled([5.0, 1.0, 4.0, 3.0, 2.0]) == 1.0
    assert settled([10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 1.0, 4.0, 3.0, 2.0]) == 2.0
    lucky = best([1.0] * 12, [0.5, *[1.0] * 11])
    assert (lucky.decode_s, lucky.spread) == (1.0, 0.0)


def test_a_round_comes_back_to_small_shapes_and_visits_every_other_once() -> None:
    cases = jax_cases(32.0)
    order = timing.visiting_order(cases)
    small = {
        index
        for index, case in enumerate(cases)
        if case.architecture.applied_parameters < timing.SMALL_PARAMETERS
    }
    assert 0 < len(small) < len(cases)
    for index in range(len(cases)):
        assert order.count(index) == (timing.SMALL_VISITS if index in small else 1)
    first = min(small)
    visits = [place for place, index in enumerate(order) if index == first]
    assert min(np.diff(visits)) > len(small), "larger shapes lie between two visits"


def test_long_prompts_begin_with_the_cheapest_shape_and_end_in_time(
    pretend: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = llama_cpp_cases()
    seconds = iter(range(0, 1000, 10))  # each shape takes ten
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(seconds)))
    found = timing.time_far("llama.cpp", cases, prompt=8168, decode_tokens=24, seconds=35)
    assert len(found) == 3
    work = [t.case.architecture.depth * t.case.architecture.d_model for t in found]
    assert work == sorted(work)
    assert work[0] == min(c.architecture.depth * c.architecture.d_model for c in cases)
    assert all(t.prompt_tokens == 8168 and len(t.decode) == 1 for t in found)


def test_turns_are_merged_round_by_round(pretend: None) -> None:
    first, second = (
        timing.time_cases(
            "llama.cpp", llama_cpp_cases(quick=True), prompts=(128,), decode_tokens=8, rounds=rounds
        )
        for rounds in (2, 3)
    )
    whole = timing.merged([first[1], second[1]])
    assert whole.decode == first[1].decode + second[1].decode
    assert whole.seconds("decode") == min(whole.decode)


def test_the_best_run_is_kept_and_the_spread_told() -> None:
    found = best([3.0, 2.0, 2.5], [1.1, 1.0, 1.3])
    assert (found.prefill_s, found.decode_s) == (2.0, 1.0)
    assert found.spread == pytest.approx(0.1)
    assert found.prefill_spread == pytest.approx(0.25)
