"""Timing many shapes fairly: in rounds, every shape once a round, the settled best kept."""

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.search.devices.calibration.least_squares import Observation
from shapelaw.search.devices.calibration.timing_shapes import Case
from shapelaw.search.devices.engines import ENGINES, Runner, settled
from shapelaw.search.workload import Workload

Progress = Callable[[str], None]
SMALL_PARAMETERS = 1e6
"""Applied, below which a visit costs next to nothing."""
SMALL_VISITS = 3
"""A round to each small shape. A neighbour on the same core slows them for seconds at a time, so
they are come back to rather than timed for longer."""
SOME = slice(1, None, 3)
"""Of a calibration's cases: those that are timed after long prompts too."""
Engine = Literal["jax", "llama.cpp", "executorch", "mlx"]


@dataclasses.dataclass(frozen=True)
class Timed:
    """One case's seconds, round by round, at one prompt length."""

    case: Case
    prompt_tokens: int
    decode_tokens: int
    prefill: tuple[float, ...]
    decode: tuple[float, ...]
    peak: tuple[float, ...] = ()
    """Most bytes held in each round, by engines that run in a process of their own."""
    file_bytes: int | None = None

    @property
    def peak_bytes(self) -> float | None:
        """The median of the rounds; None where the engine does not tell."""
        return float(np.median(self.peak)) if self.peak else None

    def observation(self, phase: Literal["decode", "prefill"], bits: float) -> Observation:
        """For the fits: the settled best. `bits` is the precision of keys and activations."""
        work = Workload(name="calibration", prompt=self.prompt_tokens, generated=self.decode_tokens)
        return Observation(
            self.case.architecture,
            work,
            phase,
            self.case.weight_bits,
            self.seconds(phase),
            bits,
            bits,
            self.case.weight_format,
        )

    def seconds(self, phase: Literal["decode", "prefill"]) -> float:
        """The settled best of the rounds."""
        return settled(self.decode if phase == "decode" else self.prefill)

    def repeatability(self, phase: Literal["decode", "prefill"]) -> float:
        """How far the best of the odd rounds is from the best of the even ones, relative."""
        rounds = self.decode if phase == "decode" else self.prefill
        if len(rounds) < 2:
            return 0.0
        first, second = settled(rounds[::2]), settled(rounds[1::2])
        return abs(first / second - 1)


def merged(turns: Sequence[Timed]) -> Timed:
    """The rounds of one case, timed in several turns, as if timed in one."""
    return dataclasses.replace(
        turns[0],
        prefill=tuple(seconds for turn in turns for seconds in turn.prefill),
        decode=tuple(seconds for turn in turns for seconds in turn.decode),
        peak=tuple(held for turn in turns for held in turn.peak),
        file_bytes=turns[-1].file_bytes,
    )


def activation_bits(engine: Engine) -> float:
    """Precision of keys and activations the engine runs with here."""
    if engine in ("llama.cpp", "mlx"):
        return 16.0
    if engine == "executorch":
        return 32.0
    from shapelaw.search.devices.engines.jax import precision_bits

    return float(precision_bits())


def check_engine(engine: str) -> None:
    """Raise BadInput for an engine that is not known."""
    if engine not in ENGINES:
        raise BadInput(f"engine = {engine!r}: one of {', '.join(ENGINES)}")


