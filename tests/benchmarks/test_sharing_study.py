"""The sharing study's estimates, on runs whose truth is known."""

import dataclasses
import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.sharing_study.analysis import analyse, unsteady
from benchmarks.sharing_study.estimates import Budget, Interval, equal_flops, phi_of
from benchmarks.sharing_study.page import UNSTEADY, text
from benchmarks.sharing_study.runs import DEPTHS, FOLDER, Run, runs_of
from benchmarks.sharing_study.worth import BLOCKS, shapes, worth
from shapelaw.results.record import ParameterCounts, RunRecord
from shapelaw.results.store import read_records
from shapelaw.sweeps.design.design import load_design
from shapelaw.sweeps.design.layout import layout
from shapelaw.sweeps.training.trunk import resolve

NOISE = 0.004
SLOPE, DEEPER, PHI = -0.08, -0.02, 0.4
TOKENS = 12_400_000
REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def truth(cell: str, depth: int) -> float:
    """ln(loss) where N counts as N_once + s^φ · N_shared."""
    counted = {"wide": 2.0, "twice": 2**PHI, "cycle": 2**PHI, "prelude": (1 + 3**PHI) / 2}
    applied = depth if cell == "distinct" else 2 * depth
    return 1.0 + SLOPE * math.log(counted.get(cell, 1.0)) + DEEPER * math.log(applied)


def made(
    generator: np.random.Generator, seeds: int = 3, tokens: int = TOKENS, noise: float = NOISE
) -> list[Run]:
    """Runs of all cells; each seed has its own luck too."""
    luck = generator.normal(0, 0.01, seeds)
    found = []
    for seed in range(seeds):
        both = truth("distinct", 8) + generator.normal(0, noise)
        for depth in DEPTHS:
            for cell in ("distinct", "twice", "narrow", "wide", "cycle", "prelude"):
                same = (cell, depth) in (("distinct", 8), ("narrow", 4))
                value = both if same else truth(cell, depth) + generator.normal(0, noise)
                found.append(Run(cell, depth, seed, tokens, value + luck[seed]))
    return found


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    pairs = (("twice", "distinct"), ("twice", "narrow"), ("wide", "twice"))
    hits, widths = [], []
    for _ in range(300):
        budget = Budget(made(generator), TOKENS)
        for first, second in pairs:
            for depths in ((4,), (8,), DEPTHS):
                found = budget.contrast(first, second, depths)
                assert found is not None
                wanted = np.mean([truth(first, d) - truth(second, d) for d in depths])
                hits.append(found.low <= wanted <= found.high)
                widths.append(found.half_width if len(depths) == 1 else np.nan)
    assert 0.87 <= np.mean(hits) <= 0.93
    # t(19) · noise · √(2/3): three seeds fall just short of what the study is to reach.
    assert np.nanmean(widths) == pytest.approx(1.73 * NOISE * math.sqrt(2 / 3), rel=0.05)


def test_one_seed_is_judged_by_the_noise_of_the_reference_study() -> None:
    budget = Budget(made(np.random.default_rng(2), seeds=1, noise=0.0), TOKENS)
    found = budget.contrast("twice", "narrow", (4,))
    assert not budget.pooled
    assert found is not None
    assert found.value == pytest.approx(truth("twice", 4) - truth("narrow", 4))
    assert 0.005 < found.half_width < 0.02


def test_cells_that_share_no_seed_with_others_are_not_compared() -> None:
    runs = [Run("distinct", 4, 0, TOKENS, 1.0), Run("twice", 4, 1, TOKENS, 0.9)]
    assert Budget(runs, TOKENS).contrast("twice", "distinct", (4,)) is None
    assert Budget(runs[:1], TOKENS).contrast("twice", "distinct", (4,)) is None


@pytest.mark.parametrize("cell", ["twice", "cycle", "prelude"])
@pytest.mark.parametrize("degree", [1, 2])
def test_phi_is_recovered(cell: str, degree: int) -> None:
    exact = phi_of(Budget(made(np.random.default_rng(3), noise=0.0), TOKENS), degree, cell)
    assert exact is not None
    assert exact.value == pytest.approx(PHI, abs=1e-6)
    generator = np.random.default_rng(4)
    found = [phi_of(Budget(made(generator), TOKENS), degree, cell) for _ in range(60)]
    hits = [one is not None and one.low <= PHI <= one.high for one in found]
    assert 0.8 <= np.mean(hits) <= 1.0


def test_phi_is_not_bounded_where_parameters_are_worth_nothing() -> None:
    generator = np.random.default_rng(5)
    flat = [
        Run(run.cell, run.depth, run.seed, run.tokens, generator.normal(1.0, NOISE))
        for run in made(generator)
    ]
    found = phi_of(Budget(flat, TOKENS), 1, "twice")
    assert found is not None
    assert not math.isfinite(found.high - found.low)


