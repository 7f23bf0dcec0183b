"""The jax engine times shapes, and its two programs are one model."""

import numpy as np
import pytest

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import NoAnswer


@pytest.mark.parametrize("window", [None, pytest.param(8, marks=pytest.mark.long)])
def test_jax_times_a_shape(window: int | None) -> None:
    from shapelaw.search.devices.engines import jax

    small = Architecture(
        vocab_size=512,
        d_model=64,
        n_blocks=2,
        sharing=2,
        n_heads=2,
        n_kv_heads=1,
        head_dim=32,
        d_ff=128,
        window=window,
        global_every=None if window is None else 2,
    )
    found = jax.measure(small, prompt_tokens=16, decode_tokens=4, repeats=2)
    assert 0 < found.decode_s < 1
    assert 0 < found.prefill_s < 2
    assert found.spread >= 0
    with pytest.raises(NoAnswer, match="bit"):
        jax.measure(small, weight_bits=3)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (4, 1)])
def test_a_decoded_token_equals_the_same_token_prefilled(heads: int, kv_heads: int) -> None:
    """The jax engine's two programs are one model, whatever the groups."""
    from shapelaw.search.devices.engines import jax as engine

    a = Architecture(
        vocab_size=64,
        d_model=32,
        n_blocks=1,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=8,
        d_ff=48,
    )
    runner = engine.prepare(a)
    jnp = runner._jnp
    prefill, decode, embed, _ = engine._programs(a)
    tokens = jnp.asarray([3, 14, 15, 9, 26])
    block, (whole, most) = runner._blocks[0], [runner._caches(5)[0], runner._caches(5)[0]]
    expected = prefill(block, embed(runner._embedding, tokens), *whole, jnp.int32(0))[0][-1:]
    _, key, value = prefill(block, embed(runner._embedding, tokens[:4]), *most, jnp.int32(0))
    found = decode(block, embed(runner._embedding, tokens[4:]), key, value, jnp.int32(4))[0]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
