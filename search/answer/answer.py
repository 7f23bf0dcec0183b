"""An answer: the best shape under the budgets, what stands beside it, and how far to trust it."""

import dataclasses
import math
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.notebook_display import Displayed
from shapelaw.search.answer.beliefs import Otherwise
from shapelaw.search.answer.edges import Edge
from shapelaw.search.answer.format_choice import (
    FormatOption,
    file_bytes_of,
    price_of,
    usual_for,
)
from shapelaw.search.answer.law_choice import is_shipped
from shapelaw.search.answer.measurements import Measurement
from shapelaw.search.answer.sources import Source
from shapelaw.search.answer.training_cost import TrainingCost
from shapelaw.search.devices.kv_cache import KvCache
from shapelaw.search.pareto.certificate import Certificate
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.exhaustive import points_of
from shapelaw.search.pareto.feasibility import cost_draws
from shapelaw.search.pareto.problem import LossModel, Points, Problem

if TYPE_CHECKING:
    import optuna

    from shapelaw.search.devices.profile import DeviceProfile
    from shapelaw.search.space.space import Space
    from shapelaw.search.workload import Workload

LEVEL = 0.9
"""Of every interval."""

INTERVAL_COLUMNS = ("decode_tokens_per_s", "ttft_s", "memory_bytes", "energy_per_token_j")
"""Costs of which an answer gives intervals."""

SAMPLED = 200
"""Points of an enumerated space, beside its front, put into its study."""

_EXPLORED_TRIALS = 300
"""Front points of an explored space put into its study: a database takes 10 ms for each."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """One shape with its loss and its costs, in SI units."""

    architecture: Architecture
    weight_bits: float
    loss: float
    """Nats per token."""
    loss_interval: tuple[float, float]
    """Where a run of this shape falls with probability .9, the noise of a run included."""
    decode_tokens_per_s: float
    decode_s: float
    prefill_s: float
    ttft_s: float
    memory_bytes: float
    energy_per_token_j: float
    training_tokens: float
    training_flops: float
    scarce: str
    extrapolated: dict[str, float]
    """Axis -> how many times beyond the range the law saw."""
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Column of cost -> where it lies with probability .9, by the device's draws; none where the
    device has none."""

    def to_dict(self) -> dict[str, Any]:
        """As in the contract of `query --json`."""
        a = self.architecture
        return {
            "architecture": a.to_dict(),
            "weight_bits": self.weight_bits,
            "loss": self.loss,
            "loss_interval": list(self.loss_interval),
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "decode_interval": self._interval("decode_tokens_per_s"),
            "decode_s": self.decode_s,
            "prefill_s": self.prefill_s,
            "ttft_s": self.ttft_s,
            "ttft_interval": self._interval("ttft_s"),
            "memory_bytes": self.memory_bytes,
            "memory_interval": self._interval("memory_bytes"),
            "energy_per_token_j": _finite(self.energy_per_token_j),
            "energy_interval": self._interval("energy_per_token_j"),
            "training_tokens": self.training_tokens,
            "training_flops": self.training_flops,
            "parameters": {
                "non_embedding": int(a.non_embedding_parameters),
                "embedding": int(a.embedding_parameters),
                "total": int(a.total_parameters),
                "applied": int(a.applied_parameters),
            },
            "scarce": self.scarce,
            "extrapolated": self.extrapolated,
        }

    def _interval(self, column: str) -> list[float] | None:
        found = self.intervals.get(column)
        return None if found is None or not all(map(math.isfinite, found)) else list(found)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def candidates(problem: Problem, points: Points) -> list[Candidate]:
    """Points as candidates, in their order."""
    if not len(points):
        return []
    tokens = np.broadcast_to(problem.budget.training_tokens(points.architectures), len(points))
    low, high = problem.law.interval(points.architectures, tokens, LEVEL)
    beyond = problem.law.extrapolated(points.architectures, tokens)
    cost = problem.cost
    scarce = (
        cost.full(points.architectures, points.bits).scarce
        if isinstance(cost, DeviceCost)
        else np.full(len(points), "unknown")
    )
    spread = _cost_intervals(problem, points)
    names = (
        "loss",
        "decode_tokens_per_s",
        "decode_s",
        "prefill_s",
        "ttft_s",
        "memory_bytes",
        "energy_per_token_j",
        "training_flops",
    )
    return [
        Candidate(
            architecture=points.architectures[row],
            weight_bits=float(points.bits[row]),
            loss_interval=(float(low[row]), float(high[row])),
            training_tokens=float(tokens[row]),
            scarce=str(scarce[row]),
            intervals={
                name: (float(ends[0][row]), float(ends[1][row])) for name, ends in spread.items()
            },
            extrapolated=beyond[row],
            **{name: float(points.columns[name][row]) for name in names},
        )
        for row in range(len(points))
    ]


