"""Adaptive against grid, in simulation: a known law, realistic noise, the same two questions.

    python -m benchmarks.adaptive [--trials 24] [--share 0.333] [--replay FOLDER]

Each trial draws a truth: the project's own form with parameters scattered around those of small
byte-level models. A grid (every axis at every size, three budgets) is run on it once. The adaptive
sweep begins with the cheap end of the same grid and asks `sweeps.adaptive.propose` for the rest,
until it has spent a third of the grid's FLOPs; a random third of the grid stands beside it. All
fit the same form and answer for a size none of them trained: which shape is best (regret: its true
loss above that of the truly best one, nats) and what the losses are (mean absolute log error).

`--replay` does the same with real runs: a sweep's folder is the grid, its largest size the held-out
one. The adaptive sweep sees no run before it has picked it, and pays for each.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from results.record import RunRecord
from results.store import read_records
from results.tables import table_of
from scaling.architecture import Architecture, ArchitectureBatch
from scaling.fit import fit_law
from scaling.law import Law
from scaling.table import RunTable
from sweeps.adaptive import Candidate, beliefs_of, candidates_of, pick, propose, run_noise
from sweeps.design import Design, read_design
from sweeps.job import TrunkJob, resolve

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
TRUTH = {
    "E": 0.5, "A": 4.0, "B": 53.0, "alpha": 0.20, "beta": 0.44, "kappa": 0.13, "gamma": 0.03,
    "sigma": 0.05, "rho": 0.25, "tau": 0.25, "W": 6.0, "K": 0.15, "omega": 1.1, "lambda": 1.0,
}
"""Near what the form gives on small byte-level models; losses of 1.4 to 2.4 nats."""
FEATURES = ("ln_aspect", "ln_d", "ln_depth", "ln_g", "ln_n", "ln_r", "ln_s", "ln_width", "ln_x")
SCATTER = 0.15
RUN_NOISE, BUDGET_NOISE = 0.010, 0.004
"""Standard deviations of ln loss between seeds, and of each budget by itself (METHODS: .008)."""
FORM = "shape"
BOOTSTRAP, STARTS = 60, 8
FIRST_RUNS = 30
"""Of a replay, before the first law."""
ROUNDS, RUNS_A_ROUND = 5, 8
Run = tuple[Architecture, tuple[int, ...], str]
"""A trunk that was run: its shape, its budgets, its name."""


def truth(generator: np.random.Generator) -> Law:
    """A law nobody knows: every parameter off by some 15 %."""
    scattered = {name: value * float(np.exp(SCATTER * generator.standard_normal()))
                 for name, value in TRUTH.items()}
    return Law(form=FORM, parameters=scattered, draws=np.zeros((0, len(scattered))), range={},
               count="non_embedding", fingerprint="", label="truth", source="", features=FEATURES,
               residuals=np.zeros(0))


def measure(law: Law, runs: Sequence[Run], generator: np.random.Generator) -> RunTable:
    """What training these trunks would give: the truth and noise."""
    shapes = [shape for shape, budgets, _ in runs for _ in budgets]
    tokens = np.array([float(t) for _, budgets, _ in runs for t in budgets])
    loss = law.loss(ArchitectureBatch.of(shapes), tokens)
    shared = np.repeat(generator.normal(0, RUN_NOISE, len(runs)), [len(r[1]) for r in runs])
    noisy = loss * np.exp(shared + generator.normal(0, BUDGET_NOISE, len(loss)))

    def column(values: list[Any]) -> np.ndarray:
        return np.array(values, dtype=float)

    return RunTable(
        n=column([s.non_embedding_parameters for s in shapes]), d=tokens, loss=noisy,
        run=np.array([name for _, budgets, name in runs for _ in budgets]),
        shape={
            "d_model": column([s.d_model for s in shapes]),
            "n_layers": column([s.depth for s in shapes]),
            "d_ff": column([s.d_ff for s in shapes]),
            "n_heads": column([s.n_heads for s in shapes]),
            "n_kv_heads": column([s.n_kv_heads for s in shapes]),
            "head_dim": column([s.head_dim for s in shapes]),
            "sharing": column([s.sharing for s in shapes]),
            "n_applied": column([s.applied_parameters for s in shapes]),
        },
        count="non_embedding",
    )


def joined(tables: Sequence[RunTable]) -> RunTable:
    """Rows of several tables."""
    return RunTable(
        n=np.concatenate([t.n for t in tables]), d=np.concatenate([t.d for t in tables]),
        loss=np.concatenate([t.loss for t in tables]),
        run=np.concatenate([t.run for t in tables]), count="non_embedding",
        shape={name: np.concatenate([t.shape[name] for t in tables]) for name in tables[0].shape},
    )


def errors(law: Law, real: Law, panel: ArchitectureBatch) -> tuple[float, float]:
    """(regret of the predicted best shape in nats, mean absolute log error of the losses)."""
    predicted, actual = law.loss(panel, TOKENS), real.loss(panel, TOKENS)
    regret = float(actual[np.argmin(predicted)] - actual.min())
    return regret, float(np.mean(np.abs(np.log(predicted / actual))))


def flops_of(job: TrunkJob) -> float:
    """Of a trunk with its branches."""
    return resolve(job).flops


def fitted(table: RunTable, seed: int, bootstrap: int) -> Law:
    """The same fit for everyone."""
    return fit_law(table, FORM, bootstrap=bootstrap, seed=seed, holdout=False, starts=STARTS).law


def adaptive(
    design: Design, real: Law, panel: ArchitectureBatch, budget: float,
    generator: np.random.Generator, seed: int,
) -> tuple[Law, float, int]:
    """Spend up to `budget` FLOPs, choosing as it goes; (law, FLOPs spent, trunks trained)."""
    planned = design.layout()[0]
    begun = [one for one in planned if one.nominal == min(p.nominal for p in planned)
             or (one.label == "base" and one.nominal < max(p.nominal for p in planned))]
    runs: list[Run] = [(one.architecture, one.job.tokens, f"first {i}")
                       for i, one in enumerate(begun)]
    spent = sum(flops_of(one.job) for one in begun)
    tables = [measure(real, runs, generator)]
    shapes = [panel[i] for i in range(len(panel))]
    for number in range(ROUNDS):
        law = fitted(joined(tables), seed, BOOTSTRAP)
        share = (budget - spent) / (ROUNDS - number)
        cheapest = min(one.flops for one in candidates_of(design))
        if share < cheapest:
            break
        proposal = propose(design, law, RUNS_A_ROUND, flops=share, targets=shapes, tokens=TOKENS,
                           goal="loss" if number % 2 else "best shape")
        new: list[Run] = [
            (Architecture.from_dict(run["architecture"]), tuple(run["tokens"]),
             f"round {number} run {i}") for i, run in enumerate(proposal["runs"])
        ]
        tables.append(measure(real, new, generator))
        spent += proposal["flops"]
        runs += new
    return fitted(joined(tables), seed, 0), spent, len(runs)


def random_part(
    candidates: Sequence[Candidate], budget: float, generator: np.random.Generator
) -> list[Run]:
    """Whole trunks of the grid in random order, until the budget is spent."""
    longest = {one.architecture: one for one in candidates}
    left, runs = budget, []
    for index in generator.permutation(len(longest)):
        one = list(longest.values())[int(index)]
        if one.flops <= left:
            left -= one.flops
            runs.append((one.architecture, one.tokens, f"random {index}"))
    return runs


def trial(seed: int, share: float) -> dict[str, float]:
    """One truth, three sweeps."""
    generator = np.random.default_rng(seed)
    real = truth(generator)
    design, held = read_design(GRID), read_design(HELD_OUT)
    panel = ArchitectureBatch.of(dict.fromkeys(p.architecture for p in held.layout()[0]))
    planned = design.layout()[0]
    cost = sum(flops_of(one.job) for one in planned)
    grid: list[Run] = [(p.architecture, p.job.tokens, f"grid {i}") for i, p in enumerate(planned)]
    grid_law = fitted(measure(real, grid, generator), seed, 0)
    law, spent, trunks = adaptive(design, real, panel, share * cost, generator, seed)
    chance = random_part(candidates_of(design), share * cost, generator)
    chance_law = fitted(measure(real, chance, generator), seed, 0)
    found = {"grid": grid_law, "adaptive": law, "random": chance_law}
    result = {"share_of_flops": spent / cost, "adaptive_trunks": float(trunks),
              "grid_trunks": float(len(grid))}
    for name, one in found.items():
        result[f"{name}_regret"], result[f"{name}_error"] = errors(one, real, panel)
    return result


# --- real runs -----------------------------------------------------------------------------------


def trunks_of(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Finished records by trunk, budgets in order."""
    found: dict[str, list[RunRecord]] = {}
    for record in sorted(records, key=lambda one: one.tokens):
        if record.status == "finished":
            found.setdefault(record.trunk_key, []).append(record)
    return list(found.values())


