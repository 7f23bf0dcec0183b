"""Rebuild what ships, the draws and the data sheet: `python -m benchmarks.evidence.rebuild`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.evidence.posterior import Posterior, sample
from benchmarks.evidence.studies import ROOT, Study, all_studies
from shapelaw.scaling.evidence.study_law import PARAMETERS
from shapelaw.scaling.evidence.study_population import write_population

FOLDER = ROOT / "results" / "evidence"
WARMUP, DRAWS, CHAINS, SEED, TREE_DEPTH = 400, 500, 2, 0, 7


def ranges(studies: Sequence[Study]) -> dict[str, list[float]]:
    """Axis -> least and most that any study that tells it has seen."""
    found: dict[str, list[float]] = {}

    def widen(axis: str, values: np.ndarray) -> None:
        if len(values):
            low, high = found.get(axis, [np.inf, -np.inf])
            found[axis] = [min(low, float(values.min())), max(high, float(values.max()))]

    for study in studies:
        features = study.runs.features
        widen("N", np.exp(features["ln_n"]))
        widen("tokens", np.exp(features["ln_d"]))
        known = features["has_depth"] > 0
        repeated = features["repeated"]
        layers = np.exp(features["ln_depth"]) * (
            1 - repeated + repeated * np.exp(features["ln_sharing"])
        )
        widen("depth", layers[known])
        widen(
            "mlp_attention_ratio", np.exp(features["ln_mlp_ratio"][features["has_mlp_ratio"] > 0])
        )
        if study.shape:
            widen("gqa_group", np.exp(features["ln_gqa"]))
            widen("sharing", np.exp(features["ln_sharing"]))
            widen("attention_width", np.exp(features["ln_attention_width"]))
    return {axis: [float(f"{value:.4g}") for value in ends] for axis, ends in found.items()}


def data_sheet(studies: Sequence[Study], posterior: Posterior) -> dict[str, object]:
    """What the draws come from: names, rows, ranges, licences; no rows."""
    return {
        "ranges": ranges(studies),
        "studies": [
            {
                "name": study.name,
                "family": study.family,
                "rows": len(study),
                "runs": int(study.runs.run.max()) + 1,
                "licence": study.licence,
                "tells_shape": study.shape,
                **{k: v for k, v in ranges([study]).items() if k in ("N", "tokens", "depth")},
            }
            for study in studies
        ],
        "nuts": {
            "warmup": WARMUP,
            "draws": DRAWS,
            "chains": CHAINS,
            "seed": SEED,
            "tree_depth": TREE_DEPTH,
            "steps_a_draw": posterior.steps,
            "diverging": posterior.diverging,
            "effective_draws": {k: round(v) for k, v in posterior.effective.items()},
            "r_hat": {k: round(v, 3) for k, v in posterior.r_hat.items()},
        },
        "by_study": {
            name: {
                parameter: [round(float(v), 4) for v in np.quantile(draws[:, i], [0.05, 0.5, 0.95])]
                for i, parameter in enumerate(PARAMETERS)
            }
            for name, draws in posterior.theta.items()
        },
    }


def main(folder: Path = FOLDER) -> None:
    """Fit and write."""
    studies = all_studies()
    posterior = sample(
        studies, warmup=WARMUP, draws=DRAWS, chains=CHAINS, seed=SEED, tree_depth=TREE_DEPTH
    )
    write_population(posterior.population, folder / "population.npz")
    sheet = json.dumps(data_sheet(studies, posterior), indent=1)
    (folder / "data_sheet.json").write_text(sheet + "\n", encoding="utf-8")
    print(folder, posterior.steps, posterior.diverging, posterior.effective)


if __name__ == "__main__":
    main()
