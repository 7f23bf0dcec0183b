"""Rounding in training is the rounding that files get; what it costs is measured in pairs."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from shapelaw.results.record import ArchitectureFields, RunRecord
from shapelaw.scaling.formats.quantisers import rounded
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.training.evaluation import validation_batches
from shapelaw.sweeps.training.format_losses import (
    SHARE_OF_TRAINING,
    TRAINING_OVER_FORWARD,
    measured_batches,
)
from shapelaw.sweeps.training.model import Decoder, no_weights, token_losses
from shapelaw.sweeps.training.seed_population import train_population
from shapelaw.sweeps.training.trainer import train_trunk
from shapelaw.sweeps.training.trunk import (
    MEASURED_TYPES,
    CorpusSpec,
    TrunkJob,
    job_keys,
    weights_file,
)
from shapelaw.sweeps.training.weight_formats import rounded_parameters, straight_through

SHAPE = ArchitectureFields(
    vocab_size=256, d_model=32, n_blocks=2, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=64
)


def tree(seed: int = 0) -> dict[str, Any]:
    """A tree with an embedding, a matrix whose inputs are no whole number of groups, and gains."""
    source = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return source.standard_normal(shape, np.float32)

    return {
        "embedding_VxD": normal(50, 40),
        "blocks": {
            0: {"down": normal(40, 64), "gate_up": normal(64, 96), "mlp_norm_D": normal(64)}
        },
    }


def test_training_rounds_as_files_are_rounded_and_passes_slopes_through() -> None:
    parameters = tree()
    on_host = rounded_parameters(parameters, "int4_g32_f32")
    compiled = jax.jit(straight_through, static_argnums=1)
    traced = compiled(jax.tree.map(jnp.asarray, parameters), "int4_g32")
    leaves = (jax.tree.leaves(one) for one in (on_host, traced, parameters))
    for host, ours, exact in zip(*leaves, strict=True):
        apart = np.abs(host - ours) > 1e-5
        # Halfway between two levels either is as near: as a group's most negative entry is.
        np.testing.assert_allclose(
            np.abs(host - exact)[apart], np.abs(ours - exact)[apart], rtol=1e-4
        )
        assert apart.mean() < 1 / 32

    def total(parameters: Any) -> jax.Array:
        leaves = jax.tree.leaves(straight_through(parameters, "int4_g32"))
        return jnp.stack([jnp.sum(jnp.sin(leaf)) for leaf in leaves]).sum()

    slopes = jax.grad(total)(jax.tree.map(jnp.asarray, parameters))
    for slope, ours in zip(jax.tree.leaves(slopes), jax.tree.leaves(traced), strict=True):
        assert np.mean(np.abs(slope - np.cos(ours)) > 1e-4) < 1 / 32


def test_a_matrix_is_rounded_in_rows_of_what_one_output_is_made_of() -> None:
    parameters = tree()
    found = rounded_parameters(parameters, "q4_0")
    gate_up = parameters["blocks"][0]["gate_up"]
    np.testing.assert_array_equal(found["blocks"][0]["gate_up"], rounded(gate_up.T, "q4_0").T)
    gain = parameters["blocks"][0]["mlp_norm_D"]
    np.testing.assert_array_equal(found["blocks"][0]["mlp_norm_D"], gain)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("text")
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    choose = np.random.default_rng(0)
    for number in range(100):
        line = " ".join(words[i] for i in choose.integers(0, len(words), 500))
        (folder / f"{number}.txt").write_text(line + "\n")
    return str(folder / "*.txt")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def job(text: str, **changes: Any) -> TrunkJob:
    fields: dict[str, Any] = {
        "architecture": SHAPE, "tokens": (16_384, 32_768), "corpus": CorpusSpec(text=(text,)),
        "sequence_length": 32, "batch_sequences": 16,
    }  # fmt: skip
    return TrunkJob(**(fields | changes))


@pytest.fixture(scope="module")
def records(text: str, cache: Path) -> list[RunRecord]:
    return list(train_trunk(job(text, keep_weights=str(cache / "w")), cache_dir=cache))


def kept_model(record: RunRecord, folder: Path, type_name: str | None) -> Decoder:
    """The decoder with the tensors of a kept file, each rounded on its own."""
    held = load_file(weights_file(folder, record.run_key))

    def matrix(*names: str) -> np.ndarray:
        parts = [held[f"model.{name}.weight"] for name in names]
        if type_name is not None:
            parts = [rounded(part, type_name) for part in parts]
        return np.concatenate([part.T for part in parts], axis=1)

    model = Decoder(record.architecture.build(), draw=no_weights)
    model.embedding_VxD[...] = jnp.asarray(matrix("embed_tokens").T)
    model.norm_D[...] = jnp.asarray(held["model.norm.weight"])
    for number, block in enumerate(model.blocks):
        at = f"layers.{number}."
        attention, mlp = at + "self_attn.", at + "mlp."
        block.query_key_value[...] = jnp.asarray(
            matrix(attention + "q_proj", attention + "k_proj", attention + "v_proj")
        )
        block.attention_out[...] = jnp.asarray(matrix(attention + "o_proj"))
        block.gate_up[...] = jnp.asarray(matrix(mlp + "gate_proj", mlp + "up_proj"))
        block.down[...] = jnp.asarray(matrix(mlp + "down_proj"))
        block.attention_norm_D[...] = jnp.asarray(held[f"model.{at}input_layernorm.weight"])
        block.mlp_norm_D[...] = jnp.asarray(held[f"model.{at}post_attention_layernorm.weight"])
    return model


def mean_loss(model: Decoder, record: RunRecord, text: str, cache: Path, batches: int) -> float:
    corpus = load_corpus(CorpusSpec(text=(text,)), cache)
    windows = validation_batches(corpus, record.recipe.sequence_length).sequences[:batches]

    @nnx.jit
    def loss(model: Decoder, batch: jax.Array) -> jax.Array:
        return jnp.mean(token_losses(model(batch[:, :-1]), batch[:, 1:]))

    return float(np.mean([loss(model, jnp.asarray(batch)) for batch in windows]))


def test_the_price_of_a_format_is_that_of_the_kept_weights_rounded_tensor_by_tensor(
    text: str, cache: Path, records: list[RunRecord]
) -> None:
    record = records[-1]
    assert set(record.loss_by_format) == set(MEASURED_TYPES)
    measured = record.loss_by_format["q4_0"]
    assert measured.tokens is not None
    batches = measured_batches(record.tokens, len(MEASURED_TYPES), 10**6)
    assert len(batches) == 1, "so that the first batch is the one"
    kept, stored = (
        mean_loss(kept_model(record, cache / "w", name), record, text, cache, 1)
        for name in (None, "q4_0")
    )
    assert stored - kept == pytest.approx(measured.difference, abs=2e-5)
    assert measured.loss == pytest.approx((record.loss or 0) + measured.difference)


def test_fewer_bits_cost_more(records: list[RunRecord]) -> None:
    for record in records:
        price = {name: one.difference for name, one in record.loss_by_format.items()}
        assert abs(price["q8_0"]) < 0.1 * price["q4_0"] < price["q2_k"]
        assert all(
            one.standard_error < 0.2 * price["q2_k"] for one in record.loss_by_format.values()
        )


def test_measuring_reads_no_more_than_its_share_of_training() -> None:
    for tokens in (600_000, 3_000_000, 40_000_000):
        read = 2 * len(MEASURED_TYPES) * 4096 * len(measured_batches(tokens, 8, 1000))
        assert read <= SHARE_OF_TRAINING * TRAINING_OVER_FORWARD * tokens
    assert list(measured_batches(10**12, 8, 16)) == list(range(16))


def test_training_with_rounded_weights_costs_less_than_rounding_after(
    text: str, cache: Path, records: list[RunRecord]
) -> None:
    """The same trunk to the last step before the decay, and keys of their own."""
    aware = job(text, weight_format="int4_g32")
    assert set(job_keys(aware)).isdisjoint(record.run_key for record in records)
    found = list(train_trunk(aware, cache_dir=cache))
    for after, through in zip(records, found, strict=True):
        assert through.recipe.weight_format == "int4_g32"
        assert through.loss_by_format["int4_g32_f32"].difference == 0.0
        assert after.loss is not None
        assert through.loss is not None
        assert after.loss < through.loss < after.loss_by_format["int4_g32_f32"].loss
    shared = [
        [point.loss for point in record.curve if point.tokens < 0.75 * record.tokens]
        for record in (records[-1], found[-1])
    ]
    assert shared[0] == shared[1]


def test_a_population_measures_each_of_its_members(text: str, cache: Path) -> None:
    jobs = [job(text, tokens=(16_384,), seed=seed, measured_types=("q4_0",)) for seed in (0, 1)]
    together = list(train_population(jobs, cache_dir=cache, members=2))
    alone = [record for one in jobs for record in train_trunk(one, cache_dir=cache)]
    for one, other in zip(together, alone, strict=True):
        assert set(one.loss_by_format) == {"q4_0"}
        assert one.loss_by_format["q4_0"].difference == pytest.approx(
            other.loss_by_format["q4_0"].difference, rel=0.05
        )
