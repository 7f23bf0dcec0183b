"""The study of an answer, in storages Optuna opens."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from pathlib import Path

import optuna
import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.search.answer.answer import SAMPLED
from shapelaw.search.answer.query import Budget, query
from shapelaw.search.pareto.optuna_study import quiet
from shapelaw.search.space.space import Pattern, Range, Space
from tests.published_law import LITERATURE

SPACE = Space(
    name="few",
    d_model=Range(256, 1024, 256),
    n_blocks=[4, 8, 24],
    sharing=[1, 2],
    gqa_group=[1, 4],
    mlp_attention_ratio=[1.0, 3.0],
    attention=["full", Pattern(512, 4)],
    weight_bits=[4, 8],
)
HUGE = Space(
    name="huge",
    d_model=Range(128, 8192, 16),
    n_blocks=Range(1, 128, 1),
    sharing=[1, 2, 3, 4],
    gqa_group=[1, 2, 3, 4, 5, 6, 8],
    head_dim=[32, 64, 128],
    d_ff=Range(128, 32768, 8),
    weight_bits=[3, 4, 8, 16],
)
BUDGET = Budget(memory_bytes="400MB", decode_tokens_per_s=20, tokens=1e12)


def ask(storage: str | None, space: Space = SPACE, seconds: float = 5.0):  # type: ignore[no-untyped-def]
    return query("iphone-13", LITERATURE, BUDGET, "chat", space, storage=storage, seconds=seconds)


def test_the_study_holds_the_front_and_optuna_agrees_that_it_is_one() -> None:
    answer = ask(None)
    study = answer.study
    best = {tuple(trial.values) for trial in study.best_trials}
    assert best == {(c.loss, c.decode_tokens_per_s) for c in answer.front}
    for trial in study.trials:
        assert set(trial.constraints) == {"memory", "decode", "together"}
        assert trial.params["d_model"] % 256 == 0
        # A constraint holds where the promise does.
        for name in ("memory", "decode"):
            kept = trial.user_attrs[f"probability_{name}"] >= answer.confidence
            assert (trial.constraints[name] <= 0) == kept or (
                abs(trial.user_attrs[f"probability_{name}"] - answer.confidence) < 0.02
            )
        low, high = trial.user_attrs["loss_interval"]
        assert low <= trial.user_attrs["expected_loss"] == trial.values[0] <= high
    assert study.metric_names == ["loss", "decode_tokens_per_s"]


def test_the_study_holds_what_was_looked_at_feasible_or_not_in_its_order() -> None:
    answer = ask(None)
    trials = answer.study.trials
    size = answer.certificate.space_size
    assert len(answer.front) < len(trials) <= SAMPLED + len(answer.front)
    assert len(trials) >= min(size, SAMPLED)
    kept = [all(miss <= 0 for miss in trial.constraints.values()) for trial in trials]
    assert 0.05 < sum(kept) / len(kept) < 0.95
    # The search goes from unshared to shared, and from shallow to deep in each.
    order = [(trial.params["sharing"], trial.params["n_blocks"]) for trial in trials]
    assert order == sorted(order)
    # What matters can be told from it: size decides loss, bits do not under this law.
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it says that low values are wanted; they are
        told = optuna.importance.get_param_importances(
            answer.study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(),
            target=lambda trial: trial.values[0],
        )
    assert next(iter(told)) in ("d_model", "n_blocks")
    assert told["weight_bits"] < 0.05


@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_asked_again_the_same_question_finds_its_study(tmp_path: Path, kind: str) -> None:
    storage = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else str(tmp_path / "study.log")
    first, again = ask(storage), ask(storage)
    assert first.study.study_name == again.study.study_name
    assert len(again.study.trials) == len(first.study.trials)
    assert again.to_dict()["study"] == {"storage": storage, "name": first.study.study_name}


def test_an_explored_study_resumes_and_another_sampler_can_go_on(tmp_path: Path) -> None:
    storage = str(tmp_path / "study.log")
    first = ask(storage, HUGE, seconds=2)
    count = len(first.study.trials)
    assert count >= min(300, len(first.front))
    second = ask(storage, HUGE, seconds=2)
    assert len(second.study.trials) >= count
    # A second search that starts from the first's trials cannot end up behind it.
    assert second.best.loss <= first.best.loss + 1e-12
    study = optuna.load_study(
        study_name=second.study.study_name,
        sampler=optuna.samplers.RandomSampler(seed=0),
        storage=second.study._storage,
    )
    trial = study.ask(study.trials[0].distributions)
    assert set(trial.params) == set(study.trials[0].params)


@pytest.mark.parametrize("storage", ["/nowhere/at/all.log", "nosuch://thing", "sqlite:////no/x.db"])
def test_a_storage_that_cannot_be_opened_is_one_line(storage: str) -> None:
    with pytest.raises(BadInput, match="storage") as caught:
        ask(storage)
    assert "\n" not in str(caught.value)


def test_optuna_dashboard_opens_the_stored_study(tmp_path: Path) -> None:
    pytest.importorskip("optuna_dashboard")
    storage = f"sqlite:///{tmp_path}/study.db"
    answer = ask(storage)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server_url = f"http://127.0.0.1:{port}"
    code = "from optuna_dashboard._cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", code, storage, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(120):
            try:
                with urllib.request.urlopen(f"{server_url}/api/studies", timeout=5) as page:
                    studies = json.load(page)
                break
            except OSError:
                assert server.poll() is None, "the dashboard stopped"
                time.sleep(0.25)
        listed = studies["studies"] if "studies" in studies else studies["study_summaries"]
        assert [each["study_name"] for each in listed] == [answer.study.study_name]
        number = listed[0]["study_id"]
        with urllib.request.urlopen(
            f"{server_url}/api/studies/{number}?after=0", timeout=10
        ) as page:
            detail = json.load(page)
        assert len(detail["trials"]) == len(answer.study.trials)
    finally:
        server.terminate()
        server.wait(timeout=10)
