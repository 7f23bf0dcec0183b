"""Adaptive against grid: the same two questions, answered with a third of the FLOPs.

    python -m benchmarks.adaptive [--trials 12] [--share 0.333] [--bend 1]
    python -m benchmarks.adaptive --replay FOLDER [--trials 12] [--share 0.333]

In simulation each trial draws a truth: the project's own form with parameters scattered around
those of small byte-level models, bent by a random smooth field that no form has (`--bend 0`: not
bent, the law is known but for its parameters; proposals doubt the form as far as it is bent). A
grid (every axis at every size, three budgets) is run on it once. The adaptive sweep begins with
cheap trunks picked at random and asks `sweeps.information` for the rest, round by round, until it
has spent a third of the grid's FLOPs; a random third of the grid stands beside it. All fit the same
form and answer for a size none of them trained: which shape is best (regret: its true loss above
that of the truly best one, nats) and what the losses are (mean absolute log error).

`--replay` does the same with real runs: a sweep's folder is the pool, less what the study's own
fits leave out (`benchmarks.study.records`); in every other trial its largest size is the held-out
one, else the next, and the losses asked are means over seeds. No run's loss is seen before the run
is picked and paid for. Each trial leaves out another tenth of the trunks, from the grid too, and
begins elsewhere. Two sizes and one set of runs: trials agree more than sweeps done anew would.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.candidate_pools import Pool, Recorded, Simulated, Truth, whole
from benchmarks.study.records import by_size, load_study
from shapelaw.results.record import RunRecord
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable
from shapelaw.sweeps.adaptive.expected_error import Runs, outlook_of
from shapelaw.sweeps.adaptive.greedy_picks import pick
from shapelaw.sweeps.adaptive.proposals import candidates_of
from shapelaw.sweeps.design.design import read_design
from shapelaw.sweeps.design.layout import layout

GRID = """
name = "grid"
tokens_per_parameter = [10, 20, 40]
[base]
non_embedding = [12_000, 24_000, 48_000, 96_000]
[vary]
d_model = [0.5, 0.7, 1.4, 2.0]
mlp_attention_ratio = [0.5, 1.0, 4.0, 6.0]
gqa_group = [2, 4]
sharing = [2, 3]
"""
HELD_OUT = """
name = "held-out size"
cross = ["d_model", "mlp_attention_ratio", "gqa_group", "sharing"]
[base]
non_embedding = 160_000
[vary]
d_model = [0.5, 0.7, 1.4, 2.0]
mlp_attention_ratio = [0.5, 1.0, 4.0, 6.0]
gqa_group = [4]
sharing = [2]
"""
TOKENS = 3_200_000.0
FORM = "shape"
STARTS = 8
ROUNDS, RUNS_A_ROUND = 5, 100
"""Rounds the budget is spread over; what one leaves unspent, those after it spend."""
BEGINNING = 0.1
"""Of the budget, spent before the first law."""
FIRST_RUNS = 30
"""Rows the first law needs at least."""
CHEAPNESS = 1.0
"""Standard deviation of the noise on ln cost in whose order the first trunks are picked."""
LEFT_OUT = 0.1
"""Of a replay's trunks, another part in each trial."""


@dataclass(frozen=True, eq=False)
class Panel:
    """What is asked: shapes of a size nobody trained, each at some budgets, and the true losses."""

    runs: Runs
    loss: np.ndarray

    def last(self) -> np.ndarray:
        """Which rows are at the largest budget: among these the best shape is looked for."""
        return np.asarray(self.runs.tokens > 0.98 * self.runs.tokens.max())

    def errors(self, law: Law) -> dict[str, float]:
        """Regret of the predicted best shape in nats, mean absolute log error of the losses."""
        predicted = law.loss(self.runs.architectures, self.runs.tokens)
        last = self.last()
        chosen = np.argmin(np.where(last, predicted, np.inf))
        return {
            "regret": float(self.loss[chosen] - self.loss[last].min()),
            "error": float(np.mean(np.abs(np.log(predicted / self.loss)))),
        }


def fitted(table: RunTable, seed: int) -> Law:
    """The same fit for everyone."""
    return fit_law(table, FORM, bootstrap=0, seed=seed, holdout=False, starts=STARTS).law


def begin(pool: Pool, budget: float, generator: np.random.Generator) -> float:
    """Train whole trunks at random, the cheap ones sooner; the FLOPs spent."""
    trunks = whole(pool.candidates())
    noise = CHEAPNESS * generator.standard_normal(len(trunks))
    order = np.argsort(np.log([one.flops for one in trunks]) + noise)
    spent, rows, picks = 0.0, 0, []
    for one in (trunks[int(place)] for place in order):
        if rows >= FIRST_RUNS and spent + one.flops > BEGINNING * budget:
            continue
        picks.append(one)
        spent, rows = spent + one.flops, rows + len(one.tokens)
    return pool.train(picks)


