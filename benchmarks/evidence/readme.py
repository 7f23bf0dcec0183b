"""Writes results/evidence/README.md from what ships: `python -m benchmarks.evidence.readme`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.rebuild import FOLDER
from shapelaw.results.evidence.shipped_evidence import evidence_law, shipped_population
from shapelaw.scaling.atomic_files import replacing
from shapelaw.scaling.evidence.study_law import PARAMETERS

_SIZES = (1e5, 1e7, 1e8, 3.5e8, 1e9, 3e9, 7e9)
_FIGURE_NAMES = {
    "depth transition": "depth transition (arXiv 2006.12467)",
    "mobilellm": "immediate sharing (arXiv 2402.14905)",
    "loops": "loops (arXiv 2604.21106)",
    "loops truncated": "loops, truncated backpropagation (same source)",
    "loops hyperconnected": "loops, hyperconnections (same source)",
}
_TOLD = {
    "ln_best_depth": ("gemstones", "morph", "reference", "depth transition"),
    "depth_drift": ("gemstones", "morph", "reference", "depth transition"),
    "ln_depth_cost": ("gemstones", "morph", "reference"),
    "ln_best_mlp_ratio": ("reference", "conditional 1B"),
    "ln_mlp_ratio_cost": ("reference", "conditional 1B"),
    "gqa": ("reference", "conditional 1B"),
    "repeated_depth": ("reference", "mobilellm", "looped 768"),
    "gain_immediate": ("reference", "mobilellm"),
    "gain_cycle": ("looped 768", "loops", "loops truncated", "loops hyperconnected"),
}
"""Studies whose own runs or figures say something about a shape parameter."""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _span(ends: Sequence[float]) -> str:
    low, middle, high = ends
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def text(sheet: Mapping[str, Any]) -> str:
    """The whole page."""
    studies = [
        [
            one["name"],
            str(one["rows"]),
            str(one["runs"]),
            "{:.2g} to {:.2g}".format(*one["N"]),
            "{:.2g} to {:.2g}".format(*one["tokens"]),
            "yes" if one["tells_shape"] else "no",
            one["licence"],
        ]
        for one in sheet["studies"]
    ]
    law, population = evidence_law(), shipped_population()
    depth = np.quantile(law.best_depth(np.array(_SIZES)), [0.05, 0.5, 0.95], axis=0).T
    forest = []
    for parameter, names in _TOLD.items():
        index = PARAMETERS.index(parameter)
        new = np.quantile(law.theta[:, index], [0.05, 0.5, 0.95])
        forest.append([f"**{parameter}**", "a new study", _span(new.tolist())])
        forest += [
            ["", _FIGURE_NAMES.get(name, name), _span(sheet["by_study"][name][parameter])]
            for name in names
            if name in sheet["by_study"]
        ]
    level = [
        [
            parameter,
            f"{population.mean[:, i].mean():.2f} ± {population.mean[:, i].std():.2f}",
            f"{population.spread[:, i].mean():.2f}",
        ]
        for i, parameter in enumerate(PARAMETERS[:7])
    ]
    nuts = sheet["nuts"]
    worst = min(nuts["effective_draws"], key=nuts["effective_draws"].get)
    parts = [
        "# The pooled evidence",
        "A population of studies, fitted jointly to public tables, published figures and this "
        "project's own runs. `python -m benchmarks.evidence.rebuild` fits it anew, `python -m "
        "benchmarks.evidence.readme` writes this page, `python -m benchmarks.evidence --json` "
        "scores it with each source left out. The tables themselves are not part of the project.",
        "## Studies",
        _table(["study", "rows", "runs", "N", "tokens", "shape", "licence"], studies),
        "`mobilellm_depth` (arXiv 2402.14905, table 11) enters no fit: it is a check.",
        f"NUTS: {nuts['chains']} chains of {nuts['draws']} draws after {nuts['warmup']}, "
        f"{nuts['diverging']} divergent; the fewest effective draws of a population mean are "
        f"{nuts['effective_draws'][worst]} ({worst})."
        + (f" Largest r-hat: {max(nuts['r_hat'].values()):.2f}." if nuts["r_hat"] else ""),
        "## Best depth",
        "Layers at which a non-embedding size is used best, in a new study.",
        _table(
            ["non-embedding N", "median", "90 %"],
            [
                [f"{n:.2g}", f"{mid:.0f}", f"{low:.0f} to {high:.0f}"]
                for n, (low, mid, high) in zip(_SIZES, depth, strict=True)
            ],
        ),
        "## Shape, by study",
        "Median and 90 % interval; a new study carries what differs between studies. Names are "
        "those of `scaling/evidence/study_law.py`.",
        _table(["parameter", "study", "value"], forest),
        "## Level, between studies",
        _table(["parameter", "mean of the population", "spread between studies"], level),
        "## What is unknown",
        "- No study varied the attention's width against the model's: its cost is a prior.\n"
        "- GQA was told apart by tiny models and three models of 1B only; its sign is open.\n"
        "- The best ratio of MLP to attention parameters rests on the same two sources.\n"
        "- The gain of immediate sharing rests on this project's tiny models and one paper.\n"
        "- The level of loss differs between corpora and tokenizers: compare differences, or give "
        "one run of your own.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    sheet = json.loads((FOLDER / "data_sheet.json").read_text(encoding="utf-8"))
    with replacing(FOLDER / "README.md") as temporary:
        temporary.write_text(text(sheet), encoding="utf-8")


if __name__ == "__main__":
    main()
