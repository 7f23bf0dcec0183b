"""Laws that ship answer by name, for any sensible architecture."""

import numpy as np
import pytest

from shapelaw.results.literature import literature_law, published_factor
from shapelaw.results.shipped_laws import law_names, load_law
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.law import Law


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


def test_the_shipped_file_is_what_its_command_makes() -> None:
    shipped, made = load_law("literature"), literature_law()
    assert isinstance(shipped, Law)
    assert shipped.parameters == pytest.approx(made.parameters)
    np.testing.assert_allclose(shipped.draws, made.draws, rtol=1e-12)
    assert "composed of published coefficients" in shipped.source


def test_unknown_laws_are_refused_with_what_exists() -> None:
    assert {"evidence", "literature", "reference"} <= set(law_names())
    with pytest.raises(BadInput, match=r"laws by name: .*literature"):
        load_law("nonsense")


def test_published_optima() -> None:
    law = load_law("literature")
    assert isinstance(law, Law)
    assert law.parameters["x_opt"] == pytest.approx(0.08, rel=0.01)
    assert law.parameters["r_opt"] == pytest.approx(1.03, rel=0.01)
    assert law.parameters["phi"] == pytest.approx(0.459)
    assert published_factor(2.319, 0.238, 0.0176)[0] == pytest.approx(0.074, rel=0.01)


def test_losses_fall_with_size_and_tokens_from_a_million_to_ten_billion_parameters() -> None:
    law = load_law("literature")
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
    law = load_law("literature")
    shapes = ArchitectureBatch.of(
        [llama_like(576, 15), llama_like(576, 15, sharing=2), llama_like(576, 30)]
    )
    once, shared, distinct = law.loss(shapes, 1e12)
    assert distinct < shared < once


def test_grouping_queries_costs_a_little() -> None:
    law = load_law("literature")
    full = llama_like(1024, 24)
    grouped = llama_like(1024, 24, kv_heads=4)
    both = ArchitectureBatch.of([full, grouped])
    loss = law.loss(both, 1e12)
    assert 0 < loss[1] / loss[0] - 1 < 0.02


def test_extrapolation_is_told_by_factor() -> None:
    law = load_law("literature")
    tiny = ArchitectureBatch.of([llama_like(128, 5)])
    (beyond,) = law.extrapolated(tiny, 1e12)
    assert beyond["tokens"] == pytest.approx(2.0)
    assert beyond["N"] > 50
