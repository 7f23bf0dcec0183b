"""Fitting side by side: ours, the replication's way, and PyPI `chinchilla`.

    python -m benchmarks.fit [TABLE.csv] [--full] [--json]

On the 240 points of the Chinchilla figure (245 less the 5 highest losses): time to the optimum and
4,000 bootstrap draws, and the objective reached. Without `--full` the replication's way is timed on
a subset of its 4,500 starts and 4,000 draws, interleaved with ours, and scaled up; the table says
so. Then a made-up table of 100,000 rows: CPU time and peak memory of `auto` and of `shape`.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

from shapelaw.results.tables.reader import read_table
from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.run_table import RunTable

DEFAULT_TABLE = Path(__file__).parents[2] / "shared" / "data" / "runs" / "chinchilla.csv"
DRAWS, STARTS, DELTA = 4000, 4500, 1e-3
DROPPED_HIGHEST = 5
LARGE_ROWS, LARGE_RUNS = 100_000, 5_000
_SUBSET_STARTS, _SUBSET_DRAWS = 60, 30
_REPEATS = 3
_PEER = "chinchilla"
_PEER_GRID = {
    "E": np.linspace(1.1, 1.5, 5),
    "a": np.linspace(1, 10, 10),
    "b": np.linspace(1, 10, 10),
    "alpha": np.linspace(0.1, 0.7, 4),
    "beta": np.linspace(0.1, 0.7, 4),
}


def objective(theta: Array, log_n: Array, log_d: Array, log_loss: Array, weights: Array) -> float:
    """Sum of Huber terms at theta = (ln A, ln B, ln E, alpha, beta)."""
    a, b, e, alpha, beta = theta
    stack = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
    residual = np.abs(logsumexp(stack, axis=0) - log_loss)
    terms = np.where(residual <= DELTA, 0.5 * residual**2, DELTA * (residual - 0.5 * DELTA))
    return float((weights * terms).sum())


def replication(table: RunTable, starts: int, draws: int) -> tuple[float, float, float, float]:
    """The replication's way: L-BFGS-B from a grid without gradients, then a BFGS fit a draw.

    Returns seconds for the starts, seconds for the draws, the best objective, and the share of
    starts within 1e-9 of it.
    """
    log_n, log_d, log_loss = np.log(table.n), np.log(table.d), np.log(table.loss)
    ones = np.ones(len(table))
    grid = np.stack(
        np.meshgrid(
            np.arange(0, 30, 5),
            np.arange(0, 30, 5),
            np.arange(-1, 1.5, 0.5),
            np.arange(0, 2.5, 0.5),
            np.arange(0, 2.5, 0.5),
            indexing="ij",
        ),
        axis=-1,
    ).reshape(-1, 5)
    picks = grid[np.random.default_rng(0).permutation(len(grid))[:starts]]
    begin = time.perf_counter()
    ends = [
        minimize(objective, start, args=(log_n, log_d, log_loss, ones), method="L-BFGS-B")
        for start in picks
    ]
    middle = time.perf_counter()
    best = min(ends, key=lambda end: end.fun)
    generator = np.random.default_rng(0)
    for _ in range(draws):
        counts = np.bincount(generator.integers(0, len(table), len(table)), minlength=len(table))
        minimize(
            objective, best.x, args=(log_n, log_d, log_loss, counts.astype(float)), method="BFGS"
        )
    values = np.array([end.fun for end in ends])
    return (
        middle - begin,
        time.perf_counter() - middle,
        float(best.fun),
        float(np.mean(values <= best.fun + 1e-9)),
    )


def ours(table: RunTable) -> tuple[float, float, float]:
    """Seconds, objective and share of starts at the optimum, of our fit with all its draws."""
    begin = time.perf_counter()
    fit = fit_law(table, "chinchilla", bootstrap=DRAWS, holdout=False)
    seconds = time.perf_counter() - begin
    share = fit.diagnostics["starts_at_optimum"] / fit.diagnostics["starts"]
    return seconds, fit.objective, share


def peer(table: RunTable, full: bool) -> tuple[float, float, int] | str:
    """PyPI `chinchilla` on its README's grid: seconds, objective, starts; or why it was not run.

    Without `full` a coarser grid within the same ranges is used: fewer starts, the same optimiser.
    """
    if importlib.util.find_spec(_PEER) is None:
        return "not installed (pip install chinchilla==0.2.0)"
    grid = (
        _PEER_GRID
        if full
        else {name: values[:: max(2, len(values) // 2)] for name, values in _PEER_GRID.items()}
    )
    rows = json.dumps(
        {
            "grid": {name: list(map(float, values)) for name, values in grid.items()},
            "n": table.n.tolist(),
            "d": table.d.tolist(),
            "loss": table.loss.tolist(),
        }
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PEER_RUN], input=rows, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - begin
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:120]}"
    found = json.loads(done.stdout.strip().splitlines()[-1])
    theta = np.array(
        [np.log(found["A"]), np.log(found["B"]), np.log(found["E"]), found["alpha"], found["beta"]]
    )
    value = objective(
        theta, np.log(table.n), np.log(table.d), np.log(table.loss), np.ones(len(table))
    )
    starts = int(np.prod([len(values) for values in grid.values()]))
    return found.get("seconds", seconds), value, starts


_PEER_RUN = """
import json, sys, tempfile, time
import numpy as np, pandas as pd
from chinchilla import Chinchilla
task = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    model = Chinchilla(folder, param_grid={k: np.array(v) for k, v in task["grid"].items()},
                       seed_ranges=dict(C=(1e15, 1e16), N_to_D=(10, 100)))
    n, d = np.array(task["n"]), np.array(task["d"])
    model.database.df = pd.DataFrame({"C": 6 * n * d, "N": n, "D": d, "loss": task["loss"]})
    begin = time.perf_counter()
    model.fit(parallel=False, simulation=False)
    seconds = time.perf_counter() - begin
    print(json.dumps({**{k: float(getattr(model, k)) for k in ("A", "B", "E", "alpha", "beta")},
                      "seconds": seconds}))
