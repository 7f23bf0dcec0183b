"""The trainer: branches, determinism, divergence, resuming, populations, kept weights."""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest
from flax import nnx

from shapelaw.results.record import ArchitectureFields, RunRecord, decode_record
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.training import seed_population
from shapelaw.sweeps.training import sequence_order as order
from shapelaw.sweeps.training import step as training_step
from shapelaw.sweeps.training.model import Decoder, normal_weights
from shapelaw.sweeps.training.run_record import thinned
from shapelaw.sweeps.training.seed_population import populations, train_population
from shapelaw.sweeps.training.step import Setting, parts_of, program_for
from shapelaw.sweeps.training.trainer import Progress, train_trunk
from shapelaw.sweeps.training.trunk import (
    CorpusSpec,
    TrunkJob,
    TrunkPlan,
    job_keys,
    resolve,
    weights_file,
)
from shapelaw.sweeps.worker_environment import worker_environment


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Three hundred thousand bytes that have something to learn in them."""
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
        "architecture": ArchitectureFields(
            vocab_size=256, d_model=16, n_blocks=2, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=32
        ),
        "tokens": (8_192, 16_384, 32_768),
        "corpus": CorpusSpec(text=(text,)),
        "sequence_length": 32,
        "batch_sequences": 16,
    }
    return TrunkJob(**(fields | changes))


def losses(records: Sequence[RunRecord]) -> list[float | None]:
    return [record.loss for record in records]


@pytest.fixture(scope="module")
def records(text: str, cache: Path) -> list[RunRecord]:
    return list(train_trunk(job(text), cache_dir=cache))


def test_a_trunk_gives_one_record_a_budget_that_learns_with_it(
    text: str, records: list[RunRecord]
) -> None:
    plan = resolve(job(text))
    assert [record.run_key for record in records] == job_keys(job(text))
    assert {record.trunk_key for record in records} == {plan.trunk_key}
    assert [record.tokens for record in records] == [8_192, 16_384, 32_768]
    assert all(record.status == "finished" for record in records)
    learnt = [record.loss for record in records if record.loss is not None]
    assert math.log(256) > learnt[0] > learnt[1] > learnt[2] > 0
    assert all(record.loss_standard_error for record in records)
    for record in records:
        assert 10 < len(record.curve) <= 30
        assert record.curve[-1].tokens == record.tokens
        assert record.loss is not None
        assert record.corpus.bytes_per_token is not None
        assert record.bits_per_byte == pytest.approx(
            record.loss / math.log(2) / record.corpus.bytes_per_token
        )
        assert decode_record(msgspec.json.encode(record), "here") == record


def test_a_branch_is_the_run_that_was_trained_alone(
    text: str, cache: Path, records: list[RunRecord]
) -> None:
    warmup = records[0].recipe.warmup_steps
    alone = job(text, tokens=(16_384,), warmup_steps=warmup)
    assert job_keys(alone) == [records[1].run_key]
    assert losses(list(train_trunk(alone, cache_dir=cache))) == [records[1].loss]


def test_three_budgets_cost_less_than_seven_tenths_of_three_runs(text: str) -> None:
    plan = resolve(job(text, tokens=(64_000, 128_000, 256_000)))
    assert plan.flops <= 0.70 * sum(branch.flops for branch in plan.branches)


def test_the_same_losses_to_the_last_digit_in_other_processes(
    text: str, cache: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, msgspec; from pathlib import Path\n"
        "from shapelaw.sweeps.training.trunk import TrunkJob\n"
        "from shapelaw.sweeps.training.trainer import train_trunk\n"
        "job = msgspec.json.decode(sys.argv[1], type=TrunkJob)\n"
        "print([repr(r.loss) for r in train_trunk(job, cache_dir=Path(sys.argv[2]))])"
    )
    encoded = msgspec.json.encode(job(text, tokens=(8_192,))).decode()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", code, encoded, str(folder)],
            text=True,
            stdout=subprocess.PIPE,
            env=worker_environment(),
        )
        for folder in (cache, tmp_path)  # one with warm caches, one with none
    ]
    said = [worker.communicate()[0] for worker in workers]
    assert said[0] == said[1]
    assert "'" in said[0]


def test_divergence_is_a_result(text: str, cache: Path, records: list[RunRecord]) -> None:
    wild = list(train_trunk(job(text, learning_rate=1e4), cache_dir=cache))
    assert [record.status for record in wild] == ["diverged"] * 3
    assert all(record.loss is None and record.reason for record in wild)
    assert {record.run_key for record in wild}.isdisjoint(record.run_key for record in records)


def test_progress_reaches_its_end(text: str, cache: Path) -> None:
    seen: list[Progress] = []
    list(train_trunk(job(text), cache_dir=cache, progress=seen.append))
    assert seen[-1].tokens == seen[-1].total_tokens == resolve(job(text)).trained_tokens
    assert all(one.tokens < other.tokens for one, other in itertools.pairwise(seen))


def test_a_population_is_its_members_trained_alone(
    text: str, cache: Path, records: list[RunRecord]
) -> None:
    members = [
        job(text),
        job(text, seed=1),
        job(text, learning_rate=0.5),
        job(text, learning_rate=1e4),
    ]
    together = list(train_population(members, cache_dir=cache, members=4))
    assert [record.run_key for record in together] == [
        keys[budget] for budget in range(3) for keys in map(job_keys, members)
    ]
    by_key = {record.run_key: record for record in together}
    alone = [
        *records,
        *train_trunk(members[1], cache_dir=cache),
        *train_trunk(members[2], cache_dir=cache),
    ]
    for record in alone:
        assert by_key[record.run_key].loss == pytest.approx(record.loss, abs=1e-4)
    for key in job_keys(members[3]):
        assert by_key[key].status == "diverged"
    assert populations([*members, job(text, tokens=(8_192,))]) == [
        members,
        [job(text, tokens=(8_192,))],
    ]
    with pytest.raises(BadInput, match="differ in more"):
        list(train_population([job(text), job(text, weight_decay=0.0)], cache_dir=cache))


def test_a_population_in_bfloat16_learns_as_its_members_do(text: str, cache: Path) -> None:
    """What an accelerator runs, in its arithmetic."""
    members = [job(text, seed=seed, precision="bfloat16") for seed in (0, 1)]
    together = list(train_population(members, cache_dir=cache, members=2))
    assert {record.recipe.precision for record in together} == {"bfloat16"}
    alone = {
        record.run_key: record.loss
        for one in members
        for record in train_trunk(one, cache_dir=cache)
    }
    assert len(alone) == len(together) == 6
    for record in together:
        assert record.loss == pytest.approx(alone[record.run_key], rel=0.02)


@pytest.mark.parametrize(
    ("rates", "most", "size"),
    [
        ([1, 2, 4, 4.2], 64, 4),  # stops where twice as many are hardly faster
        ([1, 1.05], 64, 1),  # a device that one run fills
        ([1, 2, 4], 3, 3),  # no more than there are runs
        ([1, 2, 4, None], 64, 4),  # memory ends
    ],
)
def test_the_size_of_a_population_is_measured(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rates: list[float | None],
    most: int,
    size: int,
) -> None:
    asked: list[int] = []

    def measure(job: TrunkJob, plan: TrunkPlan, members: int) -> float:
        asked.append(members)
        rate = rates[len(asked) - 1]
        if rate is None:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED")
        return rate

    monkeypatch.setattr(seed_population, "tokens_per_second", measure)
    monkeypatch.setattr(seed_population, "accelerator_expected", lambda: True)
    for _ in range(2):  # the second time it is known
        assert seed_population.population_size(job(text), most, tmp_path) == size
    assert len(asked) == len(rates)
    assert max(asked) <= most


class Killed(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize("kill_at", [7_500, 20_000, 34_000])
def test_a_killed_run_goes_on_from_its_checkpoint(
    text: str,
    cache: Path,
    tmp_path: Path,
    records: list[RunRecord],
    kill_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shapelaw.sweeps.training.trainer.DISPATCH_TOKENS", 2_048)

    def kill(progress: Progress) -> None:
        if progress.tokens >= kill_at:
            raise Killed

    whole = job(text)
    options: dict[str, Any] = {
        "cache_dir": cache,
        "checkpoint_dir": tmp_path,
        "checkpoint_seconds": 0.0,
    }
    before: list[RunRecord] = []
    with pytest.raises(Killed):
        before.extend(train_trunk(whole, progress=kill, **options))
    seen: list[Progress] = []
    after = list(train_trunk(whole, progress=seen.append, **options))
    assert losses(after) == losses(records)
    assert seen[0].tokens > kill_at / 2
    assert not list(tmp_path.glob("*/[0-9]*"))


def spoil(path: Path) -> None:
    """What a failing disk does to a byte; a digit of JSON stays a digit."""
    content = bytearray(path.read_bytes())
    at = content.index(b'"step": ') + 8 if b'"step": ' in content else len(content) // 2
    content[at] = ord("7") if content[at] != ord("7") else ord("8")
    path.write_bytes(content)


unread_futures = pytest.mark.filterwarnings(
    # TensorStore tells of the reads that failed after the first one, when nobody listens any more.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


@unread_futures
@pytest.mark.parametrize("spoilt", ["states/d/*", "states/manifest.ocdbt", "loop/metadata"])
def test_a_spoilt_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, spoilt: str) -> None:
    from shapelaw.sweeps.training.checkpoints import Checkpoints, Position, Stretch

    state = {"weights": jnp.arange(64.0).reshape(8, 8)}
    kept = Checkpoints(tmp_path, 0.0)
    for step in (1, 2):
        position = Position(trunk=Stretch(step=step, losses=[[1.0]], trouble=[None]))
        kept.save(position, jax.tree.map(lambda leaf, step=step: leaf + step, state), None)
    kept.close()
    for number, expected in ((1, 1), (0, None)):
        for path in tmp_path.glob(f"{number}/{spoilt}"):
            spoil(path)
        again = Checkpoints(tmp_path, 0.0)
        found = again.restore(state)
        again.close()
        assert again.spoilt == 2 - number
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert found[0].trunk.step == expected
            trunk: Any = found[1]
            assert np.array_equal(trunk["weights"], state["weights"] + expected)


@unread_futures
def test_a_spoilt_checkpoint_loses_no_run(
    text: str,
    cache: Path,
    tmp_path: Path,
    records: list[RunRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shapelaw.sweeps.training.trainer.DISPATCH_TOKENS", 2_048)

    def kill(progress: Progress) -> None:
        if progress.tokens >= 20_000:
            raise Killed

    options: dict[str, Any] = {
        "cache_dir": cache,
        "checkpoint_dir": tmp_path,
        "checkpoint_seconds": 0.0,
    }
    with pytest.raises(Killed):
        list(train_trunk(job(text), progress=kill, **options))
    newest = max(tmp_path.glob("*/[0-9]*"), key=lambda step: int(step.name))
    spoil(newest / "states" / "manifest.ocdbt")
    seen: list[Progress] = []
    after = list(train_trunk(job(text), progress=seen.append, **options))
    assert losses(after) == losses(records)
    assert seen[0].note == "spoilt checkpoints: 1; it goes on from one before"
    assert not any(stand.note for stand in seen[1:])
    assert not list(tmp_path.glob("*/[0-9]*"))


def test_kept_weights_are_the_trained_model(
    text: str, cache: Path, tmp_path: Path, records: list[RunRecord]
) -> None:
    """Put back into a fresh decoder, they give the loss of the record."""
    from safetensors.numpy import load_file

    from shapelaw.sweeps.corpus.token_corpus import load_corpus
    from shapelaw.sweeps.training.model import token_losses

    keeping = job(text, tokens=(8_192,), keep_weights=str(tmp_path / "weights"))
    [record] = train_trunk(keeping, cache_dir=cache)
    tensors = load_file(weights_file(tmp_path / "weights", record.run_key))
    architecture = resolve(keeping).architecture
    assert sum(tensor.size for tensor in tensors.values()) == architecture.total_parameters

    model = Decoder(architecture, draw=normal_weights(99))
    model.embedding_VxD[...] = tensors["model.embed_tokens.weight"]
    model.norm_D[...] = tensors["model.norm.weight"]
    for number, block in enumerate(model.blocks):

        def read(name: str, number: int = number) -> np.ndarray:
            return tensors[f"model.layers.{number}.{name}.weight"].T

        block.attention_norm_D[...] = read("input_layernorm")
        block.mlp_norm_D[...] = read("post_attention_layernorm")
        block.query_key_value[...] = np.concatenate(
            [read(f"self_attn.{letter}_proj") for letter in "qkv"], axis=1
        )
        block.attention_out[...] = read("self_attn.o_proj")
        block.gate_up[...] = np.concatenate([read("mlp.gate_proj"), read("mlp.up_proj")], axis=1)
        block.down[...] = read("mlp.down_proj")
    windows = load_corpus(keeping.corpus, cache).validation_windows(32).astype(np.int32)
    logits = nnx.jit(lambda model, tokens: model(tokens))(model, windows[:, :-1])
    assert float(token_losses(logits, jnp.asarray(windows[:, 1:])).mean()) == pytest.approx(
        record.loss, abs=1e-5
    )


def test_every_shape_of_a_seed_reads_the_same_text(text: str) -> None:
    train = np.arange(10_001)
    small = np.concatenate([order.sequences(train, 3, first, 4, 50) for first in range(0, 40, 4)])
    large = np.concatenate([order.sequences(train, 3, first, 10, 50) for first in (0, 10, 20, 30)])
    np.testing.assert_array_equal(small, large)
    assert not np.array_equal(small, order.sequences(train, 4, 0, 40, 50))


def test_an_epoch_reads_every_window_once_and_the_next_in_another_order() -> None:
    train = np.arange(5_001)
    first, second = (order.sequences(train, 0, start, 100, 50)[:, 0] for start in (0, 100))
    assert sorted(first) == sorted(second) == list(range(0, 5_000, 50))
    assert list(first) != list(second)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1_000])
def test_permuted_is_a_permutation(size: int) -> None:
    for key in (0, 1, 2**64 - 1):
        assert sorted(order.permuted(np.arange(size), size, key)) == list(range(size))


def test_the_curve_ends_where_the_loss_stops_being_a_number() -> None:
    curve = thinned([3.0] * 100 + [math.nan] * 5, 10)
    assert len(curve) == 30
    assert curve[-1].tokens == 1_000
    assert {point.loss for point in curve} == {3.0}
    assert thinned([math.nan], 10) == []


def test_a_vocabulary_too_small_for_the_corpus_is_said(
    text: str, cache: Path, tmp_path: Path
) -> None:
    np.arange(40_000, dtype="<u2").tofile(tmp_path / "tokens.bin")
    bad = job(text, corpus=CorpusSpec(tokens=str(tmp_path / "tokens.bin")))
    with pytest.raises(BadInput, match=r"vocab_size = 256: .* holds token 39999"):
        list(train_trunk(bad, cache_dir=cache))


SHARDED = """
import sys, msgspec
from pathlib import Path
from shapelaw.sweeps.training.trunk import TrunkJob
from shapelaw.sweeps.training.trainer import train_trunk
from shapelaw.scaling.errors import BadInput
import jax
import jax.numpy as jnp
assert len(jax.devices()) == 8
job = msgspec.json.decode(sys.argv[1], type=TrunkJob)
for devices, fully in ((1, False), (8, False), (8, True)):
    for record in train_trunk(job, cache_dir=Path(sys.argv[2]), devices=devices,
                              fully_sharded=fully):
        print(devices, fully, repr(record.loss))
