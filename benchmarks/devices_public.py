"""Errors and coverage on the public rows: in sample, leaving models out, leaving devices out."""

from typing import Any

import numpy as np

from benchmarks.engine_regression import Posterior, Regression
from benchmarks.engine_rows import Row, all_rows

Z90 = 1.645
BARS = {"decode": 0.15, "e2e": 0.12, "prefill": 0.20, "ttft": 0.25, "memory": 0.10}
SMALL_BAR = 0.25
SMALL = 1e9
"""Parameters below which a model is small."""


def public_figures() -> dict[str, Any] | None:
    """Mean |error|, coverage of 90 % intervals and the plain roofline's error, by quantity and by
    what was left out; None where the tables are absent."""
    rows = all_rows()
    if rows is None:
        return None
    regression = Regression(rows)
    whole = regression.fit(np.arange(len(rows)))
    roofline = _roofline(regression)
    found = {"in sample": _scores(regression, *whole.predictions(), roofline)}
    for name, keys in (("models", models_of(rows)), ("devices", _devices(rows))):
        found[f"leaving {name} out"] = _scores(
            regression, *_left_out(regression, whole, keys), roofline
        )
    return found


def public() -> list[str]:
    """The same in lines, with the bars."""
    found = public_figures()
    if found is None:
        return ["skipped: the public table is not here"]
    lines = []
    for what, scores in found.items():
        for quantity, s in scores.items():
            lines.append(
                f"{what}: {quantity} ({s['rows']} rows) mean {100 * s['error']:.1f} %, median "
                f"{100 * s['median']:.1f} %, interval covers {100 * s['coverage']:.0f} %, plain "
                f"roofline {100 * s['roofline']:.0f} %"
            )
    left = found["leaving models out"]
    for quantity, bar in {**BARS, "decode below 1B": SMALL_BAR}.items():
        error = left[quantity]["error"]
        verdict = "holds" if error <= bar else "MISSED"
        lines.append(f"bar: {quantity} at most {100 * bar:.0f} %: {100 * error:.1f} %: {verdict}")
    for what in ("leaving models out", "leaving devices out"):
        covered = found[what]["all"]["coverage"]
        verdict = "holds" if 0.85 <= covered <= 0.97 else "MISSED"
        lines.append(f"bar: {what}, 85 to 97 % covered: {100 * covered:.0f} %: {verdict}")
    return lines


def models_of(rows: list[Row]) -> list[str]:
    """Each row's model, whatever the table calls it."""
    return [row.model.removeprefix("jetson ").lower() for row in rows]


def _devices(rows: list[Row]) -> list[str]:
    """Power modes of one board are one device."""
    board = "jetson-orin-nano"
    return [board if row.device.startswith(board) else row.device for row in rows]


def _left_out(
    regression: Regression, whole: Posterior, keys: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of each public row by a fit that saw nothing of its group.

    The width of an interval comes from the fitted rows alone: what the constants of a device leave
    unexplained, from models left out among them; how far an unseen device may lie off, from the
    spread of the effects.
    """
    groups, models = np.array(keys), np.array(models_of(regression.rows))
    middle, spread = (np.full(len(groups), np.nan) for _ in range(2))
    public_rows = np.array([row.public for row in regression.rows])
    for group in sorted(set(groups[public_rows])):
        held = groups == group
        fitted = regression.fit(np.flatnonzero(~held), whole, rounds=2)
        middle_all, spread_all = fitted.with_noise(fitted.widened(models)).predictions()
        middle[held], spread[held] = middle_all[held], spread_all[held]
    return middle, spread


def _roofline(r: Regression) -> np.ndarray:
    """Logarithms by weight bytes over nominal bandwidth, operations over peak, and nothing else."""
    a, demand, each = r.inputs.batch, r.inputs.demand, r.inputs.columns
    stored = r.inputs.stored
    count = np.asarray(a.applied_parameters + a.vocab_size * a.d_model, dtype=float)
    step = (a.depth * stored.block_bytes + stored.head_bytes) / each["nominal"]
    prompt = np.maximum(step, 2 * count * demand.new / each["peak"])
    total = a.n_blocks * stored.block_bytes + stored.head_bytes + stored.embedding_bytes
    generated = each["generated"]
    speeds = [
        demand.batch / step,
        generated / (prompt + generated * step / demand.batch),
        demand.new / prompt,
        prompt,
    ]
    names = ("decode", "e2e", "prefill", "ttft")
    return np.log(np.select([r.quantity == name for name in names], speeds, total))


def _scores(
    r: Regression, middle: np.ndarray, spread: np.ndarray, roofline: np.ndarray
) -> dict[str, dict[str, float]]:
    mine = np.array([row.public for row in r.rows])
    small = np.array([row.architecture.total_parameters < SMALL for row in r.rows])
    sets = {name: mine & (r.quantity == name) for name in BARS}
    sets["decode below 1B"] = sets["decode"] & small
    sets["all"] = mine
    errors = np.abs(np.exp(middle - r.log_measured) - 1)
    flat = np.abs(np.exp(roofline - r.log_measured) - 1)
    inside = np.abs(middle - r.log_measured) <= Z90 * spread
    return {
        name: {
            "rows": int(rows.sum()),
            "error": float(errors[rows].mean()),
            "median": float(np.median(errors[rows])),
            "coverage": float(inside[rows].mean()),
            "roofline": float(flat[rows].mean()),
        }
        for name, rows in sets.items()
    }
