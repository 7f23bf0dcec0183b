"""Synthetic truths: laws whose truth is known, to hold the search's claims against."""

import dataclasses

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.decision import decide
from shapelaw.search.pareto.feasibility import joint_draws
from shapelaw.search.pareto.problem import Columns, Points, Problem, parse_objectives
from shapelaw.search.space.space import Range, Space

SPACE = Space(
    name="calibration",
    d_model=Range(256, 1024, 64),
    n_blocks=[6, 12, 24],
    sharing=[1, 2],
    gqa_group=[1, 2, 4],
    mlp_attention_ratio=Range(0.5, 6, factor=1.15),
)


@dataclasses.dataclass
class SyntheticLaw:
    """A bowl in shape around an optimum, as its five parameters say; draws of those parameters."""

    theta: np.ndarray
    draws: np.ndarray
    label: str = "synthetic"

    @staticmethod
    def of(theta: np.ndarray, a: ArchitectureBatch) -> np.ndarray:
        """[k, 5] parameters and [n] shapes to losses [k, n]."""
        r = np.log(a.mlp_attention_ratio)[None, :]
        aspect = np.log(a.d_model / a.depth)[None, :]
        size = np.log(a.non_embedding_parameters)[None, :]
        best_r, best_aspect, sharing, group, level = theta.T[:, :, None]
        waste = 0.05 * (r - best_r) ** 2 + 0.03 * (aspect - best_aspect) ** 2
        return (
            3
            + level
            - 0.1 * (size - 16)
            + waste
            - sharing * np.log(a.sharing)[None, :]
            + group * np.log(a.gqa_group)[None, :]
        )

    def loss(self, architectures: ArchitectureBatch, tokens: object) -> np.ndarray:
        return self.of(self.theta[None, :], architectures)[0]

    def loss_draws(
        self,
        architectures: ArchitectureBatch,
        tokens: object,
        draws: int | np.ndarray | None = None,
    ) -> np.ndarray:
        whole = draws is None or isinstance(draws, int)
        return self.of(self.draws[:draws] if whole else self.draws[draws], architectures)

    def interval(
        self, architectures: ArchitectureBatch, tokens: object, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        middle = self.loss(architectures, tokens)
        return middle - 0.1, middle + 0.1

    def extrapolated(self, architectures: ArchitectureBatch, tokens: object) -> list[dict]:
        return [{} for _ in range(len(architectures))]


def no_cost(
    architectures: ArchitectureBatch, weight_bits: np.ndarray, wanted: object = ()
) -> Columns:
    return {
        name: np.ones(len(architectures))
        for name in (
            "decode_s",
            "decode_tokens_per_s",
            "prefill_s",
            "ttft_s",
            "memory_bytes",
            "energy_per_token_j",
        )
    }


# Spread of truths, and of estimates around them: from shapes that differ plainly to hardly.
PRIOR = np.array([0.6, 0.8, 0.03, 0.02, 0.1])
MIDDLE = np.array([0.5, 4.0, 0.03, 0.02, 0.0])


def repetition(noise: float, seed: int) -> tuple[float, bool]:
    """One synthetic truth, measured with noise: (how sure the pick is, whether it is right)."""
    generator = np.random.default_rng(seed)
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    fits = np.flatnonzero(batch.non_embedding_parameters < 6e7)
    rivals = Points(batch.take(fits), bits[fits], {}, fits)
    truth = MIDDLE + PRIOR * generator.standard_normal(5)
    spread = noise * PRIOR
    estimate = truth + spread * generator.standard_normal(5)
    draws = estimate + spread * generator.standard_normal((400, 5))
    law = SyntheticLaw(estimate, draws)
    problem = Problem(law, no_cost, Budget(tokens=1e9), parse_objectives(None))
    pick = int(np.argmin(law.loss(rivals.architectures, 1e9)))
    sure = decide(problem, rivals, joint_draws(problem, rivals), pick, 0.9)
    best = int(np.argmin(SyntheticLaw.of(truth[None, :], rivals.architectures)[0]))
    return sure.probability_best, best == pick


# Spread of the fitted law's truths, in the logarithm of each parameter.
FITTED_SPREAD = {"x_opt": 0.4, "r_opt": 0.5, "c_x": 0.3, "c_r": 0.3}
_RUNS = 48


def fitted_repetition(
    base: Law, noise: float, seed: int, bootstrap: int = 200
) -> tuple[float, bool]:
    """A truth near `base` (conditional form), runs of it with noise, our own fit, and a pick by it.

    Args:
        noise: standard deviation of one run's log loss.

    Returns how sure the pick is and whether it is right.
    """
    generator = np.random.default_rng(seed)
    shapes, bits = next(iter(SPACE.enumerate(10**6)))
    unshared = np.flatnonzero(shapes.sharing == 1)
    shapes, bits = shapes.take(unshared), bits[unshared]
    truth = dataclasses.replace(
        base,
        parameters={
            name: value
            * float(np.exp(FITTED_SPREAD.get(name, 0.0) * generator.standard_normal()))
            * (4.0 if name == "c_r" else 1.0)  # as published, r hardly matters: make it matter
            for name, value in base.parameters.items()
        },
    )
    a = shapes.take(generator.choice(len(shapes), _RUNS, replace=False))
    n = np.asarray(a.non_embedding_parameters, dtype=float)
    tokens = n * generator.choice([10, 20, 40, 80], _RUNS)
    loss = truth.loss(a, tokens) * np.exp(noise * generator.standard_normal(_RUNS))
    table = RunTable(
        n=n,
        d=tokens,
        loss=loss,
        run=np.array([f"run {row}" for row in range(_RUNS)]),
        count="non_embedding",
        shape={"n_layers": np.asarray(a.depth, dtype=float)}
        | {
            name: np.asarray(getattr(a, name), dtype=float)
            for name in ("d_model", "d_ff", "n_heads", "n_kv_heads", "head_dim")
        },
    )
    law = fit_law(table, form="conditional", bootstrap=bootstrap, holdout=False, seed=seed).law
    fits = np.flatnonzero(shapes.non_embedding_parameters < 6e7)
    rivals = Points(shapes.take(fits), bits[fits], {}, fits)
    problem = Problem(law, no_cost, Budget(tokens=1e9), parse_objectives(None))
    pick = int(np.argmin(law.loss(rivals.architectures, 1e9)))
    sure = decide(problem, rivals, joint_draws(problem, rivals), pick, 0.9)
    return sure.probability_best, pick == int(np.argmin(truth.loss(rivals.architectures, 1e9)))
