"""What an adaptive sweep can choose from: a law nobody knows with noise, or runs done before.

A pool shows candidates with their costs, and losses only of what is trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.results.tables.from_records import table_of
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.features import architecture_features
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable
from shapelaw.sweeps.adaptive.expected_error import (
    SCALE_ERROR,
    SCALE_REACH,
    SHAPE_ERROR,
    SHAPE_REACH,
    Runs,
)
from shapelaw.sweeps.adaptive.proposals import Candidate
from shapelaw.sweeps.training.trunk import TrunkJob

RUN_NOISE, BUDGET_NOISE = 0.010, 0.004
"""Standard deviations of ln loss between seeds, and of each budget by itself (METHODS: .008)."""
TRUTH = {
    "E": 0.5,
    "A": 4.0,
    "B": 53.0,
    "alpha": 0.20,
    "beta": 0.44,
    "kappa": 0.13,
    "gamma": 0.03,
    "sigma": 0.05,
    "rho": 0.25,
    "tau": 0.25,
    "W": 6.0,
    "K": 0.15,
    "omega": 1.1,
    "lambda": 1.0,
}
"""Near what the form gives on small byte-level models; losses of 1.4 to 2.4 nats."""
FEATURES = ("ln_aspect", "ln_d", "ln_depth", "ln_g", "ln_n", "ln_r", "ln_s", "ln_width", "ln_x")
SCATTER = 0.15
WAVES = 64
"""Random cosines that make the field of a bent truth."""


class Pool(Protocol):
    """Trunks that can be trained and what they cost."""

    again: bool
    """Whether a trunk can be trained more than once."""

    def candidates(self) -> list[Candidate]:
        """What can be trained now, first budgets of a trunk included."""

    def train(self, picks: Sequence[Candidate]) -> float:
        """Train these; the FLOPs they cost."""

    def table(self) -> RunTable:
        """Everything trained so far."""

    def held(self) -> Runs:
        """The same, without the losses."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Losses that nobody knows: a law, times a smooth field that no form has where it is bent."""

    law: Law
    phases: np.ndarray
    """[2, WAVES, 1 + features]: a phase, and a frequency for each feature; the first field is one
    of size and budget alone."""
    bend: float
    """How far off the form is, in what `sweeps.information` supposes of forms."""

    @classmethod
    def draw(cls, generator: np.random.Generator, bend: float) -> "Truth":
        """The project's own form with every parameter off by some 15 %, bent by a random field."""
        scattered = {
            name: value * float(np.exp(SCATTER * generator.standard_normal()))
            for name, value in TRUTH.items()
        }
        law = Law(
            form="shape",
            parameters=scattered,
            draws=np.zeros((0, len(scattered))),
            range={},
            count="non_embedding",
            fingerprint="",
            label="truth",
            source="",
            features=FEATURES,
            residuals=np.zeros(0),
        )
        phases = generator.standard_normal((2, WAVES, 1 + len(SHAPE_REACH)))
        phases[:, :, 0] = generator.uniform(0, 2 * np.pi, (2, WAVES))
        phases[0, :, 1 + len(SCALE_REACH) :] = 0.0
        return cls(law, phases, bend)

    def loss(self, shapes: ArchitectureBatch, tokens: float | np.ndarray) -> np.ndarray:
        """Without noise [n]; nats."""
        features = architecture_features(shapes, tokens, "non_embedding", tuple(SHAPE_REACH))
        angles = self.phases[:, :, :1] + sum(
            self.phases[:, :, place : place + 1] * features[name] / reach
            for place, (name, reach) in enumerate(SHAPE_REACH.items(), start=1)
        )
        scale, shape = np.sqrt(2 / WAVES) * np.cos(angles).sum(axis=1)
        field = self.bend * (SCALE_ERROR * scale + SHAPE_ERROR * shape)
        return np.asarray(self.law.loss(shapes, tokens) * np.exp(field))


