"""Calibration finds a device's constants, says what it cannot know, and fails in one line."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.devices_measured import JAX_UNSEEN_SMALL
from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.calibration import calibrate as calibration
from shapelaw.search.devices.calibration import timing
from shapelaw.search.devices.calibration.constants_fit import fit_observations, template
from shapelaw.search.devices.calibration.least_squares import Observation, field, predict, solve
from shapelaw.search.devices.calibration.timing_shapes import (
    Case,
    jax_cases,
    llama_cpp_cases,
    shape,
)
from shapelaw.search.devices.device_tables import calibration_tables
from shapelaw.search.workload import Workload
from tests.search.devices.calibration.known_machine import TRUE

pytestmark = pytest.mark.usefixtures("known_cache")


def test_a_fit_recovers_known_constants() -> None:
    """Without noise the bandwidth, overheads and unpacking come back, from another start."""
    work = Workload(name="w", prompt=128, generated=24)
    rows = [
        Observation(c.architecture, work, "decode", c.weight_bits, 1.0) for c in llama_cpp_cases()
    ]
    rows = [
        dataclasses.replace(o, seconds=float(s))
        for o, s in zip(rows, predict(rows, TRUE), strict=True)
    ]
    free = [field("per_layer", 1e-7, 1e-2, 1e-4), field("per_token", 1e-7, 1e-1, 1e-3)]
    solution = solve(rows, dataclasses.replace(TRUE, per_layer=1e-3, per_token=1e-2), free)
    assert solution.values["per_layer"] == pytest.approx(4e-5, rel=1e-3)
    assert solution.values["per_token"] == pytest.approx(2e-4, rel=1e-2)
    assert solution.not_determined == []


def test_what_timings_do_not_say_is_said() -> None:
    """One depth cannot tell time per token from time per layer."""
    work = Workload(name="w", prompt=128, generated=24)
    rows = [
        Observation(shape(12, 512, 2, d_ff), work, "decode", 8.0, 1.0)
        for d_ff in (512, 1024, 1536, 2048)
    ]
    rows = [
        dataclasses.replace(o, seconds=float(s))
        for o, s in zip(rows, predict(rows, TRUE) * [1.01, 0.99, 1.01, 0.99], strict=True)
    ]
    free = [field("per_layer", 1e-7, 1e-2, 1e-5), field("per_token", 1e-7, 1e-1, 1e-4)]
    solution = solve(rows, TRUE, free, prior=0.01)
    # The token's time stays open, and the layers' is known only as far as the token's is bounded.
    assert solution.not_determined == ["per_token"]
    assert solution.log_standard_error["per_layer"] > 0.2


def test_calibration_predicts_shapes_it_did_not_see(pretend: None) -> None:
    measured = calibration.take("llama.cpp", llama_cpp_cases(), rounds=3)
    fit = calibration.fit_measured(measured)
    unseen = [
        Case(shape(b, w, kv, d_ff), bits)
        for b, w, kv, d_ff, bits in (
            (30, 576, 3, 1536, 8.0),
            (60, 256, 2, 768, 8.0),
            (4, 1280, 5, 3584, 8.0),
            (10, 896, 14, 2432, 4.0),
            (5, 384, 6, 1024, 16.0),
        )
    ]
    timed = timing.time_cases("llama.cpp", unseen, prompts=(128,), decode_tokens=24, rounds=3)
    assert np.mean(np.abs(calibration.errors_on(fit, timed, 16.0, "decode"))) < 0.05
    assert np.mean(np.abs(calibration.errors_on(fit, timed, 16.0, "prefill"))) < 0.07


def test_long_contexts_are_timed_themselves(pretend: None) -> None:
    """What keys and values cost at 8192 tokens is measured there, on shapes of its own."""
    measured = calibration.take("llama.cpp", llama_cpp_cases(), rounds=2)
    longest = max(t.prompt_tokens + t.decode_tokens for t in measured.timed)
    assert longest == calibration.FAR_CONTEXT["llama.cpp"] == 8192
    fit = calibration.fit_measured(measured)
    unseen = [
        Case(shape(b, w, kv, d_ff), 8.0)
        for b, w, kv, d_ff in ((30, 576, 3, 1536), (60, 256, 2, 768), (8, 1088, 17, 2944))
    ]
    timed = timing.time_cases("llama.cpp", unseen, prompts=(8168,), decode_tokens=24, rounds=1)
    assert np.mean(np.abs(calibration.errors_on(fit, timed, 16.0, "decode"))) < 0.05


def test_the_report_tells_errors_and_repeatability(pretend: None) -> None:
    profile, report = calibration.calibrate("this-machine", "llama.cpp", quick=True)
    assert profile.name == "this-machine"
    assert profile.memory.bandwidth.status == "fitted"
    assert {"fitted", "errors", "not_determined", "timings", "seconds"} <= set(report)
    decode = report["errors"]["decode"]
    assert decode["timings"] == 7
    assert 0 < decode["repeatability"] < 0.2
    assert decode["in_sample_mean"] < 0.1
    assert calibration_tables({**report, "profile": "somewhere"})


def test_shared_blocks_and_contexts_tell_what_the_cache_keeps_and_how_fast_attention_is() -> None:
    true = dataclasses.replace(
        TRUE,
        cache_retained=(0.5,),
        decode_attention_efficiency=0.1,
        peak=((32.0, 1.3e11),),
        weights=((32.0, 32.0, 0.0, 1.0),),
    )
    rows = [
        Observation(
            case.architecture,
            Workload(name="w", prompt=prompt, generated=24),
            "decode",
            32.0,
            1.0,
            32.0,
            32.0,
        )
        for case in jax_cases(32.0)
        for prompt in (128, 384)
    ]
    rows = [
        dataclasses.replace(o, seconds=float(s))
        for o, s in zip(rows, predict(rows, true), strict=True)
    ]
    start = dataclasses.replace(
        true, cache_retained=(1.0,), decode_attention_efficiency=1.0, per_layer=1e-5
    )
    fit = fit_observations(rows, start)
    assert fit.values["cache retained"] == pytest.approx(0.5, rel=0.1)
    assert fit.values["decode_attention_efficiency"] == pytest.approx(0.1, rel=0.1)
    assert fit.values["per_layer"] == pytest.approx(4e-5, rel=0.1)
    assert not any("unpack" in name for name in fit.values)  # float32 is not packed


def test_unpacking_that_adds_to_reading_is_told_from_it() -> None:
    """Weights of 8 bits that take longer than their bytes do at 16, as llama.cpp's here."""
    true = dataclasses.replace(
        TRUE,
        overlaps=False,
        weights=((4.0, 4.5, 2.7e-11, 1.0), (8.0, 8.5, 3.6e-11, 1.0), (16.0, 16.0, 2e-11, 1.0)),
    )
    work = Workload(name="w", prompt=128, generated=24)
    rows = [
        Observation(c.architecture, work, "decode", c.weight_bits, 1.0) for c in llama_cpp_cases()
    ]
    rows = [
        dataclasses.replace(o, seconds=float(s))
        for o, s in zip(rows, predict(rows, true), strict=True)
    ]
    fit = fit_observations(rows, template("llama.cpp", {}, rows))
    assert not fit.constants.overlaps
    assert fit.values["bandwidth"] == pytest.approx(2e10, rel=0.2)
    assert fit.values["weights.8.unpack"] == pytest.approx(3.6e-11, rel=0.2)


def test_calibrations_stay_small() -> None:
    assert len(llama_cpp_cases()) <= 20
    assert any(case.architecture.sharing > 1 for case in jax_cases(32))
    unseen = {(256, 704), (576, 1536)}  # the benchmark's block sizes stay unseen
    assert not {(c.architecture.d_model, c.architecture.d_ff) for c in jax_cases(32)} & unseen
    small = {(width, d_ff) for _, width, _, _, d_ff, _ in JAX_UNSEEN_SMALL}
    assert not {(c.architecture.d_model, c.architecture.d_ff) for c in jax_cases(32)} & small


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("This Machine", "jax"),
        ("../evil", "jax"),
        ("", "jax"),
        ("this-machine", "tensorrt"),
    ],
)
def test_a_bad_request_is_one_line(name: str, engine: Any) -> None:
    with pytest.raises(BadInput) as error:
        calibration.calibrate(name, engine)
    assert "\n" not in str(error.value)
