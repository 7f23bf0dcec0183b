"""The search against brute force, against plain Optuna, and against the clock.

    python -m benchmarks.search [--quick]

prints each bar with what was found. Timings are cold where they say so (a fresh interpreter) and
taken side by side; run it on a quiet machine. `--quick` shortens the searches that run for long.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import msgspec
import numpy as np

from benchmarks.literature_law import literature_law, published_factor
from benchmarks.synthetic import fitted_repetition, repetition
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.law import Law
from shapelaw.search.answer.baselines import priced
from shapelaw.search.answer.query import query
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import costs
from shapelaw.search.pareto.budget import Budget
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.exhaustive import search_all
from shapelaw.search.pareto.front import hypervolume, reference_point
from shapelaw.search.pareto.optuna_search import explore
from shapelaw.search.pareto.optuna_study import (
    axis_values,
    constraints_of,
    distributions,
    quiet,
    values_of,
)
from shapelaw.search.pareto.problem import Problem, parse_objectives
from shapelaw.search.space.neighbours import Neighbours
from shapelaw.search.space.space import Bounds, Pattern, Range, Space
from shapelaw.search.workload import Workload, load_workload

PHONE = Space(
    name="phone-8e5",
    d_model=Range(128, 2560, 64),
    n_blocks=Range(2, 64, 1),
    sharing=[1, 2, 3, 4],
    gqa_group=[1, 2, 3, 4, 5, 6, 8],
    mlp_attention_ratio=Range(0.5, 5, 0.125),
)
SERVER = Space(
    name="server-4e5",
    d_model=Range(1024, 8192, 256),
    n_blocks=Range(8, 80, 4),
    sharing=[1, 2],
    head_dim=[64, 128],
    gqa_group=[1, 4, 8, 16],
    attention_width=[0.5, 1, 1.5, 2],
    mlp_attention_ratio=Range(0.5, 6, 0.5),
    d_ff_multiple_of=256,
    weight_bits=[8, 16],
)
WINDOWS = Space(
    name="windows-1e5",
    d_model=Range(256, 3072, 128),
    n_blocks=Range(4, 40, 4),
    sharing=[1, 2, 3],
    gqa_group=[1, 2, 4],
    mlp_attention_ratio=Range(0.5, 6, 0.5),
    weight_bits=[4, 8],
    attention=["full", Pattern(256, 4), Pattern(512, 4)],
    vocab_size=[32_000, 128_256],
)
MILLION = Space(
    name="1e6",
    d_model=Range(128, 2560, 64),
    n_blocks=Range(2, 64, 1),
    sharing=[1, 2, 3, 4],
    gqa_group=[1, 2, 3, 4, 5, 6, 8],
    mlp_attention_ratio=Range(0.5, 5, 0.1),
)
TEN_MILLION = Space(
    name="1e7",
    d_model=Range(128, 4096, 32),
    n_blocks=Range(1, 80, 1),
    sharing=[1, 2, 3, 4],
    head_dim=[32, 64, 128],
    gqa_group=[1, 2, 3, 4, 8],
    mlp_attention_ratio=Range(0.5, 6, 0.08),
)
HUGE = Space(
    name="4e10",
    d_model=Range(128, 8192, 16),
    n_blocks=Range(1, 128, 1),
    sharing=[1, 2, 3, 4],
    gqa_group=[1, 2, 3, 4, 5, 6, 8],
    head_dim=[32, 64, 128],
    d_ff=Range(128, 32768, 8),
    weight_bits=[3, 4, 8, 16],
    attention=["full", Pattern(512, 4), Pattern(256, 4), Pattern(1024, 2)],
)

TIGHT = Budget(memory_bytes="400MB", decode_tokens_per_s=20, tokens=1e12)

WIDTH_FACTORS = {"80M to 297M": (2.697, 0.0974, 0.0078), "1B": (2.319, 0.238, 0.0176)}
MLP_FACTORS = {"80M to 297M": (0.3870, 0.0063, 0.0065), "1B": (0.5104, 0.0051, 0.0062)}
"""Multiplicative conditional law of arXiv 2510.18245, by the sizes it was fitted on."""


def say(text: str, good: bool | None = None) -> None:
    """One line; a bar with its verdict."""
    verdict = "" if good is None else "ok    " if good else "MISSED"
    print(f"{verdict:7}{text}", flush=True)


def problem_of(device: str, budget: Budget, workload: str = "chat") -> Problem:
    """The question as the search sees it."""
    return Problem(
        literature_law(),
        DeviceCost(load_device(device), load_workload(workload)),
        budget,
        parse_objectives(None),
    )


# --- exactness -----------------------------------------------------------------------------------


def brute_force(problem: Problem, space: Space) -> list[int]:
    """Numbers of the front's points: priced, sorted, swept, without Front."""
    batch, bits = next(iter(space.enumerate(10**9)))
    cost = problem.cost
    assert isinstance(cost, DeviceCost)
    found = costs(batch, cost.profile, cost.workload, weight_bits=bits)
    loss = problem.law.loss(batch, problem.budget.training_tokens(batch))
    budget = problem.budget
    fits = np.ones(len(loss), dtype=bool)
    if budget.memory_bytes is not None:
        fits &= found.memory_bytes <= float(budget.memory_bytes)
    if budget.decode_tokens_per_s is not None:
        fits &= found.decode_tokens_per_s >= float(budget.decode_tokens_per_s)
    rows = np.flatnonzero(fits)
    slowness = -found.decode_tokens_per_s[rows]
    kept, fastest = [], np.inf
    for at in np.lexsort((rows, slowness, loss[rows])).tolist():
        if slowness[at] < fastest:
            fastest = slowness[at]
            kept.append(int(rows[at]))
    return kept


