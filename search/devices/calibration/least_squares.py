"""Solving for a device's constants from timings of known shapes.

Parameters move in the logarithm between physical bounds, residuals are log predicted − log
measured, and a soft L1 loss keeps one bad timing from steering the rest. What the measurements do
not determine is said, not hidden: a parameter at a bound, or one whose standard error exceeds a
factor of two, is listed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.formats.mixes import mix
from shapelaw.search.devices.constants import Constants
from shapelaw.search.devices.cost import total_seconds
from shapelaw.search.devices.roofline_parts import Shapes, decode_parts, prefill_parts
from shapelaw.search.workload import Workload

Phase = Literal["decode", "prefill"]

PATIENCE = 60
"""Steps of the solver from one start; the flat directions it would still crawl along are not
determined anyway."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """One timing: seconds of one decode step or one prefill."""

    architecture: Architecture
    workload: Workload
    phase: Phase
    weight_bits: float
    seconds: float
    kv_bits: float = 16.0
    activation_bits: float = 16.0
    weight_format: str | None = None
    """The GGUF format the weights were stored in; by plain bits where it is not known."""


@dataclasses.dataclass(frozen=True)
class Free:
    """One constant to solve for, with its physical bounds."""

    name: str
    low: float
    high: float
    start: float
    put: Callable[[Constants, float], Constants]


@dataclasses.dataclass(frozen=True)
class Solution:
    """What a fit found."""

    constants: Constants
    values: dict[str, float]
    log_standard_error: dict[str, float]
    at_bound: list[str]
    not_determined: list[str]


def field(name: str, low: float, high: float, start: float) -> Free:
    """A free constant that is one field of Constants."""
    return Free(name, low, high, start, lambda c, v: _replace(c, name, v))


def _replace(c: Constants, name: str, value: Any) -> Constants:
    return dataclasses.replace(c, **{name: value})


def cache_field(
    level: int, which: Literal["capacity", "bandwidth"], low: float, high: float, start: float
) -> Free:
    """A free constant of one cache level."""
    name = f"cache_{which}"

    def put(c: Constants, value: float) -> Constants:
        levels = list(getattr(c, name))
        levels[level] = value
        return _replace(c, name, tuple(levels))

    return Free(f"{name}.{level}", low, high, start, put)


def weight_field(
    bits: float, which: Literal["unpack", "prefill_slowdown"], low: float, high: float, start: float
) -> Free:
    """A free constant of one weight precision."""
    column = {"unpack": 2, "prefill_slowdown": 3}[which]

    def put(c: Constants, value: float) -> Constants:
        rows = [list(row) for row in c.weights]
        for row in rows:
            if row[0] == bits:
                row[column] = value
        return dataclasses.replace(
            c, weights=tuple((row[0], row[1], row[2], row[3]) for row in rows)
        )

    return Free(f"weights.{bits:g}.{which}", low, high, start, put)


class Predictor:
    """Seconds the cost model gives for a list of observations, grouped once for many calls."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        groups: dict[tuple[Workload, str, float, float, str | None], list[int]] = {}
        for index, o in enumerate(observations):
            key = (o.workload, o.phase, o.kv_bits, o.activation_bits, o.weight_format)
            groups.setdefault(key, []).append(index)
        self._size = len(observations)
        self._groups = [
            (
                rows,
                *key,
                ArchitectureBatch.of(observations[i].architecture for i in rows),
                np.array([observations[i].weight_bits for i in rows]),
            )
            for key, rows in groups.items()
        ]

    def __call__(self, c: Constants) -> np.ndarray:
        """Seconds [n], in the order of the observations."""
        result = np.empty(self._size)
        for rows, workload, phase, kv_bits, activation_bits, name, batch, bits in self._groups:
            formats = None if name is None else ([mix(name, "gguf")], np.zeros(len(rows), int))
            shapes = Shapes(batch, c, workload, bits, kv_bits, activation_bits, formats=formats)
            parts = decode_parts if phase == "decode" else prefill_parts
            result[rows] = total_seconds(parts(shapes, c))
        return result


