"""How probable it is that a shape meets the budgets, by the draws of the device and of the law."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.problem import Columns, Margin, Points, Problem

DRAWS = 128
"""Draws of a device's constants that a query takes. With half as many, a promise of .9 is kept .007
less often than it says."""

SHARES = {"even": 0.5, "likely": 0.3, "lucky": 0.1, "luckiest": 0.02}
"""Margin -> share of the draws that let a shape through that stands on it."""

_NEAR = 1.2
"""A sampled shape is near a budget when it is within this factor of it."""

_SURER = 0.98
"""The shapes the device is surest of need this much less than any of the sample there."""

_ROUNDS = 4
"""In which the place of the margin and the margin there come to agree."""

_FEWEST = 24
"""Shapes near a budget that margins are taken from, at least."""


@runtime_checkable
class UncertainCost(Protocol):
    """A cost model that knows how uncertain it is."""

    def draws(
        self,
        architectures: ArchitectureBatch,
        weight_bits: np.ndarray,
        wanted: tuple[str, ...],
        count: int,
    ) -> Columns:
        """Columns [k, n] by each of up to `count` joint draws of the device's constants."""
        ...


def cost_draws(problem: Problem, points: Points, wanted: tuple[str, ...]) -> Columns:
    """Columns [k, n] by the device's draws; [1, n], the point costs, where it has none."""
    cost = problem.cost
    if isinstance(cost, UncertainCost):
        return cost.draws(points.architectures, points.bits, wanted, DRAWS)
    return {name: points.columns[name][None, :] for name in wanted}


def device_columns(problem: Problem) -> tuple[str, ...]:
    """Columns of cost that a limit bounds."""
    return tuple(dict.fromkeys(limit.column for limit in problem.limits if limit.column != "loss"))


@dataclasses.dataclass(frozen=True, eq=False)
class JointDraws:
    """Points judged by draws of law and device together: row j pairs one of each at random."""

    losses: np.ndarray
    """[j, n], nats per token."""
    met: dict[str, np.ndarray]
    """Budget -> where it is met [j, n]."""
    costs: Columns
    """What the device's draws give for the limited columns [m, n]; unpaired."""
    law_rows: np.ndarray
    """[j]: which draw of the law."""
    device_rows: np.ndarray
    """[j]: which draw of the device."""

    @property
    def feasible(self) -> np.ndarray:
        """Where every budget is met [j, n]."""
        found = np.ones(self.losses.shape, dtype=bool)
        for met in self.met.values():
            found &= met
        return found

    @property
    def probability(self) -> np.ndarray:
        """That every budget is met [n]."""
        return np.asarray(self.feasible.mean(axis=0))


JOINT = 1000
"""Joint draws, at most."""


def joint_draws(problem: Problem, points: Points) -> JointDraws:
    """Judge points by up to JOINT joint draws.

    Law and device are independent, so any pairing is a fair one; each draw of the device meets an
    equal share of the law's.
    """
    tokens = problem.budget.training_tokens(points.architectures)
    total = len(problem.law.loss_draws(points.architectures.take(np.arange(1)), first(tokens)))
    law_rows = spread(total, JOINT)
    losses = problem.law.loss_draws(points.architectures, tokens, law_rows)
    costs = cost_draws(problem, points, device_columns(problem))
    devices = max((len(column) for column in costs.values()), default=1)
    drawn, device_rows = paired(len(losses), devices)
    met = {}
    for limit in problem.limits:
        if limit.column == "loss":
            met[limit.name] = limit.met(losses[drawn])
        else:
            met[limit.name] = limit.met(costs[limit.column])[device_rows % len(costs[limit.column])]
    return JointDraws(losses[drawn], met, costs, law_rows[drawn], device_rows)


def spread(count: int, most: int) -> np.ndarray:
    """Up to `most` of the numbers below `count`, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def paired(laws: int, devices: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of so many draws of the law and of the device, put together at random [j], [j]."""
    count = max(laws, devices)
    pairing = np.random.default_rng(0).permutation(count)
    return np.arange(count) % laws, pairing % devices