def exactness() -> None:
    """The front of three spaces, point for point."""
    for device, space, budget in (
        ("iphone-13", PHONE, TIGHT),
        ("h100", SERVER, Budget(memory_bytes="40GB", decode_tokens_per_s=60, tokens=5e11)),
        ("raspberry-pi-5", WINDOWS, Budget(memory_bytes="1GB", flops=1e21)),
    ):
        problem = problem_of(device, budget)
        found = search_all(problem, space.grid()).front.keys.tolist()
        expected = brute_force(problem, space)
        same = sum(a == b for a, b in zip(found, expected, strict=False))
        say(
            f"front of {space.name} ({space.size():,} points) on {device}: {len(found)} points, "
            f"{same} equal to brute force's {len(expected)}",
            found == expected,
        )


# --- the clock -----------------------------------------------------------------------------------

_COLD = """
import json, resource, sys, time
start = time.perf_counter()
import msgspec
from benchmarks.literature_law import literature_law
from shapelaw.search.answer.query import query, Budget
from shapelaw.search.space.space import Space
space = msgspec.json.decode(sys.argv[1].encode(), type=Space)
budget = Budget(tokens=1e12) if sys.argv[2] == "none" else Budget(
    memory_bytes="400MB", decode_tokens_per_s=20, tokens=1e12)
answer = query("iphone-13", literature_law(), budget, "chat", space)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([time.perf_counter() - start, peak, answer.certificate.space_size,
                  len(answer.front)]))
"""


