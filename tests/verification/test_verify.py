"""Proxies keep what is compared; a verdict follows the runs, and only as far as they tell."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapelaw.results.evidence.shipped_evidence import shipped_population
from shapelaw.results.store import read_records
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.study_law import INDEX
from shapelaw.sweeps.running.run_sweep import run_sweep
from shapelaw.verification import verify as verification
from shapelaw.verification.proxies import proxy_of, slimming
from shapelaw.verification.question import read_question
from shapelaw.verification.verdict import (
    FALLS,
    OPEN,
    STANDS,
    Belief,
    Runs,
    _logistic,
    belief_after,
    rivals_of,
)

ANSWER = Path(__file__).with_name("answer.json")


def test_the_pick_comes_first_and_what_misses_the_budgets_is_no_rival() -> None:
    question = read_question(ANSWER)
    names = [each.name for each in question.finalists]
    assert names[0] == "pick"
    assert names[1] == "LLaMA-like"
    assert not question.finalists[1].rival
    assert 1 not in rivals_of(question)
    assert len(rivals_of(question)) == len(names) - 2
    assert question.tokens == 1e12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"best": None}, "needs `best`"),
        ({"best": {"architecture": {"d_model": 64}, "training_tokens": 1e9}}, "best.architecture"),
        ({"confidence": 2.0}, "confidence: a probability"),
    ],
)
def test_what_is_no_answer_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    bad = tmp_path / "answer.json"
    bad.write_text(json.dumps(json.loads(ANSWER.read_text()) | change))
    with pytest.raises(BadInput, match=message):
        read_question(bad)


def test_proxies_keep_size_and_proportions() -> None:
    question = read_question(ANSWER)
    pick, rival = question.finalists[0].architecture, question.finalists[-1].architecture
    for size in (200_000, 2_000_000):
        slim = slimming(pick, size)
        small, other = proxy_of(pick, size, slim), proxy_of(rival, size, slim)
        assert small.non_embedding_parameters == pytest.approx(size, rel=0.05)
        assert small.n_blocks >= 3
        assert small.mlp_attention_ratio == pytest.approx(pick.mlp_attention_ratio, rel=0.3)
        assert other.sharing == rival.sharing
        # What is compared, aspect against aspect, is as far apart as in the question.
        apart = (pick.d_model / pick.n_blocks) / (rival.d_model / rival.n_blocks)
        found = (small.d_model / small.n_blocks) / (other.d_model / other.n_blocks)
        assert np.log(found) == pytest.approx(np.log(apart), abs=0.5)


def test_more_flops_buy_larger_proxies_within_the_budget() -> None:
    few, many = (verification.plan_verification(ANSWER, flops) for flops in (2e13, 2e14))
    assert few.flops <= 2e13
    assert many.flops <= 2e14
    assert 0 <= few.power <= 1
    assert many.seeds * max(p.size for p in many.proxies) > few.seeds * max(
        p.size for p in few.proxies
    )
    with pytest.raises(BadInput, match="flops = 1e"):
        verification.plan_verification(ANSWER, 1e10)


def test_too_few_flops_are_told_how_many_are_enough() -> None:
    with pytest.raises(BadInput, match=r"flops = 1e\+09: the smallest proxies .* take") as refused:
        verification.plan_verification(ANSWER, 1e9)
    enough = float(str(refused.value).split()[-1])
    assert verification.plan_verification(ANSWER, 1.1 * enough).runs > 0


def test_a_verdict_claims_no_more_than_the_draws() -> None:
    rivals = np.array([1])
    draws = np.zeros((100, 2))
    draws[:, 1] = np.where(np.arange(100) < 85, 0.1, -0.1)
    assert Belief(draws).verdict(rivals, 0.8) == STANDS
    assert Belief(draws).verdict(rivals, 0.9) == "cannot tell"
    assert Belief(-draws).verdict(rivals, 0.8) == FALLS


def test_runs_of_a_study_move_the_belief_towards_its_truth() -> None:
    plan = verification.plan_verification(ANSWER, 2e13)
    population = shipped_population()
    shallow = [each.name for each in plan.question.finalists].index("LLaMA-like")
    would = verification.would_be(plan.question, list(plan.proxies), plan.seeds)
    truth = population.mean.mean(axis=0)
    noise = np.median(population.noise[:, [0, 2]], axis=0)
    generator = np.random.default_rng(0)
    scatter = np.exp(noise[0]) * generator.standard_t(4.0, len(would.run))
    found = []
    for deeper in (-0.8, 0.8):
        theta = np.concatenate([truth, noise])[None].copy()
        theta[0, INDEX["ln_best_depth"]] += deeper
        seen = would.predicted(theta)[0] + scatter
        runs = Runs(would.features, seen, would.run, would.weight)
        after = belief_after(population, plan.question, runs).differences[:, shallow]
        found.append(float(np.median(after)))
    # Where depth helps less, the shallower rival gains on the pick.
    assert found[0] < found[1] - 0.002


def test_the_proxies_unit_of_loss_decides_nothing() -> None:
    """Nats a byte of the proxies' text say nothing about the level of loss that is asked about."""
    folder = Path(__file__).parents[2] / "results" / "verification"
    plan = verification.plan_verification(folder / "answer.json", 4e13)
    bytes_ = verification._seen(read_records(folder))
    tokens = Runs(bytes_.features, bytes_.log_loss + np.log(4.4), bytes_.run, bytes_.weight)
    widths, probabilities = [], []
    for runs in (bytes_, tokens):
        after = belief_after(shipped_population(), plan.question, runs)
        probabilities.append(after.probability(rivals_of(plan.question)))
        widths.append(np.diff(np.quantile(after.differences[:, 1:], [0.2, 0.8], axis=0), axis=0))
    assert probabilities[0] == pytest.approx(probabilities[1], abs=0.1)
    np.testing.assert_allclose(widths[0], widths[1], rtol=0.5)


def test_what_is_foreseen_of_a_verdict_is_as_sure_as_it_should_be() -> None:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((8000, 3))
    truth = 1 / (1 + np.exp(-2 * features[:, 0]))
    holds = generator.random(8000) < truth
    told = _logistic(features[:4000], holds[:4000], features[4000:])
    assert np.abs(told - truth[4000:]).mean() < 0.02


def test_runs_are_trained_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretending(*arguments: Any, **options: Any) -> Any:
        options |= {"trainer": "benchmarks.simulated_trainer:train", "command": None}
        return run_sweep(*arguments, cache_dir=tmp_path / "cache", **options)

    monkeypatch.setenv("SHAPELAW_PRETEND_SECONDS", "0")
    monkeypatch.setattr(verification, "run_sweep", pretending)
    report = verification.verify(ANSWER, out=tmp_path / "runs", flops=6e12, workers=1)
    assert report["rows"] == report["runs"]
    assert report["verdict"] in ("stands", "does not stand", "cannot tell")
    assert 0 <= report["probability_after"] <= 1
    assert report["finalists"][0]["loss_difference_after"] == 0


def test_the_committed_runs_say_what_the_readme_says() -> None:
    folder = Path(__file__).parents[2] / "results" / "verification"
    plan = verification.plan_verification(folder / "answer.json", 4e13)
    records = read_records(folder)
    report = verification.judged(plan, verification._seen(records))
    assert (report["runs"], len(records), report["verdict"]) == (20, 20, OPEN)
    told = (
        f"{report['probability_before']:.2f} before the runs and "
        f"{report['probability_after']:.2f} after"
    ).replace("0.", ".")
    readme = (folder.parents[1] / "README.md").read_text(encoding="utf-8")
    assert told in " ".join(readme.split())
