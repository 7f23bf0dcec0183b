"""The decoder: counts, causality, sharing, and agreement with plain arithmetic."""

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.learning_rate import first_step_of_logits
from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.training.attention import causal_attention
from shapelaw.sweeps.training.model import (
    NORM_EPSILON,
    ROPE_BASE,
    Decoder,
    normal_weights,
    token_losses,
)
from shapelaw.sweeps.training.schedule import TrainerVersion


@pytest.fixture(autouse=True)
def _strict_ranks() -> Iterator[None]:
    with jax.numpy_rank_promotion("raise"):
        yield


VERSIONS: tuple[TrainerVersion, ...] = (4, 3)


def tiny(**changes: Any) -> Architecture:
    fields: dict[str, Any] = {
        "vocab_size": 31,
        "d_model": 16,
        "n_blocks": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 4,
        "d_ff": 24,
    }
    return Architecture(**(fields | changes))


def decoder(architecture: Architecture, seed: int = 0, **options: Any) -> Decoder:
    """With weights that all matter: a fresh model's blocks would add nothing yet."""
    draw = normal_weights(seed)
    return Decoder(
        architecture, draw=lambda rows, columns, _: draw(rows, columns, rows**-0.5), **options
    )


def tokens(architecture: Architecture, batch: int = 2, length: int = 12) -> jax.Array:
    random_tokens = np.random.default_rng(0).integers(0, architecture.vocab_size, (batch, length))
    return jnp.asarray(random_tokens, jnp.int32)


def random_topology(source: random.Random) -> dict[str, Any]:
    """Blocks, some shared in one of the orders, some before and after them."""
    prelude, coda = source.choice([0, 0, 1, 2]), source.choice([0, 0, 1, 2])
    order = source.choice(["immediate", "cycle"])
    return {
        "n_blocks": prelude + coda + source.randint(1, 3),
        "n_prelude": prelude,
        "n_coda": coda,
        "sharing": source.choice([1, 1, 2, 3]),
        "sharing_order": order,
        "input_injection": order == "cycle" and source.random() < 0.5,
    }


def random_architecture(source: random.Random) -> Architecture:
    n_kv_heads = source.choice([1, 2, 3, 4])
    return Architecture(
        vocab_size=source.choice([256, 512, 1024, 8192, 32_000]),
        d_model=source.choice([32, 48, 64, 96, 128, 256, 512]),
        **random_topology(source),
        n_heads=n_kv_heads * source.choice([1, 2, 3, 4]),
        n_kv_heads=n_kv_heads,
        head_dim=source.choice([8, 16, 32, 64]),
        d_ff=source.choice([32, 100, 192, 512, 1408]),
        tied_embeddings=source.random() < 0.6,
    )


def test_parameters_and_flops_agree_with_the_tree_and_with_xla() -> None:
    source = random.Random(1)
    for _ in range(100):
        architecture = random_architecture(source)
        length = source.choice([32, 64, 128, 256, 512])
        graph, abstract = nnx.split(nnx.eval_shape(lambda a=architecture: decoder(a)))
        leaves = jax.tree.leaves(abstract)
        assert sum(leaf.size for leaf in leaves) == architecture.total_parameters

        def forward(state: Any, batch: jax.Array, graph: Any = graph) -> jax.Array:
            return nnx.merge(graph, state)(batch)

        lowered = jax.jit(forward).lower(abstract, jax.ShapeDtypeStruct((2, length), jnp.int32))
        counted = dict(lowered.cost_analysis() or {})["flops"] / (2 * length)
        assert architecture.forward_flops_per_token(length) == pytest.approx(counted, rel=0.002)


