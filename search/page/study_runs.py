"""The runs that stand behind a law's curves: a fit's own; of the pooled evidence, its studies'.

Those of the studies are means over runs of nearly equal shape
(`results/evidence/shape_residuals.json`).
"""

from importlib import resources
from typing import Any

import msgspec
import numpy as np

from shapelaw.results.evidence.shipped_evidence import EVIDENCE
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.evidence.study_features import of_architectures
from shapelaw.scaling.evidence.study_law import PARAMETERS, log_loss, of_draws
from shapelaw.scaling.features import table_features
from shapelaw.search.page.law_runs import LawRuns
from shapelaw.search.page.shape_curves import StudyRuns
from shapelaw.search.pareto.problem import LossModel

FEATURE_OF = {
    "depth": "ln_depth",
    "mlp_attention_ratio": "ln_r",
    "gqa_group": "ln_g",
    "sharing": "ln_s",
}
"""Axis of a curve -> feature of a table of runs."""

MOST = 240
"""Runs of a fit shown behind a curve."""


class StudyResiduals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a study's own law leaves unexplained, along each axis of shape."""

    study: str
    parameters: dict[str, float]
    """Of the study's law (scaling/evidence/study_law.py): medians of its draws, level left out."""
    axes: dict[str, list[tuple[float, float, int]]]
    """Axis -> (value, mean ln(observed / predicted), runs)."""


def runs_behind(law: LossModel, runs: LawRuns | None = None) -> list[StudyRuns]:
    """The runs to show behind a law's curves; none where only a law file is at hand."""
    if runs is not None:
        return [_of_table(runs)]
    return _of_evidence(law) if law.label == EVIDENCE else []


def _of_table(runs: LawRuns) -> StudyRuns:
    features, residuals = table_features(runs.table), runs.residuals
    rows = np.arange(len(residuals))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST, replace=False))
    found = {
        axis: [(float(np.exp(features[name][row])), float(residuals[row]), 1) for row in rows]
        for axis, name in FEATURE_OF.items()
        if name in features and np.all(np.isfinite(features[name]))
    }
    return StudyRuns("runs", runs.law.loss, found)


def _of_evidence(law: LossModel) -> list[StudyRuns]:
    file = resources.files("shapelaw.results.evidence") / "shape_residuals.json"
    if not file.is_file():
        return []
    level = getattr(law, "middle", np.zeros((1, len(PARAMETERS))))[0]
    found = []
    for each in msgspec.json.decode(file.read_bytes(), type=list[StudyResiduals]):
        theta = np.array([each.parameters.get(name, level[i]) for i, name in enumerate(PARAMETERS)])
        found.append(StudyRuns(each.study, _law_of(theta[None]), dict(each.axes)))
    return found


def _law_of(theta: np.ndarray) -> Any:
    def loss(shapes: ArchitectureBatch, tokens: float) -> np.ndarray:
        return np.exp(log_loss(np, of_draws(theta), of_architectures(shapes, tokens))[0])

    return loss
