"""The loss to expect of a shape: the mean over a law's draws, cheap enough for millions of shapes.

As a function of shape the draws of one law span few dimensions, so the mean over hundreds of them
is, to a ten-thousandth of a nat, a weighted mean over a dozen (empirical quadrature: non-negative
weights fitted on a sample of shapes, checked on another). The search judges by that mean; the few
shapes that an answer speaks of are judged by all draws.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.law_around_law import LawAroundLaw
from shapelaw.search.pareto.problem import LossModel

TOLERANCE = 1e-4
"""Nats: the root mean square error of the weighted mean, on the shapes it was fitted on."""

MOST_NODES = 24

_NEGLIGIBLE = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class ExpectedLoss(LawAroundLaw):
    """A law whose `loss` is the mean over its draws; everything else as the law has it."""

    law: LossModel
    nodes: np.ndarray
    """Numbers of the draws that stand for all; empty where the law has no draws."""
    weights: np.ndarray
    """Of the nodes, not negative, with sum 1."""
    error: float
    """Greatest error of the mean, nats, on shapes it was not fitted on."""

    def node_losses(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> np.ndarray:
        """Loss by each node [n, nodes]; by the fitted parameters [n, 1] without draws."""
        if not len(self.nodes):
            return self.law.loss(architectures, tokens)[:, None]
        return np.ascontiguousarray(possible_draws(self.law, architectures, tokens, self.nodes).T)

    def loss(self, architectures: ArchitectureBatch, tokens: float | np.ndarray) -> np.ndarray:
        """Expected loss [n], nats per token."""
        return self.mean(self.node_losses(architectures, tokens))

    def mean(self, node_losses: np.ndarray) -> np.ndarray:
        """Expected loss [n] from the nodes' losses [n, nodes]."""
        return node_losses @ self.weights if len(self.nodes) else node_losses[:, 0]

    def loss_draws(
        self,
        architectures: ArchitectureBatch,
        tokens: float | np.ndarray,
        draws: int | np.ndarray | None = None,
    ) -> np.ndarray:
        """The law's draws [k, n], as far as they are possible."""
        return possible_draws(self.law, architectures, tokens, draws)

    def interval(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """The law's interval of one run, which holds the expected loss too."""
        low, high = self.law.interval(architectures, tokens, level)
        middle = self.loss(architectures, tokens)
        return np.minimum(low, middle), np.maximum(high, middle)


def possible_draws(
    law: LossModel,
    architectures: ArchitectureBatch,
    tokens: float | np.ndarray,
    draws: int | np.ndarray | None = None,
) -> np.ndarray:
    """The law's draws [k, n], none above ln(vocabulary): the loss of a model that knows nothing.

    No trained model is worse. Without it a mean over draws, however few of them go astray far from
    any run, would be about those.
    """
    losses = law.loss_draws(architectures, tokens, draws)
    return np.minimum(losses, np.log(architectures.vocab_size))


def expected_loss(
    law: LossModel, sample: ArchitectureBatch, tokens: float | np.ndarray
) -> ExpectedLoss:
    """The law with its draws condensed on a sample of shapes [n] and their training tokens."""
    if isinstance(law, ExpectedLoss):
        return law
    losses = possible_draws(law, sample, tokens)
    if len(losses) < 2:
        return ExpectedLoss(law, np.empty(0, dtype=np.int64), np.empty(0), 0.0)
    nodes, weights = quadrature(losses[:, ::2])
    error = np.abs(weights @ losses[nodes] - losses.mean(axis=0)).max()
    return ExpectedLoss(law, nodes, weights, float(error))


def quadrature(
    values: np.ndarray, tolerance: float = TOLERANCE, most: int = MOST_NODES
) -> tuple[np.ndarray, np.ndarray]:
    """Few rows of `values` [k, n] and weights that sum to 1, so that they average to its mean.

    Non-negative least squares by active sets (Lawson & Hanson 1974), a row added at a time until
    the root mean square error is within the tolerance.
    """
    target = values.mean(axis=0)
    # Around the target every row differs from it by its own residual: weights of sum 1 that bring
    # the residuals to nothing. The column of ones holds the sum.
    scale = max(float(np.abs(values - target).max()), _NEGLIGIBLE)
    system = np.hstack([values - target, np.full((len(values), 1), 10 * scale)])
    goal = np.zeros(system.shape[1])
    goal[-1] = 10 * scale
    active: list[int] = []
    weights = np.empty(0)
    best = (np.inf, np.zeros(1, dtype=np.int64), np.ones(1))
    for _ in range(4 * most):
        residual = goal - (weights @ system[active] if active else 0.0)
        gradient = system @ residual
        gradient[active] = -np.inf
        row = int(np.argmax(gradient))
        if gradient[row] <= _NEGLIGIBLE * scale**2:
            break
        active.append(row)
        weights = np.append(weights, 0.0)
        active, weights = _settled(system, goal, active, weights)
        share = weights / weights.sum()
        error = float(np.sqrt(np.mean((share @ values[active] - target) ** 2)))
        if error < best[0]:
            best = (error, np.array(active), share)
        if best[0] <= tolerance or len(active) >= most:
            break
    return best[1], best[2]


def _settled(
    system: np.ndarray, goal: np.ndarray, active: list[int], weights: np.ndarray
) -> tuple[list[int], np.ndarray]:
    """Least squares on the active rows, those left out whose weight would turn negative."""
    while True:
        wanted = np.linalg.lstsq(system[active].T, goal, rcond=None)[0]
        if (wanted > 0).all():
            return active, wanted
        falling = wanted <= 0
        drop = np.where(falling, weights - wanted, 1.0)
        step = np.min(np.where(falling, weights / np.where(drop > 0, drop, 1.0), np.inf))
        weights = weights + step * (wanted - weights)
        kept = weights > _NEGLIGIBLE
        if not kept.any():
            return active[-1:], np.ones(1)
        active = [row for row, keep in zip(active, kept, strict=True) if keep]
        weights = weights[kept]
