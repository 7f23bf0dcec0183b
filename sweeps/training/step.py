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
import numpy as np
import optax  # type: ignore[import-untyped]
from flax import nnx

from shapelaw.results.record import content_key
from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.training import schedule, sharding
from shapelaw.sweeps.training.model import (
    Decoder,
    Draw,
    no_weights,
    normal_weights,
    token_losses,
)
from shapelaw.sweeps.training.program_cache import KeptFunction
from shapelaw.sweeps.training.weight_formats import straight_through
from shapelaw.sweeps.worker_environment import machine_identity

Parameters = Any  # a pytree of arrays


ATTENTION_CHUNK = 64
"""Queries attended at a time on a CPU, or a quarter of the sequence where that is more: smaller
ones save little more and take longer to compile. An accelerator does all in one large multiply."""

PART_TOKENS = 512
"""Tokens of a batch that a CPU core takes forward and back at a time: the arrays of a small model
then stay in its second-level cache. Gradients of the parts add up to that of the batch."""


class TrainState(NamedTuple):
    """All that changes while training."""

    parameters: Parameters
    moments: Any
    """Optax state of Adam: count, first and second moments."""


class Setting(NamedTuple):
    """All that a compiled program depends on; hashable."""

    architecture: Architecture
    precision: str
    weight_decay: float
    sequence_length: int
    trainer_version: schedule.TrainerVersion = schedule.TRAINER_VERSION
    weight_format: str = "f16"
    """What the forward pass of a training step rounds the weights to; f16: nothing."""
    members: int = 1
    """Runs trained as one population: of one shape, each with its own seed and learning rate."""
    devices: int = 1
    """Devices that one run is split among."""
    fully_sharded: bool = False
    """With several devices: split the parameters too, not the batch alone."""


class Program(NamedTuple):
    """The compiled functions of a setting. P is the number of members, S the steps a dispatch."""

    begin: Callable[[np.ndarray], TrainState]
    """Seeds [P] -> a fresh state."""
    advance: Callable[..., tuple[TrainState, jax.Array]]
    """(state, batches [P, S, B, T+1], learning rates [P, S], count) -> (state, losses [P, S]).

    The state passed in is consumed. Only the first `count` steps are done."""
    window_losses: Callable[[Parameters, np.ndarray], jax.Array]
    """(parameters, windows [n, B, T+1]) -> mean loss of each window [P, n, B], nats a token."""
    member: Callable[[Parameters, int], Parameters]
    """(parameters, number) -> the parameters of one member."""
    members: int
    devices: int


