"""Adaptive sweeps: the runs picked are those a known truth says are worth most."""

import dataclasses
import io
from typing import Any

import numpy as np
import pytest

from benchmarks import adaptive as simulation
from benchmarks import candidate_pools
from shapelaw.results.evidence.shipped_evidence import evidence_law
from shapelaw.results.store import read_records
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.study_features import of_architectures
from shapelaw.scaling.evidence.study_law import INDEX
from shapelaw.scaling.features import architecture_features
from shapelaw.scaling.law import Law
from shapelaw.sweeps.adaptive.expected_error import (
    SCALE_ERROR,
    SHAPE_ERROR,
    SHAPE_REACH,
    Goal,
    Outlook,
    Runs,
    _form_error,
    _model,
    _slopes,
    answers_of,
    noise_covariance,
    outlook_of,
    run_noise,
)
from shapelaw.sweeps.adaptive.greedy_picks import pick
from shapelaw.sweeps.adaptive.proposals import candidates_of, design_text, proposal_table, propose
from shapelaw.sweeps.design.design import Design, load_design, read_design
from shapelaw.sweeps.design.layout import trunk_jobs
from shapelaw.sweeps.training.trunk import job_keys, resolve

GRID = read_design("""
name = "grid"
tokens_per_parameter = [10, 20]
[base]
non_embedding = [12_000, 24_000, 48_000]
[vary]
d_model = [0.7, 1.4]
mlp_attention_ratio = [1.0, 4.0]
sharing = [2]
""")


def law_with(spread: dict[str, float], draws: int = 300) -> Law:
    """The simulation's truth, sure of every parameter but those named."""
    generator = np.random.default_rng(0)
    truth = candidate_pools.TRUTH
    columns = [
        value * np.exp(spread.get(name, 0.0) * generator.standard_normal(draws))
        for name, value in truth.items()
    ]
    return Law(
        form="shape",
        parameters=dict(truth),
        draws=np.stack(columns, axis=1),
        range={},
        count="non_embedding",
        fingerprint="",
        label="made up",
        source="",
        features=candidate_pools.FEATURES,
        residuals=np.random.default_rng(1).normal(0, 0.005, 100),
    )


def target(**changes: int) -> Architecture:
    fields: dict[str, Any] = {
        "vocab_size": 256,
        "d_model": 64,
        "n_blocks": 3,
        "n_heads": 4,
        "n_kv_heads": 4,
        "head_dim": 16,
        "d_ff": 192,
        **changes,
    }
    return Architecture(**fields)


def asked_of(law: Law, held: Runs | None = None, **questions: Runs) -> Outlook:
    """The outlook of questions about the grid's runs, named without blanks."""
    named: dict[Goal, Runs] = {}
    if "best" in questions:
        named["best shape"] = questions["best"]
    if "loss" in questions:
        named["loss"] = questions["loss"]
    return outlook_of(law, candidates_of(GRID), named, held)


def test_the_expected_error_is_that_of_fits_to_runs_made_up() -> None:
    """By brute force: fields, noise and parameters drawn, least squares with priors solved."""
    law = law_with({})
    done = [
        (one.architecture, one.tokens, number)
        for number, one in enumerate(candidates_of(GRID))
        if len(one.tokens) == 2
    ][::2]
    held = Runs.of(
        [(shape, t) for shape, tokens, _ in done for t in tokens],
        [str(number) for _, tokens, number in done for _ in tokens],
    )
    extra = candidates_of(GRID)[-1]
    targets = Runs.of([(target(), 3e6), (target(sharing=2), 1e6), (target(d_ff=96), 2e6)])
    outlook = asked_of(law, held, loss=targets)
    chosen = len(candidates_of(GRID)) - 1
    state = outlook.with_run(outlook.with_run(outlook.start, chosen), chosen)

    extra_rows = [(extra.architecture, t) for t in extra.tokens]
    everything = Runs.of(
        [(held.architectures[i], held.tokens[i]) for i in range(len(held))]
        + extra_rows
        + extra_rows,
        [*held.trunks, *["first again"] * len(extra.tokens), *["second again"] * len(extra.tokens)],
    )
    order = np.argsort(targets.log_loss(law))
    places = [targets.take(order), everything]
    tables = [
        architecture_features(one.architectures, one.tokens, "non_embedding", tuple(SHAPE_REACH))
        for one in places
    ]
    features = {name: np.concatenate([table[name] for table in tables]) for name in SHAPE_REACH}
    slopes, kernel = _slopes(law, *_model(law, places), features), _form_error(features)
    generator = np.random.default_rng(3)
    draws, count = 20_000, len(targets)
    field = (
        generator.standard_normal((draws, len(kernel)))
        @ np.linalg.cholesky(kernel + 1e-14 * np.eye(len(kernel))).T
    )
    noise = (
        generator.standard_normal((draws, len(everything)))
        @ np.linalg.cholesky(noise_covariance(everything.trunks, outlook.noise)).T
    )
    theta = generator.standard_normal((draws, slopes.shape[1]))
    seen = theta @ slopes[count:].T + field[:, count:] + noise
    stacked = np.concatenate([slopes[count:], outlook.noise * np.eye(slopes.shape[1])])
    padded = np.concatenate([seen, np.zeros((draws, slopes.shape[1]))], axis=1)
    fitted = np.linalg.lstsq(stacked, padded.T, rcond=None)[0].T
    missed = (theta - fitted) @ slopes[:count].T + field[:, :count]
    assert outlook.errors(state)[0] == pytest.approx(np.mean(missed**2), rel=0.03)
    each = outlook.errors(outlook.with_each(outlook.start))[:, 0]
    for number in (0, 7, chosen):
        assert each[number] == pytest.approx(
            outlook.errors(outlook.with_run(outlook.start, number))[0], rel=1e-9
        )


