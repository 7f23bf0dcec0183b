"""Which single measurement would settle most: the expected value of sample information.

A measurement is worth the regret it would avoid: what the pick made after it is expected to lose
less than the pick made now (Raiffa & Schlaifer 1961). For training runs the expectation over the
draws given the measured number is a regression on it (Strong, Oakley & Brennan 2014), fitted on one
half of the draws and scored on the other: of many rivals some always look better on the draws that
they were chosen by. For a timing on the device the draws are cut into equal groups by the time they
predict.
"""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.units import show_count
from shapelaw.search.answer.beliefs import Otherwise
from shapelaw.search.answer.training_cost import TrainingCost
from shapelaw.search.pareto.decision import LEAST_DRAWS, Decision
from shapelaw.search.pareto.problem import Problem

RUN_NOISE = 0.004
"""Nats, standard deviation of one small run between seeds: METHODS gives .0005 to .0011 for models
of a billion parameters and .010 for models of 200 thousand; small proxies lie between."""

SEEDS = 2
"""Runs of each shape."""

PROXY_TOKENS = 20
"""Training tokens per parameter of a proxy run."""

LEAST_VALUE = 0.0005
"""Nats: what is worth less is not named."""

_DEGREE = 2
_RIVALS = 60
_GROUPS = 4
_SPLITS = 8
_SHUFFLES = 8