def prefix(trunk: Sequence[RunRecord], budgets: int) -> Candidate:
    """The trunk's first budgets as something to pick; its FLOPs with what branches share."""
    records = trunk[:budgets]
    shape = records[0].architecture
    tokens = tuple(record.tokens for record in records)
    return Candidate(
        part="", label=records[0].trunk_key, architecture=shape.build(), tokens=tokens,
        job=TrunkJob(architecture=shape, tokens=tokens, seed=records[0].seed),
        flops=sum(record.flops - record.trunk_flops_shared for record in records),
    )


def real_errors(law: Law, held: Sequence[RunRecord]) -> dict[str, float]:
    """Regret among the held-out shapes at their largest common budget, and log error of all."""
    shapes = ArchitectureBatch.of(record.architecture.build() for record in held)
    tokens = np.array([float(record.tokens) for record in held])
    predicted = law.loss(shapes, tokens)
    actual = np.array([record.loss or np.nan for record in held])
    last = tokens > 0.98 * tokens.max()
    pick_of = np.argmin(np.where(last, predicted, np.inf))
    return {"regret": float(actual[pick_of] - actual[last].min()),
            "error": float(np.mean(np.abs(np.log(predicted / actual))))}


def replay(folder: str, share: float) -> dict[str, Any]:
    """Adaptive against grid on the real runs of a sweep's folder."""
    records = [record for record in read_records(folder) if record.status == "finished"]
    largest = max(record.n_parameters.non_embedding for record in records)
    held = [r for r in records if r.n_parameters.non_embedding > 0.9 * largest]
    trunks = trunks_of([r for r in records if r.n_parameters.non_embedding <= 0.9 * largest])
    grid = [record for trunk in trunks for record in trunk]
    cost = sum(record.flops - record.trunk_flops_shared for record in grid)
    grid_law = fitted(table_of(grid), 0, 0)

    seen: list[list[RunRecord]] = []  # the cheapest trunks, until a law can be fitted
    for one in sorted(trunks, key=lambda t: prefix(t, len(t)).flops):
        if sum(map(len, seen)) < FIRST_RUNS:
            seen.append(one)
    spent = sum(prefix(t, len(t)).flops for t in seen)
    taken = {t[0].trunk_key: len(t) for t in seen}
    panel = ArchitectureBatch.of(dict.fromkeys(r.architecture.build() for r in held))
    tokens = np.full(len(panel), float(max(r.tokens for r in held)))
    for number in range(ROUNDS):
        chosen = [r for t in trunks for r in t[: taken.get(t[0].trunk_key, 0)]]
        law = fitted(table_of(chosen), 0, BOOTSTRAP)
        candidates = [prefix(t, n) for t in trunks if t[0].trunk_key not in taken
                      for n in range(1, len(t) + 1)]
        budget = (share * cost - spent) / (ROUNDS - number)
        if not candidates or budget < min(one.flops for one in candidates):
            break
        beliefs, weights, _ = beliefs_of(law, candidates, panel, tokens,
                                         "loss" if number % 2 else "best shape")
        picks, _ = pick(beliefs, weights, candidates, run_noise(law), RUNS_A_ROUND, budget)
        for found in picks:  # a trunk picked twice, with fewer and with more budgets, is done once
            before = taken.get(found.label, 0)
            taken[found.label] = max(before, len(found.tokens))
            trunk = next(t for t in trunks if t[0].trunk_key == found.label)
            spent += prefix(trunk, taken[found.label]).flops
            spent -= prefix(trunk, before).flops if before else 0.0
    chosen = [r for t in trunks for r in t[: taken.get(t[0].trunk_key, 0)]]
    adaptive_law = fitted(table_of(chosen), 0, 0)
    return {"share_of_flops": spent / cost, "grid_runs": len(grid), "adaptive_runs": len(chosen),
            "held_out_runs": len(held), "grid": real_errors(grid_law, held),
            "adaptive": real_errors(adaptive_law, held)}


# --- all -----------------------------------------------------------------------------------------


def compare(trials: int, share: float) -> dict[str, float]:
    """Means over trials of everything `trial` gives, and the medians of the errors."""
    started = time.monotonic()
    rows = [trial(seed, share) for seed in range(trials)]
    result = {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    for name in rows[0]:
        if name.endswith(("regret", "error")):
            result[f"{name}_median"] = statistics.median(row[name] for row in rows)
    result["trials"] = float(trials)
    result["seconds"] = time.monotonic() - started
    return result


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--share", type=float, default=1 / 3)
    parser.add_argument("--replay", help="a sweep's folder")
    chosen = parser.parse_args()
    if chosen.replay is not None:
        print(json.dumps(replay(chosen.replay, chosen.share), indent=1))
        return
    print(json.dumps(compare(chosen.trials, chosen.share), indent=1))


if __name__ == "__main__":
    main()