def adaptive(
    pool: Pool, panel: Panel, budget: float, doubt: float, generator: np.random.Generator, seed: int
) -> tuple[Law, float]:
    """Spend up to `budget` FLOPs, choosing as it goes; the last law and the FLOPs spent."""
    spent, number = begin(pool, budget, generator), 0
    while True:
        candidates = pool.candidates()
        share = (budget - spent) / max(1, ROUNDS - number)
        if not candidates or share < min(one.flops for one in candidates):
            return fitted(pool.table(), seed), spent
        law = fitted(pool.table(), seed)
        last = panel.runs.take(np.flatnonzero(panel.last()))
        outlook = outlook_of(
            law, candidates, {"best shape": last, "loss": panel.runs}, pool.held(), doubt
        )
        picks, _ = pick(outlook, candidates, RUNS_A_ROUND, share, again=pool.again)
        if not picks:
            return fitted(pool.table(), seed), spent
        spent += pool.train(picks)
        number += 1


def compare(
    make: Callable[[], Pool],
    panel: Panel,
    share: float,
    doubt: float,
    generator: np.random.Generator,
    seed: int,
) -> dict[str, float]:
    """The grid, the adaptive sweep and a random part of the grid, on one pool each."""
    grid, chosen, chance = make(), make(), make()
    trunks = whole(grid.candidates())
    cost = grid.train(trunks)
    law, spent = adaptive(chosen, panel, share * cost, doubt, generator, seed)
    left = share * cost
    for place in generator.permutation(len(trunks)):
        if trunks[int(place)].flops <= left:
            left -= chance.train([trunks[int(place)]])
    result = {
        "share_of_flops": spent / cost,
        "grid_runs": float(len(grid.table())),
        "adaptive_runs": float(len(chosen.table())),
    }
    for name, found in (
        ("grid", fitted(grid.table(), seed)),
        ("adaptive", law),
        ("random", fitted(chance.table(), seed)),
    ):
        result |= {f"{name}_{which}": value for which, value in panel.errors(found).items()}
    return result


def simulate(seed: int, share: float, bend: float) -> dict[str, float]:
    """One truth, three sweeps."""
    generator = np.random.default_rng(seed)
    truth = Truth.draw(generator, bend)
    shapes = ArchitectureBatch.of(
        dict.fromkeys(p.architecture for p in layout(read_design(HELD_OUT))[0])
    )
    panel = Panel(
        Runs(shapes, np.full(len(shapes), TOKENS), np.arange(len(shapes))),
        truth.loss(shapes, TOKENS),
    )
    candidates = candidates_of(read_design(GRID))
    return compare(
        lambda: Simulated(truth, candidates, generator), panel, share, bend, generator, seed
    )


# --- real runs -----------------------------------------------------------------------------------


def panel_of(records: Sequence[RunRecord]) -> Panel:
    """Held-out records, the mean over seeds for each shape and budget."""
    found: dict[tuple[Any, int], list[float]] = {}
    for record in records:
        if record.loss is not None:
            key = record.architecture.build(), record.tokens
            found.setdefault(key, []).append(record.loss)
    return Panel(Runs.of(list(found)), np.array([np.mean(losses) for losses in found.values()]))


def replay(folder: str, seed: int, share: float) -> dict[str, float]:
    """Adaptive against grid on the real runs of a sweep's folder."""
    study = load_study(Path(folder))
    pool, asked = study.fitted, study.held_out
    if seed % 2:
        pool, asked = by_size(pool)
    generator = np.random.default_rng(seed)
    keys = sorted({record.trunk_key for record in pool})
    kept = set(generator.permutation(keys)[round(LEFT_OUT * len(keys)) :])
    pool = [record for record in pool if record.trunk_key in kept]
    return compare(lambda: Recorded(pool), panel_of(asked), share, 1.0, generator, seed)


# --- all -----------------------------------------------------------------------------------------


def summary(rows: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Means over trials with their standard errors; how much worse adaptive is, in pairs."""

    def mean(values: Sequence[float]) -> dict[str, float]:
        spread = float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return {
            "mean": float(np.mean(values)),
            "standard_error": spread,
            "median": float(np.median(values)),
        }

    found: dict[str, Any] = {name: mean([row[name] for row in rows]) for name in rows[0]}
    for which in ("regret", "error"):
        found[f"adaptive_minus_grid_{which}"] = mean(
            [row[f"adaptive_{which}"] - row[f"grid_{which}"] for row in rows]
        )
    return found


def repeated(trial: Callable[[int], dict[str, float]], seeds: Sequence[int]) -> dict[str, Any]:
    """All trials together."""
    started = time.monotonic()
    rows = [trial(seed) for seed in seeds]
    return {"trials": len(rows), "seconds": time.monotonic() - started, **summary(rows)}


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--share", type=float, default=1 / 3)
    parser.add_argument(
        "--bend",
        type=float,
        default=1.0,
        help="of the simulated truth: how far it is from the form; 0: not at all",
    )
    parser.add_argument("--replay", help="a sweep's folder")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial")
    chosen = parser.parse_args()
    seeds = range(chosen.first, chosen.first + chosen.trials)
    print(
        json.dumps(
            repeated(
                lambda seed: (
                    simulate(seed, chosen.share, chosen.bend)
                    if chosen.replay is None
                    else replay(chosen.replay, seed, chosen.share)
                ),
                seeds,
            ),
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
