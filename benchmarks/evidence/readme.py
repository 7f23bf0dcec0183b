"""Writes results/evidence/README.md from what ships: `python -m benchmarks.evidence.readme`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.figures import depth_figure, few_shot_figure, forest_figure
from benchmarks.evidence.rebuild import FOLDER
from shapelaw.results.evidence.shipped_evidence import evidence_law, shipped_population
from shapelaw.scaling.atomic_files import replacing
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.evidence.refuted_studies import WORSE
from shapelaw.scaling.evidence.study_law import PARAMETERS
from shapelaw.search.architectures import load_architecture

_SIZES = (1e5, 1e7, 1e8, 3.5e8, 1e9, 3e9, 7e9)
_MODELS = (
    "mobilellm-125m",
    "smollm2-135m",
    "mobilellm-350m",
    "smollm2-360m",
    "qwen3-0.6b",
    "mobilellm-1b",
    "llama-3.2-1b",
    "gemma-3-1b",
    "smollm2-1.7b",
    "llama-3.2-3b",
    "smollm3-3b",
    "qwen3-4b",
    "llama-3.1-8b",
)
"""Shipped models that the best depth is shown beside."""
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


def _studies(sheet: Mapping[str, Any]) -> str:
    rows = [
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
    return _table(["study", "rows", "runs", "N", "tokens", "shape", "licence"], rows)


def _quality(sheet: Mapping[str, Any]) -> str:
    nuts, alone = sheet["nuts"], sheet["studies_alone"]
    worst = min(nuts["effective_draws"], key=nuts["effective_draws"].get)
    thin = min(alone, key=lambda name: alone[name]["draws_the_population_uses"])
    return (
        f"Each study of ten rows or more was first sampled alone (NUTS, largest r-hat "
        f"{max(one['r_hat'] for one in alone.values()):.3f}, fewest effective draws "
        f"{min(one['effective_draws'] for one in alone.values())}); the population was then "
        f"sampled by the weights of these draws: {nuts['chains']} chains of {nuts['draws']} draws "
        f"after {nuts['warmup']}, {nuts['diverging']} divergent; the fewest effective draws are "
        f"{nuts['effective_draws'][worst]} of {nuts['chains'] * nuts['draws']} ({worst}), the "
        f"largest r-hat is {max(nuts['r_hat'].values()):.3f}. The study whose own draws stand "
        f"worst for it under the population is {thin}: "
        f"{alone[thin]['draws_the_population_uses']} of them are effective."
    )


def _depths(law: EvidenceLaw) -> str:
    sizes = np.array(_SIZES)
    depth = np.quantile(law.best_depth(sizes), [0.05, 0.5, 0.95], axis=0).T
    models = {}
    for name in _MODELS:
        shape = load_architecture(name)
        models[name] = (float(shape.non_embedding_parameters), float(shape.depth))
    line = np.geomspace(1e7, 1e10, 40)
    depth_figure(
        line,
        np.quantile(law.best_depth(line), [0.05, 0.5, 0.95], axis=0),
        models,
        FOLDER / "figures" / "depth.png",
    )
    of_models = [
        [
            name,
            f"{n:.3g}",
            f"{layers:.0f}",
            "{:.0f} to {:.0f}".format(*np.quantile(law.best_depth(np.array([n])), [0.05, 0.95])),
        ]
        for name, (n, layers) in models.items()
    ]
    return "\n\n".join(
        [
            "Layers at which a non-embedding size is used best, in a new study. Studies are left "
            "out by which a model twice as deep, or with an MLP twice as wide, is worse by "
            f"{WORSE:g} nats after a trillion tokens than the one inside it "
            "(`scaling/evidence/refuted_studies.py`): about one in twenty.",
            _table(
                ["non-embedding N", "median", "90 %"],
                [
                    [f"{n:.2g}", f"{mid:.0f}", f"{low:.0f} to {high:.0f}"]
                    for n, (low, mid, high) in zip(_SIZES, depth, strict=True)
                ],
            ),
            "![Best depth against size, with shipped models](figures/depth.png)",
            _table(["shipped model", "non-embedding N", "layers", "90 % of best depth"], of_models),
        ]
    )


def _shape(sheet: Mapping[str, Any], law: EvidenceLaw) -> str:
    rows, drawn = [], {}
    for parameter, names in _TOLD.items():
        new = np.quantile(law.theta[:, PARAMETERS.index(parameter)], [0.05, 0.5, 0.95]).tolist()
        found = {
            name: sheet["by_study"][name][parameter] for name in names if name in sheet["by_study"]
        }
        rows.append([f"**{parameter}**", "a new study", _span(new)])
        rows += [["", _FIGURE_NAMES.get(name, name), _span(ends)] for name, ends in found.items()]
        drawn[parameter] = {"a new study": new, **found}
    forest_figure(drawn, FOLDER / "figures" / "forest.png")
    return "\n\n".join(
        [
            "Median and 90 % interval; a new study carries what differs between studies. Names are "
            "those of `scaling/evidence/study_law.py`.",
            "![Parameters by study](figures/forest.png)",
            _table(["parameter", "study", "value"], rows),
        ]
    )


def _held_out(sheet: Mapping[str, Any], scores: Mapping[str, Any]) -> list[str]:
    """Tables of what populations foretell of the sources they have not seen."""
    if not scores:
        return []
    families = dict.fromkeys(one["family"] for one in sheet["studies"])
    missing = [family for family in families if family not in scores["draws"]]
    thin = min(scores["draws"], key=lambda name: scores["draws"][name]["fewest_effective"])
    worst = scores["draws"][thin]["fewest_effective"]
    parts = [
        "## Left out",
        "Every figure of this section is of a population that has not seen the source: studies of "
        "one source are left out together. `python -m benchmarks.evidence --json` prints them; the "
        f"populations' fewest effective draws are {worst:.0f} of 250 (without {thin})."
        + (f" Not scored in the run that is shown: {', '.join(missing)}." if missing else ""),
        "Differences between shapes at about equal N and D, level refitted: root mean square in % "
        "of ln L, its ratio to no shape at all, and how many of the 90 % intervals hold (shape of "
        "a new study, noise of the study's own runs). `same size` takes sizes within a factor of "
        "1.6 together, where the level's error in N counts too.",
    ]
    rows = []
    for label, words in (("equal_n", "equal N"), ("same_size", "same size")):
        one = scores["shape"][label]
        rows += [
            [
                words,
                family,
                f"{found['rmse_percent']:.3f}",
                f"{found['no_shape_percent']:.3f}",
                f"{found['ratio']:.2f}",
                f"{found['coverage']:.0%}",
                f"{found['differences']:.0f}",
            ]
            for family, found in one["families"].items()
        ]
        rows.append(
            [
                words,
                "**mean**",
                "",
                "",
                f"**{one['ratio_geometric_mean']:.2f}**",
                f"**{one['coverage_mean']:.0%}**",
                "",
            ]
        )
    head = ["groups", "left out", "RMSE", "no shape", "ratio", "coverage", "differences"]
    parts.append(_table(head, rows))
    pairs = scores.get("published_pairs_without_gemstones", [])
    parts.append(
        "Pairs of Gemstones at equal N, of which the second was measured better, by the population "
        "without Gemstones: "
        + "; ".join(f"{one['pair']} {one['probability_second_better']:.0%}" for one in pairs)
        + "."
    )
    depths = scores["accuracy_by_depth"]
    parts.append(
        "Accuracy by depth (`mobilellm_depth`, in no fit): "
        + "; ".join(
            f"{family}: Spearman of −loss and accuracy {one['spearman']:.2f}, best depth "
            f"{one['best_depth']:.0f} by the law and {one['best_of_table']} among the table's"
            for family, one in depths.items()
        )
        + "."
    )
    few = scores.get("few_shot")
    if few:
        few_shot_figure(few, FOLDER / "figures" / "few_shot.png")
        rows = []
        for table in next(iter(few.values()))["tables"]:
            found = [of_count["tables"][table] for of_count in few.values()]
            rows.append(
                [table]
                + [f"{100 * one['error']:.2f}" for one in found]
                + [f"{one['ratio']:.2f}" for one in found]
                + [f"{one['coverage']:.0%}" for one in found]
            )
        means = [of_count["ratio_geometric_mean"] for of_count in few.values()]
        covers = [of_count["coverage_mean"] for of_count in few.values()]
        rows.append(
            ["**mean**", *[""] * len(few)]
            + [f"**{value:.2f}**" for value in means]
            + [f"**{value:.0%}**" for value in covers]
        )
        head = ["table"] + [
            f"{what}, {count}" for what in ("error %", "ratio", "coverage") for count in few
        ]
        parts += [
            "### Few runs",
            f"From 4, 8 and 16 rows at random among the cheapest 60 % of compute "
            f"({scores['repetitions']} times), the dearest 20 % predicted: mean |Δ ln L|; its "
            "ratio to the better of Chinchilla's form and one with a depth optimum, both with weak "
            "priors (dashed in the figure); coverage of 90 % intervals.",
            "![Few runs](figures/few_shot.png)",
            _table(head, rows),
        ]
    return parts


_UNKNOWN = """- No study varied the attention's width against the model's: its cost is a prior.
  Four shapes of one size with attention half, equal and twice as wide as the model would tell.