def cold(space: Space, budget: str) -> tuple[float, float, int, int]:
    """Seconds of a fresh interpreter from start to end, its peak bytes, points, front points."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _COLD, msgspec.json.encode(space).decode(), budget],
        capture_output=True,
        text=True,
        check=True,
    )
    _, peak, size, front = json.loads(done.stdout)
    return time.perf_counter() - start, peak, size, front


def clock(repeats: int) -> None:
    """Cold time and memory; the best of a few, since other work only ever adds."""
    for space, limit, memory in ((MILLION, 2.0, 4 * 2**30), (TEN_MILLION, 8.0, 4 * 2**30)):
        for budget in ("tight", "none"):
            runs = [cold(space, budget) for _ in range(repeats)]
            seconds, peak, size, front = min(runs)
            say(
                f"{size:,} points, {budget} budgets: {seconds:.2f} s cold (bar {limit:g} s), "
                f"{peak / 2**30:.2f} GiB (bar 4), front {front}",
                seconds <= limit and peak <= memory,
            )
    command = [
        sys.executable,
        "-m",
        "shapelaw",
        "query",
        "--device",
        "iphone-13",
        "--memory",
        "400MB",
        "--decode",
        "20",
        "--tokens",
        "1e12",
        "--json",
    ]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - start)
        json.loads(done.stdout)
    say(
        f"cold `shapelaw query --device iphone-13 ...`: {min(times):.2f} s (bar 2.5 s)",
        min(times) < 2.5,
    )


# --- plain Optuna, side by side ------------------------------------------------------------------


def plain_optuna(
    problem: Problem, space: Space, sampler: str, seconds: float
) -> tuple[np.ndarray, int]:
    """Feasible objectives [n, 2] that a sampler alone finds in so many seconds, and its trials."""
    import optuna

    grid = space.grid()
    make = {"NSGA-II": optuna.samplers.NSGAIISampler, "TPE": optuna.samplers.TPESampler}[sampler]
    axes, values = distributions(grid), axis_values(grid)
    columns, settle = list(values), Neighbours(grid).settle
    with quiet():
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=make(seed=0))
        deadline = time.perf_counter() + seconds
        found = []
        while time.perf_counter() < deadline:
            trial = study.ask(axes)
            point = np.zeros((1, len(columns)), dtype=np.int64)
            for name, value in trial.params.items():
                column = np.array(values[name], dtype=object)
                point[0, columns.index(name)] = int(np.argmin(np.abs(column - value)))
            architectures, bits, _ = grid.decode(settle(point))
            points = problem.evaluate(architectures, bits)
            for name, miss in constraints_of(problem, points)[0].items():
                trial.set_constraint(name, miss)
            study.tell(trial, values_of(problem, points)[0].tolist())
            if problem.feasible(points.columns)[0]:
                found.append(problem.objective_rows(points.columns)[0])
    return np.array(found).reshape(-1, 2), len(study.trials)


def side_by_side(quick: bool) -> None:
    """Exact, NSGA-II and TPE at the same wall time; and NSGA-II given far more."""
    problem = problem_of("iphone-13", TIGHT)
    start = time.perf_counter()
    exact = search_all(problem, PHONE.grid()).front.objectives
    seconds = time.perf_counter() - start
    reference = reference_point(exact)
    whole = hypervolume(exact, reference)
    say(
        f"exact on {PHONE.size():,} points: {seconds:.2f} s, hypervolume 100 %, "
        f"best loss {exact[0, 0]:.4f}"
    )
    for sampler, given in (
        ("NSGA-II", seconds),
        ("TPE", seconds),
        *(() if quick else (("NSGA-II", 17.0), ("TPE", 17.0))),
    ):
        found, trials = plain_optuna(problem, PHONE, sampler, given)
        share = hypervolume(found, reference) / whole if len(found) else 0.0
        best = found[:, 0].min() if len(found) else np.nan
        say(
            f"{sampler} in {given:.2f} s: {trials} trials, hypervolume {share:.2%}, best loss "
            f"{best:.4f} ({best - exact[0, 0]:+.4f})"
        )


# --- too large to enumerate ----------------------------------------------------------------------


def large(quick: bool) -> None:
    """A space of 4e10 points against a reference ten times as long."""
    seconds = 5.0 if quick else 25.0
    problem = problem_of(
        "iphone-13", Budget(memory_bytes="1GB", decode_tokens_per_s=10, tokens=1e12)
    )
    fronts, certificates, times = [], [], []
    for given, seed in ((seconds, 0), (10 * seconds, 100)):
        start = time.perf_counter()
        collected, _, _, certificate = explore(
            problem, HUGE.grid(), seconds=given, seed=seed, study_name="benchmark", storage=None
        )
        times.append(time.perf_counter() - start)
        fronts.append(collected.front.objectives)
        certificates.append(certificate)
    reference = reference_point(np.concatenate(fronts))
    share = hypervolume(fronts[0], reference) / hypervolume(fronts[1], reference)
    said = certificates[0]
    say(
        f"{HUGE.size():.2g} points: {times[0]:.1f} s reach {share:.4%} of the hypervolume of "
        f"{times[1]:.0f} s (bar 99.9 % in 30 s); said of itself {said.hypervolume_ratio:.4%}, no "
        f"neighbour improves: {said.locally_optimal}; best loss "
        f"{fronts[0][0, 0]:.5f} against {fronts[1][0, 0]:.5f}",
        share >= 0.999 and times[0] <= 30,
    )


# --- the published conditional search -----------------------------------------------------------


def conditional_law(sizes: str) -> Law:
    """The published conditional law over Chinchilla's reference loss, by the sizes fitted on."""
    base = literature_law().parameters
    parameters = {name: base[name] for name in ("E", "A", "B", "alpha", "beta")}
    for key, factors in (("x", WIDTH_FACTORS), ("r", MLP_FACTORS)):
        parameters[f"{key}_opt"], parameters[f"c_{key}"] = published_factor(*factors[sizes])
    form = build_form("conditional", frozenset())
    return Law(
        form="conditional",
        parameters={name: parameters[name] for name in form.names},
        draws=np.empty((0, 0)),
        range={"N": (8e7, 1e9)},
        count="non_embedding",
        fingerprint="arXiv 2510.18245",
        label=f"conditional ({sizes})",
        source="arXiv 2510.18245",
        features=(),
        residuals=np.empty(0),
    )