def time_cases(
    engine: Engine,
    cases: Sequence[Case],
    *,
    prompts: Sequence[int],
    decode_tokens: int,
    rounds: int,
    everywhere: bool = False,
    progress: Progress | None = None,
) -> list[Timed]:
    """Time every case at the first prompt length and `SOME` also at the others, in rounds.

    With `everywhere`, each case at each prompt length.

    Small cases of the jax engine are visited several times a round, between the others.

    Returns one entry a case and prompt length, cases in order.

    Raises:
        BadInput: an unknown engine, or one not installed. NoAnswer: the engine failed.
    """
    check_engine(engine)
    chosen = range(len(cases))[SOME]
    found = {
        (index, prompt): Timed(case, prompt, decode_tokens, (), ())
        for index, case in enumerate(cases)
        for prompt in (prompts if everywhere or index in chosen else prompts[:1])
    }
    order = visiting_order(cases) if engine == "jax" else list(range(len(cases)))
    with tempfile.TemporaryDirectory(prefix="shapelaw-") as folder:
        kept: dict[int, Runner] = {}
        try:
            for round_ in range(rounds):
                if progress is not None:
                    progress(f"{engine}: round {round_ + 1} of {rounds}, {len(cases)} shapes")
                for index in order:
                    runner = kept.get(index) or _prepare(engine, cases[index], Path(folder))
                    if engine != "jax":
                        kept[index] = runner  # its file is written once
                    for prompt in [p for i, p in found if i == index]:
                        once = _timed(runner, cases[index], prompt, decode_tokens)
                        found[index, prompt] = merged([found[index, prompt], once])
                    if engine == "jax":
                        runner.close()
        finally:
            for runner in kept.values():
                runner.close()
    return list(found.values())


def time_far(
    engine: Engine,
    cases: Sequence[Case],
    *,
    prompt: int,
    decode_tokens: int,
    seconds: float,
    progress: Progress | None = None,
) -> list[Timed]:
    """Time each case once after a prompt that may take it minutes, the cheapest first.

    Args:
        seconds: after which no further case is begun.

    Raises:
        BadInput: an unknown engine, or one not installed. NoAnswer: the engine failed.
    """
    by_work = sorted(cases, key=lambda c: c.architecture.depth * c.architecture.d_model)
    started, found = time.perf_counter(), list[Timed]()
    for case in by_work:
        if time.perf_counter() - started > seconds:
            break
        if progress is not None:
            done = f"{len(found) + 1} of {len(cases)}"
            progress(f"{engine}: shape {done} after {prompt} tokens")
        found += time_cases(
            engine, [case], prompts=(prompt,), decode_tokens=decode_tokens, rounds=1
        )
    return found


def visiting_order(cases: Sequence[Case]) -> list[int]:
    """One round's visits, as indices of the cases: the small ones again before each part of the
    others."""
    small = [
        index
        for index, case in enumerate(cases)
        if case.architecture.applied_parameters < SMALL_PARAMETERS
    ]
    others = [index for index in range(len(cases)) if index not in small]
    part = -(-len(others) // SMALL_VISITS)
    return [
        index
        for visit in range(SMALL_VISITS)
        for index in [*small, *others[visit * part : (visit + 1) * part]]
    ]


def _prepare(engine: Engine, case: Case, folder: Path) -> Runner:
    if engine == "jax":
        from shapelaw.search.devices.engines import jax

        return jax.prepare(case.architecture, weight_bits=case.weight_bits)
    if engine == "executorch":
        from shapelaw.search.devices.engines import executorch

        return executorch.prepare(case.architecture, weight_bits=case.weight_bits, folder=folder)
    if engine == "mlx":
        from shapelaw.search.devices.engines import mlx

        return mlx.prepare(case.architecture, weight_bits=case.weight_bits)
    from shapelaw.search.devices.engines import llamacpp

    return llamacpp.prepare(case.architecture, weight_bits=case.weight_bits, folder=folder)


def _timed(runner: Runner, case: Case, prompt: int, decode_tokens: int) -> Timed:
    """One round of one case."""
    try:
        prefill, decode = runner.run(prompt, decode_tokens)
    except (RuntimeError, MemoryError) as error:
        raise NoAnswer(f"the engine failed: {' '.join(str(error).split())[:200]}") from None
    peak = () if runner.peak_bytes is None else (runner.peak_bytes,)
    return Timed(case, prompt, decode_tokens, (prefill,), (decode,), peak, runner.file_bytes)


def repeatability(timed: Sequence[Timed], phase: Literal["decode", "prefill"]) -> float:
    """The mean over cases of the relative gap between two halves of the rounds."""
    return float(np.mean([t.repeatability(phase) for t in timed])) if timed else 0.0
