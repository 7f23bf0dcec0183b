"""The jax engine: a real decoder on this machine's default JAX device.

One block is compiled for decode and one for prefill, and the blocks of a model are dispatched one
after the other, shared ones again with the same weights; compiling a whole deep model as one
program takes tens of seconds and decodes no faster on a CPU. Weights are random: timing does not
depend on them, but every block has its own memory, as it must.

On a CPU, blocks run on the calling thread. JAX's default hands each to another thread, and waking
that thread takes 10 to 40 us, as long as a small block itself, and differently each time.
"""

import functools
import time
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import NoAnswer
from shapelaw.search.devices.engines import Timing, best, check_request

RANDOM_VALUES = 1 << 16
"""Distinct random numbers; tensors repeat them. Enough that nothing is constant."""
LEAST_S = 0.05
"""Seconds for which a short prefill, and short decode steps, are repeated."""


@functools.cache
def _jax() -> Any:
    """JAX, dispatching on the calling thread if the process has not used its CPU before."""
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return jax


def precision_bits() -> int:
    """Bits of weights, keys and activations this engine runs with here: 32 on a CPU, else 16."""
    return 32 if _jax().default_backend() == "cpu" else 16


class JaxRunner:
    """A model of random weights on the default device, in this process and in no file."""

    peak_bytes = None
    file_bytes = None

    def __init__(self, architecture: Architecture) -> None:
        self._jnp = jnp = _jax().numpy
        self.architecture = architecture
        self._dtype = jnp.float32 if precision_bits() == 32 else jnp.bfloat16
        a = architecture
        random = np.random.default_rng(0).standard_normal(RANDOM_VALUES, dtype=np.float32)
        self._random = random / np.sqrt(a.d_model)
        self._embedding = self._tensor(a.vocab_size, a.d_model)
        self._head = self._embedding if a.tied_embeddings else self._tensor(a.vocab_size, a.d_model)
        query, kv = a.query_width, a.key_width
        self._blocks = [
            {
                "norm_attention": jnp.ones(a.d_model, self._dtype),
                "query": self._tensor(a.d_model, query),
                "key": self._tensor(a.d_model, kv),
                "value": self._tensor(a.d_model, kv),
                "output": self._tensor(query, a.d_model),
                "norm_mlp": jnp.ones(a.d_model, self._dtype),
                "gate": self._tensor(a.d_model, a.d_ff),
                "up": self._tensor(a.d_model, a.d_ff),
                "down": self._tensor(a.d_ff, a.d_model),
            }
            for _ in range(a.n_blocks)
        ]

    def _tensor(self, *shape: int) -> Any:
        return self._jnp.asarray(np.resize(self._random, shape), self._dtype)

    def _caches(self, length: int) -> list[tuple[Any, Any]]:
        """Keys and values of each application; a local block keeps its window only."""
        a = self.architecture
        caches = []
        for block in a.applied_blocks():
            kept = length if a.is_global(block) else min(length, a.window or length)
            shape = (a.n_kv_heads, kept, a.head_dim)
            caches.append(
                (self._jnp.zeros(shape, self._dtype), self._jnp.zeros(shape, self._dtype))
            )
        return caches

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        """Seconds of one prefill and of one decode step after it, the best for a moment each."""
        jnp, a = self._jnp, self.architecture
        prefill, decode, embed, head = _programs(a)
        tokens = jnp.asarray(np.arange(prompt_tokens) % a.vocab_size, jnp.int32)
        length = prompt_tokens + decode_tokens
        blocks, injected = a.applied_blocks(), set(a.injected_layers())

        def forward(block_program: Any, x: Any, caches: list[Any], position: Any) -> Any:
            stack_input = x
            for layer, block in enumerate(blocks):
                stack_input = x if layer == a.n_prelude else stack_input
                x = x + stack_input if layer in injected else x
                weights = self._blocks[block]
                x, key, value = block_program(weights, x, *caches[layer], position)
                caches[layer] = (key, value)
            return head(self._head, x)

        zero = jnp.int32(0)
        forward(prefill, embed(self._embedding, tokens), self._caches(length), zero)  # warm up
        prefills: list[float] = []
        while sum(prefills) < LEAST_S:
            caches = self._caches(length)
            started = time.perf_counter()
            token = forward(prefill, embed(self._embedding, tokens), caches, zero)
            token.block_until_ready()
            prefills.append(time.perf_counter() - started)
        steps: list[float] = []
        while len(steps) < decode_tokens or sum(steps) < LEAST_S:
            # A stretch is decoded again in the same slots: a step's time depends on their number.
            position = jnp.int32(prompt_tokens + len(steps) % decode_tokens)
            started = time.perf_counter()
            token = forward(decode, embed(self._embedding, token), caches, position)
            token.block_until_ready()
            steps.append(time.perf_counter() - started)
        return min(prefills), min(steps)

    def close(self) -> None:
        """Drop the weights; the compiled block stays for the next round."""
        self._blocks.clear()
        self._embedding = self._head = None


