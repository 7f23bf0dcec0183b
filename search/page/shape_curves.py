"""How the law bends along each axis of shape, around one architecture, all else held."""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import FIELDS, Architecture, ArchitectureBatch
from shapelaw.search.pareto.problem import LossModel

POINTS = 61
"""Along each continuous axis."""

SPAN = 4.0
"""Continuous axes run from a SPAN-th of the architecture's value to SPAN times it."""

LEVEL = 0.9

_FLAT = 1e-9
"""Nats: a curve within this is one the law does not read."""


@dataclasses.dataclass(frozen=True)
class Axis:
    """One ratio of shape."""

    name: str
    """As in the law's range and warnings."""
    title: str
    whole: bool = False


AXES = (
    Axis("width_ratio", "width / √N"),
    Axis("mlp_attention_ratio", "MLP / attention parameters"),
    Axis("gqa_group", "query heads per key-value head", whole=True),
    Axis("sharing", "times each block is applied", whole=True),
)


def shape_curves(law: LossModel, architecture: Architecture, tokens: float) -> list[dict[str, Any]]:
    """One curve an axis: `axis`, `title`, `x`, `loss`, `low`, `high`, `here`, `seen`, `silent`.

    Losses are differences from the architecture's own, nats per token, at equal stored
    non-embedding parameters and training tokens; `low` and `high` hold 90 % of the law's draws,
    each compared with itself, so that the level of the loss, which all shapes share, cancels.
    `silent`: the law does not read this axis.
    """
    found = []
    for axis in AXES:
        values = _values(axis, architecture)
        batch = _varied(axis, architecture, values)
        here = _varied(axis, architecture, np.array([_value(axis, architecture)]))
        middle = law.loss(batch, tokens) - law.loss(here, tokens)
        gaps = law.loss_draws(batch, tokens) - law.loss_draws(here, tokens)
        tail = 0.5 * (1 - LEVEL)
        low, high = np.quantile(gaps, [tail, 1 - tail], axis=0)
        seen = getattr(law, "range", {}).get(axis.name)
        found.append(
            {
                "axis": axis.name,
                "title": axis.title,
                "whole": axis.whole,
                "x": values.tolist(),
                "loss": middle.tolist(),
                "low": np.minimum(low, middle).tolist(),
                "high": np.maximum(high, middle).tolist(),
                "here": float(_value(axis, architecture)),
                "seen": None if seen is None else [float(end) for end in seen],
                "silent": bool(np.ptp(middle) < _FLAT and np.ptp(gaps, axis=1).max() < _FLAT),
            }
        )
    return found


def _value(axis: Axis, architecture: Architecture) -> float:
    return float(getattr(architecture, axis.name))


def _values(axis: Axis, a: Architecture) -> np.ndarray:
    if axis.name == "sharing":
        return np.arange(1.0, max(4, a.sharing) + 1)
    if axis.name == "gqa_group":
        most = max(8, a.gqa_group)
        return np.array([float(g) for g in range(1, most + 1) if g <= a.n_heads])
    return _value(axis, a) * np.geomspace(1 / SPAN, SPAN, POINTS)


def _varied(axis: Axis, a: Architecture, values: np.ndarray) -> ArchitectureBatch:
    """The architecture with one ratio changed and the non-embedding count held.

    Fields become real numbers: the curve is the law's, and which points of it can be built is the
    space's business.
    """
    here = ArchitectureBatch.of([a])
    fields = {name: np.full(len(values), float(getattr(here, name)[0])) for name in FIELDS}
    if axis.name == "sharing":
        fields["sharing"] = values
        return ArchitectureBatch(**fields)
    if axis.name == "width_ratio":
        stretch = values / _value(axis, a)
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
    return dataclasses.replace(batch, n_blocks=blocks)
