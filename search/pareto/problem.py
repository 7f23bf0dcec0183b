"""The question put as numbers: columns of loss and cost for any batch of shapes, and the limits."""

import dataclasses
from collections.abc import Collection
from typing import Protocol, runtime_checkable

import numpy as np

from shapelaw.scaling.architecture import FIELDS, ArchitectureBatch
from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.search.pareto.budget import Budget, Limit

Columns = dict[str, np.ndarray]


class LossModel(Protocol):
    """What the search needs of a law (scaling.law.Law has it)."""

    @property
    def label(self) -> str: ...

    def loss(self, architectures: ArchitectureBatch, tokens: float | np.ndarray) -> np.ndarray: ...

    def loss_draws(
        self,
        architectures: ArchitectureBatch,
        tokens: float | np.ndarray,
        draws: int | np.ndarray | None = None,
    ) -> np.ndarray:
        """[k, n]: by each draw, by the first so many, or by those at these numbers."""
        ...

    def interval(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def extrapolated(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> list[dict[str, float]]: ...


@runtime_checkable
class NodeLosses(Protocol):
    """A law whose loss is a mean over a few of its draws (expected_loss.ExpectedLoss)."""

    def node_losses(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> np.ndarray: ...

    def mean(self, node_losses: np.ndarray) -> np.ndarray: ...


NODES = "node_losses"
"""Column [n, nodes] of the losses behind the mean, where the law has them."""

COST_COLUMNS = (
    "decode_s",
    "decode_tokens_per_s",
    "prefill_s",
    "ttft_s",
    "memory_bytes",
    "energy_per_token_j",
)


class CostModel(Protocol):
    """What the search needs of a device and a workload: columns of costs [n] for shapes [n].

    Rows must not depend on one another.
    """

    def __call__(
        self,
        architectures: ArchitectureBatch,
        weight_bits: np.ndarray,
        wanted: Collection[str] = COST_COLUMNS,
    ) -> Columns: ...


@dataclasses.dataclass(frozen=True)
class Objective:
    """One thing to have more or less of."""

    name: str
    """On the command line."""
    column: str
    maximise: bool
    unit: str
    title: str


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("loss", "loss", False, "nats/token", "loss"),
        Objective("decode", "decode_tokens_per_s", True, "tokens/s", "decode speed"),
        Objective("energy", "energy_per_token_j", False, "J/token", "energy"),
        Objective("ttft", "ttft_s", False, "s", "time to first token"),
        Objective("memory", "memory_bytes", False, "bytes", "memory"),
        Objective("flops", "training_flops", False, "FLOPs", "training compute"),
    )
}

DEFAULT_OBJECTIVES = ("loss", "decode")


def parse_objectives(text: str | tuple[str, ...] | None) -> tuple[Objective, ...]:
    """Objectives from `loss,decode,energy`; loss is always among them, first.

    Raises:
        BadInput: an unknown name, or nothing beside loss.
    """
    names = (
        DEFAULT_OBJECTIVES
        if text is None
        else (tuple(part.strip() for part in text.split(",")) if isinstance(text, str) else text)
    )
    for name in names:
        if name not in OBJECTIVES:
            raise BadInput(
                f"objectives: {name!r} is not one of {', '.join(OBJECTIVES)}"
                f"{close_names(name, OBJECTIVES)}"
            )
    chosen = dict.fromkeys(("loss", *names))
    if len(chosen) < 2:
        raise BadInput("objectives = 'loss': at least one beside loss, such as loss,decode")
    return tuple(OBJECTIVES[name] for name in chosen)


@dataclasses.dataclass(frozen=True)
class Margin:
    """How many times better than a limit the middle costs must be; 1: the limit itself."""

    least: float = 1.0
    """For the shapes that the device is surest of."""
    usual: float = 1.0
    """For most shapes near the limit."""
    even: float = 1.0
    """At most 1, like what follows: for shapes that half of the draws let through,"""
    likely: float = 1.0
    """for those that 3 draws in 10 do,"""
    lucky: float = 1.0
    """1 in 10,"""
    luckiest: float = 1.0
    """and 1 in 50."""


@dataclasses.dataclass(frozen=True, eq=False)
class Points:
    """Shapes with their precisions, columns and keys: rows of equal number."""

    architectures: ArchitectureBatch
    bits: np.ndarray
    columns: Columns
    keys: np.ndarray
    """Place in the space's order: decides between points with equal objectives."""

    def __len__(self) -> int:
        return len(self.bits)

    def take(self, rows: np.ndarray) -> "Points":
        """The rows at `rows` (whole numbers or a mask)."""
        return Points(
            self.architectures.take(rows),
            self.bits[rows],
            {name: column[rows] for name, column in self.columns.items()},
            self.keys[rows],
        )

    @classmethod
    def join(cls, parts: "list[Points]") -> "Points":
        """All rows of all parts, in order."""
        fields = {
            name: np.concatenate([getattr(part.architectures, name) for part in parts])
            for name in FIELDS
        }
        columns = {
            name: np.concatenate([part.columns[name] for part in parts])
            for name in parts[0].columns
        }
        return cls(
            ArchitectureBatch(**fields),
            np.concatenate([part.bits for part in parts]),
            columns,
            np.concatenate([part.keys for part in parts]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A law, a device, budgets and objectives; evaluates shapes."""

    law: LossModel
    cost: CostModel
    budget: Budget
    objectives: tuple[Objective, ...]
    target_loss: float | None = None
    margins: dict[str, Margin] = dataclasses.field(default_factory=dict)
    """Limit -> how far inside it `feasible` asks the middle costs to be."""

    @property
    def limits(self) -> list[Limit]:
        """The constraints."""
        return self.budget.limits(self.target_loss)

    @property
    def goal(self) -> Objective:
        """What the one best point is best in: least loss, or most speed under a loss to reach."""
        return OBJECTIVES["loss" if self.target_loss is None else "decode"]

    def price(self, columns: Columns, objective: Objective) -> np.ndarray:
        """The objective's column, turned so that less is better."""
        column = columns[objective.column]
        return -column if objective.maximise else column

    def objective_rows(self, columns: Columns) -> np.ndarray:
        """[n, objectives], less is better."""
        return np.stack([self.price(columns, each) for each in self.objectives], axis=1)

    def margin(self, name: str) -> Margin:
        """Of the limit of this name; none where it was not said."""
        return self.margins.get(name, Margin())

    def feasible(self, columns: Columns, which: str = "usual") -> np.ndarray:
        """Where every limit holds with its margin [n]."""
        met = np.ones(len(columns["loss"]), dtype=bool)
        for limit in self.limits:
            met &= limit.met(columns[limit.column], 1 / getattr(self.margin(limit.name), which))
        return met

    def relaxed(self, limit: Limit) -> float:
        """How many times as generous the limit is where `relax` moves it, by the middle costs of
        the shapes that the device is surest of."""
        return limit.slack / self.margin(limit.name).least

    def with_relaxed(self, limit: Limit) -> "Problem":
        """The same question with one limit as generous as `relax` makes it."""
        if limit.name == "target_loss":
            return dataclasses.replace(self, target_loss=limit.relaxed_value)
        budget = self.budget.with_limit(limit.name, limit.relaxed_value)
        return dataclasses.replace(self, budget=budget)

    def loosest(self, limit: Limit) -> float:
        """Slack beyond which a point is of no interest to any answer."""
        margin = self.margin(limit.name)
        return max(self.relaxed(limit), 1 / margin.least, 1 / margin.luckiest)

    def loss_columns(self, architectures: ArchitectureBatch) -> Columns:
        """What does not depend on weight precision: loss, training tokens, training FLOPs."""
        tokens = self.budget.training_tokens(architectures)
        flops = architectures.training_flops_per_token(self.budget.training_sequence) * tokens
        if isinstance(self.law, NodeLosses):
            nodes = self.law.node_losses(architectures, tokens)
            return {"loss": self.law.mean(nodes), NODES: nodes, "training_flops": flops}
        return {"loss": self.law.loss(architectures, tokens), "training_flops": flops}

    def evaluate(
        self, architectures: ArchitectureBatch, bits: np.ndarray, keys: np.ndarray | None = None
    ) -> Points:
        """Every column of every shape."""
        columns = self.loss_columns(architectures) | self.cost(architectures, bits)
        return Points(architectures, bits, columns, np.arange(len(bits)) if keys is None else keys)

    def best_of(self, points: Points) -> int:
        """Row of the point that is best by the goal; then by the other objectives in turn."""
        return int(self.order(points.columns, points.keys)[0])

    def order(self, columns: Columns, keys: np.ndarray) -> np.ndarray:
        """Rows from the best by the goal to the worst; ties by the other objectives, then key."""
        others = [self.price(columns, o) for o in self.objectives if o != self.goal]
        return np.lexsort((keys, *reversed(others), self.price(columns, self.goal)))