def parts_of(batch_sequences: int, sequence_length: int) -> int:
    """In how many equal parts a CPU core takes a batch: the fewest of PART_TOKENS each at most."""
    most = max(1, PART_TOKENS // sequence_length)
    return next(
        parts
        for parts in range(1, batch_sequences + 1)
        if batch_sequences % parts == 0 and batch_sequences // parts <= most
    )


def use_compilation_cache(cache_dir: Path) -> Path:
    """Keep compiled programs between processes, apart for each kind of machine; the folder."""
    folder = Path(cache_dir) / "compiled" / content_key(machine_identity(), jax.__version__)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def optimizer(weight_decay: float) -> optax.GradientTransformation:
    """AdamW up to the learning rate: clip by global norm, Adam, decay of matrices."""
    return optax.chain(
        optax.clip_by_global_norm(schedule.GRADIENT_CLIP),
        optax.scale_by_adam(schedule.BETA1, schedule.BETA2),
        optax.add_decayed_weights(
            weight_decay, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
    )


def learning_rate_factors(
    architecture: Architecture,
    parameters: Parameters,
    trainer_version: schedule.TrainerVersion = schedule.TRAINER_VERSION,
) -> Parameters:
    """For each leaf, its learning rate over that of the blocks' matrices."""
    tokens = schedule.BASE_BATCH_TOKENS
    matrix = schedule.learning_rate_for(architecture, tokens)
    gain = schedule.gain_learning_rate_for(architecture, tokens)
    own = {
        "['embedding_VxD']": schedule.embedding_learning_rate_for(architecture, tokens),
        "['norm_D']": schedule.final_gain_learning_rate_for(
            architecture, tokens, trainer_version=trainer_version
        ),
    }

    def factor(path: tuple[Any, ...], leaf: jax.Array) -> float:
        name = jax.tree_util.keystr(path)
        if name in own:
            return own[name] / matrix
        return gain / matrix if leaf.ndim == 1 else 1.0

    return jax.tree_util.tree_map_with_path(factor, parameters)


@functools.lru_cache(maxsize=8)
def program_for(setting: Setting, kept_in: Path | None = None) -> Program:
    """The functions of a setting, compiled when first called; made once a process.

    Args:
        setting: what they depend on.
        kept_in: a folder that keeps their traces between processes.
    """
    compute_dtype = jnp.bfloat16 if setting.precision == "bfloat16" else jnp.float32

    chunk = None
    if jax.default_backend() == "cpu":
        chunk = max(ATTENTION_CHUNK, setting.sequence_length // 4)

    def build(draw: Draw) -> Decoder:
        return Decoder(
            setting.architecture,
            draw=draw,
            compute_dtype=compute_dtype,
            attention_chunk=chunk,
            embedding_deviation=schedule.embedding_deviation_for(
                setting.architecture, setting.trainer_version
            ),
            final_gain=schedule.final_gain_for(setting.architecture, setting.trainer_version),
        )

    graph, abstract = nnx.split(nnx.eval_shape(lambda: build(no_weights)))
    adam = optimizer(setting.weight_decay)
    factors = learning_rate_factors(
        setting.architecture, nnx.to_pure_dict(abstract), setting.trainer_version
    )
    empty_moments = jax.eval_shape(adam.init, nnx.to_pure_dict(abstract))

    def losses(parameters: Parameters, sequences_BxT1: jax.Array) -> jax.Array:
        model = nnx.merge(graph, _restored(abstract, parameters))
        return token_losses(model(sequences_BxT1[:, :-1]), sequences_BxT1[:, 1:])

    def mean_loss(parameters: Parameters, sequences_BxT1: jax.Array) -> jax.Array:
        return jnp.mean(losses(parameters, sequences_BxT1))

    def loss_and_gradient(
        parameters: Parameters, sequences_BxT1: jax.Array
    ) -> tuple[jax.Array, Parameters]:
        if setting.weight_format != "f16":
            # Rounded once a step: the derivative of the rounding is one.
            parameters = straight_through(parameters, setting.weight_format)
        parts = 1
        if jax.default_backend() == "cpu" and setting.devices == 1:
            parts = parts_of(sequences_BxT1.shape[0], setting.sequence_length)
        if parts == 1:
            return jax.value_and_grad(mean_loss)(parameters, sequences_BxT1)

        def add(sums: Any, part: jax.Array) -> tuple[Any, None]:
            found = jax.value_and_grad(mean_loss)(parameters, part)
            return jax.tree.map(jnp.add, sums, found), None

        nothing = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, parameters))
        sums, _ = jax.lax.scan(
            add, nothing, sequences_BxT1.reshape(parts, -1, sequences_BxT1.shape[1])
        )
        loss, gradient = jax.tree.map(lambda leaf: leaf / parts, sums)
        return loss, gradient

    def begin(seed: int) -> TrainState:
        """A fresh state, on the host; Adam's count and moments begin as zeros."""
        parameters = nnx.to_pure_dict(nnx.state(build(normal_weights(seed))))
        moments = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), empty_moments)
        return TrainState(parameters, moments)

    def step(
        state: TrainState, sequences: jax.Array, rate: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        loss, gradient = loss_and_gradient(state.parameters, sequences)
        direction, moments = adam.update(gradient, state.moments, state.parameters)
        parameters = jax.tree.map(
            lambda value, change, factor: value - rate * factor * change,
            state.parameters,
            direction,
            factors,
        )
        return TrainState(parameters, moments), loss

    def advance(
        state: TrainState, batches_SxBxT1: jax.Array, rates_S: jax.Array, count: jax.Array
    ) -> tuple[TrainState, jax.Array]:
        def body(
            index: jax.Array, carry: tuple[TrainState, jax.Array]
        ) -> tuple[TrainState, jax.Array]:
            state, losses_S = carry
            state, loss = step(state, batches_SxBxT1[index], rates_S[index])
            return state, losses_S.at[index].set(loss)

        return jax.lax.fori_loop(0, count, body, (state, jnp.zeros(rates_S.shape)))

    def window_losses(parameters: Parameters, windows: jax.Array) -> jax.Array:
        return jax.lax.map(lambda batch: jnp.mean(losses(parameters, batch), axis=-1), windows)

    if setting.devices > 1:
        return _sharded(setting, begin, advance, window_losses)
    if setting.members > 1:
        return _population(setting, begin, advance, window_losses)
    one_advance = KeptFunction(
        advance,
        lambda state, *rest: (state, 0),
        identity=f"advance {setting}",
        folder=kept_in,
        donate_first=True,
    )
    one_window_losses = KeptFunction(
        window_losses,
        lambda *arguments: 0,
        identity=f"window losses {setting}",
        folder=kept_in,
    )

    def advance_one(
        state: TrainState, batches: np.ndarray, rates: np.ndarray, count: int
    ) -> tuple[TrainState, jax.Array]:
        state, losses_S = one_advance(state, batches[0], rates[0], np.int32(count))
        return state, losses_S[None]

    return Program(
        begin=lambda seeds: jax.device_put(begin(seeds[0])),
        advance=advance_one,
        window_losses=lambda parameters, windows: one_window_losses(parameters, windows)[None],
        member=lambda parameters, number: parameters,
        members=1,
        devices=1,
    )


def _population(
    setting: Setting,
    begin: Callable[[int], TrainState],
    advance: Callable[..., Any],
    window_losses: Callable[..., Any],
) -> Program:
    """The same functions for many runs at once: every array has one axis more, in front."""

    def begin_all(seeds: np.ndarray) -> TrainState:
        states = [begin(seed) for seed in seeds]
        return jax.device_put(jax.tree.map(lambda *leaves: np.stack(leaves), *states))

    return Program(
        begin=begin_all,
        advance=jax.jit(jax.vmap(advance, in_axes=(0, 0, 0, None)), donate_argnums=0),
        window_losses=jax.jit(jax.vmap(window_losses, in_axes=(0, None))),
        member=lambda parameters, number: jax.tree.map(lambda leaf: leaf[number], parameters),
        members=setting.members,
        devices=1,
    )


def _sharded(
    setting: Setting,
    begin: Callable[[int], TrainState],
    advance: Callable[..., Any],
    window_losses: Callable[..., Any],
) -> Program:
    """The same functions with their arrays spread over several devices."""
    mesh = sharding.data_mesh(setting.devices)
    same = sharding.replicated(mesh)
    batch = sharding.batch_sharding(mesh)
    state = sharding.state_shardings(mesh, begin(0), setting.fully_sharded)
    spread_advance = jax.jit(
        advance,
        in_shardings=(state, batch, same, same),
        out_shardings=(state, same),
        donate_argnums=0,
    )
    spread_losses = jax.jit(
        window_losses, in_shardings=(state.parameters, batch), out_shardings=same
    )

    def advance_one(
        state: TrainState, batches: np.ndarray, rates: np.ndarray, count: int
    ) -> tuple[TrainState, jax.Array]:
        state, losses_S = spread_advance(state, batches[0], rates[0], count)
        return state, losses_S[None]

    return Program(
        begin=lambda seeds: jax.device_put(begin(seeds[0]), state),
        advance=advance_one,
        window_losses=lambda parameters, windows: spread_losses(parameters, windows)[None],
        member=lambda parameters, number: parameters,
        members=1,
        devices=setting.devices,
    )


def _restored(abstract: nnx.State, parameters: Parameters) -> nnx.State:
    """The model's own state holding `parameters`, a tree of plain dicts."""
    leaves = jax.tree.leaves(parameters)
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)