def test_equal_flops_adds_the_noise_of_both_budgets() -> None:
    generator = np.random.default_rng(6)
    small, large = (Budget(made(generator, tokens=t), t) for t in (TOKENS // 2, TOKENS))
    found = equal_flops(small, large, 4)
    alone = large.contrast("twice", "distinct", (4,))
    assert isinstance(found, Interval)
    assert alone is not None
    assert found.half_width > 0.8 * alone.half_width


def test_a_difference_that_jumps_between_budgets_is_told() -> None:
    """B − A is steady in the truth; one run off by ten times the noise is not taken for a fact."""

    def moved(amount: float) -> float:
        small = Budget(made(np.random.default_rng(5), seeds=1, tokens=TOKENS // 2), TOKENS // 2)
        runs = made(np.random.default_rng(6), seeds=1)
        of = next(i for i, run in enumerate(runs) if (run.cell, run.depth) == ("twice", 8))
        runs[of] = dataclasses.replace(runs[of], log_loss=runs[of].log_loss + amount)
        found = unsteady([small, Budget(runs, TOKENS)])
        assert found is not None
        return found["of_noise"]

    assert moved(0.0) < UNSTEADY < moved(0.05)


def records() -> list[RunRecord]:
    """The preset's first seed and its learning rates, with losses of the truth."""
    sample = read_records(REFERENCE)[0]
    found = []
    for one in layout(load_design("sharing"))[0]:
        if one.job.seed:
            continue
        plan = resolve(one.job)
        letter = {"A": "distinct", "B": "twice", "C": "narrow", "D": "wide"}[one.label[0]]
        bend = 0.01 if one.job.learning_rate != 1 else 0.0
        found += [
            msgspec.structs.replace(
                sample,
                run_key=branch.run_key,
                architecture=one.job.architecture,
                n_parameters=ParameterCounts.of(plan.architecture),
                tokens=branch.tokens,
                recipe=msgspec.structs.replace(sample.recipe, learning_rate=plan.learning_rate),
                seed=0,
                loss=math.exp(truth(letter, int(one.label[1])) + bend),
            )
            for branch in plan.branches
        ]
    return found


def test_records_are_told_apart_by_what_was_trained() -> None:
    found = records()
    runs = runs_of(found)
    assert {(run.cell, run.depth) for run in runs} >= {
        (cell, depth)
        for cell in ("distinct", "twice", "narrow", "wide", "cycle", "prelude")
        for depth in DEPTHS
    }
    figures = analyse(found)
    first = next(one for one in figures["contrasts"] if one["of"] == "narrow")
    assert first["value"] == pytest.approx(DEEPER * math.log(2), abs=1e-9)
    assert figures["learning_rate"]
    assert all(one["value"] == pytest.approx(0.01) for one in figures["learning_rate"])
    left = {part["part"]: part["missing"] for part in figures["to_come"]}
    assert all(
        bool(missing) == ("first seed" not in name)
        for name, missing in left.items()
        if "seed" in name
    )
    assert "What the cells differ by" in text(figures)


def test_what_sharing_is_worth_follows_the_device() -> None:
    """Twice the same blocks: nearly free on the phone, as dear as distinct ones where each
    application is paid for; and equal time buys no more blocks than it pays for."""
    phone, here, server = worth()["devices"]
    assert phone["cells"]["B"]["time"]["high"] < 0.5 * phone["cells"]["D"]["time"]["low"]
    assert server["copies"]
    assert server["cells"]["B"]["time"] == server["cells"]["D"]["time"]
    for device in (phone, here, server):
        assert BLOCKS <= device["equal_time"]["blocks"]["value"] <= 2 * BLOCKS
        loss = device["cells"]["B"]["loss"]
        assert loss["low"] < loss["value"] < loss["high"]
        # The loss is the law's, whatever runs it.
        assert loss == phone["cells"]["B"]["loss"]
    assert phone["measured"]["B"] == pytest.approx(math.log(16.0 / 15.6))
    four = shapes()
    stored = {cell: float(one.non_embedding_parameters) for cell, one in four.items()}
    assert stored["C"] == pytest.approx(stored["A"], rel=0.01)
    assert four["C"].depth == four["B"].depth == four["D"].depth


def test_the_committed_text_is_what_the_committed_records_say() -> None:
    if not (FOLDER / "runs.jsonl").exists():
        pytest.skip("no run of the study has been committed")
    written = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert written == text(analyse(read_records(FOLDER)))
