"""The bars that time an engine on this machine. Run them when nothing else does."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks.devices_published import percent, verdict
from benchmarks.executorch_programs import timed_steps, unseen_cases
from shapelaw.scaling.architecture import Architecture
from shapelaw.search.devices.calibration.calibrate import (
    PROMPT,
    bare_speeds,
    cases_for,
    errors_on,
    fit_measured,
    take,
)
from shapelaw.search.devices.calibration.constants_fit import (
    Fit,
    fit_observations,
    roofline,
    template,
)
from shapelaw.search.devices.calibration.fitted_profile import profile_of
from shapelaw.search.devices.calibration.least_squares import Phase
from shapelaw.search.devices.calibration.memory_fit import (
    fit_memory,
    predicted_file,
    predicted_peak,
    with_memory,
)
from shapelaw.search.devices.calibration.timing import (
    Engine,
    Timed,
    activation_bits,
    repeatability,
    time_cases,
    time_far,
)
from shapelaw.search.devices.calibration.timing_shapes import Case, executorch_cases, shape
from shapelaw.search.devices.engines.llamacpp import PRECISIONS

ROUNDS: dict[Engine, int] = {"jax": 12, "llama.cpp": 5, "executorch": 3, "mlx": 3}
"""Of timing every shape once; `--rounds` sets both."""
DECODE_TOKENS = 24
LLAMA_CPP_CONTEXTS = (512 - DECODE_TOKENS, 8192 - DECODE_TOKENS)
"""Prompts after which the answer ends at a context of 512 and of 8192."""
LONG = 2048
LONG_SECONDS = 1800.0
"""For all unseen shapes' prompts of `LONG` tokens and more: each is timed once, the cheapest shapes
first, until this is spent."""

# Unseen block sizes: about 2.9 MB and 14.6 MB in float32, as METHODS' own measurement, in its three
# variants.
JAX_UNSEEN = tuple(
    (blocks, width, kv, d_ff, sharing)
    for width, kv, d_ff in ((256, 2, 704), (576, 3, 1536))
    for blocks, sharing in ((30, 1), (30, 2), (60, 1))
)

# The held-out panel of the reference study: models trained for minutes, 30 to 250 us a token.
JAX_UNSEEN_SMALL = (
    (13, 28, 2, 2, 80, 1),
    (7, 40, 4, 2, 112, 1),
    (3, 56, 4, 4, 176, 1),
    (5, 56, 4, 1, 104, 1),
    (6, 56, 4, 4, 52, 1),
    (3, 56, 4, 4, 176, 2),
    (1, 64, 4, 4, 576, 1),
    (2, 72, 4, 4, 200, 1),
    (1, 88, 4, 2, 392, 1),
    (1, 104, 4, 4, 272, 1),
    (2, 48, 4, 4, 376, 1),
    (2, 64, 4, 2, 272, 1),
    (2, 80, 4, 4, 160, 1),
)

LLAMA_CPP_UNSEEN = (
    (4, 256, 2, 768, 8),
    (60, 256, 4, 512, 8),
    (50, 320, 5, 1024, 8),
    (32, 384, 6, 1024, 8),
    (10, 448, 1, 1536, 8),
    (30, 576, 3, 1536, 8),
    (60, 576, 3, 1536, 8),
    (16, 704, 11, 1856, 8),
    (20, 768, 3, 2048, 8),
    (12, 896, 2, 4864, 8),
    (8, 1088, 17, 2944, 8),
    (10, 1280, 5, 3584, 8),
    (18, 640, 10, 1728, 4),
    (24, 512, 8, 1408, 4),
    (10, 640, 5, 1728, 16),
)


def jax_engine() -> list[str]:
    """The three variants at two block sizes, and the small panel; the calibration saw neither."""
    bits = activation_bits("jax")
    large = [
        Case(shape(blocks, width, kv, d_ff, sharing=sharing, vocabulary=8192), bits)
        for blocks, width, kv, d_ff, sharing in JAX_UNSEEN
    ]
    small = [
        Case(
            Architecture(
                vocab_size=256,
                d_model=width,
                n_blocks=blocks,
                sharing=sharing,
                n_heads=heads,
                n_kv_heads=kv,
                head_dim=width // heads,
                d_ff=d_ff,
            ),
            bits,
        )
        for blocks, width, heads, kv, d_ff, sharing in JAX_UNSEEN_SMALL
    ]
    fit, held, all_timed, bare = _calibrate_beside("jax", [*large, *small])
    errors = errors_on(fit, _first(held), bits, "decode")
    lines = _rows(_first(held), errors, "decode")
    lines += _summary(fit, all_timed, held, bits, bare)
    good = bool(np.all(np.abs(errors[: len(large)]) <= 0.10))
    mean = float(np.mean(np.abs(errors[len(large) :])))
    return [
        *lines,
        f"bar: each of the three variants within 10 %: {verdict(good)}",
        f"bar: the small panel within 8 % in the mean: {100 * mean:.1f} %: {verdict(mean <= 0.08)}",
    ]


def llamacpp_engine() -> list[str]:
    """Twenty shapes calibrate; fifteen others are predicted at contexts of 512 and 8192: decode,
    prefill, peak resident memory, file size."""
    from shapelaw.search.devices.engines.llamacpp import available

    if not available():
        return ["skipped: xllamacpp or gguf is not installed (extra `llamacpp`)"]
    unseen = [
        Case(shape(blocks, width, kv, d_ff), float(bits), PRECISIONS[bits])
        for blocks, width, kv, d_ff, bits in LLAMA_CPP_UNSEEN
    ]
    fit, held, all_timed, bare = _calibrate_beside("llama.cpp", unseen, LLAMA_CPP_CONTEXTS)
    bits = activation_bits("llama.cpp")
    lines = _rows(held, errors_on(fit, held, bits, "decode"), "decode")
    lines += _summary(fit, all_timed, held, bits, bare)
    bars: tuple[tuple[Phase, float], ...] = (("decode", 0.07), ("prefill", 0.10))
    for phase, bar in bars:
        errors = np.abs(errors_on(fit, held, bits, phase))
        noise = repeatability(held, phase)
        allowed = max(bar, 1.5 * noise)
        by_context = ", ".join(
            f"{100 * float(np.mean(errors[[t.prompt_tokens == prompt for t in held]])):.1f} % "
            f"after {prompt} tokens"
            for prompt in sorted({t.prompt_tokens for t in held})
        )
        mean = float(np.mean(errors))
        lines.append(
            f"bar: {phase} at most {100 * bar:.0f} % or 1.5 × repeatability ({100 * noise:.1f} %): "
            f"{100 * mean:.1f} % ({by_context}): {verdict(mean <= allowed)}"
        )
    return lines + memory_lines(fit, all_timed, held)


def memory_lines(fit: Fit, seen: Sequence[Timed], held: Sequence[Timed]) -> list[str]:
    """Peak resident memory and file size of shapes that the calibration did not see."""
    profile = profile_of("benchmark", "llama.cpp", fit, measured_here=True)
    memory = fit_memory(seen, profile)
    if memory is None:
        return ["memory: the engine tells no peak here"]
    profile = with_memory(profile, memory, "benchmark")
    peak = np.array([t.peak_bytes for t in held], dtype=float)
    size = np.array([t.file_bytes for t in held], dtype=float)
    peak_error = np.abs(predicted_peak(held, profile) / peak - 1)
    file_error = np.abs(predicted_file(held, profile) / size - 1)
    mean, file_mean = float(np.mean(peak_error)), float(np.mean(file_error))
    return [
        f"memory: the engine holds {memory.runtime / 1e6:.0f} MB beside the model, and a second "
        f"copy of "
        + ", ".join(f"{100 * s:.0f} % at {b:g} bits" for b, s in memory.repacked.items()),
        f"bar: peak resident memory at most 8 %: {100 * mean:.1f} % (worst "
        f"{100 * float(np.max(peak_error)):.1f} %) of {len(held)} runs: {verdict(mean <= 0.08)}",
        f"bar: file size at most 1 %: {100 * file_mean:.2f} % (worst "
        f"{100 * float(np.max(file_error)):.2f} %): {verdict(file_mean <= 0.01)}",
    ]


def executorch_engine() -> list[str]:
    """ExecuTorch on this machine: eight shapes calibrate, the three variants are predicted."""
    from shapelaw.search.devices.engines.executorch import available

    if not available():
        return ["skipped: executorch or torch is not installed (extra `executorch`)"]
    bits = activation_bits("executorch")
    cases, unseen = executorch_cases(), unseen_cases()
    timed = timed_steps([*cases, *unseen], ROUNDS["executorch"])
    seen, held = timed[: len(cases)], timed[len(cases) :]
    rows, bare = [t.observation("decode", bits) for t in seen], bare_speeds("executorch")
    fit = fit_observations(rows, template("executorch", bare, rows))
    errors = errors_on(fit, held, bits, "decode")
    lines = _rows(held, errors, "decode")
    own = np.abs(errors_on(fit, seen, bits, "decode"))
    lines.append(
        f"calibrated {100 * float(np.mean(own)):.1f} %, repeatability "
        f"{100 * repeatability(timed, 'decode'):.1f} %"
    )
    once, twice, distinct = (t.seconds("decode") for t in held)
    sizes = [(t.file_bytes or 0) / 1e6 for t in held]
    held_mb = [(t.peak_bytes or 0.0) / 1e6 for t in held]
    good = bool(np.all(np.abs(errors) <= 0.10))
    return [
        *lines,
        f"applying 30 blocks twice takes {twice / once:.2f} times as long as once, 60 distinct "
        f"blocks {distinct / once:.2f} times; files of {sizes[0]:.0f}, {sizes[1]:.0f} and "
        f"{sizes[2]:.0f} MB, in memory {held_mb[0]:.0f}, {held_mb[1]:.0f} and {held_mb[2]:.0f} MB",
        f"bar: each of the three variants within 10 %: {verdict(good)}",
    ]


def _calibrate_beside(
    engine: Engine, unseen: list[Case], contexts: Sequence[int] = ()
) -> tuple[Fit, list[Timed], list[Timed], dict[str, float]]:
    """Time calibration and unseen shapes, in the same rounds where it can be; fit on the former.

    Args:
        contexts: prompt lengths of the unseen shapes, where they are others than the calibration's:
            all are timed after the calibration, the long ones within `LONG_SECONDS`.
    """
    cases = cases_for(engine)
    rounds = ROUNDS[engine]
    print(
        f"   timing {len(cases)} shapes to calibrate and {len(unseen)} unseen ones, "
        f"{rounds} rounds",
        flush=True,
    )
    measured = take(engine, cases if contexts else [*cases, *unseen], rounds=rounds)
    timed = list(measured.timed)
    for prompt in contexts:
        if prompt < LONG:
            timed += time_cases(
                engine, unseen, prompts=(prompt,), decode_tokens=DECODE_TOKENS, rounds=rounds
            )
        else:
            found = time_far(
                engine, unseen, prompt=prompt, decode_tokens=DECODE_TOKENS, seconds=LONG_SECONDS
            )
            print(
                f"   {len(found)} of {len(unseen)} shapes timed after {prompt} tokens", flush=True
            )
            timed += found
    hidden = set(unseen)
    seen = [t for t in timed if t.case not in hidden]
    held = [t for t in timed if t.case in hidden]
    fit = fit_measured(dataclasses.replace(measured, timed=seen))
    return fit, held, seen, measured.bare


def _first(timed: Sequence[Timed]) -> list[Timed]:
    """At the calibration's shortest prompt: where decode is judged."""
    return [t for t in timed if t.prompt_tokens == PROMPT]