def test_a_form_that_may_be_wrong_is_not_pulled_by_cheap_runs_far_off() -> None:
    """Where the form is right every run helps; where it is not, some do harm."""
    law = law_with({"alpha": 0.1, "W": 0.3})
    large = [one for one in candidates_of(GRID) if one.architecture.non_embedding_parameters > 4e4]
    held = Runs.of([(one.architecture, t) for one in large for t in one.tokens])
    asked: dict[Goal, Runs] = {"loss": Runs.of([(target(n_blocks=8), 3e6)])}
    for doubt, harmful in ((0.0, False), (3.0, True)):
        outlook = outlook_of(law, candidates_of(GRID), asked, held, doubt)
        left = outlook.share_left(outlook.with_each(outlook.start))
        assert bool(left.max() > 1 + 1e-6) is harmful


def test_a_trunk_that_cannot_be_trained_again_is_picked_once() -> None:
    candidates = candidates_of(GRID)
    outlook = asked_of(
        law_with({"sigma": 1.0, "alpha": 0.2, "W": 0.3, "beta": 0.05}),
        best=Runs.of([(target(), 3e6), (target(sharing=2), 3e6)]),
    )
    for again in (True, False):
        picks, _ = pick(outlook, candidates, 6, flops=1e13, again=again)
        assert len(picks) == 6
        assert (len({one.trunk for one in picks}) == 6) is not again


def test_budgets_of_one_trunk_share_most_of_their_noise() -> None:
    noise = noise_covariance(np.array([7, 7, 8]), 0.01)
    assert noise[0, 0] == pytest.approx(1e-4)
    assert noise[0, 1] / noise[0, 0] == pytest.approx(0.8)
    assert noise[0, 2] == 0


def test_a_question_about_sharing_is_answered_by_shared_runs() -> None:
    law = law_with({"sigma": 1.0})
    asked = [target(), target(sharing=2)]
    proposal = propose(GRID, law, 3, targets=asked, tokens=3e6, goal="best shape")
    assert proposal["goals"] == ["best shape"]
    assert all(run["architecture"]["sharing"] == 2 for run in proposal["runs"])
    left = [
        proposal["uncertainty"]["before"]["best shape"],
        *(run["uncertainty_after"]["best shape"] for run in proposal["runs"]),
    ]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.85 * left[0]


def test_the_evidence_unsure_of_sharing_asks_for_shared_runs() -> None:
    """Its draws are the prior: before any run the expected error is their own spread."""
    sure = evidence_law()
    theta = np.repeat(sure.middle, 200, axis=0)
    theta[:, INDEX["gain_immediate"]] += 1.5 * np.random.default_rng(0).standard_normal(200)
    law = dataclasses.replace(sure, theta=theta)
    asked = Runs.of([(target(), 3e6), (target(sharing=2), 3e6)])
    before = outlook_of(law, candidates_of(GRID), {"best shape": asked}, doubt=0.0)
    difference = law.log_loss_of(theta, of_architectures(asked.architectures, asked.tokens))
    spread = float(np.var(difference[:, 1] - difference[:, 0], ddof=1))
    assert before.errors(before.start)[0] == pytest.approx(spread, rel=1e-3)
    proposal = propose(GRID, law, 2, targets=asked.architectures, tokens=3e6, goal="best shape")
    assert all(run["architecture"]["sharing"] == 2 for run in proposal["runs"])
    left = proposal["uncertainty"]
    assert left["after"]["best shape"] < left["before"]["best shape"]