@pytest.mark.parametrize(
    ("changes", "chunk"),
    [
        ({}, None),
        ({}, 5),
        ({"window": 3}, None),
        ({"window": 3}, 4),
        ({"window": 3, "global_every": 2}, 5),
        ({"sharing": 2}, 4),
    ],
)
def test_no_logit_depends_on_a_later_token(changes: dict[str, Any], chunk: int | None) -> None:
    architecture = tiny(**changes)
    model = decoder(architecture, attention_chunk=chunk)
    batch = tokens(architecture, batch=1)
    embedded = model.embedding_VxD[...][batch]

    def logit_sum(x_BxTxD: jax.Array, position: int) -> jax.Array:
        return jnp.sum(model.from_embedded(x_BxTxD)[0, position])

    slopes = jax.jit(jax.grad(logit_sum))
    for position in (0, 5, 11):
        slope = np.asarray(slopes(embedded, position))[0]
        reached = np.abs(slope).max(axis=1) > 0
        assert not reached[position + 1 :].any()
        # A local layer sees window - 1 positions further back; both layers here are local, or one.
        local = architecture.window is not None and architecture.global_every is None
        oldest = max(0, position - 2 * 2) if local else 0
        assert reached[oldest : position + 1].all()
        assert not reached[:oldest].any()


@pytest.mark.parametrize(
    ("window", "chunk"),
    [
        (None, None),
        (None, 4),
        (None, 40),
        (1, 5),
        (3, None),
        (3, 5),
        (7, 4),
    ],
)
def test_attention_and_its_derivative_are_those_of_a_plain_softmax(
    window: int | None, chunk: int | None
) -> None:
    source = np.random.default_rng(0)
    query = jnp.asarray(source.normal(size=(2, 2, 3, 12, 4)), jnp.float32)
    key, value = (jnp.asarray(source.normal(size=(2, 2, 12, 4)), jnp.float32) for _ in range(2))
    slope = jnp.asarray(source.normal(size=query.shape), jnp.float32)
    distance = np.arange(12)[:, None] - np.arange(12)[None, :]
    seen = (distance >= 0) & (distance < (window or 12))

    def plain(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        scores = jnp.einsum("bkgqe,bkse->bkgqs", query, key)
        weights = jax.nn.softmax(jnp.where(seen[None, None, None], scores, -jnp.inf), axis=-1)
        return jnp.einsum("bkgqs,bkse->bkgqe", weights, value)

    def ours(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return causal_attention(query, key, value, window=window, chunk=chunk)

    @functools.partial(jax.jit, static_argnums=0)
    def with_slopes(attention: Callable[..., jax.Array], *inputs: jax.Array) -> Any:
        mixed, pull = jax.vjp(attention, *inputs)
        return mixed, *pull(slope)

    got, wanted = (with_slopes(attention, query, key, value) for attention in (ours, plain))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_fresh_blocks_add_nothing_to_the_residual_stream() -> None:
    architecture = tiny()
    model = Decoder(architecture, draw=normal_weights(0))
    batch = tokens(architecture)
    alone = Decoder(tiny(n_blocks=1), draw=normal_weights(0))
    np.testing.assert_array_equal(model(batch), alone(batch))
    assert float(jnp.std(model(batch))) > 0.1


LOOPED = {
    "n_blocks": 4,
    "n_prelude": 1,
    "n_coda": 1,
    "sharing": 3,
    "sharing_order": "cycle",
    "input_injection": True,
}


@pytest.mark.parametrize("topology", [{"sharing": 2}, LOOPED])
def test_the_forward_pass_is_the_arithmetic_of_the_papers(topology: dict[str, Any]) -> None:
    architecture = tiny(tied_embeddings=False, **topology)
    model = decoder(architecture, seed=3, attention_chunk=4)
    batch = tokens(architecture, batch=1)
    np.testing.assert_allclose(
        model(batch)[0], by_hand(model, np.asarray(batch)[0]), rtol=1e-4, atol=1e-4
    )


def by_hand(model: Decoder, row: np.ndarray) -> np.ndarray:
    """Logits [T, V] of one sequence, float64, head by head: nothing merged, nothing chunked."""
    a = model.architecture
    length, half, size = len(row), a.head_dim // 2, a.head_dim

    def norm(x: np.ndarray, gain: Any) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + NORM_EPSILON) * np.asarray(gain[...])

    def turned(x: np.ndarray) -> np.ndarray:
        out = np.empty_like(x)
        for position in range(length):
            for pair in range(half):
                angle = position * ROPE_BASE ** (-2 * pair / size)
                one, two = x[position, pair], x[position, pair + half]
                out[position, pair] = one * np.cos(angle) - two * np.sin(angle)
                out[position, pair + half] = two * np.cos(angle) + one * np.sin(angle)
        return out

    x = np.asarray(model.embedding_VxD[...], np.float64)[row]
    entered = x
    for layer, number in enumerate(a.applied_blocks()):
        if layer == a.n_prelude:
            entered = x
        elif a.input_injection and number == a.n_prelude:
            x = x + entered
        block = model.blocks[number]
        columns = norm(x, block.attention_norm_D) @ np.asarray(block.query_key_value[...])
        heads = [columns[:, start : start + size] for start in range(0, columns.shape[1], size)]
        mixed = []
        for head in range(a.n_heads):
            kv = head // a.gqa_group
            query, key = turned(heads[head]), turned(heads[a.n_heads + kv])
            value = heads[a.n_heads + a.n_kv_heads + kv]
            scores = query @ key.T / np.sqrt(size)
            weights = np.exp(scores) * np.tril(np.ones((length, length)))
            mixed.append(weights / weights.sum(-1, keepdims=True) @ value)
        x = x + np.concatenate(mixed, axis=1) @ np.asarray(block.attention_out[...])
        gate, up = np.split(norm(x, block.mlp_norm_D) @ np.asarray(block.gate_up[...]), 2, axis=1)
        x = x + gate / (1 + np.exp(-gate)) * up @ np.asarray(block.down[...])
    assert model.head_DxV is not None
    return np.asarray(norm(x, model.norm_D) @ np.asarray(model.head_DxV[...]))


def test_sharing_stores_nothing_more_and_its_order_matters() -> None:
    once, twice = tiny(), tiny(sharing=2)
    batch = tokens(once)

    @nnx.jit
    def logits(model: Decoder) -> jax.Array:
        return model(batch)

    def size(model: Decoder) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))

    immediate, cycle = decoder(twice), decoder(tiny(sharing=2, sharing_order="cycle"))
    assert size(decoder(once)) == size(immediate) == size(cycle)
    assert float(jnp.abs(logits(immediate) - logits(cycle)).max()) > 1e-2
    first, second = (logits(decoder(tiny(sharing_order=order))) for order in ("immediate", "cycle"))
    np.testing.assert_array_equal(first, second)