def conditional_space(size: str) -> Space:
    """Shapes of LLaMA 3.2's size and depth, as the paper searches them: d_model, d_ff and heads."""
    llama = load_architecture(f"llama-3.2-{size}")
    n = int(llama.non_embedding_parameters)
    return Space(
        name=f"conditional-{size}",
        d_model=Range(1024, 6144, 256),
        n_blocks=llama.n_blocks,
        head_dim=llama.head_dim,
        gqa_group=list(range(1, 10)),
        attention_width=Range(0.4, 3, 0.05),
        d_ff=Range(1024, 16_384, 256),
        vocab_size=llama.vocab_size,
        weight_bits=16,
        non_embedding=Bounds(0.96 * n, 1.04 * n),
    )


def conditional_case(size: str, sizes: str, batch: int = 32) -> dict[str, float]:
    """Asked for LLaMA's loss and for Surefire's own: losses and speeds of all of them."""
    device, law = load_device("h200"), conditional_law(sizes)
    work = Workload(name="serving", prompt=4096, generated=1024, batch=batch)
    tokens = 100 * int(load_architecture(f"llama-3.2-{size}").non_embedding_parameters)
    budget = Budget(tokens=tokens)
    problem = Problem(law, DeviceCost(device, work), budget, parse_objectives(None))
    found: dict[str, float] = {}
    for name in ("llama-3.2", "surefire"):
        point = priced(problem, [load_architecture(f"{name}-{size}")], np.array([16.0]))
        found[f"{name} loss"] = float(point.columns["loss"][0])
        found[f"{name} speed"] = float(point.columns["decode_tokens_per_s"][0])
    for name in ("llama-3.2", "surefire"):
        answer = query(
            device, law, budget, work, conditional_space(size), target_loss=found[f"{name} loss"]
        )
        found[f"at {name}'s loss: loss"] = answer.best.loss
        found[f"at {name}'s loss: speed"] = answer.best.decode_tokens_per_s
    return found


