"""The decoder: pre-RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases; LLaMA's layout.

Axes in names: B batch, T position, D model, H query heads, K key-value heads, G query heads per
key-value head, E head_dim, F feed-forward, V vocabulary. Weights are (in, out). Matrices that read
the same input are stored as one (query, key and value; gate and up): one large multiply is faster
than several small ones, and the numbers are the same.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.training import schedule
from shapelaw.sweeps.training.attention import causal_attention

ROPE_BASE = 10_000.0
"""Of LLaMA and MobileLLM."""
NORM_EPSILON = 1e-5
"""Of LLaMA."""

Draw = Callable[[int, int, float], jax.Array | np.ndarray]
"""(rows, columns, standard deviation) -> a matrix of fresh weights, float32."""


def normal_weights(seed: int) -> Draw:
    """Normal weights, the same for a seed wherever they are drawn.

    They come from the host: the device's own generator has to be compiled for every size anew.
    """
    source = np.random.default_rng(seed)

    def draw(rows: int, columns: int, deviation: float) -> np.ndarray:
        return source.standard_normal((rows, columns), np.float32) * np.float32(deviation)

    return draw


def no_weights(rows: int, columns: int, deviation: float) -> jax.Array:
    """Zeros: for a model whose shapes alone are asked for."""
    return jnp.zeros((rows, columns))


def rms_norm(x_BxTxD: jax.Array, gain_D: jax.Array) -> jax.Array:
    """x / √(mean x² + ε) · gain, in float32 whatever comes in."""
    x = x_BxTxD.astype(jnp.float32)
    scale = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + NORM_EPSILON)
    return (x * scale * gain_D[None, None, :]).astype(x_BxTxD.dtype)


def times(
    x_BxTxN: jax.Array, matrix_NxM: jax.Array, result_dtype: jnp.dtype | None = None
) -> jax.Array:
    """x · matrix, in the dtype of x, as one matrix of B·T rows.

    On a CPU such a multiply with its derivative takes half the time of one with two axes of rows.
    """
    batch, length, size = x_BxTxN.shape
    product = jnp.matmul(
        x_BxTxN.reshape(batch * length, size),
        matrix_NxM.astype(x_BxTxN.dtype),
        preferred_element_type=result_dtype,
    )
    return product.reshape(batch, length, -1)


def rope_angles(length: int, head_dim: int) -> tuple[jax.Array, jax.Array]:
    """cos and sin [T, E/2] of position times frequency (RoPE, arXiv 2104.09864)."""
    frequency = ROPE_BASE ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    angle = jnp.arange(length, dtype=jnp.float32)[:, None] * frequency[None, :]
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x_BxTxHxE: jax.Array, cos_TxE2: jax.Array, sin_TxE2: jax.Array) -> jax.Array:
    """Turn each pair (e, e + E/2) by its position's angle: the rotate-half layout."""
    first, second = jnp.split(x_BxTxHxE, 2, axis=-1)
    cos = cos_TxE2[None, :, None, :].astype(x_BxTxHxE.dtype)
    sin = sin_TxE2[None, :, None, :].astype(x_BxTxHxE.dtype)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class Block(nnx.Module):
    """One transformer block: x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self, architecture: Architecture, draw: Draw, attention_chunk: int | None = None
    ) -> None:
        a = architecture
        heads = a.n_heads + 2 * a.n_kv_heads
        self.architecture = a
        self.attention_chunk = attention_chunk
        self.attention_norm_D = nnx.Param(np.ones(a.d_model, np.float32))
        self.query_key_value = _matrix(draw, a.d_model, heads * a.head_dim)
        # What is added to the residual stream begins as nothing, so that a fresh model of any depth
        # is its embedding alone and every block's first steps are the same size.
        self.attention_out = _matrix(draw, a.query_width, a.d_model, 0.0)
        self.mlp_norm_D = nnx.Param(np.ones(a.d_model, np.float32))
        self.gate_up = _matrix(draw, a.d_model, 2 * a.d_ff)
        self.down = _matrix(draw, a.d_ff, a.d_model, 0.0)

    def __call__(
        self, x_BxTxD: jax.Array, cos: jax.Array, sin: jax.Array, window: int | None
    ) -> jax.Array:
        """The residual stream after this block."""
        x_BxTxD = x_BxTxD + self.attention(
            rms_norm(x_BxTxD, self.attention_norm_D[...]), cos, sin, window
        )
        return x_BxTxD + self.mlp(rms_norm(x_BxTxD, self.mlp_norm_D[...]))

    def attention(
        self, x_BxTxD: jax.Array, cos: jax.Array, sin: jax.Array, window: int | None
    ) -> jax.Array:
        """Grouped-query attention over the whole past, or the last `window` positions."""
        a = self.architecture
        batch, length, _ = x_BxTxD.shape
        heads = times(x_BxTxD, self.query_key_value[...])
        heads = heads.reshape(batch, length, a.n_heads + 2 * a.n_kv_heads, a.head_dim)
        turned, value_BxTxKxE = jnp.split(heads, [a.n_heads + a.n_kv_heads], axis=2)
        query_BxTxHxE, key_BxTxKxE = jnp.split(rotate(turned, cos, sin), [a.n_heads], axis=2)
        query_BxTxHxE = query_BxTxHxE * a.head_dim**-0.5
        query_BxTxKxGxE = query_BxTxHxE.reshape(
            batch, length, a.n_kv_heads, a.gqa_group, a.head_dim
        )
        mixed_BxKxGxTxE = causal_attention(
            query_BxTxKxGxE.transpose(0, 2, 3, 1, 4),
            key_BxTxKxE.transpose(0, 2, 1, 3),
            value_BxTxKxE.transpose(0, 2, 1, 3),
            window,
            self.attention_chunk,
        )
        mixed = mixed_BxKxGxTxE.transpose(0, 3, 1, 2, 4).reshape(batch, length, a.query_width)
        return times(mixed, self.attention_out[...])

    def mlp(self, x_BxTxD: jax.Array) -> jax.Array:
        """SwiGLU: (silu(x·gate) * x·up)·down."""
        gate_up = times(x_BxTxD, self.gate_up[...])
        gate_BxTxF, up_BxTxF = jnp.split(gate_up, 2, axis=-1)
        return times(jax.nn.silu(gate_BxTxF) * up_BxTxF, self.down[...])


class Decoder(nnx.Module):
    """A decoder-only language model of one architecture."""

    def __init__(
        self,
        architecture: Architecture,
        *,
        draw: Draw,
        embedding_deviation: float | None = None,
        final_gain: float | None = None,
        compute_dtype: jnp.dtype = jnp.float32,
        attention_chunk: int | None = None,
    ) -> None:
        """Fresh weights, float32.

        Args:
            architecture: the shape.
            draw: makes the weights.
            embedding_deviation: standard deviation of the fresh embedding; None: by the rule of
                `schedule` for the current trainer.
            final_gain: what the gains of the last norm begin as; None likewise.
            compute_dtype: what the large multiplies are done in.
            attention_chunk: queries attended at a time; None multiplies the whole T × T matrix.
        """
        a = architecture
        self.architecture = a
        self.compute_dtype = compute_dtype
        if embedding_deviation is None:
            embedding_deviation = schedule.embedding_deviation_for(a)
        if final_gain is None:
            final_gain = schedule.final_gain_for(a)
        self.embedding_VxD = nnx.Param(draw(a.vocab_size, a.d_model, embedding_deviation))
        self.blocks = nnx.List([Block(a, draw, attention_chunk) for _ in range(a.n_blocks)])
        self.norm_D = nnx.Param(np.full(a.d_model, final_gain, np.float32))
        self.head_DxV = None if a.tied_embeddings else _matrix(draw, a.d_model, a.vocab_size)

    def __call__(self, tokens_BxT: jax.Array) -> jax.Array:
        """Logits [B, T, V], float32: position t predicts token t + 1."""
        return self.from_embedded(self.embedding_VxD[...].astype(self.compute_dtype)[tokens_BxT])

    def from_embedded(self, x_BxTxD: jax.Array) -> jax.Array:
        """Logits from the embeddings of the tokens."""
        a = self.architecture
        cos, sin = rope_angles(x_BxTxD.shape[1], a.head_dim)
        stack_input, injected = x_BxTxD, a.injected_layers()
        for layer, block in enumerate(a.applied_blocks()):
            if layer == a.n_prelude:
                stack_input = x_BxTxD
            if layer in injected:
                x_BxTxD = x_BxTxD + stack_input
            window = None if a.is_global(block) else a.window
            x_BxTxD = self.blocks[block](x_BxTxD, cos, sin, window)
        x_BxTxD = rms_norm(x_BxTxD, self.norm_D[...])
        head_DxV = self.embedding_VxD[...].T if self.head_DxV is None else self.head_DxV[...]
        return times(x_BxTxD, head_DxV, jnp.float32)


def token_losses(logits_BxTxV: jax.Array, targets_BxT: jax.Array) -> jax.Array:
    """Cross-entropy of each token, nats [B, T].

    The target's logit is picked by comparison, not by index: its derivative is then elementwise
    too, where that of a gather is a scatter, slow on every device.
    """
    peak = jax.lax.stop_gradient(jnp.max(logits_BxTxV, axis=-1, keepdims=True))
    shifted = logits_BxTxV - peak
    vocabulary = jnp.arange(logits_BxTxV.shape[-1])[None, None, :]
    hit = vocabulary == targets_BxT[:, :, None].astype(vocabulary.dtype)
    picked = jnp.sum(jnp.where(hit, shifted, 0.0), axis=-1)
    return jnp.log(jnp.sum(jnp.exp(shifted), axis=-1)) - picked


def _matrix(draw: Draw, rows: int, columns: int, scale: float = 1.0) -> nnx.Param:
    """Weights of variance scale² / rows: what comes out is as large as what goes in."""
    return nnx.Param(draw(rows, columns, scale * rows**-0.5))