def test_a_question_about_many_tokens_is_answered_by_long_runs() -> None:
    law = law_with({"B": 0.2, "beta": 0.05})
    shortest = min(one.tokens[0] for one in candidates_of(GRID))
    asked = propose(GRID, law, 4, targets=[target()], tokens=3e7)
    assert asked["goals"] == ["loss"], "one target: there is no best of several"
    assert asked["runs"][0]["tokens"][-1] > 3 * shortest
    before, after = (asked["uncertainty"][when]["loss"] for when in ("before", "after"))
    assert after < 0.7 * before


def test_the_budget_and_the_number_of_runs_are_kept() -> None:
    law = law_with({"alpha": 0.1, "W": 0.3, "sigma": 0.5})
    costs = [one.flops for one in candidates_of(GRID)]
    for count, flops in ((3, 2 * min(costs)), (8, 5 * max(costs))):
        proposal = propose(GRID, law, count, flops=flops)
        assert 0 < proposal["count"] <= count
        assert proposal["count"] == sum(len(run["tokens"]) for run in proposal["runs"])
        assert proposal["flops"] <= flops
        assert (proposal["fewer"] is None) == (proposal["count"] == count)
        if proposal["fewer"] == "the FLOPs are spent; --flops allows more":
            assert flops - proposal["flops"] < min(costs)
        assert proposal["flops"] == pytest.approx(sum(run["flops"] for run in proposal["runs"]))
    with pytest.raises(BadInput, match="cheapest run costs"):
        propose(GRID, law, 3, flops=0.5 * min(costs))


def test_the_question_is_asked_at_the_tokens_of_the_law_and_says_what_it_buys() -> None:
    law = dataclasses.replace(
        law_with({"B": 0.2, "beta": 0.05}), range={"tokens": (400_000.0, 4_000_000.0)}
    )
    proposal = propose(GRID, law, 4, targets=[target()])
    assert proposal["tokens"] == [4e6, 4e6]
    before, after = (proposal["uncertainty"][when]["loss"] for when in ("before", "after"))
    gain = proposal["buys"]["loss"]
    assert gain["nats"] == pytest.approx(before - after)
    assert gain["share"] == pytest.approx(1 - after / before)
    # A tenth of those tokens, in the logarithm, saves a tenth of that loss.
    one = ArchitectureBatch.of([target()])
    step = 0.1 * np.log1p(gain["as_tokens"])
    saved = law.loss(one, 4e6) - law.loss(one, 4e6 * np.exp(step))
    assert saved[0] == pytest.approx(0.1 * gain["nats"], rel=0.1)


def test_a_larger_budget_leaves_less_uncertainty() -> None:
    law = law_with({"alpha": 0.1, "W": 0.3, "sigma": 0.5, "beta": 0.05})
    total = sum(one.flops for one in candidates_of(GRID))
    left = [
        propose(GRID, law, 10, flops=share * total)["uncertainty"]["after"]
        for share in (0.02, 0.1, 0.5)
    ]
    for goal in ("best shape", "loss"):
        assert left[0][goal] > left[1][goal] > left[2][goal]


def test_the_proposal_is_a_design_that_runs_the_same_trunks() -> None:
    law = law_with({"alpha": 0.1, "W": 0.3, "sigma": 0.5})
    proposal = propose(GRID, law, 5)
    design = read_design(proposal["design"])
    trained = {job.architecture.build(): job for job in trunk_jobs(design)}
    assert len(trunk_jobs(design)) == len(
        {(str(run["architecture"]), run["seed"]) for run in proposal["runs"]}
    )
    whole = {job.architecture.build(): job for job in trunk_jobs(GRID)}
    for shape, job in trained.items():
        assert resolve(job).batch_sequences == resolve(whole[shape]).batch_sequences
        if job.seed == 0:
            assert set(job_keys(job)) <= set(job_keys(whole[shape])), "the runs are the grid's own"
    assert design.corpus_spec() == GRID.corpus_spec()


