"""The population of studies: draws of what studies have in common and how they differ.

Each draw is one belief about the population: means, spreads and correlations of the parameters of
studies. A new study is a draw from it: its level from a multivariate Student t with five degrees of
freedom, its shape parameters independent and normal.
"""

import dataclasses
from pathlib import Path

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.study_law import LEVEL, PARAMETERS, SHAPE

FREEDOM = 5.0
"""Degrees of freedom of the Student t that levels of studies follow."""
UNIT = 0.6
"""Spread of ln L by tokenizer and unit (nats a token, bits a byte), for tables of unknown unit."""

N_LEVEL, N_SHAPE = len(LEVEL), len(SHAPE)
STATE = N_LEVEL + N_SHAPE + 3
"""Standardised coordinates of a study: level, shape, ln noise, ln noise of a run, unit."""


@dataclasses.dataclass(frozen=True, eq=False)
class Population:
    """K draws."""

    mean: np.ndarray
    """[K, p], in the order of PARAMETERS."""
    spread: np.ndarray
    """[K, p] standard deviations between studies."""
    correlation: np.ndarray
    """[K, level, level] Cholesky factors of the correlation of level parameters."""
    noise: np.ndarray
    """[K, 4] mean and spread of ln(noise of a row), mean and spread of ln(noise of a run)."""

    def __len__(self) -> int:
        return len(self.mean)

    def study(self, state: np.ndarray, member: np.ndarray) -> np.ndarray:
        """Parameters of studies [k, p + 2] from coordinates [k, STATE]; the last two are noise.

        Args:
            member: the draw each study comes from, [k].
        """
        level = np.einsum(
            "kij,kj->ki",
            self.spread[member, :N_LEVEL, None] * self.correlation[member],
            state[:, :N_LEVEL],
        )
        shape = self.spread[member, N_LEVEL:] * state[:, N_LEVEL : N_LEVEL + N_SHAPE]
        theta = self.mean[member] + np.concatenate([level, shape], axis=1)
        theta[:, 0] += UNIT * state[:, -1]
        noise = self.noise[member]
        spreads = noise[:, [0, 2]] + noise[:, [1, 3]] * state[:, -3:-1]
        return np.concatenate([theta, spreads], axis=1)

    def new_studies(
        self, count: int, generator: np.random.Generator, *, unit_known: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates [count, STATE] of new studies and the draw each comes from."""
        state = generator.standard_normal((count, STATE))
        scale = generator.gamma(FREEDOM / 2, 2 / FREEDOM, count)
        state[:, :N_LEVEL] /= np.sqrt(scale)[:, None]
        if unit_known:
            state[:, -1] = 0.0
        return state, np.arange(count) % len(self)


def log_prior(state: np.ndarray) -> np.ndarray:
    """Log density [k] of coordinates, up to a constant."""
    level = np.sum(state[:, :N_LEVEL] ** 2, axis=1)
    rest = np.sum(state[:, N_LEVEL:] ** 2, axis=1)
    return -0.5 * (FREEDOM + N_LEVEL) * np.log1p(level / FREEDOM) - 0.5 * rest


_ARRAYS = ("mean", "spread", "correlation", "noise")


def write_population(population: Population, path: Path) -> None:
    """Write draws as a .npz of float32 arrays, equal to the last byte for equal draws."""
    from shapelaw.scaling.atomic_files import replacing

    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays = {name: getattr(population, name).astype(np.float32) for name in _ARRAYS}
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_population(path: Path) -> Population:
    """Read draws; nothing is unpickled.

    Raises:
        BadInput: not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name].astype(float) for name in _ARRAYS}
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"evidence = {path}: not a file of draws ({error})") from None
    if arrays["mean"].ndim != 2 or arrays["mean"].shape[1] != len(PARAMETERS):
        raise BadInput(f"evidence = {path}: {len(PARAMETERS)} parameters a draw are needed")
    return Population(**arrays)
