"""The joint density of studies and population says what its parts say one by one."""

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.evidence.joint import Families, joint_blocks
from benchmarks.evidence.studies import Study
from benchmarks.evidence.study_likelihood import own_parameters, row_likelihood
from shapelaw.scaling.evidence.conditioning import Runs
from shapelaw.scaling.evidence.study_features import plain_features

PLACE = np.array([1.2, 0.1, -0.2, -1.3, -1.0, 0.03, 0.4, 2.6, 0.3, 0.3, 0.8, -0.4, 0.05, -0.2, 0.5,
                  0.25, 0.4, -0.4, -1.6, -5.0, -5.5])  # fmt: skip


def study(name: str, family: str, rows: int, *, a_run: int = 1, shape: bool = False) -> Study:
    generator = np.random.default_rng(len(name))
    features = plain_features(rows)
    features["ln_n"] = np.log(1e8) + generator.normal(size=rows)
    features["ln_d"] = np.log(2e9) + generator.normal(size=rows)
    if shape:
        features["ln_depth"], features["has_depth"] = generator.uniform(1, 3, rows), np.ones(rows)
    loss = 1.2 - 0.1 * generator.normal(size=rows)
    runs = Runs(features, loss, np.arange(rows) // a_run, generator.integers(1, 4, rows) * 1.0)
    return Study(name, family, "", runs, shape)


STUDIES = (
    study("one", "alone", 12),
    study("three", "pair", 14),
    study("threes", "pair", 15, a_run=4),
    study("morphs", "morph", 20, shape=True),
    study("gemstones", "gemstones", 18, a_run=3, shape=True),
)


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    import jax

    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def theta() -> np.ndarray:
    return PLACE + 0.1 * np.random.default_rng(0).standard_normal((len(STUDIES), len(PLACE)))


def test_rows_of_all_studies_at_once_are_as_likely_as_one_by_one(theta: np.ndarray) -> None:
    """One run of four rows has two rows of three left: runs of several sizes stand together."""
    together = np.asarray(row_likelihood(STUDIES)(theta))
    alone = [
        one.runs.log_likelihood(values[None])[0] for one, values in zip(STUDIES, theta, strict=True)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-10)


def test_every_parameter_of_a_study_stands_once_in_its_family_block() -> None:
    families = Families(STUDIES)
    assert families.names == ["alone", "pair", "morph", "gemstones"]
    width = families.own.shape[1]
    used = np.concatenate([families.place[families.place >= 0], families.mean_level[1]])
    assert len(set(used.tolist())) == len(used) == families.own.sum()
    for place, one in zip(families.place, STUDIES, strict=True):
        assert np.all(np.flatnonzero(place >= 0) == own_parameters(one))
        assert set(place[place >= 0] // width) == {families.names.index(one.family)}


def test_families_are_independent_given_the_population() -> None:
    """Moving one family changes its own density and likelihood and no other's."""
    families = Families(STUDIES)
    blocks, _ = joint_blocks(families)
    start, middle, _ = blocks.start
    moved = middle.copy()
    moved[1][families.own[1]] += 0.05
    for density in (lambda x: blocks.log_given(start[0], x), blocks.log_likelihood):
        change = np.asarray(density(moved) - density(middle))
        assert np.all(np.isfinite(change))
        assert np.flatnonzero(change).tolist() == [1]
    # A level farther from the population is less likely by it.
    far = middle.copy()
    far[0, 0] += 5.0
    given = [np.asarray(blocks.log_given(start[0], x))[0] for x in (middle, far)]
    assert given[1] < given[0] - 1