def test_a_shape_proposed_twice_gets_seeds_of_its_own() -> None:
    law = law_with({"sigma": 1.0})
    proposal = propose(GRID, law, 8, targets=[target(), target(sharing=2)], flops=1e13)
    seen = [(str(run["architecture"]), run["seed"]) for run in proposal["runs"]]
    assert len(seen) == len(set(seen))


def test_answers_weigh_what_could_win() -> None:
    mean, covariance = np.array([0.0, 0.005, 0.5]), 1e-4 * np.eye(3)
    contrast, weights, best, probability = answers_of(mean, covariance, "best shape")
    assert best == 0
    assert contrast.tolist() == [[-1.0, 1.0, 0.0], [-1.0, 0.0, 1.0]]
    assert weights[0] > 0.99
    assert probability == pytest.approx(0.638, abs=0.03), "P(N(0, s) < N(s/2, s))"
    losses, equal, _, _ = answers_of(mean, covariance, "loss")
    assert losses.tolist() == np.eye(3).tolist()
    assert equal == pytest.approx(np.full(3, 1 / 3))


def test_a_law_sure_of_itself_is_still_doubted_far_from_its_runs() -> None:
    """Where every draw says the same, what is left is the form's own error."""
    law = law_with({})
    near, far = target(), target(d_model=256, d_ff=768, n_blocks=12)

    def doubt(asked: Architecture, held: list[tuple[Architecture, float]]) -> float:
        outlook = asked_of(law, Runs.of(held) if held else None, loss=Runs.of([(asked, 3e6)]))
        return float(outlook.errors(outlook.start)[0] ** 0.5)

    assert doubt(near, []) == pytest.approx(np.hypot(SCALE_ERROR, SHAPE_ERROR))
    around = [
        (shape, tokens)
        for shape in (
            near,
            target(d_ff=128),
            target(d_ff=256),
            target(n_blocks=2),
            target(n_blocks=4),
        )
        for tokens in (1.5e6, 3e6, 6e6)
    ]
    assert doubt(near, around) < 0.3 * SCALE_ERROR
    assert doubt(far, around) > SCALE_ERROR


def test_candidates_are_whole_trunks_and_their_beginnings() -> None:
    found = candidates_of(GRID)
    shapes = {one.architecture for one in found}
    assert len(found) == 2 * len(shapes)
    longest = {one.architecture: one for one in found if len(one.tokens) == 2}
    for one in found:
        if len(one.tokens) == 1:
            assert one.tokens[0] == longest[one.architecture].tokens[0]
            assert one.flops < longest[one.architecture].flops


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"count": 0}, "next = 0"),
        ({"flops": -1.0}, "flops = -1"),
        ({"targets": []}, "targets"),
        ({"goal": "best shape", "targets": [target()]}, "more than one target"),
    ],
)
def test_bad_requests_are_named(options: dict[str, object], named: str) -> None:
    arguments = {"count": 2, **options}
    with pytest.raises(BadInput, match=named):
        propose(GRID, law_with({"alpha": 0.1}), **arguments)  # type: ignore[arg-type]


def test_a_law_without_draws_is_refused() -> None:
    with pytest.raises(BadInput, match="--bootstrap"):
        propose(GRID, law_with({}, draws=1), 2)


def test_a_law_without_draws_will_do_where_its_runs_are_at_hand() -> None:
    records = read_records("results/reference")[:60]
    bare = dataclasses.replace(
        law_with({}), draws=np.zeros((0, len(candidate_pools.TRUTH))), runs=60
    )
    assert propose(GRID, bare, 2, held=records)["runs"]
    with pytest.raises(BadInput, match="--bootstrap"):
        propose(GRID, bare, 2, held=records[:30])


def test_the_noise_is_that_of_many_residuals_and_more_than_that_of_few() -> None:
    """A fit of 14 parameters to 28 runs leaves half of the noise's variance in the residuals."""
    law = law_with({})
    seen = float(np.std(law.residuals))
    assert run_noise(law) == pytest.approx(0.008), "of how many runs is not known"
    assert run_noise(dataclasses.replace(law, runs=5000)) == pytest.approx(seen, rel=0.01)
    few = run_noise(dataclasses.replace(law, runs=28))
    assert 2**0.5 * seen < few < 0.008, "drawn to what is usual"