def _programs(a: Architecture) -> tuple[Any, Any, Any, Any]:
    """Prefill block, decode block, embedding and head; models of one block's shape share them."""
    return _block_programs(a.n_heads, a.n_kv_heads, a.head_dim)


@functools.lru_cache(maxsize=64)
def _block_programs(n_heads: int, n_kv_heads: int, head_dim: int) -> tuple[Any, Any, Any, Any]:
    """The four functions, compiled for each size of arrays when first run with it."""
    jax = _jax()
    jnp = jax.numpy
    group = n_heads // n_kv_heads

    def norm(x: Any, gain: Any) -> Any:
        wide = x.astype(jnp.float32)
        scale = jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + 1e-5)
        return (wide * scale).astype(x.dtype) * gain

    def rotate(x_TxHxE: Any, position_T: Any) -> Any:
        frequency = 1e4 ** (-jnp.arange(0, head_dim, 2) / head_dim)
        angle = position_T[:, None, None] * frequency
        first, second = jnp.split(x_TxHxE.astype(jnp.float32), 2, -1)
        turned = jnp.concatenate(
            [
                first * jnp.cos(angle) - second * jnp.sin(angle),
                second * jnp.cos(angle) + first * jnp.sin(angle),
            ],
            -1,
        )
        return turned.astype(x_TxHxE.dtype)

    def attend(q_TxHxE: Any, key_KxSxE: Any, value_KxSxE: Any, mask_TxS: Any) -> Any:
        tokens = q_TxHxE.shape[0]
        grouped = q_TxHxE.reshape(tokens, n_kv_heads, group, head_dim)
        scores = jnp.einsum("tkge,kse->kgts", grouped, key_KxSxE) / head_dim**0.5
        weights = jax.nn.softmax(jnp.where(mask_TxS, scores, -1e9), -1)
        return jnp.einsum("kgts,kse->tkge", weights, value_KxSxE).reshape(tokens, -1)

    def attend_one(q_1xHxE: Any, key_KxSxE: Any, value_KxSxE: Any, mask_S: Any) -> Any:
        # A matrix-vector product for each member of the groups: XLA's CPU backend multiplies a
        # group's few rows at once at an eighth of the speed.
        grouped = q_1xHxE.reshape(n_kv_heads, group, head_dim)
        scores = (
            jnp.stack(
                [
                    jnp.einsum("ke,kse->ks", grouped[:, member], key_KxSxE)
                    for member in range(group)
                ],
                1,
            )
            / head_dim**0.5
        )
        weights = jax.nn.softmax(jnp.where(mask_S, scores, -1e9), -1)
        return jnp.stack(
            [jnp.einsum("ks,kse->ke", weights[:, member], value_KxSxE) for member in range(group)],
            1,
        ).reshape(1, -1)

    def project(w: Any, x_TxD: Any, position_T: Any) -> tuple[Any, Any, Any]:
        h, tokens = norm(x_TxD, w["norm_attention"]), x_TxD.shape[0]
        q = rotate((h @ w["query"]).reshape(tokens, n_heads, head_dim), position_T)
        k = rotate((h @ w["key"]).reshape(tokens, n_kv_heads, head_dim), position_T)
        v = (h @ w["value"]).reshape(tokens, n_kv_heads, head_dim)
        return q, k.swapaxes(0, 1), v.swapaxes(0, 1)

    def finish(w: Any, x_TxD: Any, attended: Any) -> Any:
        x_TxD = x_TxD + attended @ w["output"]
        h = norm(x_TxD, w["norm_mlp"])
        return x_TxD + (jax.nn.silu(h @ w["gate"]) * (h @ w["up"])) @ w["down"]

    def decode(w: Any, x_1xD: Any, keys: Any, values: Any, position: Any) -> Any:
        kept = keys.shape[1]
        q, k, v = project(w, x_1xD, position[None])
        slot = (0, position % kept, 0)
        keys = jax.lax.dynamic_update_slice(keys, k, slot)
        values = jax.lax.dynamic_update_slice(values, v, slot)
        mask = jnp.arange(kept) <= position
        return finish(w, x_1xD, attend_one(q, keys, values, mask)), keys, values

    def prefill(w: Any, x_TxD: Any, keys: Any, values: Any, position: Any) -> Any:
        tokens, kept = x_TxD.shape[0], min(keys.shape[1], x_TxD.shape[0])
        q, k, v = project(w, x_TxD, position + jnp.arange(tokens))
        keys = jax.lax.dynamic_update_slice(keys, k[:, tokens - kept :], (0, 0, 0))
        values = jax.lax.dynamic_update_slice(values, v[:, tokens - kept :], (0, 0, 0))
        distance = jnp.arange(tokens)[:, None] - jnp.arange(tokens)[None]
        mask = (distance >= 0) & ((distance < kept) | (kept == tokens))
        return finish(w, x_TxD, attend(q, k, v, mask)), keys, values

    return (
        jax.jit(prefill, donate_argnums=(2, 3)),
        jax.jit(decode, donate_argnums=(2, 3)),
        jax.jit(lambda embedding, tokens: embedding[tokens]),
        # Only the last token's logits are needed, to choose the next token.
        jax.jit(lambda matrix, x: jnp.argmax(x[-1:] @ matrix.T, -1).astype(jnp.int32)),
    )