- GQA was told apart by tiny models and three models of 1B only; its sign is open. Groups of 1, 4
  and 8 at equal N and 1e8 parameters, two seeds each, would tell.
- The best ratio of MLP to attention parameters rests on the same two sources. Ratios of 1, 2, 4 and
  8 at equal N, depth and 1e8 parameters would tell.
- The gain of immediate sharing rests on this project's tiny models and one paper. At equal N: one
  stack once, the same applied twice, and distinct blocks of that depth, at 1e8 parameters.
- The best depth below 1e7 parameters is extrapolated from larger studies and from this project's
  own; it is unknown within a factor of three or more.
- The level of loss differs between corpora and tokenizers: compare differences, or give one run of
  your own."""


def text(sheet: Mapping[str, Any], scores: Mapping[str, Any]) -> str:
    """The whole page; writes its figures."""
    (FOLDER / "figures").mkdir(exist_ok=True)
    law, population = evidence_law(), shipped_population()
    level = [
        [
            parameter,
            f"{population.mean[:, i].mean():.2f} ± {population.mean[:, i].std():.2f}",
            f"{population.spread[:, i].mean():.2f}",
        ]
        for i, parameter in enumerate(PARAMETERS[:7])
    ]
    parts = [
        "# The pooled evidence",
        "A population of studies, fitted jointly to public tables, published figures and this "
        "project's own runs. `python -m benchmarks.evidence.rebuild` fits it anew, `python -m "
        "benchmarks.evidence.readme` writes this page, `python -m benchmarks.evidence --json` "
        "scores it with each source left out. The tables themselves are not part of the project.",
        "## Studies",
        _studies(sheet),
        "`mobilellm_depth` (arXiv 2402.14905, table 11) enters no fit: it is a check.",
        _quality(sheet),
        "## Best depth",
        _depths(law),
        "## Shape, by study",
        _shape(sheet, law),
        "## Level, between studies",
        _table(["parameter", "mean of the population", "spread between studies"], level),
        *_held_out(sheet, scores),
        "## What is unknown, and which runs would tell",
        _UNKNOWN,
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the page."""
    sheet = json.loads((FOLDER / "data_sheet.json").read_text(encoding="utf-8"))
    kept = FOLDER / "scores.json"
    scores = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    with replacing(FOLDER / "README.md") as temporary:
        temporary.write_text(text(sheet, scores), encoding="utf-8")


if __name__ == "__main__":
    main()