def predict(observations: Sequence[Observation], c: Constants) -> np.ndarray:
    """Seconds [n] the cost model gives, in the order of the observations."""
    return Predictor(observations)(c)


def solve(
    observations: Sequence[Observation],
    template: Constants,
    free: Sequence[Free],
    *,
    starts: int = 6,
    seed: int = 0,
    huber: float = 0.05,
    prior: float = 0.0,
) -> Solution:
    """The constants that explain the timings best, from several starts.

    Args:
        huber: the relative error beyond which a timing counts less than squared.
        prior: the relative error a timing may take on for each factor of e by which a constant
            leaves its start; keeps what few timings leave open at its typical value.
    """
    from scipy.optimize import least_squares

    low = np.log([f.low for f in free])
    high = np.log([f.high for f in free])
    measured = np.log([o.seconds for o in observations])
    predictor = Predictor(observations)

    def place(logs: np.ndarray) -> Constants:
        c = template
        for parameter, value in zip(free, np.exp(logs), strict=True):
            c = parameter.put(c, float(value))
        return c

    first = np.clip(np.log([f.start for f in free]), low, high)

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.log(predictor(place(logs))) - measured

    def penalised(logs: np.ndarray) -> np.ndarray:
        return np.concatenate([residuals(logs), prior * (logs - first)])

    generator = np.random.default_rng(seed)
    best = None
    for attempt in range(starts):
        start = first if attempt == 0 else generator.uniform(low, high)
        start = np.clip(start, low + 1e-9, high - 1e-9)
        found = least_squares(
            penalised, start, bounds=(low, high), loss="soft_l1", f_scale=huber, max_nfev=PATIENCE
        )
        if best is None or found.cost < best.cost - 1e-12:
            best = found
    assert best is not None
    logs = best.x
    spread = _standard_errors(np.asarray(best.jac)[: len(measured)], residuals(logs))
    at_bound = [
        f.name
        for f, value, a, b in zip(free, logs, low, high, strict=True)
        if min(value - a, b - value) < 1e-3 * (b - a)
    ]
    loose = [f.name for f, e in zip(free, spread, strict=True) if e > np.log(2)]
    return Solution(
        place(logs),
        {f.name: float(np.exp(v)) for f, v in zip(free, logs, strict=True)},
        {f.name: float(e) for f, e in zip(free, spread, strict=True)},
        at_bound,
        sorted({*at_bound, *loose}),
    )


TIMING_ERROR = 0.03
"""Least relative error of a timing: fewer timings than constants fit exactly and prove nothing."""
PRIOR_SPREAD = 1.0
"""Standard deviation of a constant's logarithm before any timing."""


def _standard_errors(jacobian: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """Of the log parameters; near `PRIOR_SPREAD` where the timings say nothing about one."""
    freedom = max(1, len(residuals) - jacobian.shape[1])
    variance = max(float(residuals @ residuals) / freedom, TIMING_ERROR**2)
    precision = jacobian.T @ jacobian / variance + np.eye(jacobian.shape[1]) / PRIOR_SPREAD**2
    return np.sqrt(np.diag(np.linalg.inv(precision)))


def leave_one_out(
    observations: Sequence[Observation],
    template: Constants,
    free: Sequence[Free],
    groups: Sequence[object],
    *,
    starts: int = 2,
    prior: float = 0.0,
) -> np.ndarray:
    """Prediction over measurement − 1 for each timing, by fits that did not see its group."""
    errors = np.empty(len(observations))
    whole = solve(observations, template, free, starts=starts, prior=prior)
    warm = [dataclasses.replace(f, start=whole.values[f.name]) for f in free]
    for group in dict.fromkeys(groups):
        held = [i for i, g in enumerate(groups) if g == group]
        rest = [o for o, g in zip(observations, groups, strict=True) if g != group]
        solution = solve(rest, template, warm, starts=1, prior=prior)
        chosen = [observations[i] for i in held]
        errors[held] = predict(chosen, solution.constants) / [o.seconds for o in chosen] - 1
    return errors