def _cost_intervals(problem: Problem, points: Points) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Column -> ends [n] of its interval; {} where the device has no draws."""
    found = cost_draws(problem, points, INTERVAL_COLUMNS)
    if len(found[INTERVAL_COLUMNS[0]]) < 2:
        return {}
    tail = 0.5 * (1 - LEVEL)
    ends = {name: np.quantile(drawn, [tail, 1 - tail], axis=0) for name, drawn in found.items()}
    # The point cost is no draw: where it lies outside of them the interval reaches to it.
    return {
        name: (
            np.fmin(low, points.columns[name]),
            np.fmax(high, points.columns[name]),
        )
        for name, (low, high) in ends.items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
    """A candidate worth naming beside the best, and how it compares."""

    why: str
    candidate: Candidate
    loss_difference: float
    """Its loss less the best's, nats per token."""
    loss_difference_interval: tuple[float, float]
    """Of the difference of expected losses: both judged by the same draws."""
    probability_better: float
    """Share of the law's draws in which its loss is the lower one."""
    feasible: bool = True
    """Whether it meets every budget with the confidence asked for."""
    budget_probability: dict[str, float] = dataclasses.field(default_factory=dict)
    """Budget -> probability that it meets it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "why": self.why,
            **self.candidate.to_dict(),
            "loss_difference": self.loss_difference,
            "loss_difference_interval": list(self.loss_difference_interval),
            "probability_better": self.probability_better,
            "feasible": self.feasible,
            "budget_probability": self.budget_probability,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contrary:
    """What would be best if one disputed belief were settled against the pick."""

    belief: Otherwise
    candidate: Candidate

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "axis": self.belief.axis,
            "says": self.belief.says,
            "probability": self.belief.probability,
            "gain": self.belief.gain,
            "cost": self.belief.cost,
            **self.candidate.to_dict(),
        }


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Answer(Displayed):
    """Everything a query found."""

    problem: Problem
    device: "DeviceProfile"
    workload: "Workload"
    space: "Space"
    best: Candidate
    confidence: float
    """Probability with which the pick was asked to meet every budget."""
    budget_probability: dict[str, float]
    """Budget -> probability that the pick meets it, by the draws of device and law."""
    near_best_probability: float
    """That the pick's loss is within .01 nats of the best feasible shape's. NaN (null), like all
    that follows from draws, where the law has none."""
    probability_best: float
    """Share of the draws in which no other feasible shape has a lower loss."""
    regret: tuple[float, float]
    """Loss given up by choosing the best, mean and 95th percentile over the draws, against the best
    shape that is feasible in the draw."""
    confident_regret: float
    """The mean against the best shape of the draw among those that meet every budget with
    confidence: what not knowing the law costs; the rest is for not knowing the device."""
    near_best_confident_probability: float
    """That the pick's loss is within .01 nats of the best such shape's."""
    runner_up: Candidate | None
    """The rival most often best in the draws, after the best itself."""
    runner_up_probability: float
    """Share of the draws in which the runner-up has a lower loss than the best."""
    equal_flops: Beside | None
    """The best shape at the training FLOPs of the pick; None where FLOPs were the budget."""
    equal_tokens: Beside | None
    """The best shape at the training tokens of the pick, where FLOPs were the budget."""
    otherwise: list[Contrary]
    """What would be best if each disputed belief were settled against the pick."""
    measurements: list[Measurement]
    """What could be measured, the most valuable first."""
    edges: list[Edge]
    sources: list[Source]
    training: TrainingCost
    front: list[Candidate]
    certificate: Certificate
    relax: dict[str, float]
    """Budget -> loss gained per unit (byte, token/s, s, J, token, FLOP); with a loss to reach:
    tokens/s gained per unit."""
    binding: list[str]
    """Budgets whose relaxing by a tenth would change the answer for the better."""
    near_ties: list[Beside]
    baselines: list[Beside]
    """Shapes people know, under the same budgets."""
    warnings: list[str]
    formats: list[FormatOption] = dataclasses.field(default_factory=list)
    """Every format that was asked for, with the best it can do; empty where only bits were."""
    kv_cache: KvCache | None = None
    """What keys and values are kept in."""
    format_by_tokens: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The best of the formats at other training tokens, their shapes kept, with their prices."""
    demoted: LossModel | None = None
    """The law that was named but is only heard: see law_choice."""
    measured: list[dict[str, Any]] | None = None
    storage: str | None = None
    front_points: Points
    """The front's rows, in the order of `front`."""
    front_coordinates: np.ndarray
    """[front, axes]: the same on the space's grid."""

    @cached_property
    def study(self) -> "optuna.Study":
        """The answer as an Optuna study, in `storage` or in memory; made when first asked for.

        Of an enumerated space: the whole front, and a seeded sample of all that was looked at,
        feasible or not, in the order of evaluation. Of an explored one: some hundreds of the front,
        beside the trials that Optuna itself made.
        """
        from shapelaw.search.pareto.optuna_study import record, study_name

        name = study_name(self.problem, self.space, self.device.name, self.workload.name)
        grid = self.space.grid()
        if self.certificate.exact:
            size = grid.size()
            sampled = np.random.default_rng(0).choice(size, min(size, SAMPLED), replace=False)
            points = points_of(self.problem, grid, np.union1d(sampled, self.front_points.keys))
            coordinates = grid.coordinates(points.keys)
        else:
            last = len(self.front_points) - 1
            rows = np.unique(np.linspace(0, last, _EXPLORED_TRIALS).astype(int))
            points, coordinates = self.front_points.take(rows), self.front_coordinates[rows]
        return record(self.problem, grid, points, coordinates, name, self.storage, self.confidence)

    @property
    def law(self) -> LossModel:
        """The law that judged."""
        return self.problem.law

    @property
    def level_known(self) -> bool:
        """Whether the law knows the level of the loss: it was fitted to runs of the user's own."""
        return not is_shipped(self.law)

    def __repr__(self) -> str:
        a = self.best.architecture
        return (
            f"<Answer for {self.device.name} by law {self.law.label}: d_model {a.d_model}, "
            f"{a.n_blocks} blocks, loss {self.best.loss:.4g}, "
            f"{self.best.decode_tokens_per_s:.3g} tokens/s>"
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """The front: one row a shape, its architecture's fields first."""
        rows = [candidate.to_dict() for candidate in self.front]
        return [{**row.pop("architecture"), **row} for row in rows]

    def weight_format(self) -> dict[str, Any]:
        """The pick's weight format, what it costs in loss, and its file."""
        chosen = next((option for option in self.formats if option.chosen), None)
        shape = self.best.architecture
        if chosen is not None:
            price, name, size = chosen.price, chosen.format, chosen.file_bytes
        else:
            found = usual_for(self.best.weight_bits, self.device)
            if found is None:
                return {"format": None, "format_price": None, "file_bytes": None}
            price = price_of(found, shape, self.best.training_tokens, in_loss=False)
            name, size = found.name, file_bytes_of(found, shape, self.device)
        return {
            "format": name,
            "format_price": None if price is None else price.to_dict(),
            "file_bytes": size,
        }

    def to_dict(self) -> dict[str, Any]:
        """Exactly the contract of `query --json`, and more keys beside."""
        best = (
            self.best.to_dict()
            | self.weight_format()
            | ({} if self.kv_cache is None else self.kv_cache.to_dict())
            | {
                "budget_probability": self.budget_probability,
                "near_best_probability": _finite(self.near_best_probability),
                "probability_best": _finite(self.probability_best),
                "near_best_confident_probability": _finite(self.near_best_confident_probability),
                "regret": {
                    "mean": _finite(self.regret[0]),
                    "p95": _finite(self.regret[1]),
                    "law": _finite(self.confident_regret),
                    "device": _finite(self.regret[0] - self.confident_regret),
                },
                "runner_up_probability": _finite(self.runner_up_probability),
                "training_cost": self.training.of(self.best.training_flops),
            }
        )
        found: dict[str, Any] = {
            "device": self.device.name,
            "law": self.law.label,
            "budget": self.problem.budget.to_dict()
            | (
                {}
                if self.problem.target_loss is None
                else {"target_loss": self.problem.target_loss}
            ),
            "workload": self.workload.name,
            "space": self.space.name,
            "objectives": [objective.name for objective in self.problem.objectives],
            "confidence": self.confidence,
            "best": best,
            "equal_flops": self._beside(self.equal_flops),
            "equal_tokens": self._beside(self.equal_tokens),
            "runner_up": None if self.runner_up is None else self.runner_up.to_dict(),
            "front": [candidate.to_dict() for candidate in self.front],
            "certificate": self.certificate.to_dict(),
            "relax": self.relax,
            "binding": self.binding,
            "near_ties": [beside.to_dict() for beside in self.near_ties],
            "formats": [option.to_dict() for option in self.formats],
            "format_by_tokens": self.format_by_tokens,
            "baselines": [beside.to_dict() for beside in self.baselines],
            "edges": [edge.to_dict() for edge in self.edges],
            "sources": [source.to_dict() for source in self.sources],
            "otherwise": [contrary.to_dict() for contrary in self.otherwise],
            "measurements": [each.to_dict() for each in self.measurements],
            "warnings": self.warnings,
        }
        if self.measured is not None:
            found["measured"] = self.measured
        if self.storage is not None:
            found["study"] = {"storage": self.storage, "name": self.study.study_name}
        return found

    def _beside(self, beside: Beside | None) -> dict[str, Any] | None:
        if beside is None:
            return None
        flops = beside.candidate.training_flops
        return beside.to_dict() | {"training_cost": self.training.of(flops)}