try:
    list(train_trunk(msgspec.structs.replace(job, batch_sequences=12),
                     cache_dir=Path(sys.argv[2]), devices=8))
except BadInput as error:
    print(error, file=sys.stderr)
"""


def test_eight_devices_give_the_loss_of_one(text: str, cache: Path) -> None:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
    }
    encoded = msgspec.json.encode(job(text, tokens=(4_096, 8_192))).decode()
    done = subprocess.run(
        [sys.executable, "-c", SHARDED, encoded, str(cache)],
        text=True,
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = np.array([float(line.split()[2]) for line in done.stdout.splitlines()]).reshape(3, 2)
    np.testing.assert_allclose(said, said[[0, 0, 0]], atol=1e-5)
    assert "batch_sequences = 12: must be a multiple of the 8 devices" in done.stderr


def test_fully_sharded_parameters_are_spread() -> None:
    from shapelaw.sweeps.training.sharding import DATA, data_mesh, state_shardings

    mesh = data_mesh(1)
    leaf = jax.ShapeDtypeStruct((3, 8, 4), np.float32)
    assert state_shardings(mesh, leaf, True).spec == jax.sharding.PartitionSpec(None, DATA)
    assert state_shardings(mesh, leaf, False).spec == jax.sharding.PartitionSpec()
    with pytest.raises(BadInput, match="devices = 99"):
        data_mesh(99)


@pytest.mark.parametrize(
    ("batch", "length", "parts"), [(16, 256, 8), (8, 128, 2), (4, 128, 1), (3, 512, 3), (7, 256, 7)]
)
def test_parts_of_a_batch_are_whole_and_few(batch: int, length: int, parts: int) -> None:
    assert parts_of(batch, length) == parts


# A weight on the edge of two levels rounds either way, so rounded weights are followed less far.
@pytest.mark.parametrize(("weight_format", "steps"), [("f16", 4), ("int4_g32", 2)])
def test_a_batch_in_parts_trains_as_a_whole_one(
    weight_format: str, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Architecture(
        vocab_size=64, d_model=32, n_blocks=2, sharing=2, n_heads=2, n_kv_heads=1, head_dim=16,
        d_ff=64,
    )  # fmt: skip
    setting = Setting(shape, "float32", 0.1, 32, weight_format=weight_format)
    batches = np.random.default_rng(0).integers(0, 64, (1, 4, 6, 33)).astype(np.int32)
    rates = np.full((1, 4), 0.003, np.float32)
    found = {}
    for tokens in (64, 1024):
        monkeypatch.setattr(training_step, "PART_TOKENS", tokens)
        program_for.cache_clear()
        program = program_for(setting)
        state, losses = program.advance(program.begin(np.zeros(1, np.int32)), batches, rates, steps)
        found[tokens] = np.asarray(losses), jax.tree.leaves(state.parameters)
    program_for.cache_clear()
    assert parts_of(6, 32) == 1
    np.testing.assert_allclose(found[64][0], found[1024][0], rtol=1e-5)
    for parted, whole in zip(found[64][1], found[1024][1], strict=True):
        np.testing.assert_allclose(parted, whole, atol=2e-5)
