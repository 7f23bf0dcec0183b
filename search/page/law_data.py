"""The law and its runs, for those who want them: form, numbers with intervals, held-out errors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shapelaw.results.evidence.shipped_evidence import EVIDENCE, data_sheet
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.evidence.study_law import PARAMETERS
from shapelaw.scaling.law import Law
from shapelaw.search.page.law_runs import LawRuns
from shapelaw.search.pareto.expected_loss import ExpectedLoss
from shapelaw.search.pareto.priced_law import KvPricedLaw, PricedLaw
from shapelaw.search.pareto.problem import LossModel

MOST_RUNS = 600
"""Runs shown in the parity plot."""


def law_data(judge: LossModel, runs: LawRuns | None = None) -> dict[str, Any]:
    """What the last section of the page shows of the law that judged."""
    law = judge
    while isinstance(law, ExpectedLoss | PricedLaw | KvPricedLaw):
        law = law.law
    return {
        "label": law.label,
        "source": str(getattr(law, "source", "")),
        "level_known": bool(getattr(law, "level_known", True)),
        "form": str(getattr(law, "form", "study")),
        "runs": int(getattr(law, "runs", 0) or 0),
        "range": {axis: list(ends) for axis, ends in getattr(law, "range", {}).items()},
        "parameters": _parameters(law, runs),
        "studies": _studies(law),
        "held_out": None if runs is None else _held_out(runs.held_out),
        "parity": None if runs is None else _parity(runs),
    }


def _parameters(law: LossModel, runs: LawRuns | None) -> list[dict[str, Any]]:
    if isinstance(law, EvidenceLaw):
        low, middle, high = np.quantile(law.theta[:, : len(PARAMETERS)], [0.05, 0.5, 0.95], axis=0)
        return [
            {"name": name, "value": float(middle[i]), "interval": [float(low[i]), float(high[i])]}
            for i, name in enumerate(PARAMETERS)
        ]
    if not isinstance(law, Law):
        return []
    known = {} if runs is None else runs.intervals
    found = []
    for place, (name, value) in enumerate(law.parameters.items()):
        ends = known.get(name)
        if ends is None and len(law.draws):
            ends = tuple(np.quantile(law.draws[:, place], [0.05, 0.95]).tolist())
        found.append(
            {
                "name": name,
                "value": float(value),
                "interval": None if ends is None else [float(end) for end in ends],
            }
        )
    return found


def _studies(law: LossModel) -> list[dict[str, Any]]:
    if law.label != EVIDENCE:
        return []
    wanted = ("name", "rows", "runs", "licence", "tells_shape", "N", "tokens")
    return [
        {name: study.get(name) for name in wanted if name in study}
        for study in data_sheet().studies
    ]


def _held_out(holdout: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Errors on what each split held out, where it gives any."""
    found = []
    for split, figures in holdout.items():
        if isinstance(figures, dict) and isinstance(figures.get("mean_abs_log"), int | float):
            found.append(
                {
                    "split": split,
                    "error": float(figures["mean_abs_log"]),
                    "coverage": figures.get("coverage"),
                }
            )
    return found


def _parity(runs: LawRuns) -> dict[str, Any]:
    table, (low, high) = runs.table, runs.interval
    rows = np.arange(len(table.loss))
    if len(rows) > MOST_RUNS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_RUNS, replace=False))
    return {
        "error": float(np.mean(np.abs(runs.residuals))),
        "inside": float(np.mean((table.loss >= low) & (table.loss <= high))),
        "predicted": _short(runs.predicted[rows]),
        "observed": _short(table.loss[rows]),
        "low": _short(low[rows]),
        "high": _short(high[rows]),
        "n": _short(table.n[rows]),
        "tokens": _short(table.d[rows]),
    }


def _short(column: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in column]


def reference_shape(runs: LawRuns) -> tuple[Architecture | None, float]:
    """The run of middle size as an architecture, and the middle of the training tokens; None where
    the table does not tell widths and layers."""
    shape, tokens = runs.table.shape, float(np.median(runs.table.d))
    if "d_model" not in shape or "n_layers" not in shape:
        return None, tokens
    row = int(np.argsort(runs.table.n, kind="stable")[len(runs.table.n) // 2])

    def of(name: str, usual: float) -> int:
        value = float(shape[name][row]) if name in shape else usual
        return max(1, round(value if np.isfinite(value) else usual))

    width, sharing = of("d_model", 64), of("sharing", 1)
    heads = of("n_heads", max(1.0, width / 64))
    attention = 4 * width**2
    ratio = float(shape["mlp_attention_ratio"][row]) if "mlp_attention_ratio" in shape else 2.0
    try:
        return Architecture(
            vocab_size=256,
            d_model=width,
            n_blocks=max(1, of("n_layers", 1) // sharing),
            sharing=sharing,
            n_heads=heads,
            n_kv_heads=of("n_kv_heads", heads / of("gqa_group", 1)),
            head_dim=of("head_dim", max(1.0, width / heads)),
            d_ff=of("d_ff", ratio * attention / (3 * width)),
        ), tokens
    except BadInput:
        return None, tokens
