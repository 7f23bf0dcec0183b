"""What shape does to the loss: the law along each axis, around one architecture, all else held.

With the runs behind each curve. A run stands at its own value of the axis and at its study's curve
plus what the study's law leaves unexplained of it (a partial residual: Cleveland 1993): all else
that the run is, the law takes away.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import FIELDS, Architecture, ArchitectureBatch
from shapelaw.search.pareto.problem import LossModel

POINTS = 41
"""Along each continuous axis."""

SPAN = 4.0
"""Continuous axes run from a SPAN-th of the architecture's value to SPAN times it."""

LEVEL = 0.9

_FLAT = 1e-9
"""Nats: a curve within this is one the law does not read."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of shape."""

    name: str
    """As in the law's range and warnings."""
    title: str
    held: str
    """What is held along it."""
    whole: bool = False


AXES = (
    Axis("depth", "Layers", "width shrinks as layers are added; equal parameters"),
    Axis("mlp_attention_ratio", "MLP over attention parameters", "equal parameters"),
    Axis("gqa_group", "Query heads per key-value head", "equal parameters", whole=True),
    Axis("sharing", "Times each block is applied", "equal stored parameters", whole=True),
)


@dataclasses.dataclass(frozen=True, eq=False)
class StudyRuns:
    """Runs of one study (or groups of them) with what their study's law leaves unexplained."""

    study: str
    loss: Callable[[ArchitectureBatch, float], np.ndarray]
    """The study's own law, nats per token."""
    rows: Mapping[str, Sequence[tuple[float, float, int]]]
    """Axis -> (value, ln(observed / predicted), runs)."""


def shape_curves(
    law: LossModel,
    architecture: Architecture,
    tokens: float,
    studies: Sequence[StudyRuns] = (),
) -> list[dict[str, Any]]:
    """One curve an axis: `axis`, `title`, `x`, `loss`, `low`, `high`, `here`, `seen`, `silent`,
    `studies`.

    Losses are differences from the architecture's own, nats per token, at equal stored
    non-embedding parameters and training tokens; `low` and `high` hold 90 % of the law's draws,
    each compared with itself, so that the level of the loss, which all shapes share, cancels.
    `silent`: the law does not read this axis. `studies`: points [x, nats, runs] of each study.
    """
    found = []
    for axis in AXES:
        batch, x = varied(axis, architecture, _values(axis, architecture))
        here, _ = varied(axis, architecture, np.array([_value(axis, architecture)]))
        middle = law.loss(batch, tokens) - law.loss(here, tokens)
        gaps = law.loss_draws(batch, tokens) - law.loss_draws(here, tokens)
        tail = 0.5 * (1 - LEVEL)
        low, high = np.quantile(gaps, [tail, 1 - tail], axis=0)
        seen = getattr(law, "range", {}).get(axis.name)
        found.append(
            {
                "axis": axis.name,
                "title": axis.title,
                "held": axis.held,
                "whole": axis.whole,
                "x": x.tolist(),
                "loss": middle.tolist(),
                "low": np.minimum(low, middle).tolist(),
                "high": np.maximum(high, middle).tolist(),
                "here": float(_value(axis, architecture)),
                "seen": None if seen is None else [float(end) for end in seen],
                "silent": bool(np.ptp(middle) < _FLAT and np.ptp(gaps, axis=1).max() < _FLAT),
                "studies": [
                    shown
                    for each in studies
                    if (shown := _study_points(each, axis, architecture, tokens, x)) is not None
                ],
            }
        )
    return found


def _study_points(
    study: StudyRuns, axis: Axis, architecture: Architecture, tokens: float, x: np.ndarray
) -> dict[str, Any] | None:
    """The study's points on one axis, those within the curve's reach."""
    rows = [row for row in study.rows.get(axis.name, ()) if x.min() <= row[0] <= x.max()]
    if len({row[0] for row in rows}) < 2:
        return None
    batch, values = varied(axis, architecture, np.array([row[0] for row in rows]))
    here, _ = varied(axis, architecture, np.array([_value(axis, architecture)]))
    level = study.loss(here, tokens)
    curve = study.loss(batch, tokens)
    residual = np.array([row[1] for row in rows])
    # Studies have levels of their own: nats are those of the curve's level.
    nats = curve * np.exp(residual) - level
    return {
        "name": study.study,
        "points": [
            [float(f"{value:.4g}"), float(f"{gap:.4g}"), int(row[2])]
            for value, gap, row in zip(values, nats, rows, strict=True)
        ],
    }


def _value(axis: Axis, architecture: Architecture) -> float:
    return float(getattr(architecture, axis.name))


def _values(axis: Axis, a: Architecture) -> np.ndarray:
    if axis.name == "sharing":
        return np.arange(1.0, max(4, a.sharing) + 1)
    if axis.name == "gqa_group":
        most = max(8, a.gqa_group)
        return np.array([float(g) for g in range(1, most + 1) if g <= a.n_heads])
    return _value(axis, a) * np.geomspace(1 / SPAN, SPAN, POINTS)


def varied(axis: Axis, a: Architecture, values: np.ndarray) -> tuple[ArchitectureBatch, np.ndarray]:
    """The architecture with one axis changed, the non-embedding count held; and the axis's values.

    Fields become real numbers: the curve is the law's, and which points of it can be built is the
    space's business.
    """
    here = ArchitectureBatch.of([a])
    fields = {name: np.full(len(values), float(getattr(here, name)[0])) for name in FIELDS}
    if axis.name == "sharing":
        fields["sharing"] = values
        return ArchitectureBatch(**fields), values
    if axis.name == "depth":
        # Parameters go as layers times width squared, but for the norms.
        stretch = np.sqrt(_value(axis, a) / values)
        for name in ("d_model", "n_heads", "n_kv_heads", "d_ff"):
            fields[name] = fields[name] * stretch
    elif axis.name == "gqa_group":
        fields["n_kv_heads"] = fields["n_heads"] / values
        attention = (
            2 * fields["d_model"] * fields["head_dim"] * (fields["n_heads"] + fields["n_kv_heads"])
        )
        fields["d_ff"] = a.mlp_attention_ratio * attention / (3 * fields["d_model"])
    else:
        both = a.attention_parameters + a.mlp_parameters
        attention = both / (1 + values)
        for name in ("n_heads", "n_kv_heads"):
            fields[name] = fields[name] * attention / a.attention_parameters
        fields["d_ff"] = (both - attention) / (3 * fields["d_model"])
    batch = ArchitectureBatch(**fields)
    blocks = (a.non_embedding_parameters - batch.d_model) / batch.block_parameters
    batch = dataclasses.replace(batch, n_blocks=blocks)
    return batch, np.asarray(batch.depth) if axis.name == "depth" else values