_TIMED = {
    "decode": ("decode_tokens_per_s", "the decode speed"),
    "ttft": ("ttft_s", "the time to first token"),
    "memory": ("memory_bytes", "the peak memory"),
    "energy": ("energy_per_token_j", "the energy per token"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One thing to measure, and what knowing it is worth."""

    kind: str
    """`training` (runs of two proxies) or `timing` (on the device)."""
    says: str
    settles: str
    """The belief or budget it is about."""
    value: float
    """Nats: expected loss avoided by choosing after it."""
    runs: int = 0
    flops: float = 0.0
    gpu_hours: float = 0.0
    usd: float = 0.0
    architectures: tuple[Architecture, ...] = ()
    tokens: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {
            "architectures": [each.to_dict() for each in self.architectures]
        }


def measurements(
    problem: Problem,
    decision: Decision,
    beliefs: list[Otherwise],
    training: TrainingCost,
    confidence: float,
) -> list[Measurement]:
    """What could be measured, the most valuable first."""
    if len(decision.joint.losses) < LEAST_DRAWS:
        return []
    found = [_timing(decision, name, confidence) for name in decision.joint.met]
    found += [_runs(problem, decision, belief, training) for belief in beliefs]
    kept = [each for each in found if each is not None]
    worth = [each for each in kept if each.value >= LEAST_VALUE]
    return sorted(worth, key=lambda each: (-each.value, each.flops))


def _runs(
    problem: Problem, decision: Decision, belief: Otherwise, training: TrainingCost
) -> Measurement:
    shapes = decision.finalists.architectures
    pair = tuple(proxy(shapes[row]) for row in (decision.pick, belief.row))
    batch = ArchitectureBatch.of(pair)
    tokens = float(PROXY_TOKENS * batch.non_embedding_parameters.max())
    losses = problem.law.loss_draws(batch, tokens, np.unique(decision.joint.law_rows))
    # Paired runs of the same seeds and token order: noise of a difference, over the seeds.
    seen = losses[:, 1] - losses[:, 0]
    _, places = np.unique(decision.joint.law_rows, return_inverse=True)
    generator = np.random.default_rng(0)
    noise = RUN_NOISE * np.sqrt(2 / SEEDS) * generator.standard_normal(len(places))
    flops = SEEDS * tokens * float(batch.training_flops_per_token(2048).sum())
    size = show_count(float(batch.non_embedding_parameters.max()))
    return Measurement(
        kind="training",
        says=f"train {SEEDS} seeds each of the pick and of its rival, both at half the width "
        f"({size} parameters, {show_count(tokens)} tokens)",
        settles=belief.says,
        value=information(decision, seen[places] + noise),
        runs=2 * SEEDS,
        flops=flops,
        gpu_hours=training.hours(flops),
        usd=training.price(flops),
        architectures=pair,
        tokens=tokens,
    )


def proxy(a: Architecture) -> Architecture:
    """The same shape at half the width: depth, sharing and ratios held, a quarter of the size."""
    heads = max(1, a.n_heads // 2)
    group = a.gqa_group
    while heads % group:
        group -= 1
    return dataclasses.replace(
        a,
        d_model=max(2 * a.head_dim, a.d_model // 2),
        n_heads=heads,
        n_kv_heads=heads // group,
        d_ff=max(8, a.d_ff // 2),
    )


def information(decision: Decision, seen: np.ndarray) -> float:
    """Nats that choosing after `seen` [j], one number a draw, is expected to gain; not below 0."""
    losses = decision.joint.losses
    rows = np.flatnonzero(decision.confident)
    gaps = losses[:, rows] - losses[:, [decision.pick]]
    # Rivals that win in no draw cannot be chosen after any measurement.
    wins = np.bincount(np.argmin(gaps, axis=1), minlength=len(rows))
    gaps = gaps[:, np.lexsort((gaps.mean(axis=0), -wins))[:_RIVALS]]
    if not float(np.std(seen)) > 0:
        return 0.0
    # By rank: one draw far out must not bend the regression of all others.
    z = 2 * np.argsort(np.argsort(seen, kind="stable"), kind="stable") / (len(seen) - 1) - 1
    basis = np.vander(z, _DEGREE + 1)
    generator = np.random.default_rng(1)
    gained = []
    for _ in range(_SPLITS):
        order = generator.permutation(len(z))
        first, second = order[::2], order[1::2]
        for fitted, scored in ((first, second), (second, first)):
            curves = np.linalg.lstsq(basis[fitted], gaps[fitted], rcond=None)[0]
            expected = basis[scored] @ curves
            choice = np.argmin(expected, axis=1)
            change = expected[np.arange(len(scored)), choice] < 0  # else the pick stays
            gained.append(-float(np.mean(np.where(change, gaps[scored, choice], 0.0))))
    return max(0.0, float(np.mean(gained)))


def _timing(decision: Decision, name: str, confidence: float) -> Measurement | None:
    """One measurement of the pick on the device; None where the device's draws leave no doubt.

    Its value is what larger shapes gain where the device turns out better than the confidence asked
    for allowed to hope.
    """
    joint = decision.joint
    if name not in _TIMED or _TIMED[name][0] not in joint.costs:
        return None
    column, words = _TIMED[name]
    drawn = joint.costs[column][:, decision.pick]
    if len(drawn) < LEAST_DRAWS or not np.std(drawn) > 1e-6 * abs(np.mean(drawn)):
        return None
    means = joint.losses.mean(axis=0)
    # Draws in which every budget is met, and all draws, by draw of the device: [m, n] and [m].
    of_device = (np.arange(len(drawn))[:, None] == joint.device_rows).astype(np.float32)
    met = (of_device @ joint.feasible.astype(np.float32), of_device.sum(axis=1))
    generator = np.random.default_rng(0)
    # Any grouping finds shapes that look surer in one group: that much is taken off.
    chance = np.mean(
        [
            _after(generator.permutation(drawn), met, means, decision.pick, confidence)
            for _ in range(_SHUFFLES)
        ]
    )
    return Measurement(
        kind="timing",
        says=f"measure {words} of the pick's shape on the device (random weights do)",
        settles=f"how far the {name} budget reaches",
        value=max(0.0, float(chance) - _after(drawn, met, means, decision.pick, confidence)),
    )


def _after(
    drawn: np.ndarray,
    met: tuple[np.ndarray, np.ndarray],
    means: np.ndarray,
    pick: int,
    confidence: float,
) -> float:
    """Expected loss of what is picked after the measurement."""
    group = np.argsort(np.argsort(drawn, kind="stable"), kind="stable") * _GROUPS // len(drawn)
    after = []
    for each in range(_GROUPS):
        rows = group == each
        chance = met[0][rows].sum(axis=0) / met[1][rows].sum()
        sure = np.flatnonzero(chance >= confidence)
        # Where it tells that the pick would miss, a worse shape is the price of keeping the promise
        # and no loss of measuring.
        after.append(min(means[sure].min(initial=np.inf), means[pick]))
    return float(np.mean(after))
