"""Fronts against the definition of dominance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapelaw.search.pareto.front import Front, hypervolume, nondominated, reference_point


def by_definition(objectives: np.ndarray, keys: np.ndarray) -> set[int]:
    """Keys no other point dominates; of equal points the least key."""
    kept = set()
    for row, point in enumerate(objectives):
        if np.isnan(point).any():
            continue
        better = (objectives <= point).all(axis=1) & (objectives < point).any(axis=1)
        equal_before = (objectives == point).all(axis=1) & (keys < keys[row])
        if not better.any() and not equal_before.any():
            kept.add(int(keys[row]))
    return kept


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 4), st.integers(1, 120), st.integers(0, 2**32 - 1), st.booleans())
def test_the_front_is_what_dominance_says_in_any_order(
    axes: int, count: int, seed: int, ties: bool
) -> None:
    generator = np.random.default_rng(seed)
    objectives = (
        generator.integers(0, 6, (count, axes)).astype(float)
        if ties
        else (generator.random((count, axes)))
    )
    objectives[generator.random(count) < 0.05, 0] = np.nan
    keys = generator.permutation(count)
    front = Front(axes)
    for chunk in np.array_split(generator.permutation(count), 7):
        front.offer(objectives[chunk], keys[chunk])
    assert set(front.keys.tolist()) == by_definition(objectives, keys)
    assert np.all(np.diff(front.objectives[:, 0]) >= 0)


def test_of_equal_points_the_earlier_stays() -> None:
    front = Front(2)
    front.offer(np.array([[1.0, 2.0]]), np.array([9]))
    front.offer(np.array([[1.0, 2.0], [2.0, 1.0]]), np.array([4, 5]))
    assert front.keys.tolist() == [4, 5]


def test_hypervolume_of_two_squares() -> None:
    points = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert hypervolume(points, np.array([2.0, 2.0])) == pytest.approx(3.0)
    assert hypervolume(points, np.array([0.0, 0.0])) == 0.0
    assert np.all(reference_point(points) > points.max(axis=0))
    assert nondominated(points, np.array([1, 0])).tolist() == [0, 1]
