"""Does the pick stand when it is trained, under budgets that make many different picks right?

    python -m benchmarks.closed_loop [--json]

What may be picked are 24 shapes of six sizes (results/panel), each on half a million or a million
tokens; the law is fitted to the reference study up to `HELD_OUT_ABOVE`, which holds none of these
sizes: two lie between its own, four above. The devices are simulated: iPhones 13 whose bandwidths,
rates, cache and runtime are divided by `SCALE`, so that these models stand to them as models of
hundreds of millions of parameters do to the phone. Each of `TRUTHS` devices is one draw of the
profile's constants. The tool knows draws of another seed: as the profile ships them, and after
`TIMED` smaller shapes were timed on the device (`told`). As in `query`, the pick has the least loss
in the mean over the law's draws among those that meet every budget with probability .9.

Budgets of training FLOPs, decode speed, first token and memory lie halfway between neighbouring
candidates on the true device (`benchmarks.study.loop.limit`) and are set by shares of the
candidates that meet them; panel, budgets and rule were committed before the panel was scored. Picks
are counted by their shapes. Regret is the pick's trained loss less that of the best shape that
keeps the budgets in truth, in standard deviations of seed noise; `law_regret`, less that of the
best shape that the tool could promise, leaves out what not knowing the device costs.
"""

import argparse
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.study.loop import LEAST_FEASIBLE, limit
from benchmarks.study.measure import WORKLOAD
from benchmarks.study.records import load_study, mean_losses, seed_noise
from shapelaw.results.record import RunRecord
from shapelaw.results.store import read_records
from shapelaw.results.tables.from_records import table_of
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.fit import fit_law
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import cost_draws
from shapelaw.search.devices.profile import DeviceProfile

