"""What is compiled: a model's training steps, several a dispatch, and its evaluation.

The host hands over the batches and learning rates of a dispatch and gets losses back; nothing in
between waits for it. How many steps a dispatch holds is an argument of the compiled loop, so the
odd last one needs no program of its own.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from results.record import content_key
from scaling.architecture import Architecture
from sweeps import schedule
from sweeps.model import Decoder, SharingOrder, token_losses
from sweeps.worker import machine_identity

Parameters = Any  # a pytree of arrays


ATTENTION_CHUNK = 32
"""Queries attended at a time on a CPU, or a quarter of the sequence where that is more: smaller
ones save little more and take longer to compile. An accelerator does all in one large multiply."""


class TrainState(NamedTuple):
    """All that changes while training."""

    parameters: Parameters
    moments: Any
    """Optax state of Adam: count, first and second moments."""


class Setting(NamedTuple):
    """All that a compiled program depends on; hashable."""

    architecture: Architecture
    sharing_order: SharingOrder
    precision: str
    weight_decay: float
    sequence_length: int


class Program(NamedTuple):
    """The compiled functions of one setting. Shapes of batches compile once each."""

    begin: Callable[[Any], TrainState]
    """Seed -> a fresh state."""
    advance: Callable[..., tuple[TrainState, jax.Array]]
    """(state, batches [S, B, T+1], learning rates [S], count) -> (state, mean losses [S]).

    The state passed in is consumed. Only the first `count` steps are done."""
    window_losses: Callable[[Parameters, jax.Array], jax.Array]
    """(parameters, windows [n, B, T+1]) -> mean loss of each window [n, B], nats a token."""


def use_compilation_cache(cache_dir: Path) -> None:
    """Keep compiled programs between processes, apart for each kind of machine."""
    folder = Path(cache_dir) / "compiled" / content_key(machine_identity(), jax.__version__)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def optimizer(weight_decay: float) -> optax.GradientTransformation:
    """AdamW up to the learning rate: clip by global norm, Adam, decay of matrices."""
    return optax.chain(
        optax.clip_by_global_norm(schedule.GRADIENT_CLIP),
        optax.scale_by_adam(schedule.BETA1, schedule.BETA2),
        optax.add_decayed_weights(
            weight_decay, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
    )


def learning_rate_factors(architecture: Architecture, parameters: Parameters) -> Parameters:
    """For each leaf, its learning rate over that of the blocks' matrices."""
    apart = (schedule.embedding_learning_rate_for(architecture, schedule.BASE_BATCH_TOKENS)
             / schedule.learning_rate_for(architecture, schedule.BASE_BATCH_TOKENS))

    def factor(path: tuple[Any, ...], leaf: jax.Array) -> float:
        width_free = leaf.ndim == 1 or "embedding_VxD" in jax.tree_util.keystr(path)
        return apart if width_free else 1.0

    return jax.tree_util.tree_map_with_path(factor, parameters)


@functools.lru_cache(maxsize=8)
def program_for(setting: Setting) -> Program:
    """The compiled functions of a setting; made once a process."""
    compute_dtype = jnp.bfloat16 if setting.precision == "bfloat16" else jnp.float32

    chunk = None
    if jax.default_backend() == "cpu":
        chunk = max(ATTENTION_CHUNK, setting.sequence_length // 4)

    def build(key: jax.Array) -> Decoder:
        return Decoder(
            setting.architecture, rngs=nnx.Rngs(key), sharing_order=setting.sharing_order,
            compute_dtype=compute_dtype, attention_chunk=chunk,
        )

    graph, abstract = nnx.split(nnx.eval_shape(lambda: build(jax.random.key(0))))
    adam = optimizer(setting.weight_decay)
    factors = learning_rate_factors(setting.architecture, nnx.to_pure_dict(abstract))

    def losses(parameters: Parameters, sequences_BxT1: jax.Array) -> jax.Array:
        model = nnx.merge(graph, _restored(abstract, parameters))
        return token_losses(model(sequences_BxT1[:, :-1]), sequences_BxT1[:, 1:])

    def mean_loss(parameters: Parameters, sequences_BxT1: jax.Array) -> jax.Array:
        return jnp.mean(losses(parameters, sequences_BxT1))

    def begin(seed: Any) -> TrainState:
        parameters = nnx.to_pure_dict(nnx.state(build(jax.random.key(seed))))
        return TrainState(parameters, adam.init(parameters))

    def step(state: TrainState, sequences: jax.Array, rate: jax.Array
             ) -> tuple[TrainState, jax.Array]:
        loss, gradient = jax.value_and_grad(mean_loss)(state.parameters, sequences)
        direction, moments = adam.update(gradient, state.moments, state.parameters)
        parameters = jax.tree.map(
            lambda value, change, factor: value - rate * factor * change,
            state.parameters, direction, factors,
        )
        return TrainState(parameters, moments), loss

    def advance(state: TrainState, batches_SxBxT1: jax.Array, rates_S: jax.Array, count: jax.Array
                ) -> tuple[TrainState, jax.Array]:
        def body(index: jax.Array, carry: tuple[TrainState, jax.Array]
                 ) -> tuple[TrainState, jax.Array]:
            state, losses_S = carry
            state, loss = step(state, batches_SxBxT1[index], rates_S[index])
            return state, losses_S.at[index].set(loss)

        return jax.lax.fori_loop(0, count, body, (state, jnp.zeros(rates_S.shape)))

    def window_losses(parameters: Parameters, windows: jax.Array) -> jax.Array:
        return jax.lax.map(lambda batch: jnp.mean(losses(parameters, batch), axis=-1), windows)

    return Program(jax.jit(begin), jax.jit(advance, donate_argnums=0), jax.jit(window_losses))


def _restored(abstract: nnx.State, parameters: Parameters) -> nnx.State:
    """The model's own state holding `parameters`, a tree of plain dicts."""
    leaves = jax.tree.leaves(parameters)
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)
