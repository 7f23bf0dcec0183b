"""Steps from a point of a grid to the points next to it, for spaces too large to enumerate."""

import itertools
from functools import cached_property

import numpy as np

from shapelaw.search.space.grid import AXES, Grid

_SHORT = 8
"""Axes with up to this many values are stepped through entirely."""

_LONG_STEPS = (8, 32)
"""Steps with which two long axes are also moved against each other."""

_LONG = 64


class Neighbours:
    """The neighbourhood: one axis by powers of two, or two axes by one step each.

    Where a step leaves d_model not divisible, d_model moves on to the next value that divides.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.lengths = np.array(grid.shape)
        self.varying = [axis for axis, length in enumerate(grid.shape) if length > 1]

    @cached_property
    def _valid_bases(self) -> np.ndarray:
        """[d_model, head_dim, gqa_group, attention_width]: which combinations are models."""
        grid = self.grid
        d_model, head_dim, group, width = np.meshgrid(
            *(np.arange(length) for length in grid.shape[:4]), indexing="ij"
        )
        _, _, valid = grid.heads(
            grid.d_model[d_model],
            grid.head_dim[head_dim],
            grid.gqa_group[group],
            None if grid.attention_width is None else grid.attention_width[width],
        )
        return np.asarray(valid)

    @cached_property
    def _above(self) -> np.ndarray:
        """Least valid d_model index at or above each; the axis length where there is none."""
        valid, length = self._valid_bases, self.grid.shape[0]
        index = np.where(valid, np.arange(length)[:, None, None, None], length)
        return np.minimum.accumulate(index[::-1], axis=0)[::-1].astype(np.int32)

    @cached_property
    def _below(self) -> np.ndarray:
        """Greatest valid d_model index at or below each; -1 where there is none."""
        index = np.where(self._valid_bases, np.arange(self.grid.shape[0])[:, None, None, None], -1)
        return np.maximum.accumulate(index, axis=0).astype(np.int32)

    def settle(self, points: np.ndarray, upward: np.ndarray | None = None) -> np.ndarray:
        """Points [n, axes] with d_model moved to a value that divides; those without one left out.

        Args:
            upward: [n] 1 to look up, -1 to look down, 0 for the nearer of the two.
        """
        at = tuple(points[:, :4].T)
        above, below = self._above[at].astype(np.int64), self._below[at].astype(np.int64)
        length = self.grid.shape[0]
        here = points[:, 0]
        nearer_above = (above < length) & ((below < 0) | (above - here <= here - below))
        chosen = np.where(nearer_above, above, below)
        if upward is not None:
            chosen = np.where(upward > 0, above, np.where(upward < 0, below, chosen))
        settled = points.copy()
        settled[:, 0] = chosen
        return settled[(chosen >= 0) & (chosen < length)]

    @cached_property
    def steps(self) -> np.ndarray:
        """[moves, axes]: the differences that make the neighbourhood."""
        moves: dict[tuple[int, ...], None] = {}

        def add(*changes: tuple[int, int]) -> None:
            move = [0] * len(AXES)
            for axis, by in changes:
                move[axis] = by
            moves[tuple(move)] = None

        for axis in self.varying:
            length = int(self.lengths[axis])
            sizes = (
                range(1, length)
                if length <= _SHORT
                else [2**power for power in range(length.bit_length()) if 2**power < length]
            )
            for size in sizes:
                add((axis, size))
                add((axis, -size))
        for first, second in itertools.combinations(self.varying, 2):
            for a, b in itertools.product((-1, 1), repeat=2):
                add((first, a), (second, b))
            if min(self.lengths[first], self.lengths[second]) >= _LONG:
                for a, b in itertools.product(_LONG_STEPS, repeat=2):
                    add((first, a), (second, -b))
                    add((first, -a), (second, b))
        return np.array(list(moves), dtype=np.int64).reshape(-1, len(AXES))

    def of(self, points: np.ndarray) -> np.ndarray:
        """All neighbours of points [n, axes], as [m, axes]; repeats are possible."""
        moved = (points[:, None, :] + self.steps[None, :, :]).reshape(-1, len(AXES))
        direction = np.tile(np.sign(self.steps[:, 0]), len(points))
        inside = ((moved >= 0) & (moved < self.lengths)).all(axis=1)
        return self.settle(moved[inside], direction[inside])

    def random(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Points spread over the space [m <= count, axes]."""
        return self.settle(generator.integers(0, self.lengths, (count, len(AXES))))

    def mixed(self, parents: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
        """Children of random pairs of parents: each axis from either, now and then a new value."""
        pairs = generator.integers(0, len(parents), (2, count))
        from_first = generator.random((count, len(AXES))) < 0.5
        children = np.where(from_first, parents[pairs[0]], parents[pairs[1]])
        anew = generator.random((count, len(AXES))) < 0.1
        fresh = generator.integers(0, self.lengths, (count, len(AXES)))
        return self.settle(np.where(anew, fresh, children))