"""


def _median_of(several: list[Callable[[], float]]) -> list[float]:
    """Median seconds of each, run in turn so that a busy moment falls on all alike."""
    times: list[list[float]] = [[] for _ in several]
    for _ in range(_REPEATS):
        for found, one in zip(times, several, strict=True):
            found.append(one())
    return [float(np.median(found)) for found in times]


def compare(table: RunTable, full: bool) -> dict[str, Any]:
    """Every way on the points of the Chinchilla figure."""
    starts, draws = (STARTS, DRAWS) if full else (_SUBSET_STARTS, _SUBSET_DRAWS)
    last: dict[str, tuple[float, ...]] = {}

    def run_ours() -> float:
        last["ours"] = ours(table)
        return last["ours"][0]

    def run_replication() -> float:
        last["replication"] = replication(table, starts, draws)
        first, second = last["replication"][:2]
        return first * STARTS / starts + second * DRAWS / draws

    ours(table)  # first calls load libraries
    mine, theirs = (
        (run_ours(), run_replication()) if full else _median_of([run_ours, run_replication])
    )
    other = peer(table, full)
    return {
        "runs": len(table),
        "draws": DRAWS,
        "shapelaw": {
            "seconds": mine,
            "objective": last["ours"][1],
            "at_optimum": last["ours"][2],
        },
        "replication": {
            "seconds": theirs,
            "objective": last["replication"][2],
            "at_optimum": last["replication"][3],
            "starts_run": starts,
            "draws_run": draws,
            "times_slower": theirs / mine,
        },
        "peer": {"skipped": other}
        if isinstance(other, str)
        else {"seconds": other[0], "objective": other[1], "starts": other[2]},
    }


def many_rows(form: str) -> dict[str, Any]:
    """CPU seconds and peak memory of a fit, with all its draws, to a very large table.

    In a process of its own, so that the peak is its own.
    """
    done = subprocess.run(
        [sys.executable, "-c", _MANY_ROWS_RUN, form], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def large_table(rows: int = LARGE_ROWS, runs: int = LARGE_RUNS) -> RunTable:
    """Checkpoints of so many runs of a known law, each run with a shift of its own."""
    generator = np.random.default_rng(0)
    run = np.repeat(np.arange(runs), rows // runs)
    width = np.exp(generator.uniform(np.log(128), np.log(4096), runs))[run]
    depth = np.exp(generator.uniform(np.log(4), np.log(64), runs))[run]
    n = 12 * width**2 * depth
    d = n * np.exp(generator.uniform(np.log(2), np.log(200), len(run)))
    noise = 0.004 * generator.standard_normal(runs)[run]
    noise = noise + 0.003 * generator.standard_normal(len(run))
    loss = 1.6 + 150 * n**-0.4 + 4 * width**-0.45 + 0.9 * depth**-0.7 + 1500 * d**-0.45 * n**0.1
    return RunTable(
        n=n,
        d=d,
        loss=loss * np.exp(noise),
        run=run.astype(str),
        shape={"d_model": width, "n_layers": depth},
    )


_MANY_ROWS_RUN = """
import json, resource, sys, time
from benchmarks.fit import large_table
from shapelaw.scaling.fit import fit_law
table = large_table()
begin = time.process_time()
fit = fit_law(table, sys.argv[1])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"rows": len(table), "form": fit.law.form, "cpu_seconds": time.process_time()
                  - begin, "peak_gib": peak / 2**20,
                  "mean_abs_log": fit.diagnostics["mean_abs_log"]}))
