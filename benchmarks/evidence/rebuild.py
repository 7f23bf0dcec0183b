"""Rebuild what ships, the draws and the data sheet: `python -m benchmarks.evidence.rebuild`.

Draws of each study alone are made anew, unless --keep names a folder that has them.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.evidence.left_out import SETTINGS, fitted, own_draws
from benchmarks.evidence.posterior import Posterior
from benchmarks.evidence.studies import ROOT, Study, all_studies
from benchmarks.evidence.study_draws import StudyDraws
from shapelaw.scaling.evidence.study_law import PARAMETERS
from shapelaw.scaling.evidence.study_population import write_population

FOLDER = ROOT / "results" / "evidence"


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


def data_sheet(
    studies: Sequence[Study], posterior: Posterior, own: Mapping[str, StudyDraws]
) -> dict[str, object]:
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
            **SETTINGS,
            "steps_a_draw": posterior.steps,
            "diverging": posterior.diverging,
            "effective_draws": {k: round(v) for k, v in posterior.effective.items()},
            "r_hat": {k: round(v, 3) for k, v in posterior.r_hat.items()},
        },
        "studies_alone": {
            name: {
                "effective_draws": round(one.effective),
                "r_hat": round(one.r_hat, 3),
                "draws_the_population_uses": round(posterior.study_draws[name]),
            }
            for name, one in own.items()
        },
        "by_study": {
            name: {
                parameter: [round(float(v), 4) for v in np.quantile(draws[:, i], [0.05, 0.5, 0.95])]
                for i, parameter in enumerate(PARAMETERS)
            }
            for name, draws in posterior.theta.items()
        },
    }


def rebuild(keep: Path, folder: Path = FOLDER) -> None:
    """Fit and write; draws of studies alone are read from `keep` or kept there."""
    studies = all_studies()
    posterior = fitted(studies, keep)
    write_population(posterior.population, folder / "population.npz")
    sheet = json.dumps(data_sheet(studies, posterior, own_draws(studies, keep)), indent=1)
    (folder / "data_sheet.json").write_text(sheet + "\n", encoding="utf-8")
    worst = min(posterior.effective, key=lambda name: posterior.effective[name])
    print(
        f"{folder}: {posterior.steps:.0f} steps a draw, {posterior.diverging} divergent, fewest "
        f"effective {posterior.effective[worst]:.0f} ({worst}), largest r-hat "
        f"{max(posterior.r_hat.values()):.3f}"
    )


def main() -> None:
    """Fit anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder of studies' own draws")
    keep = parser.parse_args().keep
    if keep is not None:
        rebuild(keep)
        return
    with tempfile.TemporaryDirectory() as folder:
        rebuild(Path(folder))


if __name__ == "__main__":
    main()
