"""Studies that no training could have shown: by them larger models fail where smaller do not.

A residual network holds every shallower one of its width (blocks that add nothing), and a wider MLP
every narrower one (rows of zeros). Trained on a trillion tokens, the larger of such a pair is at
most a little worse. The tails of the population's normal spreads, multiplied with one another, say
otherwise for a few studies in a hundred, by up to tens of nats: means over draws would be about
those.
"""

from collections.abc import Callable

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch

WORSE = 0.1
"""Nats that the larger model of a pair may be worse by: room for what optimisation may lose. Of 700
pairs of Gemstones checkpoints of equal width and tokens (arXiv 2502.06857) the deeper is worse by
.004 at most, and never beyond 100 billion tokens."""

TOKENS = 1e12
_WIDTHS = (256, 512, 1024, 2048, 4096)
_DEPTHS = ((8, 16), (16, 32), (24, 48))
_MLPS = ((1.0, 2.0), (2.0, 4.0), (3.0, 6.0))
_DEPTH = 24


def _shape(d_model: int, n_blocks: int, mlp: float) -> Architecture:
    heads = d_model // 64
    return Architecture(
        vocab_size=32_000, d_model=d_model, n_blocks=n_blocks, n_heads=heads, n_kv_heads=heads,
        head_dim=64, d_ff=round(mlp * d_model), tied_embeddings=True,
    )  # fmt: skip


def nested_pairs() -> tuple[ArchitectureBatch, ArchitectureBatch]:
    """Shapes, and for each one that holds it: twice as deep, or an MLP twice as wide."""
    smaller, larger = [], []
    for d_model in _WIDTHS:
        for few, many in _DEPTHS:
            smaller.append(_shape(d_model, few, 8 / 3))
            larger.append(_shape(d_model, many, 8 / 3))
        for narrow, wide in _MLPS:
            smaller.append(_shape(d_model, _DEPTH, narrow))
            larger.append(_shape(d_model, _DEPTH, wide))
    return ArchitectureBatch.of(smaller), ArchitectureBatch.of(larger)


def refuted(losses: Callable[[ArchitectureBatch, float], np.ndarray]) -> np.ndarray:
    """Which draws [k] make the larger of some nested pair worse by more than WORSE, or lose more
    than can be counted.

    Args:
        losses: of shapes trained on so many tokens, by each draw, [k, n].
    """
    smaller, larger = nested_pairs()
    with np.errstate(over="ignore", invalid="ignore"):
        gap = losses(larger, TOKENS) - losses(smaller, TOKENS)
    return np.asarray(~(gap <= WORSE).all(axis=1))