def first(tokens: float | np.ndarray) -> float | np.ndarray:
    """Training tokens of the first shape."""
    return tokens[:1] if isinstance(tokens, np.ndarray) else tokens


def probability(problem: Problem, points: Points) -> np.ndarray:
    """That every budget is met [n]: of law and device together where a loss is to be reached."""
    if any(limit.column == "loss" for limit in problem.limits):
        return joint_draws(problem, points).probability
    wanted = device_columns(problem)
    if not wanted:
        return np.ones(len(points))
    columns = cost_draws(problem, points, wanted)
    met = np.ones((1, len(points)), dtype=bool)
    for limit in problem.limits:
        met = met & limit.met(columns[limit.column])
    return np.asarray(met.mean(axis=0))


def margins(problem: Problem, sample: Points, confidence: float) -> dict[str, Margin]:
    """How far inside each budget the middle costs must be for it to be met with confidence.

    Taken from the sampled shapes whose middle costs lie where the margin puts them: what a shape
    needs depends on its size, since a runtime of uncertain size is most of a small model's memory.
    The pick is settled by the draws themselves.
    """
    draws = dict(cost_draws(problem, sample, device_columns(problem)))
    if any(limit.column == "loss" for limit in problem.limits):
        tokens = problem.budget.training_tokens(sample.architectures)
        draws["loss"] = problem.law.loss_draws(sample.architectures, tokens)
    found = {}
    for limit in problem.limits:
        ratio = np.log(np.maximum(limit.ratio(sample.columns[limit.column]), 1e-9))
        middle, drawn = sample.columns[limit.column], draws[limit.column]
        # By what a draw is worse than the middle: above 1 where it is.
        worse = middle / drawn if limit.at_least else drawn / middle
        quantile = np.nanquantile if np.isnan(worse).any() else np.quantile  # a tenth of the time
        needed = quantile(worse, confidence, axis=0)
        at = _rows_near(ratio, 0.0)
        usual = float(np.median(needed[at]))
        for _ in range(_ROUNDS):
            at = _rows_near(ratio, -np.log(usual))
            usual = float(np.median(needed[at]))
        lets = {
            name: min(float(np.median(quantile(worse[:, at], share, axis=0))), 1.0)
            for name, share in SHARES.items()
        }
        least = _SURER * float(np.min(needed[at]))
        found[limit.name] = Margin(least=least, usual=usual, **lets)
    return found


def _rows_near(ratio: np.ndarray, place: float) -> np.ndarray:
    """Rows of the samples whose log ratio to the limit is close to `place`."""
    away = np.abs(ratio - place)
    close = max(_FEWEST, int(np.sum(away <= np.log(_NEAR))))
    return np.argsort(away, kind="stable")[:close]


_LOSS_DRAWS = 400
"""Draws of the law that stand for its spread where every point of a space is asked."""


def confident_columns(
    problem: Problem, points: Points, wanted: tuple[str, ...], confidence: float
) -> Columns:
    """The value [n] that each column keeps to with confidence: a limit there is met with it."""
    found = {}
    if "loss" in wanted:
        tokens = problem.budget.training_tokens(points.architectures)
        total = len(problem.law.loss_draws(points.architectures.take(np.arange(1)), first(tokens)))
        rows = np.unique(np.linspace(0, total - 1, min(total, _LOSS_DRAWS)).astype(int))
        losses = problem.law.loss_draws(points.architectures, tokens, rows)
        found["loss"] = np.quantile(losses, confidence, axis=0, method="higher")
    costs = tuple(name for name in wanted if name != "loss")
    for name, drawn in cost_draws(problem, points, costs).items():
        # Higher and lower, not between: the share of draws that meet it is what counts.
        if name == "decode_tokens_per_s":
            found[name] = np.quantile(drawn, 1 - confidence, axis=0, method="lower")
        else:
            found[name] = np.quantile(drawn, confidence, axis=0, method="higher")
    return found
