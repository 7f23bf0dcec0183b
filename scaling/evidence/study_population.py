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

N_LEVEL, N_SHAPE, N_ALL = len(LEVEL), len(SHAPE), len(PARAMETERS)
ROW_NOISE, RUN_NOISE = N_ALL, N_ALL + 1
"""Places in a study's parameters of ln(noise of a row) and ln(noise of a run)."""
NO_RUN_NOISE = -30.0
"""ln(noise of a run) where runs have one row each: the row's noise is then all there is."""


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

    def level_factors(self, *, unit_known: bool) -> np.ndarray:
        """[K, level, level] Cholesky factors of the scale of the Student t of level parameters."""
        factors = self.spread[:, :N_LEVEL, None] * self.correlation
        if unit_known:
            return factors
        scale = factors @ factors.transpose(0, 2, 1)
        scale[:, 0, 0] += UNIT**2
        return np.linalg.cholesky(scale)

    def others(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread [K, p + 2 - level] of what is independent and normal: shape and noise."""
        mean = np.concatenate([self.mean[:, N_LEVEL:], self.noise[:, [0, 2]]], axis=1)
        spread = np.concatenate([self.spread[:, N_LEVEL:], self.noise[:, [1, 3]]], axis=1)
        return mean, spread

    def new_studies(
        self, count: int, generator: np.random.Generator, *, unit_known: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Parameters [count, p + 2] of new studies and the draw each comes from, [count].

        The last two parameters are ln(noise of a row) and ln(noise of a run). `unit_known` says
        that loss is in nats a token.
        """
        member = np.arange(count) % len(self)
        z = generator.standard_normal((count, N_ALL + 2))
        chi = generator.gamma(FREEDOM / 2, 2 / FREEDOM, count)
        z[:, :N_LEVEL] /= np.sqrt(chi)[:, None]
        factors = self.level_factors(unit_known=unit_known)[member]
        level = self.mean[member, :N_LEVEL] + np.einsum("kij,kj->ki", factors, z[:, :N_LEVEL])
        mean, spread = self.others()
        return np.concatenate([level, mean[member] + spread[member] * z[:, N_LEVEL:]], 1), member


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
