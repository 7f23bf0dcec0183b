"""The answers at the sliders' stops are the ones that `query` gives."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.units import parse_bytes
from shapelaw.search.answer.baselines import best_row, llama_like, priced
from shapelaw.search.answer.query import CONFIDENCE, Budget, query
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.page.answer_grid import NOTHING, met_together, needed
from shapelaw.search.page.stop_answers import StopAnswers, stop_answers
from shapelaw.search.page.stops import BudgetStops, round_values
from shapelaw.search.pareto.exhaustive import points_of
from shapelaw.search.pareto.feasibility import probability
from shapelaw.search.pareto.finalists import best_confident, prepared
from shapelaw.search.space.space import Space

SPACE = Space.from_toml(
    """
name = "small"
d_model = { from = 256, to = 1024, step = 128 }
n_blocks = { from = 4, to = 20, step = 4 }
sharing = [1, 2]
head_dim = 64
gqa_group = [1, 2]
mlp_attention_ratio = { from = 1.0, to = 4.0, step = 1.0 }
""",
    "test",
)
FIELDS = {"memory": "memory_bytes", "decode": "decode_tokens_per_s", "ttft": "ttft_s"}


def budget_at(found: StopAnswers, at: tuple[int, ...]) -> Budget:
    """The budget that stands at (serving, training, *stops)."""
    training = found.trainings[at[1]].budget
    named: dict[str, Any] = {
        FIELDS.get(each.name, "energy_j"): float(each.values[stop])
        for each, stop in zip(found.stops, at[2:], strict=True)
        if stop > 0 or (each.name == "memory" and np.isfinite(each.values[0]))
    }
    return Budget(**named, tokens=training.tokens, flops=training.flops)


def asked(found: StopAnswers, at: tuple[int, ...]) -> tuple[Architecture, int] | None:
    """The shape and the format that `query`'s rule picks at (serving, training, *stops)."""
    serving, training = found.servings[at[0]], found.trainings[at[1]]
    budget = budget_at(found, at)
    best: tuple[float, Architecture, int] | None = None
    for number, (problem, cost) in enumerate(zip(training.problems, serving.costs, strict=True)):
        mix = found.formats[number]
        space = SPACE if mix is None else SPACE.with_bits((nominal_bits(mix),))
        law = problem.law.law  # type: ignore[attr-defined]
        problem = dataclasses.replace(problem, cost=cost, budget=budget, law=law)
        problem = prepared(problem, space.grid(), CONFIDENCE)
        key, loss = best_confident(problem, space.grid(), CONFIDENCE)
        if key is not None and (best is None or loss < best[0]):
            shape = points_of(problem, space.grid(), np.array([key])).architectures[0]
            best = loss, shape, number
    return None if best is None else best[1:]


