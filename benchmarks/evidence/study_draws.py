"""Draws of one study by itself, under a wide prior: the first of two stages (NUTS, NumPyro, JAX).

The population is fitted in a second stage, which weights these draws (Lunn et al. 2013): a study is
sampled once, whichever others are left out.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from benchmarks.evidence.priors import PRIORS, REFERENCE, USES
from benchmarks.evidence.studies import Study
from benchmarks.evidence.study_likelihood import own_parameters, thinned
from shapelaw.scaling.evidence.study_law import (
    INDEX,
    LEVEL,
    PARAMETERS,
    level_log_loss,
    log_loss,
    shape_penalty,
)

WARMUP, DRAWS, CHAINS, KEPT = 500, 1000, 4, 1000


@dataclasses.dataclass(frozen=True, eq=False)
class StudyDraws:
    """One study by itself."""

    own: np.ndarray
    """[q] numbers of the parameters its runs determine; p and p + 1 are ln noise of row and run."""
    values: np.ndarray
    """[k, q] draws."""
    log_reference: np.ndarray
    """[k] log density of the prior they were drawn under."""
    r_hat: float
    """The largest of any parameter."""
    effective: float
    """The fewest effective draws of any parameter."""


def _shares(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each run [runs], and the matrix [runs, rows] that averages over them."""
    run = study.runs.run
    rows = np.bincount(run)
    share = np.zeros((len(rows), len(run)))
    share[run, np.arange(len(run))] = 1 / rows[run]
    return rows, share


def least_squares_fit(study: Study, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Middle and root of covariance of the parameters `names`: coordinates to walk in."""
    at = np.array([INDEX[name] for name in names])
    middle, width = REFERENCE[0][at], REFERENCE[1][at]
    runs = study.runs
    root_weight = np.sqrt(runs.weight)
    rest = {name: PRIORS[name][0] for name in PARAMETERS}

    def errors(point: np.ndarray) -> np.ndarray:
        values = rest | dict(zip(names, point, strict=True))
        return np.asarray(
            (log_loss(np, values.__getitem__, runs.features) - runs.log_loss) * root_weight
        )

    def penalised(point: np.ndarray, spread: float) -> np.ndarray:
        return np.concatenate([errors(point) / spread, (point - middle) / width])

    start = middle.copy()
    start[0] = np.median(runs.log_loss)
    spread = 0.006
    for _ in range(2):
        start = least_squares(penalised, start, loss="soft_l1", args=(spread,)).x
        spread = max(1.5 * float(np.median(np.abs(errors(start)))), 0.0012)
    step = 1e-4
    jacobian = np.stack(
        [
            (errors(start + move) - errors(start - move)) / (2 * step)
            for move in step * np.eye(len(names))
        ],
        axis=1,
    )
    covariance = np.linalg.inv(jacobian.T @ jacobian / spread**2 + np.diag(1 / width**2))
    return start, np.linalg.cholesky(covariance)


def sample_study(study: Study, seed: int = 0) -> StudyDraws:
    """Draw from one study's posterior under REFERENCE: the same draws for the same arguments."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    import jax
    import jax.numpy as jnp
    import numpyro
    from numpyro.diagnostics import summary
    from numpyro.infer import MCMC, NUTS

    numpyro.enable_x64()
    study = thinned(study)
    names = [*LEVEL, *USES.get(study.family, ())]
    middle, root = least_squares_fit(study, names)
    rows, share = _shares(study)
    run = study.runs.run
    repeated = np.flatnonzero(rows > 1)
    own = own_parameters(study)
    count = len(names)
    y, root_weight = study.runs.log_loss, np.sqrt(study.runs.weight)
    freedom = (1 - 1 / rows[run]) * (rows[run] > 1) + (rows[run] == 1)
    several = (rows[run] > 1).astype(float)
    rest = np.array([PRIORS[name][0] for name in PARAMETERS])

    def values_of(z: Any) -> Any:
        return jnp.concatenate([middle + root @ z[:count], z[count:]])

    def log_reference(values: Any) -> Any:
        return jnp.sum(-0.5 * ((values - REFERENCE[0][own]) / REFERENCE[1][own]) ** 2, axis=-1)

    def log_density(z: Any) -> Any:
        values = values_of(z)
        theta = jnp.asarray(rest).at[own[:count]].set(values[:count])

        def value(name: str) -> Any:
            return theta[INDEX[name]]

        penalty = shape_penalty(jnp, value, study.runs.features) if study.shape else 0.0
        predicted = level_log_loss(jnp, value, study.runs.features, penalty)
        error = (y - predicted) * root_weight
        spread = jnp.exp(values[count])
        total = log_reference(values)
        if len(repeated):
            mean = share @ error
            variance = (jnp.exp(2 * values[count + 1]) + spread**2 / rows)[repeated]
            total += jnp.sum(
                -2.5 * jnp.log1p(mean[repeated] ** 2 / variance / 4) - 0.5 * jnp.log(variance)
            )
            error = error - several * mean[run]
        terms = -2.5 * jnp.log1p((error / spread) ** 2 / 4) - jnp.log(spread)
        return total + jnp.sum(freedom * terms)

    kernel = NUTS(potential_fn=lambda z: -log_density(z), dense_mass=True, max_tree_depth=8)
    chain = MCMC(
        kernel,
        num_warmup=WARMUP,
        num_samples=DRAWS,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    first = np.concatenate([np.zeros(count), np.full(len(own) - count, -5.0)])
    scattered = first + 0.5 * np.random.default_rng(seed).standard_normal((CHAINS, len(own)))
    chain.run(jax.random.PRNGKey(seed), init_params=jnp.asarray(scattered))
    found = jax.vmap(jax.vmap(values_of))(chain.get_samples(group_by_chain=True))
    told = summary({"values": np.asarray(found)})["values"]
    flat = np.asarray(found).reshape(-1, len(own))
    kept = flat[np.linspace(0, len(flat) - 1, KEPT).astype(int)]
    return StudyDraws(
        own,
        kept,
        np.asarray(log_reference(kept)),
        float(np.max(told["r_hat"])),
        float(np.min(told["n_eff"])),
    )


def kept_draws(study: Study, folder: Path) -> StudyDraws:
    """The study's draws, read from the folder where they were kept, else drawn and kept there."""
    path = folder / f"study-{study.name.replace(' ', '-')}.npz"
    if path.is_file():
        with np.load(path, allow_pickle=False) as stored:
            return StudyDraws(
                stored["own"],
                stored["values"],
                stored["log_reference"],
                float(stored["r_hat"]),
                float(stored["effective"]),
            )
    drawn = sample_study(study)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **dataclasses.asdict(drawn))
    return drawn
