"""Measure a machine with a real engine and fit its profile.

Decode gives bandwidth, cache, overheads and unpacking; prefill gives the rate multiplies reach, how
width and length bear on it, its overheads and attention. Agreement is reported on shapes left out
in turn, beside the timings' own repeatability and beside what a plain roofline gets from the bare
device's speeds.
"""

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.search.devices.calibration.constants_fit import (
    CacheSize,
    Fit,
    fit_observations,
    held_out,
    roofline,
    template,
)
from shapelaw.search.devices.calibration.fitted_profile import fitted_rows, profile_of
from shapelaw.search.devices.calibration.least_squares import Observation, Phase, predict
from shapelaw.search.devices.calibration.llama_bench import (
    ran_on_gpu,
    read_llama_bench,
    settings_taken,
)
from shapelaw.search.devices.calibration.memory_fit import fit_memory, with_memory
from shapelaw.search.devices.calibration.timing import (
    SOME,
    Engine,
    Progress,
    Timed,
    activation_bits,
    check_engine,
    repeatability,
    time_cases,
    time_far,
)
from shapelaw.search.devices.calibration.timing_shapes import (
    Case,
    executorch_cases,
    jax_cases,
    llama_cpp_cases,
    mlx_cases,
)
from shapelaw.search.devices.profile import NAME, DeviceProfile

PROMPT = 128
LONG_PROMPT: dict[Engine, int] = {"jax": 384, "llama.cpp": 2048, "executorch": 384, "mlx": 384}
"""A second prompt length tells what a prompt costs once from what each of its tokens costs, and
what a token costs after a long prompt from what it costs after a short one."""
FAR_CONTEXT: dict[Engine, int] = {"llama.cpp": 8192}
"""Tokens at which the longest timings end, of engines whose users ask about such contexts: what
keys and values cost there is measured and not extended from a quarter of them."""
FAR_SECONDS = 240.0
"""For those timings, each of which is one prompt of up to a minute."""
DECODE_TOKENS = 24
ROUNDS: dict[Engine, int] = {"jax": 12, "llama.cpp": 3, "executorch": 3, "mlx": 3}
"""Of timing every shape. The more rounds, the less the memory's other users show; a round of the
jax engine takes seconds."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """Timings and the bare device's speeds."""

    engine: Engine
    timed: list[Timed]
    bare: dict[str, float]
    bits: float
    """Precision of keys and activations."""

    def observations(self) -> list[Observation]:
        """Prefill and decode at each prompt length."""
        phases: tuple[Phase, ...] = ("decode", "prefill")
        return [t.observation(phase, self.bits) for phase in phases for t in self.timed]


def calibrate(
    name: str,
    engine: Engine = "jax",
    *,
    llama_bench: Path | None = None,
    quick: bool = False,
    progress: Progress | None = None,
) -> tuple[DeviceProfile, dict[str, Any]]:
    """Time some twenty shapes on this machine (or read a phone's llama-bench) and fit a profile.

    Returns:
        The profile, not yet written anywhere, and a report: `fitted` (each figure with its
        uncertainty), `errors` by phase (held-out mean and worst, in-sample mean, repeatability,
        plain roofline), `not_determined`, `timings`, `seconds`.

    Raises:
        BadInput: a bad name, an unknown engine or one not installed, an unusable llama-bench file.
        NoAnswer: the engine failed.
    """
    check_engine(engine)
    if not NAME.fullmatch(name):
        raise BadInput(f"name = {name!r}: lower case words joined by hyphens, like this-machine")
    started = time.perf_counter()
    if llama_bench is not None:
        observations = read_llama_bench(Path(llama_bench))
        cache = CacheSize.elsewhere()
        adds_up = not ran_on_gpu(Path(llama_bench))
        start = template("llama.cpp", {}, observations, cache, adds_up=adds_up)
        fit = fit_observations(observations, start, cache)
        report = _report(name, "llama.cpp (llama-bench)", fit, observations, {}, math.nan, math.nan)
        profile = profile_of(name, "llama.cpp", fit, measured_here=False)
        report["setting"] = settings_taken(Path(llama_bench))
        return profile, {**report, "seconds": time.perf_counter() - started}
    measured = take(engine, cases_for(engine, quick=quick), quick=quick, progress=progress)
    observations = measured.observations()
    if progress is not None:
        progress("fitting")
    fit = fit_measured(measured)
    report = _report(
        name,
        engine,
        fit,
        observations,
        measured.bare,
        repeatability(measured.timed, "decode"),
        repeatability(measured.timed, "prefill"),
    )
    report["timings"] = [_timing_row(t) for t in measured.timed]
    profile = profile_of(name, engine, fit, measured_here=True)
    memory = fit_memory(measured.timed, profile)
    if memory is not None:
        profile = with_memory(profile, memory, profile.memory.bandwidth.source)
        report["memory"] = {
            "runtime_bytes": memory.runtime,
            "repacked_share": {f"{bits:g}": share for bits, share in memory.repacked.items()},
            "error": memory.error,
        }
    report["seconds"] = time.perf_counter() - started
    return profile, report