def conditional() -> None:
    """At least LLaMA 3.2's loss at the most throughput, as published."""
    for size in ("1b", "3b"):
        for sizes in WIDTH_FACTORS:
            f = conditional_case(size, sizes)
            for name in ("llama-3.2", "surefire"):
                loss, speed = f[f"at {name}'s loss: loss"], f[f"at {name}'s loss: speed"]
                say(
                    f"{size}, law fitted on {sizes}, at {name}'s loss {f[f'{name} loss']:.4f}: "
                    f"found {loss:.4f} at {speed:,.0f} tok/s; Surefire {f['surefire loss']:.4f} at "
                    f"{f['surefire speed']:,.0f}, LLaMA {f['llama-3.2 speed']:,.0f}",
                    speed >= f["surefire speed"] and loss <= f[f"{name} loss"],
                )


# --- sharing and sureness -----------------------------------------------------------------------


def sharing() -> None:
    """Where memory is scarce the pick shares blocks; where compute is, it does not."""
    phone = query(
        "iphone-13", literature_law(), Budget(memory_bytes="200MB", decode_tokens_per_s=30)
    )
    busy = msgspec.structs.replace(load_workload("chat"), batch=256)
    server = query(
        "h100", literature_law(), Budget(memory_bytes="80GB", decode_tokens_per_s=20_000), busy
    )
    for answer, wanted in ((phone, True), (server, False)):
        best = answer.best
        single = ArchitectureBatch.of([best.architecture])
        say(
            f"{answer.device.name}, batch {answer.workload.batch}: sharing "
            f"{best.architecture.sharing}, {best.architecture.n_blocks} blocks, scarce: "
            f"{best.scarce}; weights {int(single.total_parameters[0]) / 1e6:.0f}M stored, "
            f"{int(single.applied_parameters[0]) / 1e6:.0f}M applied",
            (best.architecture.sharing > 1) == wanted,
        )


def calibration(results: list[tuple[float, bool]], what: str) -> None:
    """How sure against how often right, in all and by how sure."""
    sure, right = np.array([p for p, _ in results]), np.array([r for _, r in results], dtype=float)
    say(
        f"{len(sure)} {what}: sure at {sure.mean():.3f} on average, right {right.mean():.3f} of "
        "the time (bar ±.05)",
        abs(sure.mean() - right.mean()) <= 0.05,
    )
    for low, high in ((0, 0.65), (0.65, 0.9), (0.9, 1.01)):
        rows = (sure >= low) & (sure < high)
        if rows.any():
            say(
                f"  sure at {low:g} to {min(high, 1):g}: {rows.sum()} picks, "
                f"{sure[rows].mean():.3f} sure, {right[rows].mean():.3f} right"
            )


def sureness(repetitions: int) -> None:
    """Picked at p, right p of the time: estimates with Gaussian errors."""
    calibration(
        [repetition(noise, seed) for seed in range(repetitions // 3) for noise in (0.03, 0.1, 0.2)],
        "synthetic truths",
    )


def fitted(repetitions: int) -> None:
    """The same with our own fit of 48 noisy runs and its bootstrap; a second or so each."""
    base = conditional_law("1B")
    calibration(
        [
            fitted_repetition(base, noise, seed)
            for seed in range(repetitions // 3)
            for noise in (0.001, 0.003, 0.01)
        ],
        "synthetic truths fitted from 48 noisy runs",
    )


def main(arguments: list[str] | None = None) -> None:
    """Run all, or the parts named."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.search")
    parser.add_argument("--quick", action="store_true", help="shorter searches")
    parser.add_argument("parts", nargs="*", help="which parts to run [all]")
    options = parser.parse_args(arguments)
    parts: dict[str, Callable[[], None]] = {
        "exactness": exactness,
        "clock": lambda: clock(1 if options.quick else 3),
        "optuna": lambda: side_by_side(options.quick),
        "large": lambda: large(options.quick),
        "conditional": conditional,
        "sharing": sharing,
        "sureness": lambda: sureness(300 if options.quick else 900),
        "fitted": lambda: fitted(30 if options.quick else 300),
    }
    for name in options.parts or parts:
        if name not in parts:
            parser.error(f"{name!r} is not one of {', '.join(parts)}")
        print(f"\n{name}")
        parts[name]()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the benchmark itself {peak:.2f} GiB")


if __name__ == "__main__":
    main()
