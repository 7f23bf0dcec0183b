"""What each study's law leaves unexplained along each axis of shape: points for the page's curves.

`python -m benchmarks.evidence.shape_residuals` writes results/evidence/shape_residuals.json: means
over runs of nearly equal shape, no rows of the tables.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.evidence.rebuild import FOLDER
from benchmarks.evidence.studies import Study, all_studies
from shapelaw.scaling.evidence.study_law import PARAMETERS, log_loss, of_draws

BINS = 12
"""Groups of runs along an axis, at most."""

AXES = {
    "depth": ("ln_depth", "has_depth"),
    "mlp_attention_ratio": ("ln_mlp_ratio", "has_mlp_ratio"),
    "gqa_group": ("ln_gqa", None),
    "sharing": ("ln_sharing", None),
}
_LEVEL_ALIKE = ("ln_loss",)
"""Left out: curves of studies are compared at one level."""


def study_residuals(study: Study, quantiles: dict[str, list[float]]) -> dict[str, Any] | None:
    """One study's points; None where it varies no axis of shape."""
    theta = np.array([quantiles[name][1] for name in PARAMETERS])
    runs = study.runs
    residual = runs.log_loss - log_loss(np, of_draws(theta[None]), runs.features)[0]
    # Medians of each parameter are no draw: what they miss of sizes and tokens is no shape's.
    residual = residual - _smooth_part(residual, runs.features)
    axes = {}
    for axis, (feature, known) in AXES.items():
        rows = np.arange(len(residual)) if known is None else np.flatnonzero(runs.features[known])
        column = runs.features[feature][rows]
        if axis == "depth":
            column = column + runs.features["ln_sharing"][rows] * runs.features["repeated"][rows]
        if len(rows) and np.ptp(column) > 0.1:
            axes[axis] = _binned(column, residual[rows])
    if not axes:
        return None
    kept = {
        name: round(float(value), 4)
        for name, value in zip(PARAMETERS, theta, strict=True)
        if name not in _LEVEL_ALIKE
    }
    return {"study": study.name, "parameters": kept, "axes": axes}


def _smooth_part(residual: np.ndarray, features: dict[str, np.ndarray]) -> np.ndarray:
    """The plane in ln N and ln D through the residuals."""
    if len(residual) < 8:
        return np.full(len(residual), residual.mean())
    design = np.stack([np.ones(len(residual)), features["ln_n"], features["ln_d"]], axis=1)
    return np.asarray(design @ np.linalg.lstsq(design, residual, rcond=None)[0])


def _binned(column: np.ndarray, residual: np.ndarray) -> list[tuple[float, float, int]]:
    values = np.unique(column.round(3))
    if len(values) > BINS:
        edges = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)))
        which = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, len(edges) - 2)
    else:
        which = np.searchsorted(values, column.round(3))
    return [
        (
            float(f"{np.exp(column[which == k].mean()):.4g}"),
            float(f"{residual[which == k].mean():.3g}"),
            int(np.sum(which == k)),
        )
        for k in np.unique(which)
    ]


def write(studies: Sequence[Study], folder: Path = FOLDER) -> None:
    """Write the file for the data sheet that stands in the folder."""
    by_study = json.loads((folder / "data_sheet.json").read_text(encoding="utf-8"))["by_study"]
    found = [
        points
        for study in studies
        if study.name in by_study
        and (points := study_residuals(study, by_study[study.name])) is not None
    ]
    text = ",\n".join(json.dumps(each) for each in found)
    (folder / "shape_residuals.json").write_text(f"[{text}]\n", encoding="utf-8")


if __name__ == "__main__":
    write(all_studies())