def cases_for(engine: Engine, *, quick: bool = False) -> list[Case]:
    """The calibration's shapes for an engine."""
    if engine == "jax":
        return jax_cases(activation_bits("jax"), quick=quick)
    if engine == "executorch":
        return executorch_cases(quick=quick)
    if engine == "mlx":
        return mlx_cases(quick=quick)
    return llama_cpp_cases(quick=quick)


def take(
    engine: Engine,
    cases: Sequence[Case],
    *,
    quick: bool = False,
    rounds: int | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Time the cases, some of them after long prompts, and the bare device."""
    prompts = (PROMPT,) if quick else (PROMPT, LONG_PROMPT[engine])
    timed = time_cases(
        engine,
        cases,
        prompts=prompts,
        decode_tokens=DECODE_TOKENS // (2 if quick else 1),
        rounds=rounds or (2 if quick else ROUNDS[engine]),
        progress=progress,
    )
    if engine in FAR_CONTEXT and not quick:
        timed += time_far(
            engine,
            cases[SOME],
            prompt=FAR_CONTEXT[engine] - DECODE_TOKENS,
            decode_tokens=DECODE_TOKENS,
            seconds=FAR_SECONDS,
            progress=progress,
        )
    return Measured(engine, timed, bare_speeds(engine, quick=quick), activation_bits(engine))


def fit_measured(measured: Measured) -> Fit:
    """Fit a profile's constants to timings."""
    observations = measured.observations()
    return fit_observations(observations, template(measured.engine, measured.bare, observations))


def bare_speeds(engine: Engine, *, quick: bool = False) -> dict[str, float]:
    """Bytes and operations a second without any model: start of the fit, and the roofline's."""
    seconds = 0.3 if quick else 1.0
    if engine == "jax":
        from shapelaw.search.devices.engines.jax import micro_benchmarks

        return micro_benchmarks(seconds=seconds)
    large = np.ones(32 << 20, np.float32)
    matrix = np.ones((1024, 1024), np.float32)
    best = {"sum": math.inf, "product": math.inf}
    stop = time.perf_counter() + 2 * seconds
    while time.perf_counter() < stop:
        for which, call in (("sum", lambda: large.sum()), ("product", lambda: matrix @ matrix)):
            begun = time.perf_counter()
            call()
            best[which] = min(best[which], time.perf_counter() - begun)
    return {"bandwidth": large.nbytes / best["sum"], "peak": 2 * 1024**3 / best["product"]}


def _report(
    name: str,
    engine: str,
    fit: Fit,
    observations: Sequence[Observation],
    bare: dict[str, float],
    decode_repeats: float,
    prefill_repeats: float,
) -> dict[str, Any]:
    errors: dict[str, dict[str, float | None]] = {}
    repeats_of: dict[Phase, float] = {"decode": decode_repeats, "prefill": prefill_repeats}
    for phase, repeats in repeats_of.items():
        rows = [o for o in observations if o.phase == phase]
        if not rows:
            continue
        seconds = np.array([o.seconds for o in rows])
        left_out = np.abs(held_out(rows, fit, phase))
        errors[phase] = {
            "timings": len(rows),
            "in_sample_mean": float(np.mean(np.abs(predict(rows, fit.constants) / seconds - 1))),
            "held_out_mean": _number(float(np.mean(left_out))),
            "held_out_worst": _number(float(np.max(left_out))),
            "repeatability": _number(repeats),
            "roofline_mean": float(np.mean(np.abs(roofline(rows, bare, fit) / seconds - 1))),
        }
    return {
        "name": name,
        "engine": engine,
        "fitted": fitted_rows(fit),
        "errors": errors,
        "not_determined": fit.not_determined,
        "bare": bare,
        "precisions": sorted({round(o.weight_bits, 2) for o in observations}),
    }


def _number(value: float) -> float | None:
    """None where too few timings tell: NaN has no place in JSON."""
    return value if math.isfinite(value) else None


def _timing_row(timed: Timed) -> dict[str, Any]:
    return {
        "case": timed.case.label,
        "prompt_tokens": timed.prompt_tokens,
        "prefill_s": timed.seconds("prefill"),
        "decode_s": timed.seconds("decode"),
        "prefill_repeatability": timed.repeatability("prefill"),
        "decode_repeatability": timed.repeatability("decode"),
        "peak_bytes": timed.peak_bytes,
        "file_bytes": timed.file_bytes,
    }


def errors_on(fit: Fit, timed: Sequence[Timed], bits: float, phase: Phase) -> np.ndarray:
    """Prediction over measurement − 1 of timings the fit did not see."""
    rows = [t.observation(phase, bits) for t in timed]
    if not rows:
        raise NoAnswer("nothing was timed")
    return predict(rows, fit.constants) / [o.seconds for o in rows] - 1


__all__ = [
    "Measured",
    "calibrate",
    "cases_for",
    "errors_on",
    "fit_measured",
    "take",
]
