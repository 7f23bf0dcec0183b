"""Peak memory of the engine's process: measured, fitted, predicted on shapes not seen."""

import dataclasses

import numpy as np
import pytest

from shapelaw.search.devices.calibration.constants_fit import fit_observations, template
from shapelaw.search.devices.calibration.fitted_profile import profile_of
from shapelaw.search.devices.calibration.least_squares import Observation
from shapelaw.search.devices.calibration.memory_fit import (
    fit_memory,
    predicted_file,
    predicted_peak,
    with_memory,
)
from shapelaw.search.devices.calibration.timing import Timed
from shapelaw.search.devices.calibration.timing_shapes import Case, llama_cpp_cases, shape
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.workload import Workload

MEASURED_MB = (
    (12, 768, 4, 2048, 16, 64, 200.954, 250.577),
    (12, 768, 4, 2048, 16, 480, 200.954, 267.309),
    (12, 768, 4, 2048, 8, 64, 107.135, 156.803),
    (12, 768, 4, 2048, 8, 480, 107.135, 172.429),
    (12, 768, 4, 2048, 4, 64, 63.435, 155.435),
    (12, 768, 4, 2048, 4, 480, 63.435, 171.016),
    (30, 576, 3, 1536, 4, 64, 80.184, 195.756),
    (30, 576, 3, 1536, 4, 480, 80.184, 207.585),
    (48, 384, 2, 1024, 16, 64, 176.470, 234.074),
    (48, 384, 2, 1024, 16, 480, 176.470, 242.672),
    (4, 512, 2, 1024, 8, 64, 27.623, 70.849),
    (4, 512, 2, 1024, 8, 480, 27.623, 79.368),
    (4, 256, 2, 704, 4, 64, 9.114, 53.715),
    (4, 256, 2, 704, 4, 480, 9.114, 59.318),
    (60, 256, 1, 512, 8, 64, 45.097, 99.828),
    (60, 256, 1, 512, 8, 480, 45.097, 104.448),
)
"""Blocks, width, KV heads, d_ff, bits, prompt; file and peak resident MB of llama.cpp (xllamacpp)
on a 2-core AMD EPYC, 8 tokens decoded, a context of 512."""


@pytest.fixture(scope="module")
def profile() -> DeviceProfile:
    work = Workload(name="w", prompt=128, generated=24)
    rows = [
        Observation(c.architecture, work, "decode", c.weight_bits, 1e-3) for c in llama_cpp_cases()
    ]
    fit = fit_observations(rows, template("llama.cpp", {}, rows))
    return profile_of("pretend", "llama.cpp", fit, measured_here=True)


def measured() -> list[Timed]:
    formats = {16: "f16", 8: "q8_0", 4: "q4_0"}
    return [
        Timed(
            Case(shape(blocks, width, kv, d_ff), float(bits), formats[bits]),
            prompt,
            8,
            (1.0,),
            (1.0,),
            (1e6 * peak,),
            round(1e6 * file),
        )
        for blocks, width, kv, d_ff, bits, prompt, file, peak in MEASURED_MB
    ]


def test_peaks_and_files_of_shapes_that_the_fit_did_not_see(profile: DeviceProfile) -> None:
    """Each shape by a fit to the others: within 8 % in the mean; files within 1 %."""
    rows = measured()
    errors, files = [], []
    for case in {t.case for t in rows}:
        fit = fit_memory([t for t in rows if t.case != case], profile)
        assert fit is not None
        held = [t for t in rows if t.case == case]
        fitted = with_memory(profile, fit, "here")
        errors += list(predicted_peak(held, fitted) / [t.peak_bytes for t in held] - 1)
        files += list(predicted_file(held, fitted) / [t.file_bytes for t in held] - 1)
    assert np.mean(np.abs(errors)) < 0.08
    assert np.max(np.abs(files)) < 0.01


def test_packed_matrices_are_held_twice_where_they_are_rearranged(profile: DeviceProfile) -> None:
    """Of these files only q4_0 is: its peak lies a second copy above its file."""
    fit = fit_memory(measured(), profile)
    assert fit is not None
    assert fit.repacked[4.0] > 0.9
    assert fit.repacked[8.0] < 0.1
    assert 35e6 < fit.runtime < 55e6


def test_an_engine_that_tells_no_peak_leaves_memory_as_it_was(profile: DeviceProfile) -> None:
    assert fit_memory([dataclasses.replace(t, peak=()) for t in measured()], profile) is None
