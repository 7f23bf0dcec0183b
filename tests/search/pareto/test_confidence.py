"""Being sure at p must mean being right p of the time: on synthetic truths."""

import dataclasses

import numpy as np
import pytest

from benchmarks.synthetic import MIDDLE, PRIOR, SPACE, SyntheticLaw, no_cost, repetition
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.confidence import confidence, loss_differences, reaching
from shapelaw.search.pareto.problem import Points, Problem, parse_objectives


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


def test_many_rivals_are_cut_down_without_changing_how_sure() -> None:
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    generator = np.random.default_rng(3)
    law = SyntheticLaw(MIDDLE, MIDDLE + 0.1 * PRIOR * generator.standard_normal((400, 5)))
    problem = Problem(law, no_cost, Budget(tokens=1e9), parse_objectives(None))
    rivals = Points(batch, bits, {}, np.arange(len(bits)))
    assert len(rivals) > 1000
    losses = law.loss_draws(batch, 1e9)
    pick = int(np.argmin(law.loss(batch, 1e9)))
    exact = np.mean(np.argmin(losses, axis=1) == pick)
    sure = confidence(problem, rivals, pick)
    assert sure.probability_best == pytest.approx(exact, abs=0.01)
    assert sure.runner_up is not None
    assert sure.runner_up != pick
    assert sure.regret[0] <= sure.regret[1]


def test_two_rivals_share_the_probability() -> None:
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    rows = np.array([0, 400])
    rivals = Points(batch.take(rows), bits[rows], {}, rows)
    generator = np.random.default_rng(0)
    law = SyntheticLaw(MIDDLE, MIDDLE + PRIOR * generator.standard_normal((400, 5)))
    problem = Problem(law, no_cost, Budget(tokens=1e9), parse_objectives(None))
    pick = int(np.argmin(law.loss(rivals.architectures, 1e9)))
    sure = confidence(problem, rivals, pick)
    assert sure.probability_best + sure.runner_up_probability == pytest.approx(1.0)


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


def test_reaching_a_loss_is_the_share_of_draws_at_or_below_it() -> None:
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    draws = np.tile(MIDDLE, (40, 1))
    draws[:, 4] = np.repeat([-0.2, -0.1, 0.1, 0.2], 10)
    law = SyntheticLaw(MIDDLE, draws)
    point = Points(batch.take(np.array([5])), bits[:1], {}, np.zeros(1, int))
    middle = float(law.loss(point.architectures, 1e9)[0])
    problem = Problem(law, no_cost, Budget(tokens=1e9), parse_objectives(None), middle - 0.05)
    assert reaching(problem, point) == 0.5


def test_a_law_without_draws_does_not_claim_to_be_sure() -> None:
    batch, bits = next(iter(SPACE.enumerate(10**6)))
    law = SyntheticLaw(MIDDLE, MIDDLE[None, :])
    problem = Problem(law, no_cost, Budget(tokens=1e9), parse_objectives(None))
    rivals = Points(batch.take(np.arange(9)), bits[:9], {}, np.arange(9))
    sure = confidence(problem, rivals, 0)
    assert np.isnan(sure.probability_best)
    assert np.isnan(reaching(dataclasses.replace(problem, target_loss=3.0), rivals))
