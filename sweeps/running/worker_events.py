"""What an engine is given and what it tells: units of work in, events out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from shapelaw.results.record import RunRecord
from shapelaw.sweeps.running.messages import Standing
from shapelaw.sweeps.training.trunk import TrunkJob


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """One trunk to train, with the budgets that are still missing; or several as a population."""

    number: int
    label: str
    jobs: tuple[TrunkJob, ...]
    """More than one: they differ in seed and learning rate alone, and train together."""
    flops: float
    checkpoint_dir: str | None = None
    """Where a long trunk leaves checkpoints, to go on from when it is taken up again."""
    shared_flops: Mapping[str, float] = field(default_factory=dict)
    """Run key → FLOPs paid by a smaller budget, in the trunk as the design has it."""

    @property
    def runs(self) -> int:
        """Records it will give."""
        return sum(len(job.tokens) for job in self.jobs)

    @property
    def shape(self) -> str:
        """`48×3 shared ×2`."""
        fields = self.jobs[0].architecture
        shared = f" shared ×{fields.sharing}" if fields.sharing > 1 else ""
        together = f" ({len(self.jobs)} together)" if len(self.jobs) > 1 else ""
        return f"{fields.d_model}×{fields.n_blocks}{shared}{together}"


@dataclass(frozen=True)
class Started:
    """A worker took a unit up."""

    unit: Unit
    worker: int


@dataclass(frozen=True)
class Stands:
    """A worker says how far it is."""

    worker: int
    standing: Standing


@dataclass(frozen=True)
class Finished:
    """One budget is done: a record to keep."""

    record: RunRecord


@dataclass(frozen=True)
class TrunkDone:
    """All budgets of a unit are done."""

    unit: Unit
    worker: int


@dataclass(frozen=True)
class Lost:
    """A worker died; the unit will be tried again."""

    unit: Unit
    worker: int
    reason: str


@dataclass(frozen=True)
class GaveUp:
    """A unit failed as often as it may."""

    unit: Unit
    reason: str


@dataclass(frozen=True)
class Idle:
    """Nothing happened for a moment: time to draw."""

    seconds: float


Event = Started | Stands | Finished | TrunkDone | Lost | GaveUp | Idle


def as_planned(unit: Unit | None, record: RunRecord) -> RunRecord:
    """A job taken up again trains only what was missing; its record says what the plan said."""
    if unit is None or record.run_key not in unit.shared_flops:
        return record
    shared = unit.shared_flops[record.run_key]
    return msgspec.structs.replace(record, trunk_flops_shared=shared)