"""


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description="Fitting side by side.")
    parser.add_argument("table", nargs="?", type=Path, default=DEFAULT_TABLE)
    parser.add_argument("--full", action="store_true", help="every start and draw of each way")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    if options.table.is_file():
        table, _ = read_table(options.table)
        found = compare(
            table.take(np.sort(np.argsort(table.loss)[:-DROPPED_HIGHEST])), options.full
        )
    found["many_rows"] = {form: many_rows(form) for form in ("auto", "shape")}
    print(json.dumps(found)) if options.json else show(found, options.table.name)


def show(found: dict[str, Any], name: str) -> None:
    """For people."""
    if "shapelaw" in found:
        mine, theirs, other = found["shapelaw"], found["replication"], found["peer"]
        print(f"{found['runs']} runs; fit and {found['draws']} bootstrap draws")
        print(f"{'way':44s} {'seconds':>9s} {'objective':>18s} {'at optimum':>11s}")
        for way, one in (
            ("shapelaw", mine),
            ("L-BFGS-B without gradients, BFGS bootstrap", theirs),
        ):
            print(
                f"{way:44s} {one['seconds']:9.2f} {one['objective']:18.13f} "
                f"{one['at_optimum']:11.0%}"
            )
        print(
            f"shapelaw is {theirs['times_slower']:.0f} times faster (the other was run from "
            f"{theirs['starts_run']} starts with {theirs['draws_run']} draws, and scaled up)"
        )
        way = "PyPI chinchilla 0.2.0 (fit alone)"
        if "skipped" in other:
            print(f"{way:44s} skipped: {other['skipped']}")
        else:
            print(
                f"{way:44s} {other['seconds']:9.2f} {other['objective']:18.13f} "
                f"({other['starts']} of its grid's {_grid_size()} starts)"
            )
    else:
        print(f"skipped: {name} is not here; give a table of runs")
    for form, one in found["many_rows"].items():
        print(
            f"{one['rows']} rows, {form}: {one['cpu_seconds']:.1f} s of CPU, peak "
            f"{one['peak_gib']:.2f} GiB, mean |Δ ln L| {one['mean_abs_log']:.5f}"
        )


def _grid_size() -> int:
    return int(np.prod([len(values) for values in _PEER_GRID.values()]))


if __name__ == "__main__":
    main()
