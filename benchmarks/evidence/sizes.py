"""How far do a study's small sizes foretell the shape of its large ones?

    python -m benchmarks.evidence.sizes

Each study with shapes at several sizes is cut in two by size. The population and the smaller half
give draws of the study; `carry` loosens their shape by a correlation; differences of ln L at about
equal N and D in the larger half, at the study's own level, are then told with intervals. The
correlation at ten times the size by which they are as wide as they should be, over the studies, is
`shapelaw.scaling.evidence.carried_shape.KEPT`: the draws at the larger sizes are those of `carry`,
less its new level. The population has seen the studies, which makes it look better than it is.
"""

import dataclasses

import numpy as np

from benchmarks.evidence.scores import equal_groups, exponent, level_refit, with_exponent
from benchmarks.evidence.studies import Study, all_studies
from benchmarks.evidence.study_draws import thinned
from shapelaw.results.evidence.shipped_evidence import shipped_population
from shapelaw.scaling.evidence.carried_shape import carry
from shapelaw.scaling.evidence.conditioning import condition_both
from shapelaw.scaling.evidence.study_law import LEVEL, level_log_loss, of_draws, shape_penalty
from shapelaw.scaling.evidence.study_population import ROW_NOISE, RUN_NOISE

STUDIES = ("gemstones", "morph", "reference")
TRIED = (1.0, 0.97, 0.95, 0.9, 0.8, 0.7, 0.5, 0.3)
EQUAL_N = {"gemstones": 0.12, "morph": 0.12, "reference": 0.06}


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """One study's larger half, and draws of the study by its smaller half."""

    study: Study
    large: Study
    factor: float
    """Between the middle sizes of the halves."""
    theta: np.ndarray
    member: np.ndarray


def cut(study: Study, seed: int = 0) -> Cut:
    """Cut at the middle of its sizes."""
    study = thinned(study)
    ln_n = study.runs.features["ln_n"]
    middle = 0.5 * (ln_n.min() + ln_n.max())
    small = study.take(np.flatnonzero(ln_n < middle))
    large = study.take(np.flatnonzero(ln_n >= middle))
    theta, member = condition_both(shipped_population(), small.runs, seed=seed)
    sizes = (each.runs.features["ln_n"].mean() for each in (large, small))
    return Cut(study, large, float(np.exp(next(sizes) - next(sizes))), theta, member)


def misses(one: Cut, kept: float) -> np.ndarray:
    """Errors of differences at equal N and D, in stated standard deviations."""
    population, runs = shipped_population(), one.large.runs
    correlation = kept ** np.log10(one.factor)
    theta = carry(population, one.theta, one.member, float(correlation), np.random.default_rng(0))
    middle = one.theta.mean(axis=0, keepdims=True)
    point = level_refit(one.large, population, lambda alpha: _penalty(one, middle, alpha)[0])
    values = dict(zip(LEVEL, point, strict=True))
    alpha = exponent(values)
    told = level_log_loss(np, values.__getitem__, runs.features, _penalty(one, theta, alpha))
    noise = np.hypot(np.exp(theta[:, ROW_NOISE]), np.exp(theta[:, RUN_NOISE]))
    found = []
    for rows in equal_groups(one.large, EQUAL_N[one.study.name]):
        gaps = told[:, rows] - told[:, rows].mean(axis=1, keepdims=True)
        seen = runs.log_loss[rows] - runs.log_loss[rows].mean()
        spread = np.sqrt(gaps.var(axis=0) + 2 * np.median(noise) ** 2 / runs.weight[rows])
        found.append((seen - gaps.mean(axis=0)) / spread)
    return np.concatenate(found)


def _penalty(one: Cut, theta: np.ndarray, alpha: float) -> np.ndarray:
    fixed = of_draws(with_exponent(theta, alpha))
    return np.asarray(shape_penalty(np, fixed, one.large.runs.features))


def main() -> None:
    """Print the root mean square of misses and the share within 1.645, by study and correlation."""
    cuts = [cut(study) for study in all_studies() if study.name in STUDIES]
    for one in cuts:
        print(f"{one.study.name}: factor {one.factor:.1f}, {len(one.large)} rows")
    print(f"{'kept at x10':12}" + "".join(f"{one.study.name:>18}" for one in cuts) + "   of all")
    for kept in TRIED:
        found = [misses(one, kept) for one in cuts]
        cells = [f"{np.sqrt(np.mean(z**2)):8.2f} {np.mean(np.abs(z) < 1.645):9.2f}" for z in found]
        inside = np.mean([np.mean(np.abs(z) < 1.645) for z in found])
        print(f"{kept:<12}" + "".join(cells) + f"  {inside:.2f}")


if __name__ == "__main__":
    main()