def test_the_table_shows_each_run() -> None:
    from rich.console import Console

    proposal = propose(GRID, law_with({"alpha": 0.1, "W": 0.3}), 3)
    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=160, file=nowhere)
        console.print(proposal_table(proposal))
    text = console.export_text()
    assert "Error expected of a fit" in text
    assert text.count("±") >= 2 * (2 + len(proposal["runs"]))
    narrow = Console(record=True, width=80, file=io.StringIO())
    narrow.print(proposal_table(proposal))
    assert "…" not in narrow.export_text()
    assert ("Fewer than the 3 asked for" in text) == (proposal["count"] < 3)


def test_a_text_of_the_design_keeps_what_sets_the_loss() -> None:
    design = Design(name="x", tokenizer="bytes", sequence_length=64, validation_tokens=2048)
    text = design_text(design, [])
    again = read_design(text)
    assert (again.sequence_length, again.validation_tokens) == (64, 2048)


def test_presets_can_propose() -> None:
    proposal = propose(load_design("demo"), law_with({"alpha": 0.1, "W": 0.3, "rho": 0.3}), 4)
    assert 1 <= proposal["count"] <= 4


def test_one_simulated_trial_is_no_worse_than_guessing() -> None:
    """The whole comparison is `python -m benchmarks.adaptive`."""
    found = simulation.simulate(seed=1, share=1 / 3, bend=0.0)
    assert 0.3 < found["share_of_flops"] <= 1 / 3
    assert found["adaptive_error"] < 0.03
    assert found["adaptive_regret"] < 0.05


def test_a_pool_of_real_runs_gives_each_run_once_and_counts_what_it_cost() -> None:
    """The reference study's records: whole, the pool costs what the study did."""
    records = read_records("results/reference")
    pool = candidate_pools.Recorded(records)
    trunks = candidate_pools.whole(pool.candidates())
    first = trunks[0]
    parts = [one for one in pool.candidates() if one.trunk == first.trunk]
    assert [len(one.tokens) for one in parts] == list(range(1, len(first.tokens) + 1))
    assert [one.flops for one in parts] == sorted(one.flops for one in parts)
    again = candidate_pools.Recorded(records)
    again.train(parts[:1])
    rest = next(
        one
        for one in again.candidates()
        if one.trunk == first.trunk and len(one.tokens) == len(first.tokens) - 1
    )
    assert parts[0].flops + rest.flops > first.flops, "the path is paid for twice"
    spent = pool.train([first])
    assert all(one.trunk != first.trunk for one in pool.candidates())
    spent += pool.train(trunks[1:])
    assert len(pool.table()) == len(records)
    assert spent == pytest.approx(sum(r.flops - r.trunk_flops_shared for r in records))


def test_a_panel_is_judged_by_means_over_seeds() -> None:
    records = read_records("results/reference")
    panel = simulation.panel_of([r for r in records if r.seed < 2])
    asked = next(r for r in records if r.seed == 1)
    alike = [
        r.loss
        for r in records
        if r.seed < 2 and r.tokens == asked.tokens and r.architecture == asked.architecture
    ]
    assert len(alike) == 2
    row = next(
        i
        for i in range(len(panel.runs))
        if panel.runs.tokens[i] == asked.tokens
        and panel.runs.architectures[i] == asked.architecture.build()
    )
    assert panel.loss[row] == pytest.approx(np.mean([loss for loss in alike if loss is not None]))


def test_an_axis_the_law_has_never_seen_is_where_it_knows_least() -> None:
    """A law without the column cannot be unsure of it, and must not be taken at its word."""
    seen = law_with({"alpha": 0.02})
    fields = [name for name in seen.features if name != "ln_s"]
    form_names = [name for name in seen.parameters if name != "sigma"]
    columns = [list(seen.parameters).index(name) for name in form_names]
    blind = Law(
        form="shape",
        parameters={name: seen.parameters[name] for name in form_names},
        draws=seen.draws[:, columns],
        range={},
        count="non_embedding",
        fingerprint="",
        label="blind",
        source="",
        features=tuple(fields),
        residuals=seen.residuals,
    )
    proposal = propose(GRID, blind, 3, targets=[target(), target(sharing=2)], tokens=3e6)
    assert proposal["uncertainty"]["before"]["best shape"] > 0.01
    assert any(run["architecture"]["sharing"] == 2 for run in proposal["runs"])
