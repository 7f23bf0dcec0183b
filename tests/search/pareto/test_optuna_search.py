"""Spaces too large to enumerate, held against the exact front of smaller ones."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.errors import BadInput
from shapelaw.search.answer import query
from shapelaw.search.answer.query import Infeasible
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.pareto import exhaustive
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.exhaustive import least_relaxation, search_all
from shapelaw.search.pareto.front import hypervolume, reference_point
from shapelaw.search.pareto.optuna_search import Explorer, coordinates, sampled_relaxation
from shapelaw.search.pareto.problem import Problem, parse_objectives
from shapelaw.search.space.grid import AXES
from shapelaw.search.space.neighbours import Neighbours
from shapelaw.search.space.space import Pattern, Range, Space
from shapelaw.search.workload import load_workload
from tests.published_law import LITERATURE

pytestmark = pytest.mark.usefixtures("exact_devices")

FINE = Space(
    name="fine",
    d_model=Range(256, 1536, 64),
    n_blocks=Range(4, 40, 1),
    sharing=[1, 2, 3],
    gqa_group=[1, 2, 3, 4],
    mlp_attention_ratio=Range(0.5, 5, 0.25),
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
    attention=["full", Pattern(512, 4), Pattern(1024, 2)],
)


def problem(**budget: Any) -> Problem:
    return Problem(
        load_law(LITERATURE),
        DeviceCost(load_device("iphone-13"), load_workload("chat")),
        Budget(tokens=1e12, **budget),
        parse_objectives(None),
    )


def test_it_finds_the_exact_front_where_that_is_known() -> None:
    question = problem(memory_bytes="400MB", decode_tokens_per_s=20)
    exact = search_all(question, FINE.grid()).front.objectives
    with ThreadPoolExecutor(2) as pool:
        explorer = Explorer(question, FINE.grid(), 0, pool)
        explorer.run(deadline=float("inf"))
    found = explorer.collected.front.objectives
    reference = reference_point(exact)
    assert hypervolume(found, reference) >= 0.9999 * hypervolume(exact, reference)
    # The best loss itself, not only the volume.
    assert found[0, 0] == pytest.approx(exact[0, 0], rel=1e-4)


def test_when_it_says_polished_no_neighbour_improves_the_front() -> None:
    question = problem(memory_bytes="300MB", decode_tokens_per_s=100)
    with ThreadPoolExecutor(2) as pool:
        explorer = Explorer(question, FINE.grid(), 0, pool)
        assert explorer.run(deadline=float("inf"))
        before = explorer.collected.front.objectives.copy()
        explorer.look(explorer.neighbours.of(explorer.front()))
    assert np.array_equal(before, explorer.collected.front.objectives)


def test_a_huge_space_is_answered_in_time_and_budgets_hold() -> None:
    answer = query.query(
        "iphone-13",
        LITERATURE,
        Budget(memory_bytes="400MB", decode_tokens_per_s=10, tokens=1e12),
        "chat",
        HUGE,
        seconds=3,
    )
    assert HUGE.size() >= 1e10
    certificate = answer.certificate
    assert not certificate.exact
    assert certificate.space_size == HUGE.size()
    assert 0.95 < certificate.hypervolume_ratio <= 1
    for candidate in answer.front:
        assert candidate.memory_bytes <= 400e6
        assert candidate.decode_tokens_per_s >= 10
    assert answer.best.loss == min(candidate.loss for candidate in answer.front)
    # More choice cannot be worse than the enumerable space's exact best.
    coarse = query.query(
        "iphone-13",
        LITERATURE,
        Budget(memory_bytes="400MB", decode_tokens_per_s=10, tokens=1e12),
        "chat",
        FINE,
    )
    assert answer.best.loss <= coarse.best.loss


def test_a_small_feasible_corner_is_walked_to() -> None:
    # Random points hardly ever fit these budgets (2 in 100,000); a walk towards them does.
    question = problem(memory_bytes="80MB", decode_tokens_per_s=1_500)
    with ThreadPoolExecutor(2) as pool:
        explorer = Explorer(question, HUGE.grid(), 0, pool)
        explorer.run(deadline=float("inf"))
    assert explorer.collected.feasible


def test_infeasible_is_said_of_huge_spaces_too() -> None:
    with pytest.raises(Infeasible, match="about"):
        query.query(
            "iphone-13",
            LITERATURE,
            Budget(memory_bytes="1MB", tokens=1e12),
            "chat",
            HUGE,
            seconds=1,
        )


def test_the_sampled_relaxation_is_close_to_the_exact_one() -> None:
    question = problem(memory_bytes="60MB", decode_tokens_per_s=20_000)
    exact, sampled = (
        least_relaxation(question, FINE.grid()),
        sampled_relaxation(question, FINE.grid()),
    )
    assert sampled.together == pytest.approx(exact.together, rel=0.02)


def test_a_space_beyond_numbering_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = Space(
        name="endless",
        d_model=Range(64, 64 * 15_000, 64),
        n_blocks=Range(1, 10_000, 1),
        vocab_size=Range(2, 100_001, 1),
        d_ff=Range(1, 5_000, 1),
        sharing=list(range(1, 100)),
    )
    monkeypatch.setattr(type(endless.grid()), "size", lambda _: 10**23)
    with pytest.raises(BadInput, match="larger steps"):
        query.query("iphone-13", LITERATURE, Budget(), "chat", endless, seconds=1)


def test_exact_and_explored_keys_name_the_same_points() -> None:
    grid = FINE.grid()
    numbers = np.random.default_rng(0).integers(0, grid.size(), 500)
    placed = grid.coordinates(numbers)
    keys = np.ravel_multi_index(tuple(placed.T), grid.shape)
    assert np.array_equal(coordinates(grid, keys), placed)
    assert grid.size() <= exhaustive.MOST_POINTS


def test_neighbours_are_models_one_or_two_axes_away() -> None:
    neighbours = Neighbours(HUGE.grid())
    points = neighbours.random(200, np.random.default_rng(0))
    around = neighbours.of(points)
    _, _, valid = HUGE.grid().decode(around)
    assert valid.all()
    assert around.shape[1] == len(AXES)
    for point in points[:20]:
        own = neighbours.of(point[None, :])
        # d_model may move along with another axis to where it divides.
        changed = (own != point).sum(axis=1)
        assert changed.max() <= 3
        assert (changed == 1).any()
