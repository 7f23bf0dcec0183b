"""The shapes people choose today: LLaMA's proportions at any size, and families of small models."""

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.search.pareto.feasibility import probability
from shapelaw.search.pareto.problem import Points, Problem

FAMILIES = {
    "MobileLLM": ("mobilellm-",),
    "SmolLM2": ("smollm2-",),
    "Qwen3": ("qwen3-",),
    "Gemma 3": ("gemma-3-",),
    "LFM": ("lfm",),
}
"""Family -> how the names of its members begin (search/known_architectures.toml)."""

ASPECTS = (64, 96, 128)
"""d_model per layer of LLaMA-like models: 128 in LLaMA 7B to 65B and 3.2-1B, less in small ones."""

GROUPS = (1, 4)
"""LLaMA 2 7B has as many key-value heads as heads, LLaMA 3 has a quarter."""


def llama_like(vocab_size: int, tied: bool, widest: int = 16_384) -> list[Architecture]:
    """LLaMA's proportions from tiny to huge: d_ff = 8/3·d_model, unshared, full attention.

    Head size 64 below d_model 3072 and 128 from there on, as in LLaMA 3.2; smaller under 128.
    """
    widths = np.unique([*range(16, 128, 16), *range(128, 2048, 64), *range(2048, widest + 1, 256)])
    found: dict[Architecture, None] = {}
    for d_model in widths.tolist():
        head_dim = 16 if d_model < 128 else 64 if d_model < 3072 else 128
        n_heads = d_model // head_dim
        align = 64 if d_model >= 512 else 16
        for aspect in ASPECTS:
            for group in GROUPS:
                if n_heads % group:
                    continue
                found[
                    Architecture(
                        vocab_size=vocab_size,
                        d_model=d_model,
                        n_blocks=max(2, round(d_model / aspect)),
                        n_heads=n_heads,
                        n_kv_heads=n_heads // group,
                        head_dim=head_dim,
                        d_ff=max(align, round(8 / 3 * d_model / align) * align),
                        tied_embeddings=tied,
                    )
                ] = None
    return list(found)


def known_families() -> dict[str, dict[str, Architecture]]:
    """Family -> its members by name, those that the catalogue of architectures holds."""
    from shapelaw.search.architectures import known_names, load_architecture

    names = known_names()
    found = {}
    for family, prefixes in FAMILIES.items():
        members = [name for name in names if name.startswith(prefixes)]
        if members:
            found[family] = {name: load_architecture(name) for name in members}
    return found


def priced(problem: Problem, architectures: list[Architecture], bits: np.ndarray) -> Points:
    """Every shape at every precision."""
    batch = ArchitectureBatch.of(architectures)
    rows = np.repeat(np.arange(len(batch)), len(bits))
    return problem.evaluate(batch.take(rows), np.tile(bits, len(batch)))


def best_row(problem: Problem, points: Points, confidence: float) -> int:
    """Row of the best point that meets every budget with confidence; without one, the closest."""
    chance = probability(problem, points)
    goal = problem.price(points.columns, problem.goal)
    rows = np.flatnonzero(chance >= confidence)
    if len(rows):
        return int(rows[np.argmin(goal[rows])])
    misses = [limit.ratio(points.columns[limit.column]) for limit in problem.limits]
    return int(closest(chance, np.max(misses, axis=0)))


def closest(chance: np.ndarray, miss: np.ndarray) -> np.ndarray:
    """The row [...] of the shape that stands for those of which none meets the budgets.

    The likeliest to meet them; of equally likely ones, that which misses by least.

    Args:
        chance: probability [n, ...] that a shape meets every budget, or a count of draws.
        miss: the largest ratio [n, ...] of its middle costs to a budget.
    """
    likeliest = chance == chance.max(axis=0)
    return np.argmin(np.where(likeliest & ~np.isnan(miss), miss, np.inf), axis=0)