def test_a_shared_block_is_the_same_block_written_out_twice() -> None:
    shared = decoder(tiny(sharing=2))
    written_out = decoder(tiny(n_blocks=4))
    for place, number in enumerate(shared.architecture.applied_blocks()):
        nnx.update(written_out.blocks[place], nnx.state(shared.blocks[number]))
    written_out.embedding_VxD[...] = shared.embedding_VxD[...]
    batch = tokens(shared.architecture)
    np.testing.assert_array_equal(shared(batch), written_out(batch))


def test_token_losses_are_the_negative_log_softmax() -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 7)) * 30, jnp.float32)
    targets = jnp.asarray([[0, 3, 6], [1, 1, 5]])
    wanted = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(token_losses(logits, targets), wanted, rtol=1e-5, atol=1e-5)


def test_bfloat16_multiplies_stay_near_float32() -> None:
    architecture = tiny()
    batch = tokens(architecture)
    full, half = decoder(architecture), decoder(architecture, compute_dtype=jnp.bfloat16)
    assert half(batch).dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(nnx.state(half)))
    # Logits are as large as the last norm's gains, 64 / 16 here.
    np.testing.assert_allclose(half(batch) / 4, full(batch) / 4, atol=0.1)


def test_the_first_step_moves_tied_logits_alike_at_every_width() -> None:
    """Before, it grew with the width: the embedding's step was summed over d_model."""
    new, old = (
        [first_step_of_logits(width, version) for width in (32, 128, 512)] for version in VERSIONS
    )
    assert max(new) / min(new) < 1.7
    assert old[-1] / old[0] > 5
