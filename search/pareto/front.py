"""Pareto fronts: exact, kept as points arrive; and how much of the space they cover."""

import numpy as np

_PROBES = 48
"""Front points an arriving batch is held against before the full comparison, with 3 objectives."""


class Front:
    """The points no other point dominates, among all offered so far. Less is better throughout.

    Of points with equal objectives the one with the least key stays, whatever the order they are
    offered in.
    """

    def __init__(self, n_objectives: int) -> None:
        self.objectives = np.empty((0, n_objectives))
        """[front, objectives], by the first objective, rising."""
        self.keys = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def offer(self, objectives: np.ndarray, keys: np.ndarray) -> None:
        """Take in points [n, objectives] with their keys [n]. A NaN objective never enters."""
        open_rows = np.flatnonzero(~self.beaten(objectives))
        if not len(open_rows):
            return
        together = np.concatenate([self.objectives, objectives[open_rows]])
        all_keys = np.concatenate([self.keys, keys[open_rows]])
        kept = nondominated(together, all_keys)
        self.objectives, self.keys = together[kept], all_keys[kept]

    def beaten(self, objectives: np.ndarray) -> np.ndarray:
        """Points [n] that are NaN or that a front point dominates (not all such, beyond 2 axes)."""
        unusable: np.ndarray = np.isnan(objectives).any(axis=1)
        mine = self.objectives  # another thread may offer meanwhile: read it once
        if not len(mine):
            return unusable
        if objectives.shape[1] == 2:
            first, second = objectives.T
            at = np.searchsorted(mine[:, 0], first, side="right") - 1
            rival = mine[np.maximum(at, 0)]
            better = (rival[:, 1] < second) | ((rival[:, 1] == second) & (rival[:, 0] < first))
            return unusable | ((at >= 0) & better)
        probes = np.unique(np.linspace(0, len(mine) - 1, _PROBES).astype(int))
        for rival in mine[probes]:
            unusable |= (rival <= objectives).all(axis=1) & (rival < objectives).any(axis=1)
        return unusable


def nondominated(objectives: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Rows of the front, by their first objective; of equal rows the one with the least key."""
    import moocore

    # moocore keeps the first of equal rows.
    order = np.argsort(keys, kind="stable")
    kept = order[moocore.is_nondominated(np.ascontiguousarray(objectives[order]))]
    return kept[np.lexsort((keys[kept], objectives[kept, 0]))]


def hypervolume(objectives: np.ndarray, reference: np.ndarray) -> float:
    """Volume that points [n, objectives] dominate below the reference point; 0 for no points."""
    import moocore

    inside = objectives[(objectives < reference).all(axis=1)]
    if not len(inside):
        return 0.0
    return float(moocore.hypervolume(np.ascontiguousarray(inside), ref=reference))


def reference_point(objectives: np.ndarray) -> np.ndarray:
    """A point a tenth of the front's range beyond its worst value in each objective."""
    worst, best = objectives.max(axis=0), objectives.min(axis=0)
    span = np.where(worst > best, worst - best, np.maximum(np.abs(worst), 1.0))
    return np.asarray(worst + 0.1 * span)