def some(found: StopAnswers, count: int, seed: int) -> list[tuple[int, ...]]:
    """Combinations at random, two in three of them with an answer."""
    rng = np.random.default_rng(seed)
    answered, empty = np.argwhere(found.picks >= 0), np.argwhere(found.picks == NOTHING)
    wanted = [rng.choice(answered, 2 * count // 3)]
    if len(empty):
        wanted.append(rng.choice(empty, count // 3))
    return [tuple(row.tolist()) for row in np.concatenate(wanted)]


def agrees(found: StopAnswers, at: tuple[int, ...]) -> int | None:
    """Which format the rule picks here, having checked that the page's table says the same."""
    expected, number = asked(found, at), int(found.picks[at])
    if expected is None:
        assert number == NOTHING
        return None
    assert (found.shapes[number], int(found.format[number])) == expected
    return expected[1]


@pytest.mark.parametrize(
    "budget",
    [
        Budget(memory_bytes="350MB", decode_tokens_per_s=60, tokens="1T"),
        Budget(decode_tokens_per_s=30, flops=1e20),
    ],
)
def test_every_stop_is_what_query_answers(budget: Budget) -> None:
    answer = query("iphone-13", "evidence", budget, "chat", SPACE)
    found = stop_answers(answer)
    here = (found.asked_serving, found.asked_training, *(each.asked for each in found.stops))
    assert found.shapes[int(found.picks[here])] == answer.best.architecture
    assert found.exact
    assert len(found.trainings) >= 3
    assert len(found.servings) >= 6
    for at in some(found, 15, 1):
        agrees(found, at)


def test_formats_are_chosen_with_the_shape() -> None:
    budget = Budget(memory_bytes="350MB", tokens="1T")
    answer = query("raspberry-pi-5", "evidence", budget, "chat", SPACE, formats="q8_0,q4_k_m")
    found = stop_answers(answer)
    here = (found.asked_serving, found.asked_training, *(each.asked for each in found.stops))
    number = int(found.picks[here])
    assert found.shapes[number] == answer.best.architecture
    mix = found.formats[found.format[number]]
    assert mix is not None
    assert mix.name == answer.weight_format()["format"]
    assert any(agrees(found, at) is not None for at in some(found, 9, 2))


def test_the_familiar_choice_is_the_one_that_query_names() -> None:
    budget = Budget(memory_bytes="350MB", decode_tokens_per_s=60, tokens="1T")
    answer = query("iphone-13", "evidence", budget, "chat", SPACE)
    found = stop_answers(answer)
    here = (found.asked_serving, found.asked_training, *(each.asked for each in found.stops))
    beside = answer.baselines[0]
    assert found.shapes[int(found.familiar[here])] == beside.candidate.architecture
    assert found.familiar_fits[here] == beside.feasible
    rng = np.random.default_rng(3)
    known = llama_like(answer.best.architecture.vocab_size, tied=True)
    for fits in (True, False):
        for at in rng.choice(np.argwhere(found.familiar_fits == fits), 8):
            serving, training = found.servings[at[0]], found.trainings[at[1]]
            problem = dataclasses.replace(
                training.problems[0], cost=serving.costs[0], budget=budget_at(found, tuple(at))
            )
            points = priced(problem, known, SPACE.grid().bits)
            row = best_row(problem, points, CONFIDENCE)
            assert found.shapes[int(found.familiar[tuple(at)])] == points.architectures[row]
            assert (probability(problem, points)[row] >= CONFIDENCE) == fits


def test_draws_that_meet_everything_are_counted_one_by_one() -> None:
    rng = np.random.default_rng(0)
    sizes = (3, 4, 2)
    levels = np.stack([rng.integers(0, size + 1, (5, 70)) for size in sizes], axis=-1)
    counts = met_together(levels.astype(np.uint8), sizes)
    for shape, place in [(0, (0, 0, 0)), (1, (2, 1, 0)), (4, (1, 3, 1)), (2, (2, 3, 1))]:
        by_hand = sum(
            all(levels[shape, draw, axis] > place[axis] for axis in range(3)) for draw in range(70)
        )
        assert counts[(shape, *place)] == by_hand


def test_as_many_draws_are_needed_as_reach_the_confidence() -> None:
    assert needed(64, 0.9) == 58
    assert needed(10, 0.9) == 9
    assert needed(1, 0.9) == 1


def test_a_stop_is_met_at_its_own_value_and_by_no_unknown_one() -> None:
    most = BudgetStops("memory", "memory_bytes", False, np.array([np.inf, 300.0, 200.0]), 0)
    assert most.met(np.array([200.0, 200.1, 300.0, 900.0, np.nan])).tolist() == [3, 2, 2, 1, 0]
    least = BudgetStops("decode", "decode_tokens_per_s", True, np.array([0.0, 10.0, 20.0]), 0)
    assert least.met(np.array([20.0, 19.9, 5.0, np.nan])).tolist() == [3, 2, 1, 0]


def test_round_values_are_the_floats_people_type() -> None:
    assert {0.006, 0.05, 0.3} <= set(round_values(0.005, 1.0, 50))
    assert float(parse_bytes("1.4GB")) in round_values(1e8, 2e9, 50)
    assert len(round_values(1e-3, 1e6, 12)) <= 12


def test_a_space_that_was_only_searched_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shapelaw.search.page.stop_answers.MOST_POINTS", 10)
    answer = query("iphone-13", "evidence", Budget(tokens="1T"), "chat", SPACE)
    found = stop_answers(answer)
    assert not found.exact
    here = (found.asked_serving, found.asked_training, *(each.asked for each in found.stops))
    assert found.shapes[int(found.picks[here])] == answer.best.architecture
