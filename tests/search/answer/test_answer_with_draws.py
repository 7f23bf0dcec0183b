"""Answers about devices that are known with uncertainty: promises, and how they are told."""

import io
import re
from functools import cache

import numpy as np
import pytest
from rich.console import Console

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.answer_tables import answer_tables
from shapelaw.search.answer.query import Budget, query
from shapelaw.search.answer.wording import ordinal, plural, shape_code, share
from shapelaw.search.devices.cost import cost_draws
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.feasibility import DRAWS
from shapelaw.search.space.space import Range, Space

SPACE = Space(
    name="coarse",
    d_model=Range(256, 1536, 128),
    n_blocks=Range(4, 40, 4),
    sharing=[1, 2],
    gqa_group=[1, 2, 4],
    mlp_attention_ratio=Range(1, 4, 1),
)


@cache
def asked() -> Answer:
    budget = Budget(memory_bytes="400MB", decode_tokens_per_s=20, tokens=1e12)
    return query("iphone-13", "evidence", budget, "chat", SPACE)


def printed(answer: Answer) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*answer_tables(answer))
    return console.export_text()


@cache
def text() -> str:
    return printed(asked())


def chance(answer: Answer, shapes: list, seed: int) -> np.ndarray:
    """Probability of meeting both budgets by fresh draws of the device."""
    drawn = cost_draws(
        ArchitectureBatch.of(shapes), answer.device, answer.workload, count=1000, seed=seed
    )
    met = (drawn.memory_bytes <= 400e6) & (drawn.decode_tokens_per_s >= 20)
    return np.asarray(met.mean(axis=1))


def test_everything_called_feasible_keeps_its_promise_in_fresh_draws() -> None:
    answer = asked()
    besides = [*answer.near_ties, *answer.baselines]
    shapes = [answer.best.architecture, *(each.candidate.architecture for each in besides)]
    found = chance(answer, shapes, 11)
    assert found[0] > 0.85
    for each, p in zip(besides, found[1:], strict=True):
        assert p == pytest.approx(min(each.budget_probability.values()), abs=0.08)
        assert p > 0.84 if each.feasible else p < 0.94


def test_the_pick_has_the_least_expected_loss_of_those_that_keep_the_promise() -> None:
    """Brute force over the whole space by the deciding draws themselves."""
    answer = asked()
    shapes, bits = next(iter(SPACE.enumerate(10**6)))
    cost = answer.problem.cost
    assert isinstance(cost, DeviceCost)
    drawn = cost.draws(shapes, bits, ("memory_bytes", "decode_tokens_per_s"), DRAWS)
    met = (drawn["memory_bytes"] <= 400e6) & (drawn["decode_tokens_per_s"] >= 20)
    losses = answer.problem.law.loss_draws(shapes, 1e12).mean(axis=0)
    best = losses[met.mean(axis=0) >= 0.9].min()
    mine = answer.problem.law.loss_draws(
        ArchitectureBatch.of([answer.best.architecture]), 1e12
    ).mean()
    assert mine <= best + 1e-3


def test_regret_is_split_into_what_the_law_and_what_the_device_cost() -> None:
    found = asked().to_dict()["best"]
    regret = found["regret"]
    assert regret["law"] + regret["device"] == pytest.approx(regret["mean"])
    assert 0 <= regret["law"] <= regret["mean"]
    # A device known this poorly costs more than the law does, and timing it is worth most.
    assert regret["device"] > regret["law"]
    first = asked().measurements[0]
    assert (first.kind, first.runs) == ("timing", 0)
    assert first.value <= regret["device"]
    assert found["near_best_confident_probability"] >= found["near_best_probability"]


def test_the_text_fits_a_terminal_and_no_shape_is_broken() -> None:
    answer = asked()
    assert max(len(line) for line in text().splitlines()) <= 80
    assert "…" not in text()
    shown = [*answer.near_ties, *answer.baselines]
    for each in shown:
        assert shape_code(each.candidate.architecture, each.candidate.weight_bits) in text()
    # Whatever looks like the start of a shape is a whole one.
    starts = re.findall(r"\b\d+·\d[^\s]*", text())
    assert len(starts) > 8
    assert all(re.fullmatch(r"\d+·\d+(×\d+)?·\d+/\d+·\d+(·w\d+/\d+)?·[\d.]+b", s) for s in starts)


def test_what_is_not_known_of_a_device_does_not_break_its_lines() -> None:
    budget = Budget(decode_tokens_per_s=20, flops=1e21)
    words = printed(query("raspberry-pi-5", "evidence", budget, "chat", SPACE, formats="q8_0,q2_k"))
    assert max(len(line) for line in words.splitlines()) <= 80
    assert "…" not in words
    assert re.search(r"energy +not known", words)


def test_the_text_says_what_it_does_not_know() -> None:
    answer = asked()
    words = text()
    assert f"{answer.best.loss:.3f}" not in words  # the level is not known
    for phrase in ("not known: law evidence", "LLaMA-like", "binds", "buys", "measure", "hours of"):
        assert phrase in words
    for name, p in answer.budget_probability.items():
        assert share(p) in words, name
    missing = [each for each in answer.baselines if not each.feasible]
    assert missing
    assert words.count("meets memory") >= len(missing) - 1
    found = answer.to_dict()
    for key in ("edges", "sources", "equal_flops", "warnings"):
        assert found[key], key
    assert any("level" in warning for warning in found["warnings"])


def test_counts_are_worded_right() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111, 22)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th", "22nd",
    ]  # fmt: skip
    assert (plural(1, "run"), plural(2, "run"), plural(0, "run")) == ("1 run", "2 runs", "0 runs")
    assert (share(1.0), share(0.004), share(0.905)) == ("> 99 %", "< 1 %", "90 %")