def _rows(held: Sequence[Timed], errors: np.ndarray, phase: Phase) -> list[str]:
    lines = []
    for timed, error in zip(held, errors, strict=True):
        seconds = timed.seconds(phase)
        lines.append(
            f"{timed.case.label}, {timed.prompt_tokens} tokens before: {1e3 * seconds:.2f} ms "
            f"measured (halves of the rounds agree to {100 * timed.repeatability(phase):.1f} %), "
            f"predicted {percent(float(error))}"
        )
    return lines


def _summary(
    fit: Fit, seen: Sequence[Timed], held: Sequence[Timed], bits: float, bare: dict[str, float]
) -> list[str]:
    lines = []
    phases: tuple[Phase, ...] = ("decode", "prefill")
    for phase in phases:
        errors = np.abs(errors_on(fit, held, bits, phase))
        own = np.abs(errors_on(fit, seen, bits, phase))
        rows = [t.observation(phase, bits) for t in held]
        flat = np.abs(roofline(rows, bare, fit) / [o.seconds for o in rows] - 1)
        lines.append(
            f"{phase}: unseen {100 * float(np.mean(errors)):.1f} % (worst "
            f"{100 * float(np.max(errors)):.1f} %), calibrated {100 * float(np.mean(own)):.1f} %, "
            f"repeatability {100 * repeatability(held, phase):.1f} %, plain roofline "
            f"{100 * float(np.mean(flat)):.0f} %"
        )
    lines.append("fitted: " + ", ".join(f"{k} {v:.3g}" for k, v in fit.values.items()))
    lines.append("not determined: " + (", ".join(fit.not_determined) or "nothing"))
    return lines
