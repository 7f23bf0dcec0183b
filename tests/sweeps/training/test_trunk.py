"""Jobs: keys, defaults, and that no framework is needed to know them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from shapelaw.results.record import ArchitectureFields
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.training.trunk import CorpusSpec, TrunkJob, job_keys, learning_rate_at, resolve

CYCLES = ArchitectureFields(
    vocab_size=256,
    d_model=32,
    n_blocks=4,
    sharing=2,
    sharing_order="cycle",
    n_heads=2,
    n_kv_heads=1,
    head_dim=16,
    d_ff=64,
)


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusSpec:
    (np.arange(50_000) % 256).astype("<u2").tofile(tmp_path / "t.bin")
    return CorpusSpec(tokens=str(tmp_path / "t.bin"))


def job(corpus: CorpusSpec, **changes: Any) -> TrunkJob:
    fields: dict[str, Any] = {
        "architecture": ArchitectureFields(
            vocab_size=256, d_model=32, n_blocks=4, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=64
        ),
        "tokens": (400_000, 100_000, 200_000),
        "corpus": corpus,
    }
    return TrunkJob(**(fields | changes))


def test_keys_change_with_what_defines_a_run_and_with_nothing_else(corpus: CorpusSpec) -> None:
    keys = job_keys(job(corpus))
    assert len(set(keys)) == 3
    for same in (
        {"design": "other"},
        {"keep_weights": "w"},
        {"tokens": (100_000, 200_000, 400_000)},
    ):
        assert job_keys(job(corpus, **same)) == keys
    for other in (
        {"seed": 1},
        {"learning_rate": 0.5},
        {"weight_decay": 0.0},
        {"architecture": CYCLES},
        {"architecture": msgspec.structs.replace(CYCLES, n_prelude=1)},
        {"architecture": msgspec.structs.replace(CYCLES, input_injection=True)},
        {"trainer_version": 3},
        {"sequence_length": 64},
        {"precision": "bfloat16"},
    ):
        assert set(job_keys(job(corpus, **other))).isdisjoint(keys)


def test_branches_share_what_the_smaller_has_paid(corpus: CorpusSpec) -> None:
    plan = resolve(job(corpus))
    assert [branch.tokens for branch in plan.branches] == sorted(
        branch.tokens for branch in plan.branches
    )
    per_token = plan.architecture.training_flops_per_token(plan.sequence_length)
    assert plan.flops == pytest.approx(per_token * plan.trained_tokens)


def test_the_learning_rate_warms_up_stays_and_decays(corpus: CorpusSpec) -> None:
    plan = resolve(job(corpus))
    branch = plan.branches[0]
    rates = [learning_rate_at(plan, branch, step) for step in range(branch.total_steps)]
    stable = rates[plan.warmup_steps - 1 : branch.stable_steps]
    assert set(stable) == {plan.learning_rate}
    assert np.all(np.diff(rates[: plan.warmup_steps]) > 0)
    assert np.all(np.diff(rates[branch.stable_steps :]) < 0)
    assert 0 < rates[-1] < 0.1 * plan.learning_rate


def test_a_job_survives_json(corpus: CorpusSpec) -> None:
    one = job(corpus)
    assert msgspec.json.decode(msgspec.json.encode(one), type=TrunkJob) == one


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tokens": ()}, "at least one budget"),
        ({"tokens": (100_000, 100_001)}, "same number of steps"),
    ],
)
def test_bad_jobs_are_said(corpus: CorpusSpec, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        resolve(job(corpus, **changes))


def test_a_vocabulary_below_the_tokenizers_is_said() -> None:
    with pytest.raises(BadInput, match="needs at least 512"):
        resolve(job(CorpusSpec(tokenizer="bpe-512")))


def test_keys_need_no_framework() -> None:
    code = (
        "import sys, shapelaw.sweeps.training.trunk, shapelaw.sweeps.corpus.token_corpus\n"
        "print([name for name in ('jax', 'flax', 'optax') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
