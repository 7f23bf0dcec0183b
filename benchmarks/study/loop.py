"""The closed loop: does the shape the tool recommends turn out to be the best one when trained?

The law has not seen the panel's size; the device's profile has not seen the panel's shapes.
"""

import dataclasses
import itertools

import numpy as np

from benchmarks.study.records import mean_losses
from shapelaw.results.record import RunRecord
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.law import Law

FAST_ENOUGH = (1.0, 0.6, 0.4, 0.2)
"""Decode budgets, as the share of the panel's shapes that are to meet them."""
SMALL_ENOUGH = (1.0, 0.5)
"""Memory budgets, likewise."""
CLEAR = 0.08
"""How far a decode budget stays from every shape's own speed, at least, as a share of it: about as
far as speeds are mispredicted. Nearer, that error decides alone, and no law is judged."""
LEAST_FEASIBLE = 2
"""Budgets that fewer shapes meet leave no choice to judge."""


@dataclasses.dataclass(frozen=True)
class PanelShape:
    """One trained shape of the held-out size, with what this machine made of it."""

    architecture: Architecture
    measured_tokens_per_s: float
    predicted_tokens_per_s: float
    memory_bytes: float
    losses: dict[int, float]
    """Tokens -> loss, mean over seeds."""
    seeds: int


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One budget, the tool's pick under it and the best there was."""

    tokens: int
    decode_tokens_per_s: float
    memory_bytes: float
    feasible: int
    """Panel shapes that truly meet the budget."""
    pick: Architecture | None
    best: Architecture | None
    pick_meets_budget: bool
    regret: float
    """Loss of the pick less that of the best feasible shape, nats; nan where the pick misses."""
    regret_in_noise: float


def panel_of(
    records: list[RunRecord], speeds: dict[Architecture, tuple[float, float, float]]
) -> list[PanelShape]:
    """The held-out shapes that were both trained and timed.

    Args:
        speeds: shape -> (measured tokens/s, predicted tokens/s, memory in bytes).
    """
    losses = mean_losses(records)
    shapes = sorted({shape for shape, _ in losses}, key=lambda shape: shape.d_model)
    seeds = {
        shape: len({record.seed for record in records if record.architecture.build() == shape})
        for shape in shapes
    }
    return [
        PanelShape(
            architecture=shape,
            measured_tokens_per_s=speeds[shape][0],
            predicted_tokens_per_s=speeds[shape][1],
            memory_bytes=speeds[shape][2],
            losses={tokens: loss for (owner, tokens), loss in losses.items() if owner == shape},
            seeds=seeds[shape],
        )
        for shape in shapes
        if shape in speeds
    ]


def judge(panel: list[PanelShape], law: Law, noise_log: float) -> list[Verdict]:
    """The tool's pick under each budget against the panel's truth.

    The pick is made with predicted loss and predicted speed; the truth is trained loss and measured
    speed. No pick, or one that misses the measured budget, is a failure.
    """
    measured = np.array([shape.measured_tokens_per_s for shape in panel])
    memory = np.array([shape.memory_bytes for shape in panel])
    budgets = sorted(set.intersection(*(set(shape.losses) for shape in panel)))
    verdicts = [
        _verdict(
            panel,
            law,
            noise_log,
            tokens,
            1 / limit(1 / measured, fast, CLEAR),
            limit(memory, small),
        )
        for tokens, fast, small in itertools.product(budgets, FAST_ENOUGH, SMALL_ENOUGH)
    ]
    return [verdict for verdict in verdicts if verdict.feasible >= LEAST_FEASIBLE]


def limit(costs: np.ndarray, share: float, clear: float = 0.0) -> float:
    """The limit that about `share` of the costs meet, halfway (in logarithm) to the first that does
    not: of the gaps that leave it `clear` of both sides, the one nearest to the share."""
    ordered = np.sort(costs)
    wanted = round(share * len(ordered))
    if wanted == len(ordered):
        return float("inf")
    gaps = ordered[1:] / ordered[:-1]
    wide = np.flatnonzero(gaps >= (1 + clear) ** 2)
    meeting = wide + 1 if len(wide) else np.array([gaps.argmax() + 1])
    # The looser of two that are as near: it leaves more to choose from.
    nearest = int(meeting[::-1][np.abs(meeting[::-1] - wanted).argmin()])
    return float(np.sqrt(ordered[nearest - 1] * ordered[nearest]))


def _verdict(
    panel: list[PanelShape], law: Law, noise_log: float, tokens: int, needed: float, allowed: float
) -> Verdict:
    shapes = ArchitectureBatch.of(shape.architecture for shape in panel)
    predicted_loss = law.loss(shapes, float(tokens))
    fits = np.array([shape.memory_bytes for shape in panel]) <= allowed
    promised = fits & (np.array([shape.predicted_tokens_per_s for shape in panel]) >= needed)
    true = fits & (np.array([shape.measured_tokens_per_s for shape in panel]) >= needed)
    observed = np.array([shape.losses[tokens] for shape in panel])
    best = int(np.where(true, observed, np.inf).argmin()) if true.any() else None
    pick = int(np.where(promised, predicted_loss, np.inf).argmin()) if promised.any() else None
    meets = pick is not None and bool(true[pick])
    regret = float(observed[pick] - observed[best]) if meets and best is not None else float("nan")
    noise = noise_log * float(observed[best]) if best is not None else float("nan")
    return Verdict(
        tokens=tokens,
        decode_tokens_per_s=needed,
        memory_bytes=allowed,
        feasible=int(true.sum()),
        pick=None if pick is None else panel[pick].architecture,
        best=None if best is None else panel[best].architecture,
        pick_meets_budget=meets,
        regret=regret,
        regret_in_noise=regret / noise,
    )