class Simulated:
    """A truth with noise; any candidate can be trained again with another seed."""

    again = True

    def __init__(
        self, truth: Truth, candidates: Sequence[Candidate], generator: np.random.Generator
    ) -> None:
        self.truth, self.generator = truth, generator
        self._candidates = list(candidates)
        self._rows: list[tuple[Architecture, float, float, str]] = []
        self.trunks = 0

    def candidates(self) -> list[Candidate]:
        return self._candidates

    def train(self, picks: Sequence[Candidate]) -> float:
        for one in picks:
            self.trunks += 1
            shapes = ArchitectureBatch.of([one.architecture] * len(one.tokens))
            loss = self.truth.loss(shapes, np.array(one.tokens, float))
            noise = self.generator.normal(0, RUN_NOISE) + self.generator.normal(
                0, BUDGET_NOISE, len(loss)
            )
            self._rows += [
                (one.architecture, float(tokens), float(value), f"trunk {self.trunks}")
                for tokens, value in zip(one.tokens, loss * np.exp(noise), strict=True)
            ]
        return sum(one.flops for one in picks)

    def held(self) -> Runs:
        return Runs.of(
            [(shape, tokens) for shape, tokens, _, _ in self._rows],
            [trunk for _, _, _, trunk in self._rows],
        )

    def table(self) -> RunTable:
        shapes = [shape for shape, _, _, _ in self._rows]

        def column(values: list[Any]) -> np.ndarray:
            return np.array(values, dtype=float)

        return RunTable(
            n=column([s.non_embedding_parameters for s in shapes]),
            d=column([tokens for _, tokens, _, _ in self._rows]),
            loss=column([loss for _, _, loss, _ in self._rows]),
            run=np.array([name for _, _, _, name in self._rows]),
            shape={
                "d_model": column([s.d_model for s in shapes]),
                "n_layers": column([s.depth for s in shapes]),
                "d_ff": column([s.d_ff for s in shapes]),
                "n_heads": column([s.n_heads for s in shapes]),
                "n_kv_heads": column([s.n_kv_heads for s in shapes]),
                "head_dim": column([s.head_dim for s in shapes]),
                "sharing": column([s.sharing for s in shapes]),
                "n_applied": column([s.applied_parameters for s in shapes]),
            },
            count="non_embedding",
        )


class Recorded:
    """Runs done before: each can be had once.

    A trunk of which some budgets were had can be trained once more for longer ones, from its first
    step, as a sweep does: the path to them is paid for again.
    """

    again = False

    def __init__(self, records: Sequence[RunRecord]) -> None:
        found: dict[str, list[RunRecord]] = {}
        for record in sorted(records, key=lambda one: one.tokens):
            found.setdefault(record.trunk_key, []).append(record)
        self._trunks = found
        self._had = dict.fromkeys(found, 0)

    def candidates(self) -> list[Candidate]:
        return [
            _candidate(key, trunk[self._had[key] : end])
            for key, trunk in self._trunks.items()
            for end in range(self._had[key] + 1, len(trunk) + 1)
        ]

    def train(self, picks: Sequence[Candidate]) -> float:
        for one in picks:
            self._had[one.trunk] += len(one.tokens)
        return sum(one.flops for one in picks)

    def table(self) -> RunTable:
        return table_of(self._records())

    def held(self) -> Runs:
        records = self._records()
        return Runs.of(
            [(record.architecture.build(), record.tokens) for record in records],
            [record.trunk_key for record in records],
        )

    def _records(self) -> list[RunRecord]:
        return [
            record for key, budgets in self._had.items() for record in self._trunks[key][:budgets]
        ]


def _candidate(trunk: str, records: Sequence[RunRecord]) -> Candidate:
    """The whole path to the first of these budgets, and what the others add."""
    shape = records[0].architecture
    tokens = tuple(record.tokens for record in records)
    return Candidate(
        trunk=trunk,
        label="",
        architecture=shape.build(),
        tokens=tokens,
        job=TrunkJob(architecture=shape, tokens=tokens, seed=records[0].seed),
        flops=sum(record.flops - record.trunk_flops_shared for record in records)
        + records[0].trunk_flops_shared,
    )


def whole(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Of each trunk the candidate with all its budgets."""
    longest: dict[str, Candidate] = {}
    for one in candidates:
        if one.trunk not in longest or len(one.tokens) > len(longest[one.trunk].tokens):
            longest[one.trunk] = one
    return list(longest.values())
