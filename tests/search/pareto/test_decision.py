"""The decision against brute force, and its probabilities against synthetic truths."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.decisions import QUESTIONS
from benchmarks.synthetic import MIDDLE, PRIOR, SPACE, SyntheticLaw, no_cost, repetition
from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.answer.query import query
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import cost_draws
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.decision import NEAR, Decision, decide
from shapelaw.search.pareto.draw_optima import DrawOptima, draw_optima
from shapelaw.search.pareto.draw_screen import met_by_device
from shapelaw.search.pareto.exhaustive import points_of, search_all
from shapelaw.search.pareto.expected_loss import expected_loss, possible_draws, quadrature
from shapelaw.search.pareto.feasibility import joint_draws, spread
from shapelaw.search.pareto.finalists import Where, decision, pick_key, prepared, screen
from shapelaw.search.pareto.loss_differences import loss_differences
from shapelaw.search.pareto.problem import Columns, Points, Problem, parse_objectives
from shapelaw.search.workload import load_workload
from tests.published_law import LITERATURE


@dataclasses.dataclass
class UncertainSpeed:
    """Decode time of two parts, bytes and layers, each with a factor nobody knows."""

    factors: np.ndarray
    """[k, 2]"""

    def _columns(self, a: ArchitectureBatch, byte: np.ndarray, layer: np.ndarray) -> Columns:
        seconds = byte * a.non_embedding_parameters / 5e9 + layer * a.depth * 1e-4
        same = np.ones_like(seconds)
        return {
            "decode_s": seconds,
            "decode_tokens_per_s": 1 / seconds,
            "prefill_s": same,
            "ttft_s": same,
            "memory_bytes": a.non_embedding_parameters * same,
            "energy_per_token_j": same,
        }

    def __call__(
        self, architectures: ArchitectureBatch, weight_bits: np.ndarray, wanted: object = ()
    ) -> Columns:
        one = np.ones(len(architectures))
        return self._columns(architectures, one, one)

    def draws(
        self, architectures: ArchitectureBatch, weight_bits: np.ndarray, wanted: object, count: int
    ) -> Columns:
        byte, layer = self.factors[:count].T[:, :, None]
        return self._columns(architectures, byte, layer)


def uncertain(seed: int, speed: float) -> tuple[Problem, UncertainSpeed]:
    generator = np.random.default_rng(seed)
    cost = UncertainSpeed(np.exp([0.1, 0.4] * generator.standard_normal((64, 2))))
    law = SyntheticLaw(MIDDLE, MIDDLE + 0.5 * PRIOR * generator.standard_normal((400, 5)))
    budget = Budget(tokens=1e9, decode_tokens_per_s=speed)
    return Problem(law, cost, budget, parse_objectives(None)), cost


@pytest.mark.parametrize(("seed", "speed"), [(0, 80.0), (1, 150.0), (2, 40.0)])
def test_the_pick_is_brute_forces(seed: int, speed: float) -> None:
    problem, cost = uncertain(seed, speed)
    grid = SPACE.grid()
    ready = prepared(problem, grid, 0.9)
    collected = search_all(ready, grid, screen=screen(ready, grid, 0.9))
    key, _ = pick_key(ready, collected, lambda keys: points_of(ready, grid, keys), 0.9)
    everything = points_of(ready, grid, np.arange(grid.size()))
    speeds = cost.draws(everything.architectures, everything.bits, (), 64)["decode_tokens_per_s"]
    confident = np.flatnonzero((speeds >= speed).mean(axis=0) >= 0.9)
    expected = problem.law.loss_draws(everything.architectures, 1e9).mean(axis=0)
    assert key is not None
    assert key in everything.keys[confident]
    assert expected[key] <= expected[confident].min() + 2e-4
    # Regret and nearness over every shape of the space, not the finalists alone.
    where = Where(grid, lambda keys: points_of(ready, grid, keys), grid.coordinates)
    found = decision(ready, collected, where, key, 0.9, np.empty(0, int))
    joint = joint_draws(ready, everything)
    whole = decide(ready, everything, joint, key, 0.9)
    # By a part of the draws.
    assert found.near_best_probability == pytest.approx(whole.near_best_probability, abs=0.05)
    assert found.regret[0] == pytest.approx(whole.regret[0], rel=0.08, abs=0.001)
    assert found.regret[1] == pytest.approx(whole.regret[1], rel=0.2, abs=0.002)
    assert found.confident_regret == pytest.approx(whole.confident_regret, rel=0.08, abs=0.001)
    assert found.budget_probability["decode"] >= 0.9


def test_the_expected_loss_is_the_mean_of_all_draws() -> None:
    law = load_law(LITERATURE)
    batch, _ = next(iter(SPACE.enumerate(10**6)))
    generator = np.random.default_rng(0)
    sample = batch.take(generator.choice(len(batch), 256, replace=False))
    condensed = expected_loss(law, sample, 1e11)
    assert len(condensed.nodes) <= 24
    assert condensed.weights.sum() == pytest.approx(1)
    assert (condensed.weights >= 0).all()
    mean = law.loss_draws(batch, 1e11).mean(axis=0)
    assert np.abs(condensed.loss(batch, 1e11) / mean - 1).max() < 1e-3
    # The middle law is another number altogether.
    assert np.abs(law.loss(batch, 1e11) - mean).max() > 1e-2


def test_walks_come_close_to_each_draws_best_shape() -> None:
    """From starts at random, which are nobody's best, most of the way; never beyond it."""
    problem, _ = uncertain(0, 80.0)
    grid = SPACE.grid()
    everything = points_of(problem, grid, np.arange(grid.size()))
    whole = joint_draws(problem, everything)
    rows = np.random.default_rng(3).choice(grid.size(), 400, replace=False)
    few = everything.take(rows)
    joint = joint_draws(problem, few)
    found = draw_optima(problem, grid, few, grid.coordinates(few.keys), joint, 0.9)
    best = np.where(whole.feasible, whole.losses, np.inf).min(axis=1)[found.rows]
    start = np.where(joint.feasible, joint.losses, np.inf).min(axis=1)[found.rows]
    assert np.mean(found.feasible - best) < min(NEAR / 2, 0.6 * np.mean(start - best))
    assert np.all(found.feasible >= best - 1e-12)
    promised = whole.losses[:, whole.probability >= 0.9].min(axis=1)[found.rows]
    assert np.mean(found.confident - promised) < NEAR / 2


