"""A law beside the runs it was fitted to, row by row: what the page shows of both."""

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.fit import Fit
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable


@dataclasses.dataclass(frozen=True, eq=False)
class LawRuns:
    """A law and the table of its runs."""

    law: Law | EvidenceLaw
    table: RunTable
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Parameter -> 90 % interval, where a fit gave any."""
    held_out: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Split -> its errors, where any were held out."""

    @classmethod
    def of_fit(cls, fit: Fit) -> "LawRuns":
        """Of a fit."""
        return cls(fit.law, fit.table, fit.intervals, fit.holdout)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return list(self.law.predict_table(self.table)["rows"])

    @cached_property
    def predicted(self) -> np.ndarray:
        """[rows], nats per token."""
        return np.array([row["loss"] for row in self._rows])

    @cached_property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Ends [rows] of the 90 % interval of a run."""
        low, high = np.array([row["interval"] for row in self._rows]).T
        return low, high

    @property
    def residuals(self) -> np.ndarray:
        """[rows], ln(observed / predicted)."""
        return np.log(self.table.loss / self.predicted)
