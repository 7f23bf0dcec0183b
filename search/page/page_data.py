"""Everything an explorer page shows, as one JSON object; long columns as base64 of their bytes."""

import base64
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import FIELDS, ArchitectureBatch
from shapelaw.search.answer.answer import LEVEL, Answer, Beside, Candidate
from shapelaw.search.devices.roofline_parts import Part, Shapes, decode_parts, memory_parts
from shapelaw.search.page.page_points import (
    BOUND,
    LIMITABLE,
    Explored,
    Slider,
    can_enumerate,
    ceiling,
    explored,
    only,
)
from shapelaw.search.page.shape_curves import shape_curves
from shapelaw.search.pareto.device_cost import ACTIVATION_BITS, KV_BITS, DeviceCost
from shapelaw.search.pareto.problem import Points

COSTS = ("decode_tokens_per_s", "ttft_s", "memory_bytes", "energy_per_token_j", "training_flops")


def page_data(answer: Answer) -> dict[str, Any]:
    """The page's content. Numbers are in SI units; what is unknown is left out or NaN."""
    found = _explored(answer)
    return {
        "device": {"name": answer.device.name, "title": answer.device.title},
        "law": {"label": answer.law.label, "source": str(getattr(answer.law, "source", ""))},
        "workload": {
            "name": answer.workload.name,
            "prompt": answer.workload.prompt,
            "generated": answer.workload.generated,
            "batch": answer.workload.batch,
            "turns": answer.workload.turns,
            "context": answer.workload.decode_context,
        },
        "space": {"name": answer.space.name, "size": answer.certificate.space_size},
        "exact": found.exact,
        "front_complete": found.front_complete,
        "goal": answer.problem.goal.name,
        "training": answer.problem.budget.to_dict(),
        "level": LEVEL,
        "sliders": [_slider(answer, slider, found.exact) for slider in found.sliders],
        "points": _columns(answer, found.points),
        "best": _named(answer.best),
        "probability_best": answer.probability_best,
        "beside": [
            *(_beside(beside, familiar=False) for beside in answer.near_ties),
            *(_beside(beside, familiar=True) for beside in answer.baselines),
        ],
        "curves": shape_curves(answer.law, answer.best.architecture, answer.best.training_tokens),
        "warnings": list(answer.warnings),
    }


def _explored(answer: Answer) -> Explored:
    grid = answer.space.grid()
    if can_enumerate(grid):
        return explored(answer.problem, grid, answer.confidence)
    shown = list(
        dict.fromkeys(
            (candidate.architecture, candidate.weight_bits)
            for candidate in (
                answer.best,
                *answer.front,
                *(beside.candidate for beside in answer.near_ties),
            )
        )
    )
    batch = ArchitectureBatch.of(architecture for architecture, _ in shown)
    points = answer.problem.evaluate(batch, np.array([bits for _, bits in shown]))
    return only(answer.problem, points, answer.confidence)


def _slider(answer: Answer, slider: Slider, exact: bool) -> dict[str, Any]:
    """Where one budget may stand. A search that saw only what meets the limits can be asked about
    tighter ones, never looser."""
    asked = next(
        (limit.value for limit in answer.problem.limits if limit.column == slider.column), None
    )
    positions = slider.positions.tolist()
    if asked is not None and asked not in positions:
        # A limit beyond every point's value still is where the query stands.
        positions = sorted([*positions, asked])
    bounded = asked is not None and not exact
    at_ceiling = slider.name == "memory" and np.isfinite(ceiling(answer.problem))
    if bounded:
        positions = [
            value for value in positions if (value >= asked if slider.at_least else value <= asked)
        ]
    return {
        "name": slider.name,
        "column": slider.column,
        "at_least": slider.at_least,
        "positions": positions,
        "asked": asked,
        "bounded": bool(bounded or at_ceiling),
    }


def _columns(answer: Answer, points: Points) -> dict[str, Any]:
    a = points.architectures
    tokens = np.broadcast_to(answer.problem.budget.training_tokens(a), len(points))
    low, high = answer.law.interval(a, tokens, LEVEL)
    columns = {
        "loss": points.columns["loss"],
        "low": low,
        "high": high,
        "bits": points.bits,
        "tokens": tokens,
        **{name: points.columns[name] for name in COSTS},
        **{BOUND + name: points.columns[BOUND + name] for name in (*LIMITABLE, "loss")},
    }
    found: dict[str, Any] = {
        "n": len(points),
        "shape": {name: _packed(getattr(a, name), "<i4") for name in FIELDS},
        "numbers": {name: _packed(column, "<f8") for name, column in columns.items()},
        "extrapolated": _beyond(answer, a, tokens),
        "total_parameters": _packed(a.total_parameters, "<f8"),
    }
    if isinstance(answer.problem.cost, DeviceCost):
        found |= _breakdown(answer.problem.cost, points)
    return found


def _beyond(answer: Answer, a: ArchitectureBatch, tokens: np.ndarray) -> dict[str, str]:
    """Axis -> how many times beyond the law's range each point is; 1 inside it."""
    rows = answer.law.extrapolated(a, tokens)
    axes = sorted({axis for row in rows for axis in row})
    return {axis: _packed(np.array([row.get(axis, 1.0) for row in rows]), "<f4") for axis in axes}


def _breakdown(cost: DeviceCost, points: Points) -> dict[str, Any]:
    """Parts of one decode step, and what memory holds: [points, parts] each."""
    c, w = cost.constants, cost.workload
    shapes = Shapes(points.architectures, c, w, points.bits, KV_BITS, ACTIVATION_BITS)
    parts = decode_parts(shapes, c)
    memory = memory_parts(shapes, c)
    scarce = cost.full(points.architectures, points.bits).scarce

    def table(values: list[np.ndarray]) -> str:
        return _packed(np.stack(values, axis=1), "<f4")

    def joules(part: Part) -> np.ndarray:
        return np.broadcast_to(part.joules(c) / w.batch, len(points))

    resources = sorted(set(scarce.tolist()))
    return {
        "parts": [part.name for part in parts],
        "seconds": table([part.seconds for part in parts]),
        "bytes_moved": table([part.bytes_moved for part in parts]),
        "bytes_cached": table([part.bytes_cached for part in parts]),
        "flops": table([part.flops for part in parts]),
        "joules": table([joules(part) for part in parts]),
        "memory_parts": list(memory),
        "memory": table([np.broadcast_to(held, len(points)) for held in memory.values()]),
        "resources": resources,
        "scarce": _packed(np.searchsorted(resources, scarce), "<i4"),
    }


def _named(candidate: Candidate) -> dict[str, Any]:
    return {
        "architecture": candidate.architecture.to_dict(),
        "bits": candidate.weight_bits,
        "loss": candidate.loss,
        "interval": list(candidate.loss_interval),
        "decode": candidate.decode_tokens_per_s,
        "memory": candidate.memory_bytes,
        "ttft": candidate.ttft_s,
        "energy": candidate.energy_per_token_j,
    }


def _beside(beside: Beside, *, familiar: bool) -> dict[str, Any]:
    return {
        "why": beside.why,
        "familiar": familiar,
        "feasible": beside.feasible,
        "difference": beside.loss_difference,
        "difference_interval": list(beside.loss_difference_interval),
        **_named(beside.candidate),
    }


def _packed(column: np.ndarray, dtype: str) -> str:
    """Little-endian bytes in base64: exact, and a third of what digits would take."""
    return base64.b64encode(np.ascontiguousarray(column, dtype=dtype).tobytes()).decode()
