"""The price of a format: its noise, its arithmetic, and what published models say of it."""

import itertools
from typing import Any

import numpy as np
import pytest

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.mixes import mix
from shapelaw.scaling.formats.price import NOISE, format_price, type_shares
from shapelaw.scaling.formats.quantisers import rounded
from shapelaw.scaling.formats.stored_tensors import mix_of_types
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES

PRICES = public_format_prices()


def shape(d_model: int, n_blocks: int = 24, **more: int) -> Architecture:
    fields: dict[str, Any] = {
        "vocab_size": 32000,
        "d_model": d_model,
        "n_blocks": n_blocks,
        "n_heads": d_model // 64,
        "n_kv_heads": d_model // 64,
        "head_dim": 64,
        "d_ff": 4 * d_model,
    }
    return Architecture(**(fields | more))


def price(name: str, architecture: Architecture, tokens: float) -> np.ndarray:
    return PRICES.draws(mix(name), ArchitectureBatch.of([architecture]), tokens)[:, 0]


@pytest.mark.parametrize("name", [name for name in TENSOR_TYPES if name != "f32"])
def test_noise_is_what_the_quantiser_does_to_gaussian_weights(name: str) -> None:
    values = np.random.default_rng(11).standard_normal((60, 1024)).astype(np.float32)
    noise = np.mean((rounded(values, name) - values) ** 2) / np.mean(values**2)
    assert noise == pytest.approx(NOISE[name], rel=0.05)


def test_a_price_rises_with_training_and_falls_with_size() -> None:
    small, large = shape(1024), shape(4096)
    for name in ("q8_0", "q4_k_m", "q2_k"):
        once, twice = price(name, small, 1e12).mean(), price(name, small, 4e12).mean()
        assert once < twice
        assert price(name, large, 1e12).mean() < once


def test_fewer_bits_cost_more_in_nearly_every_draw() -> None:
    order = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k")
    draws = [price(name, shape(2048), 2e12) for name in order]
    for more_bits, fewer in itertools.pairwise(draws):
        assert np.mean(fewer > more_bits) > 0.9
    assert price("f32", shape(2048), 2e12).max() == 0
    assert np.quantile(price("f16", shape(2048), 2e12), 0.95) < 1e-4


@pytest.mark.parametrize(
    ("name", "tokens", "architecture", "published"),
    [
        # Llama-3-8B, wikitext, no importance matrix (llama.cpp's table).
        ("q4_k_m", 15e12, shape(4096, 32, n_kv_heads=16, d_ff=14336), 0.0278),
        ("q4_0", 15e12, shape(4096, 32, n_kv_heads=16, d_ff=14336), 0.0725),
        ("q3_k_m", 15e12, shape(4096, 32, n_kv_heads=16, d_ff=14336), 0.1002),
        # LLaMA-7B (llama.cpp, the pull request that brought k-quants).
        ("q4_k_m", 1e12, shape(4096, 32, d_ff=11008), 0.0090),
        ("q2_k", 1e12, shape(4096, 32, d_ff=11008), 0.1374),
    ],
)
def test_published_prices_lie_within_the_draws(
    name: str, tokens: float, architecture: Architecture, published: float
) -> None:
    draws = price(name, architecture, tokens)
    low, high = np.quantile(draws, [0.05, 0.95])
    assert low < published < high
    assert high / low < 15


def test_the_price_of_a_million_shapes_is_the_mean_of_the_draws() -> None:
    batch = ArchitectureBatch.of([shape(576), shape(1024), shape(2048), shape(4096, 40)])
    for name in ("q8_0", "q4_k_m", "q3_k_m", "q2_k", "int4_g32", "fp8"):
        for tokens in (1e10, 1e12, 2e13):
            exact = PRICES.draws(mix(name), batch, tokens).mean(axis=0)
            quick = PRICES.expected(mix(name), batch, tokens)
            assert quick == pytest.approx(exact, rel=0.06)
    assert not PRICES.expected(mix("f32"), batch, 1e12).any()


def test_the_price_is_that_of_the_mix_not_of_the_name() -> None:
    """Width 576 falls back to q5_0 for most matrices: q4_k_m costs less there."""
    narrow = shape(576)
    shares = {
        k: v[0] for k, v in type_shares(mix("q4_k_m"), ArchitectureBatch.of([narrow])).items()
    }
    assert shares == pytest.approx(mix_of_types(mix("q4_k_m"), narrow))
    n, d = 1e8, 1e12
    aligned = mix_of_types(mix("q4_k_m"), shape(1024))
    assert np.mean(format_price(PRICES, n, d, shares)) < np.mean(
        format_price(PRICES, n, d, aligned)
    )


def test_quantisation_aware_training_has_its_own_law() -> None:
    """arXiv 2505.14302 at 1B, 1T tokens and groups of 32: .0224 nats."""
    shares = {"int4_g32_f32": 1.0}
    aware = format_price(PRICES, 1e9, 1e12, shares, "quantisation-aware")
    assert np.median(aware) == pytest.approx(0.0224, rel=0.1)
    assert np.quantile(aware, 0.95) / np.quantile(aware, 0.05) > 3
    with pytest.raises(BadInput, match="quantisation-aware"):
        format_price(PRICES, 1e9, 1e12, {"q2_k": 1.0}, "quantisation-aware")