def prepare(architecture: Architecture, *, weight_bits: float | None = None) -> JaxRunner:
    """Random weights on the device.

    Raises:
        NoAnswer: the engine runs at another precision here, or the model does not fit.
    """
    bits = precision_bits()
    if weight_bits is not None and weight_bits != bits:
        raise NoAnswer(f"the jax engine runs {bits}-bit weights here, not {weight_bits:g}-bit ones")
    try:
        return JaxRunner(architecture)
    except (RuntimeError, MemoryError) as error:
        raise NoAnswer(_failed(error)) from None


def measure(
    architecture: Architecture,
    *,
    weight_bits: float | None = None,
    prompt_tokens: int = 64,
    decode_tokens: int = 16,
    repeats: int = 3,
) -> Timing:
    """Prefill and decode seconds of a shape on this machine, the best of `repeats`.

    Raises:
        BadInput: nothing to time. NoAnswer: the engine failed.
    """
    check_request(prompt_tokens, decode_tokens, repeats)
    runner = prepare(architecture, weight_bits=weight_bits)
    try:
        runs = [runner.run(prompt_tokens, decode_tokens) for _ in range(repeats)]
    except (RuntimeError, MemoryError) as error:
        raise NoAnswer(_failed(error)) from None
    finally:
        runner.close()
    return best([prefill for prefill, _ in runs], [decode for _, decode in runs])


def _failed(error: Exception) -> str:
    return f"the jax engine failed: {' '.join(str(error).split())[:200] or type(error).__name__}"


def micro_benchmarks(*, seconds: float = 1.0) -> dict[str, float]:
    """What the bare device reaches: bytes a second read from DRAM, operations a second multiplied.

    A sum over an array much larger than any cache, and a square matrix multiply in the precision
    of `precision_bits`; each repeated for about `seconds`, the best kept.
    """
    jax = _jax()
    jnp = jax.numpy
    dtype = jnp.float32 if precision_bits() == 32 else jnp.bfloat16
    large = jnp.ones(64 << 20, dtype)
    side = 1024 if precision_bits() == 32 else 8192
    matrix = jnp.ones((side, side), dtype)
    total = jax.jit(lambda x: jnp.sum(x, dtype=jnp.float32))
    product = jax.jit(lambda x: x @ x)
    return {
        "bandwidth": large.size * large.dtype.itemsize / _best_of(total, large, seconds),
        "peak": 2 * side**3 / _best_of(product, matrix, seconds),
    }


def _best_of(program: Any, argument: Any, seconds: float) -> float:
    program(argument).block_until_ready()
    best_s, stop = np.inf, time.perf_counter() + seconds
    while time.perf_counter() < stop:
        started = time.perf_counter()
        program(argument).block_until_ready()
        best_s = min(best_s, time.perf_counter() - started)
    return float(best_s)