PANEL = Path(__file__).parents[1] / "results" / "panel"
DEVICE = "iphone-13"
SCALE = 2000.0
BITS = 8.0
HELD_OUT_ABOVE = 99_000
"""Non-embedding parameters of runs that the law may not see."""
FORM = "shape-depth"
BOOTSTRAP = 100
CONFIDENCE = 0.9
TRUTH_SEED, TRUTHS = 1, 64
"""Seed of the draws that are devices in truth, and how many of them."""
PRIOR_DRAWS = 512
"""Of the profile, which timings move."""
TIMED = 8
"""Shapes of the largest size that the law may see, timed on the device."""
TIMING_NOISE = {"decode_s": 0.03, "ttft_s": 0.03, "memory_bytes": 0.01}
"""Standard deviations of the logarithm of one measurement."""
SHARES = {
    "decode_s": (1.0, 0.8, 0.6, 0.4, 0.2),
    "ttft_s": (1.0, 0.7, 0.4),
    "memory_bytes": (1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6),
}
"""Of the candidates that meet a budget of each quantity of the device."""
FLOPS_SHARES = (1.0, 0.7, 0.4)
"""Of the candidates that a budget of training FLOPs pays for."""
APART = 1e-6
"""Costs that differ by less, as those of one shape on several numbers of tokens, are one."""
WITHIN = 2.0
"""Standard deviations of seed noise."""


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What may be trained [n]: each held-out shape on each of its numbers of tokens."""

    shapes: list[Architecture]
    tokens: np.ndarray
    flops: np.ndarray
    losses: np.ndarray
    """Means over seeds."""


def seen_by_the_law() -> list[RunRecord]:
    """Runs of the reference study up to `HELD_OUT_ABOVE`."""
    study = load_study()
    return [
        one
        for one in [*study.fitted, *study.held_out]
        if one.n_parameters.non_embedding <= HELD_OUT_ABOVE
    ]


def candidates(held_out: list[RunRecord]) -> Candidates:
    """Every shape with every number of tokens it was trained on."""
    losses = mean_losses(held_out)
    flops = {(one.architecture.build(), one.tokens): one.flops for one in held_out}
    keys = sorted(losses, key=lambda key: (int(key[0].non_embedding_parameters), key[0].d_model))
    return Candidates(
        [shape for shape, _ in keys],
        np.array([tokens for _, tokens in keys], float),
        np.array([flops[key] for key in keys]),
        np.array([losses[key] for key in keys]),
    )


def simulated(name: str = DEVICE, scale: float = SCALE) -> DeviceProfile:
    """The device with everything that grows with a model divided by `scale`."""

    def less(figure: Any) -> Any:
        return (
            None if figure is None else msgspec.structs.replace(figure, value=figure.value / scale)
        )

    profile = load_device(name)
    memory, compute = profile.memory, profile.compute
    return msgspec.structs.replace(
        profile,
        memory=msgspec.structs.replace(
            memory,
            bandwidth=less(memory.bandwidth),
            kv_bandwidth=less(memory.kv_bandwidth),
            runtime=less(memory.runtime),
        ),
        compute=msgspec.structs.replace(
            compute, peak={bits: less(rate) for bits, rate in compute.peak.items()}
        ),
        cache=[
            msgspec.structs.replace(one, capacity=less(one.capacity), bandwidth=less(one.bandwidth))
            for one in profile.cache
        ],
    )


@dataclasses.dataclass(frozen=True)
class Known:
    """What the tool believes of one device: draws [shapes, k] by quantity."""

    draws: dict[str, np.ndarray]

    def meeting(self, budget: dict[str, float]) -> np.ndarray:
        """Probability [shapes] to meet every budget."""
        met = [self.draws[name] <= most for name, most in budget.items()]
        return np.asarray(np.logical_and.reduce(met).mean(axis=1))

    def inside(self, truth: dict[str, np.ndarray], name: str) -> float:
        """Share of the shapes whose true figure lies in its 90 % interval."""
        low, high = np.quantile(self.draws[name], [0.05, 0.95], axis=1)
        return float(np.mean((low <= truth[name]) & (truth[name] <= high)))


def costs(shapes: list[Architecture], count: int, seed: int) -> dict[str, np.ndarray]:
    """Draws [shapes, count] of what the simulated phone takes for each shape."""
    found = cost_draws(
        ArchitectureBatch.of(shapes),
        simulated(),
        WORKLOAD,
        count=count,
        seed=seed,
        weight_bits=BITS,
    )
    return {name: getattr(found, name) for name in SHARES}


def shipped(prior: dict[str, np.ndarray]) -> Known:
    """What the profile says before anything is timed."""
    return Known(prior)


def told(
    prior: dict[str, np.ndarray],
    prior_timed: dict[str, np.ndarray],
    true_timed: dict[str, np.ndarray],
    generator: np.random.Generator,
) -> Known:
    """The profile's draws after noisy timings of some shapes.

    An ensemble Kalman update (Evensen 1994) of the logarithms, which are nearly linear in those of
    the profile's constants: each draw moves by the regression on the timings of what it missed.

    Args:
        prior: draws [shapes, k] of the shapes asked about. prior_timed: [timed, k], the same
            draws, of the shapes that are timed. true_timed: [timed] by quantity, of the device.
    """
    timed = np.log(np.concatenate([prior_timed[name] for name in SHARES]))
    noise = np.concatenate([np.full(len(true_timed[name]), TIMING_NOISE[name]) for name in SHARES])
    seen = np.log(np.concatenate([true_timed[name] for name in SHARES]))
    seen = seen + noise * generator.standard_normal(len(seen))
    away = timed - timed.mean(axis=1, keepdims=True)
    covariance = away @ away.T / away.shape[1] + np.diag(noise**2)
    missed = seen[:, None] + noise[:, None] * generator.standard_normal(timed.shape) - timed
    moves = away.T @ np.linalg.solve(covariance, missed) / away.shape[1]
    found = {}
    for name, draws in prior.items():
        logs = np.log(draws)
        found[name] = np.exp(logs + (logs - logs.mean(axis=1, keepdims=True)) @ moves)
    return Known(found)


def judge(
    among: Candidates,
    expected: np.ndarray,
    known: Known,
    truth: dict[str, np.ndarray],
    noise: float,
) -> list[dict[str, Any]]:
    """The pick under every budget, against what was trained.

    Args:
        expected: the law's mean loss [n]. truth: [n] by quantity, of the device.
    """
    found = []
    for flops_share, *shares in itertools.product(FLOPS_SHARES, *SHARES.values()):
        budget = {
            name: limit(truth[name], share, APART)
            for name, share in zip(SHARES, shares, strict=True)
        }
        affordable = among.flops <= limit(among.flops, flops_share, APART)
        feasible = affordable & np.logical_and.reduce(
            [truth[name] <= most for name, most in budget.items()]
        )
        if len({among.shapes[at] for at in np.flatnonzero(feasible)}) < LEAST_FEASIBLE:
            continue
        promised = affordable & (known.meeting(budget) >= CONFIDENCE)
        best = int(np.where(feasible, among.losses, np.inf).argmin())
        pick = int(np.where(promised, expected, np.inf).argmin()) if promised.any() else None
        regret = law_regret = None
        if pick is not None and feasible[pick]:
            deviation = noise * among.losses[best]
            could = among.losses[promised & feasible].min()
            regret = float(among.losses[pick] - among.losses[best]) / deviation
            law_regret = float(among.losses[pick] - could) / deviation
        found.append(
            {
                "training_flops": flops_share,
                **dict(zip(SHARES, shares, strict=True)),
                "feasible": int(feasible.sum()),
                "promised": int(promised.sum()),
                "pick": None if pick is None else among.shapes.index(among.shapes[pick]),
                "best": among.shapes.index(among.shapes[best]),
                "regret": regret,
                "law_regret": law_regret,
            }
        )
    return found


def summary(
    verdicts: list[list[dict[str, Any]]], inside: list[dict[str, float]]
) -> dict[str, float]:
    """Of the verdicts and coverages of each device: means, and for distinct picks the median."""
    flat = [one for of_device in verdicts for one in of_device]

    def good(name: str, of: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in of if one[name] is not None and one[name] <= WITHIN]

    promises = [one for one in flat if one["pick"] is not None]
    return {
        "budgets": len(flat) / len(verdicts),
        "no_promise": 1 - len(promises) / len(flat),
        "missed": sum(one["regret"] is None for one in promises) / max(1, len(promises)),
        "within_two_deviations": len(good("regret", flat)) / len(flat),
        "law_within_two_deviations": len(good("law_regret", flat)) / max(1, len(promises)),
        "distinct_right_picks": float(
            np.median([len({one["pick"] for one in good("regret", of)}) for of in verdicts])
        ),
        "distinct_best": float(np.median([len({one["best"] for one in of}) for of in verdicts])),
        **{
            f"{name}_inside_interval": float(np.mean([one[name] for one in inside]))
            for name in SHARES
        },
    }


def report() -> dict[str, Any]:
    """All figures, as `--json` prints them; regrets in standard deviations of seed noise."""
    below = seen_by_the_law()
    law = fit_law(table_of(below), form=FORM, bootstrap=BOOTSTRAP, holdout=False).law
    among, noise = candidates(read_records(PANEL)), seed_noise().run
    batch = ArchitectureBatch.of(among.shapes)
    expected = law.loss_draws(batch, among.tokens).mean(axis=0)
    timed = timed_shapes(below)
    both = costs([*among.shapes, *timed], PRIOR_DRAWS, seed=0)
    true = costs([*among.shapes, *timed], TRUTHS, seed=TRUTH_SEED)
    split = len(among.shapes)
    prior = {name: draws[:split] for name, draws in both.items()}
    prior_timed = {name: draws[split:] for name, draws in both.items()}
    generator = np.random.default_rng(TRUTH_SEED)
    verdicts: dict[str, list[list[dict[str, Any]]]] = {"shipped": [], "told": []}
    inside: dict[str, list[dict[str, float]]] = {"shipped": [], "told": []}
    for number in range(TRUTHS):
        truth = {name: draws[:split, number] for name, draws in true.items()}
        timings = {name: draws[split:, number] for name, draws in true.items()}
        beliefs = {
            "shipped": shipped(prior),
            "told": told(prior, prior_timed, timings, generator),
        }
        for name, known in beliefs.items():
            verdicts[name].append(judge(among, expected, known, truth, noise))
            inside[name].append({of: known.inside(truth, of) for of in SHARES})
    return {
        "shapes": len(set(among.shapes)),
        "candidates": split,
        "fitted_runs": len(below),
        "devices": TRUTHS,
        **{name: summary(verdicts[name], inside[name]) for name in verdicts},
        "verdicts": verdicts,
    }


def timed_shapes(below: list[RunRecord]) -> list[Architecture]:
    """Some shapes of the largest size that the law may see, evenly by width."""
    largest = max(int(one.n_parameters.non_embedding) for one in below)
    shapes = {
        one.architecture.build()
        for one in below
        if int(one.n_parameters.non_embedding) > 0.9 * largest
    }
    ordered = sorted(shapes, key=lambda one: (one.d_model, one.n_blocks))
    return [ordered[at] for at in np.linspace(0, len(ordered) - 1, TIMED).round().astype(int)]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = report()
    if asked.json:
        print(json.dumps(figures))
        return
    for name in ("shapes", "candidates", "fitted_runs", "devices"):
        print(f"{name:32} {figures[name]}")
    print(f"{'':32} {'shipped':>8} {'told':>8}")
    for name in figures["shipped"]:
        print(f"{name:32} {figures['shipped'][name]:8.3f} {figures['told'][name]:8.3f}")


if __name__ == "__main__":
    main()
