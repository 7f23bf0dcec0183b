"""Which single measurement would settle most: the expected value of sample information.

A measurement is worth the regret it would avoid: what the pick made after it is expected to lose
less than the pick made now (Raiffa & Schlaifer 1961). For training runs the expectation over the
draws given the measured number is a regression on it (Strong, Oakley & Brennan 2014); for a timing
on the device the draws are cut into equal groups by the time they predict.
"""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
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

_DEGREE = 3
_RIVALS = 200
_GROUPS = 4
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
    return sorted(kept, key=lambda each: -each.value)


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
    return Measurement(
        kind="training",
        says=f"train {SEEDS} seeds each of the pick and of its rival at "
        f"{batch.non_embedding_parameters.max() / 1e6:.0f}M parameters",
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
    # Rivals that are best in no draw cannot be chosen after any measurement.
    lag = (losses[:, rows] - losses[:, rows].min(axis=1, keepdims=True)).min(axis=0)
    rows = rows[np.argsort(lag, kind="stable")[:_RIVALS]]
    some = losses[:, rows] - losses[:, [decision.pick]]
    spread = float(np.std(seen))
    if not spread > 0:
        return 0.0
    # By rank: one draw far out must not bend the regression of all others.
    z = 2 * np.argsort(np.argsort(seen, kind="stable"), kind="stable") / (len(seen) - 1) - 1
    gained = _gain(z, some)
    # Hundreds of rivals fitted to noise gain a little too: that much is taken off.
    generator = np.random.default_rng(1)
    chance = np.mean([_gain(generator.permutation(z), some) for _ in range(_SHUFFLES)])
    # Knowing everything avoids this much, and no measurement tells more.
    everything = float(some.mean(axis=0).min() - some.min(axis=1).mean())
    return min(max(0.0, gained - float(chance)), everything)


def _gain(z: np.ndarray, losses: np.ndarray) -> float:
    basis, _ = np.linalg.qr(np.vander(z, _DEGREE + 1))
    expected = basis @ (basis.T @ losses)
    return float(losses.mean(axis=0).min() - expected.min(axis=1).mean())


def _timing(decision: Decision, name: str, confidence: float) -> Measurement | None:
    """One measurement of the pick on the device; None where the device's draws leave no doubt."""
    joint = decision.joint
    if name not in _TIMED or _TIMED[name][0] not in joint.costs:
        return None
    column, words = _TIMED[name]
    drawn = joint.costs[column][:, decision.pick]
    if len(drawn) < LEAST_DRAWS or not np.std(drawn) > 1e-6 * abs(np.mean(drawn)):
        return None
    means = joint.losses.mean(axis=0)
    feasible = joint.feasible
    group = np.argsort(np.argsort(drawn, kind="stable"), kind="stable") * _GROUPS // len(drawn)
    of_draw = group[joint.device_rows]
    after = []
    for each in range(_GROUPS):
        chance = feasible[of_draw == each].mean(axis=0)
        rows = np.flatnonzero(chance >= confidence)
        after.append(means[rows].min() if len(rows) else means[decision.pick])
    return Measurement(
        kind="timing",
        says=f"measure {words} of the pick's shape on the device (random weights do)",
        settles=f"how far the {name} budget reaches",
        value=max(0.0, float(means[decision.pick] - np.mean(after))),
    )