def optima_of_query(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """What `query` asks of draw_optima on a question of the benchmark, and what it is told."""
    kept: list[Any] = []

    def listening(*asked: Any) -> DrawOptima:
        kept.append((*asked, draw_optima(*asked)))
        return kept[-1][-1]

    monkeypatch.setattr("shapelaw.search.pareto.finalists.draw_optima", listening)
    question = QUESTIONS[name]
    query(question.device, "evidence", question.budget, question.workload, question.space)
    return kept[0]


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        ("phone, width alone", 200),
        ("phone, memory and speed, tokens", 20),
        pytest.param("GPU, speed, tokens", 40, marks=pytest.mark.long),
    ],
)
def test_the_best_shape_of_each_draw_is_brute_forces(
    name: str, draws: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over every shape of the space, to a two-thousandth of a nat on average."""
    problem, grid, _, _, joint, confidence, found = optima_of_query(name, monkeypatch)
    some = spread(len(found.rows), draws)
    rows, bits = found.rows[some], grid.bits[0]
    best = np.full((2, len(rows)), np.inf)
    for start in range(0, grid.n_architectures(), 8192):
        numbers = np.arange(start, min(start + 8192, grid.n_architectures()))
        points = Points(grid.architectures(numbers), np.full(len(numbers), bits), {}, numbers)
        met = met_by_device(problem, points)
        fits = np.flatnonzero(met.any(axis=0))
        if not len(fits):
            continue
        shapes, met = points.architectures.take(fits), met[:, fits]
        tokens = problem.budget.training_tokens(shapes)
        losses = problem.law.loss_draws(shapes, tokens, joint.law_rows[rows])
        feasible = met[joint.device_rows[rows]]
        promised = np.broadcast_to(met.mean(axis=0) >= confidence, losses.shape)
        for kind, allowed in enumerate((feasible, promised)):
            here = np.where(allowed, losses, np.inf).min(axis=1)
            best[kind] = np.minimum(best[kind], here)
    for told, true in zip((found.feasible[some], found.confident[some]), best, strict=True):
        assert np.array_equal(np.isfinite(told), np.isfinite(true))
        excess = told[np.isfinite(true)] - true[np.isfinite(true)]
        assert excess.min() > -1e-12
        assert excess.mean() <= 5e-4


def test_no_draw_is_worse_than_knowing_nothing() -> None:
    batch, _ = next(iter(SPACE.enumerate(10**6)))
    astray = MIDDLE + np.array([0, 0, 0, 0, 100.0])
    law = SyntheticLaw(MIDDLE, np.stack([MIDDLE, astray]))
    losses = possible_draws(law, batch, 1e9)
    assert losses.max() == pytest.approx(np.log(batch.vocab_size[0]))
    assert (losses[0] == law.loss_draws(batch, 1e9)[0]).all()


def test_quadrature_is_exact_where_few_rows_span_all() -> None:
    generator = np.random.default_rng(1)
    values = generator.random((300, 3)) @ generator.standard_normal((3, 80))
    rows, weights = quadrature(values, tolerance=1e-9)
    assert len(rows) <= 8
    assert weights @ values[rows] == pytest.approx(values.mean(axis=0), abs=1e-6)


def test_picks_made_at_p_are_right_p_of_the_time() -> None:
    results = [repetition(noise, seed) for noise in (0.03, 0.1, 0.2) for seed in range(150)]
    sure = np.array([p for p, _ in results])
    right = np.array([r for _, r in results], dtype=float)
    assert abs(sure.mean() - right.mean()) <= 0.05
    # And not by errors that cancel: among the unsure, the middling and the sure alike.
    for low, high in ((0, 0.65), (0.65, 0.9), (0.9, 1.01)):
        members = (sure >= low) & (sure < high)
        assert members.sum() >= 80
        error = 2.0 * np.sqrt(0.25 / members.sum())
        assert abs(sure[members].mean() - right[members].mean()) <= 0.05 + error


def judged(law: SyntheticLaw, rivals: Points) -> Decision:
    problem = Problem(law, no_cost, Budget(tokens=1e9), parse_objectives(None))
    pick = int(np.argmin(law.loss(rivals.architectures, 1e9)))
    return decide(problem, rivals, joint_draws(problem, rivals), pick, 0.9)


def test_two_rivals_share_the_probability() -> None:
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    rows = np.array([0, 400])
    rivals = Points(batch.take(rows), bits[rows], {}, rows)
    generator = np.random.default_rng(0)
    sure = judged(
        SyntheticLaw(MIDDLE, MIDDLE + PRIOR * generator.standard_normal((400, 5))), rivals
    )
    assert sure.probability_best + sure.runner_up_probability == pytest.approx(1.0)
    assert sure.near_best_probability >= sure.probability_best
    assert sure.near_best_probability == np.mean(
        sure.joint.losses[:, sure.pick] <= sure.joint.losses.min(axis=1) + NEAR
    )


def test_a_difference_is_surer_than_its_sides_and_changes_sign_with_them() -> None:
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    generator = np.random.default_rng(1)
    spread = PRIOR * np.array([0.1, 0.1, 0.1, 0.1, 5.0])  # the level is what nobody knows
    law = SyntheticLaw(MIDDLE, MIDDLE + spread * generator.standard_normal((400, 5)))
    pair = Points(batch.take(np.array([7, 300])), bits[:2], {}, np.arange(2))
    there = loss_differences(law, pair, 1e9)[0]
    back = loss_differences(law, pair.take(np.array([1, 0])), 1e9)[0]
    assert there.middle == pytest.approx(-back.middle)
    assert there.interval[1] - there.interval[0] < 0.2  # the level alone spreads over 1.6
    assert there.probability_lower == pytest.approx(1 - back.probability_lower)


def test_a_law_without_draws_does_not_claim_to_be_sure() -> None:
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    rivals = Points(batch.take(np.arange(9)), bits[:9], {}, np.arange(9))
    sure = judged(SyntheticLaw(MIDDLE, MIDDLE[None, :]), rivals)
    assert np.isnan(sure.near_best_probability)
    assert np.isnan(sure.regret[0])
    assert sure.runner_up is None


def test_a_promise_holds_in_draws_that_the_decision_did_not_see() -> None:
    """By constants of a real device drawn with another seed, each budget is met as promised."""
    device, workload = load_device("iphone-13"), load_workload("chat")
    answer = query(device, "evidence", Budget(memory_bytes="400MB", tokens=1e12), workload)
    drawn = cost_draws(
        ArchitectureBatch.of([answer.best.architecture]),
        device,
        workload,
        count=2000,
        seed=7,
        weight_bits=answer.best.weight_bits,
    )
    assert answer.budget_probability["memory"] >= 0.9
    assert 0.8 <= np.mean(drawn.memory_bytes <= 400e6) <= 0.99
