"""The composed comparator, and law files that hold it: its optima are published."""

import numpy as np
import pytest

from benchmarks.literature_law import literature_law, published_factor
from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.law import Law
from tests.published_law import LITERATURE


def llama_like(
    width: int, blocks: int, sharing: int = 1, kv_heads: int | None = None, d_ff: int | None = None
) -> Architecture:
    heads = width // 64
    return Architecture(
        vocab_size=32000,
        d_model=width,
        n_blocks=blocks,
        sharing=sharing,
        n_heads=heads,
        n_kv_heads=kv_heads or heads,
        head_dim=64,
        d_ff=d_ff or 8 * width // 3,
    )


def test_a_file_of_an_earlier_version_is_read_as_it_was_made() -> None:
    read, made = load_law(LITERATURE), literature_law()
    assert isinstance(read, Law)
    assert read.parameters == pytest.approx(made.parameters)
    np.testing.assert_allclose(read.draws, made.draws, rtol=1e-12)
    assert "composed of published coefficients" in read.source


def test_published_optima() -> None:
    law = literature_law()
    assert law.parameters["x_opt"] == pytest.approx(0.08, rel=0.01)
    assert law.parameters["r_opt"] == pytest.approx(1.03, rel=0.01)
    assert law.parameters["phi"] == pytest.approx(0.459)
    assert published_factor(2.319, 0.238, 0.0176)[0] == pytest.approx(0.074, rel=0.01)


def test_losses_fall_with_size_and_tokens_from_a_million_to_ten_billion_parameters() -> None:
    law = literature_law()
    ladder = ArchitectureBatch.of(
        [
            llama_like(w, b)
            for w, b in ((128, 5), (256, 8), (576, 30), (1024, 24), (2048, 24), (4096, 48))
        ]
    )
    loss = law.loss(ladder, 1e12)
    assert np.all(np.diff(loss) < 0)
    assert np.all(law.loss(ladder, 2e12) < loss)
    assert np.all((loss > 1.8) & (loss < 7))
    low, high = law.interval(ladder, 1e12)
    assert np.all((low < loss) & (loss < high))
    assert np.all((high - low) / loss < 0.3)


def test_sharing_helps_less_than_distinct_blocks_and_more_than_nothing() -> None:
    law = literature_law()
    shapes = ArchitectureBatch.of(
        [llama_like(576, 15), llama_like(576, 15, sharing=2), llama_like(576, 30)]
    )
    once, shared, distinct = law.loss(shapes, 1e12)
    assert distinct < shared < once


def test_grouping_queries_costs_a_little() -> None:
    law = literature_law()
    full = llama_like(1024, 24)
    grouped = llama_like(1024, 24, kv_heads=4)
    both = ArchitectureBatch.of([full, grouped])
    loss = law.loss(both, 1e12)
    assert 0 < loss[1] / loss[0] - 1 < 0.02


def test_extrapolation_is_told_by_factor() -> None:
    law = literature_law()
    tiny = ArchitectureBatch.of([llama_like(128, 5)])
    (beyond,) = law.extrapolated(tiny, 1e12)
    assert beyond["tokens"] == pytest.approx(2.0)
    assert beyond["N"] > 50
