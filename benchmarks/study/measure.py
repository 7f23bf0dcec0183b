"""Times the panel and the sharing trios on this machine: `python -m benchmarks.study --measure`.

The profile is calibrated on shapes that are neither, in turns with them, so that a slow quarter of
an hour slows both; everything is written beside the records, so that the report needs no machine.
"""

import dataclasses
import datetime
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.study.records import FOLDER, load_study
from shapelaw.results.record import ArchitectureFields
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.search.devices.calibration.timing import merged
from shapelaw.search.devices.cost import costs
from shapelaw.search.devices.engines import best
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.workload import Workload
from shapelaw.sweeps.worker_environment import processor_name

MACHINE = FOLDER / "machine"
PROFILE = MACHINE / "this-machine.toml"
WORKLOAD = Workload(name="study", prompt=64, generated=32)
TURNS = 6
ROUNDS = 18
"""Of timing every shape, over all turns: ten minutes, some of which are quiet."""
BITS = 32.0

Rounds = tuple[list[float], list[float]]
"""Seconds of prefill and of a decode step, round by round."""


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One shape timed on the jax engine."""

    family: str
    """`panel`, or the width of a sharing trio."""
    kind: str
    architecture: ArchitectureFields
    decode_s: float
    """One token after the prompt, the settled best of all rounds."""
    prefill_s: float
    spread: float
    """Relative distance of the two best rounds."""
    rounds: int
    hardware: str
    cores: int
    jax: str
    date: str


class SharingTiming(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of the recompute-or-move figure."""

    family: str
    kind: str
    measured_s: float
    predicted_s: float
    bytes_moved: float
    bytes_cached: float


def sharing_trios() -> list[tuple[str, str, Architecture]]:
    """30 blocks, the same 30 applied twice, 60 distinct ones: MobileLLM's table 7 at two widths."""
    found = []
    for d_model, heads, d_ff in ((256, 4, 704), (576, 9, 1536)):
        for kind, blocks, sharing in (
            ("30 blocks", 30, 1),
            ("30 blocks applied twice", 30, 2),
            ("60 distinct blocks", 60, 1),
        ):
            found.append(
                (
                    f"d_model {d_model}",
                    kind,
                    Architecture(
                        vocab_size=32000,
                        d_model=d_model,
                        n_blocks=blocks,
                        sharing=sharing,
                        n_heads=heads,
                        n_kv_heads=max(1, heads // 3),
                        head_dim=64,
                        d_ff=d_ff,
                    ),
                )
            )
    return [
        (family, kind, shape)
        for family, kind, shape in found
        if shape.n_heads % shape.n_kv_heads == 0
    ]


def panel_shapes() -> list[Architecture]:
    """The trained shapes of the held-out size."""
    shapes = {record.architecture.build() for record in load_study().held_out}
    return sorted(shapes, key=lambda shape: (shape.d_model, shape.depth, shape.d_ff))


def measure_all(say: Callable[[str], None] = print) -> None:
    """Calibrate and time, in turns; replaces the files in results/reference/machine."""
    from shapelaw.search.devices.calibration.calibrate import Measured as Calibration
    from shapelaw.search.devices.calibration.calibrate import cases_for, fit_measured, take
    from shapelaw.search.devices.calibration.fitted_profile import profile_of

    wanted = [("panel", "panel", shape) for shape in panel_shapes()] + sharing_trios()
    runs: list[Rounds] = [([], []) for _ in wanted]
    calibrations: list[Calibration] = []
    for turn in range(TURNS):
        say(f"turn {turn + 1} of {TURNS}")
        calibrations.append(take("jax", cases_for("jax"), rounds=ROUNDS // TURNS, progress=say))
        _time(wanted, runs, ROUNDS // TURNS)
    timed = [merged(same) for same in zip(*(c.timed for c in calibrations), strict=True)]
    fit = fit_measured(dataclasses.replace(calibrations[0], timed=timed))
    MACHINE.mkdir(parents=True, exist_ok=True)
    profile_of("this-machine", "jax", fit, measured_here=True).to_file(PROFILE)
    encoder = msgspec.json.Encoder()
    write_atomically(
        MACHINE / "measured.jsonl",
        "".join(
            encoder.encode(_measured(*one, run)).decode() + "\n"
            for one, run in zip(wanted, runs, strict=True)
        ),
    )


def _time(wanted: list[tuple[str, str, Architecture]], runs: list[Rounds], rounds: int) -> None:
    """All shapes, round after round, so that a slow minute spoils a round of each; fills `runs`."""
    from shapelaw.search.devices.engines import jax as engine

    for _ in range(rounds):
        for (_, _, shape), (prefill, decode) in zip(wanted, runs, strict=True):
            runner = engine.prepare(shape)
            seconds = runner.run(WORKLOAD.prompt, WORKLOAD.generated)
            runner.close()
            prefill.append(seconds[0])
            decode.append(seconds[1])


def _measured(family: str, kind: str, shape: Architecture, run: Rounds) -> Measured:
    timing = best(*run)
    return Measured(
        family=family,
        kind=kind,
        architecture=ArchitectureFields.of(shape),
        decode_s=timing.decode_s,
        prefill_s=timing.prefill_s,
        spread=timing.spread,
        rounds=len(run[1]),
        hardware=processor_name(),
        cores=len(os.sched_getaffinity(0)),
        jax=version("jax"),
        date=datetime.date.today().isoformat(),
    )


# --- reading them back ---------------------------------------------------------------------------


def read_measured(path: Path = MACHINE / "measured.jsonl") -> list[Measured]:
    """What `measure_all` wrote."""
    return [msgspec.json.decode(line, type=Measured) for line in path.read_bytes().splitlines()]


def spreads() -> tuple[float, float]:
    """How far the two best rounds of a timing lie apart, relatively: the median, the most."""
    found = [one.spread for one in read_measured()]
    return float(np.median(found)), max(found)


def predicted_decode_s(shapes: list[Architecture]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds a token, and peak memory in bytes, by the calibrated profile."""
    found = costs(
        ArchitectureBatch.of(shapes),
        DeviceProfile.from_file(PROFILE),
        WORKLOAD,
        weight_bits=BITS,
        kv_bits=BITS,
        activation_bits=BITS,
    )
    return found.decode_s, found.memory_bytes


def panel_speeds() -> dict[Architecture, tuple[float, float, float]]:
    """Shape -> (measured tokens/s, predicted tokens/s, memory in bytes)."""
    chosen = [one for one in read_measured() if one.family == "panel"]
    shapes = [one.architecture.build() for one in chosen]
    seconds, memory = predicted_decode_s(shapes)
    return {
        shape: (1 / one.decode_s, 1 / float(s), float(m))
        for shape, one, s, m in zip(shapes, chosen, seconds, memory, strict=True)
    }


def sharing_timings() -> list[SharingTiming]:
    """The trios, measured beside predicted, with where the bytes came from."""
    from shapelaw.search.devices.explain import explain

    profile = DeviceProfile.from_file(PROFILE)
    found = []
    for one in read_measured():
        if one.family == "panel":
            continue
        shape = one.architecture.build()
        parts = explain(shape, profile, WORKLOAD, weight_bits=BITS)["parts"]
        found.append(
            SharingTiming(
                family=one.family,
                kind=one.kind,
                measured_s=one.decode_s,
                predicted_s=float(predicted_decode_s([shape])[0][0]),
                bytes_moved=sum(part["bytes_moved"] for part in parts),
                bytes_cached=sum(part["bytes_cached"] for part in parts),
            )
        )
    return found
