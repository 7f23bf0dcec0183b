"""Of millions of shapes, the few that may be best by single draws of law and device.

Which shapes meet the budgets in a draw of the device is computed as it is. What a draw of the law
says of a shape is told from what the nodes of the expected loss say, which a search computes
anyway: a linear function of their losses and of their logarithms, fitted on a sample of shapes.
That is near enough (a thousandth of a nat) to tell a few shapes that a draw's best is among.
"""

import dataclasses

import numpy as np

from shapelaw.search.pareto.expected_loss import ExpectedLoss
from shapelaw.search.pareto.feasibility import (
    JOINT,
    cost_draws,
    device_columns,
    first,
    paired,
    spread,
)
from shapelaw.search.pareto.problem import NODES, Points, Problem

WATCHED = 200
"""Joint draws that are looked for, spread evenly over all."""

FEW = 8
"""Shapes kept for each of them."""

WINDOW = 0.25
"""Nats that a shape's expected loss may be behind the sample's best confident one."""

_HEED = 0.3
"""Nats behind the best at which a sampled shape counts for 1/e in the fit."""

_LEAST = 1e-3
"""What the worst shapes count for."""

_PIECE = 8192


@dataclasses.dataclass(frozen=True, eq=False)
class BestByDraws:
    """The few shapes best by each watched draw, in no order: about their losses [draws, few], and
    their keys; twice: of those feasible in the draw, and of those that keep the promise."""

    feasible: tuple[np.ndarray, np.ndarray]
    promised: tuple[np.ndarray, np.ndarray]

    def keys(self, most: int = FEW) -> np.ndarray:
        """Keys of up to `most` shapes for each draw, of both kinds."""
        found = []
        for losses, keys in (self.feasible, self.promised):
            order = np.argsort(losses, axis=1, kind="stable")[:, :most]
            best = np.take_along_axis(losses, order, axis=1)
            found.append(np.take_along_axis(keys, order, axis=1)[np.isfinite(best)])
        return np.unique(np.concatenate(found))


def joined(first: BestByDraws | None, second: BestByDraws | None) -> BestByDraws | None:
    """The few best of both."""
    if first is None or second is None:
        return second if first is None else first
    return BestByDraws(
        _few(*(np.hstack(pair) for pair in zip(first.feasible, second.feasible, strict=True))),
        _few(*(np.hstack(pair) for pair in zip(first.promised, second.promised, strict=True))),
    )


def _few(losses: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best FEW of each row."""
    if losses.shape[1] <= FEW:
        return losses, np.broadcast_to(keys, losses.shape)
    rows = np.argpartition(losses, FEW - 1, axis=1)[:, :FEW]
    each = np.take_along_axis(keys, rows, axis=1) if keys.ndim == 2 else keys[rows]
    return np.take_along_axis(losses, rows, axis=1), each


@dataclasses.dataclass(frozen=True, eq=False)
class DrawScreen:
    """What tells the shapes worth a closer look. Same shapes, same result, however they are cut."""

    problem: Problem
    confidence: float
    slopes: np.ndarray
    """[2·nodes + 1, draws]: a draw's loss from the nodes' losses, their logarithms, and 1."""
    device_rows: np.ndarray
    """[draws]"""
    most: float
    """Expected loss beyond which no shape is looked at."""

    def look(self, points: Points) -> BestByDraws | None:
        """The few best of points, which have the nodes' losses among their columns."""
        rows = np.flatnonzero(points.columns["loss"] <= self.most)
        best = None
        for start in range(0, len(rows), _PIECE):
            best = joined(best, self._piece(points.take(rows[start : start + _PIECE])))
        return best

    def _piece(self, points: Points) -> BestByDraws | None:
        met = met_by_device(self.problem, points)
        promised = met.mean(axis=0) >= self.confidence
        rows = np.flatnonzero(met.any(axis=0))
        if not len(rows):
            return None
        known = _known(points.columns[NODES][rows]).astype(np.float32)
        losses = self.slopes.astype(np.float32).T @ known.T
        keys = points.keys[rows]
        feasible = met[:, rows][self.device_rows % len(met)]
        kept = np.flatnonzero(promised[rows])
        return BestByDraws(
            _few(np.where(feasible, losses, np.float32(np.inf)), keys),
            _few(losses[:, kept], keys[kept]),
        )


def met_by_device(problem: Problem, points: Points) -> np.ndarray:
    """Where every budget on cost is met [device draws, n]."""
    wanted = device_columns(problem)
    met = np.ones((1, len(points)), dtype=bool)
    if not wanted:
        return met
    columns = cost_draws(problem, points, wanted)
    for limit in problem.limits:
        met = met & limit.met(columns[limit.column])
    return met


def draw_screen(problem: Problem, sample: Points, confidence: float) -> DrawScreen | None:
    """Fitted on a sample of shapes, of a problem with its expected loss; None where there are no
    draws, or a loss to reach, where no regret is told."""
    law = problem.law
    if problem.target_loss is not None or not isinstance(law, ExpectedLoss) or not len(law.nodes):
        return None
    tokens = problem.budget.training_tokens(sample.architectures)
    total = len(law.loss_draws(sample.architectures.take(np.arange(1)), first(tokens)))
    numbers = spread(total, JOINT)
    met = met_by_device(problem, sample)
    drawn, device_rows = paired(len(numbers), len(met))
    rows = spread(len(drawn), WATCHED)
    losses = law.loss_draws(sample.architectures, tokens, numbers[drawn[rows]])
    expected = law.loss(sample.architectures, tokens)
    weight = np.exp((expected.min() - expected) / _HEED)[:, None] + _LEAST
    known = _known(law.node_losses(sample.architectures, tokens))
    slopes = np.linalg.lstsq(known * weight, losses.T * weight, rcond=1e-10)[0]
    promised = met.mean(axis=0) >= confidence
    most = expected[promised].min() + WINDOW if promised.any() else np.inf
    return DrawScreen(problem, confidence, slopes, device_rows[rows], float(most))


def _known(nodes: np.ndarray) -> np.ndarray:
    return np.hstack([nodes, np.log(nodes), np.ones((len(nodes), 1))])
