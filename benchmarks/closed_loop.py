"""Does the pick stand when it is trained, under budgets that make many different picks right?

    python -m benchmarks.closed_loop [--json]

The shapes of the two largest sizes of the reference study, trained on 5, 10 and 20 tokens a
parameter; the law is fitted below both sizes. The device is simulated: an iPhone 13 whose
bandwidths, rates, cache and runtime are divided by `SCALE`, so that these models stand to it as
models of hundreds of millions of parameters do to the phone. Truth is one draw of its constants;
the tool knows the draws of another seed. As in `query`, the pick is the shape with the least loss
in the mean over the law's draws among those that meet every budget with probability .9.

Budgets lie halfway between neighbouring shapes of the truth (`benchmarks.study.loop.limit`) and
are set by shares of the shapes that meet them, before any pick is made. Regret is the pick's
trained loss less that of the best shape that keeps the budgets in truth; `law_regret`, less that
of the best shape that the tool could promise, leaves out what not knowing the device costs.
"""

import argparse
import dataclasses
import itertools
import json
from typing import Any

import msgspec
import numpy as np

from benchmarks.study.loop import LEAST_FEASIBLE, limit
from benchmarks.study.measure import WORKLOAD
from benchmarks.study.records import load_study, mean_losses, seed_noise
from shapelaw.results.record import RunRecord
from shapelaw.results.tables.from_records import table_of
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.law import Law
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import cost_draws
from shapelaw.search.devices.profile import DeviceProfile

DEVICE = "iphone-13"
SCALE = 2000.0
BITS = 8.0
HELD_OUT_ABOVE = 100_000
"""Non-embedding parameters."""
FORM = "shape-depth"
BOOTSTRAP = 100
CONFIDENCE = 0.9
DRAWS = 64
TRUTH_SEED, TRUTH = 1, 0
"""Seed of the draws, and number of the one, that is the device in truth."""
FAST_ENOUGH = (1.0, 0.8, 0.6, 0.4, 0.2)
SMALL_ENOUGH = (1.0, 0.75, 0.5, 0.25)
"""Shares of the shapes that meet a budget of decode speed, of memory."""
WITHIN = 2.0
"""Standard deviations of seed noise."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """Held-out shapes [n], trained at one number of tokens a parameter."""

    tokens_per_parameter: int
    shapes: list[Architecture]
    tokens: np.ndarray
    losses: np.ndarray
    """Means over seeds."""


def parted(records: list[RunRecord]) -> tuple[list[RunRecord], list[RunRecord]]:
    """Those that a law may see, and those of the held-out sizes."""
    return (
        [one for one in records if one.n_parameters.non_embedding <= HELD_OUT_ABOVE],
        [one for one in records if one.n_parameters.non_embedding > HELD_OUT_ABOVE],
    )


def panels(held_out: list[RunRecord]) -> list[Panel]:
    """One for each budget: every shape at its own size's tokens."""
    losses = mean_losses(held_out)
    budgets: dict[Architecture, list[int]] = {}
    for shape, count in sorted(losses, key=lambda key: key[1]):
        budgets.setdefault(shape, []).append(count)
    shapes = sorted(budgets, key=lambda one: (int(one.non_embedding_parameters), one.d_model))
    found = []
    for number in range(min(map(len, budgets.values()))):
        tokens = [budgets[shape][number] for shape in shapes]
        sizes = [int(shape.non_embedding_parameters) for shape in shapes]
        found.append(
            Panel(
                round(float(np.median(np.array(tokens) / np.array(sizes)))),
                shapes,
                np.array(tokens, float),
                np.array([losses[key] for key in zip(shapes, tokens, strict=True)]),
            )
        )
    return found


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


def judge(panel: Panel, law: Law, profile: DeviceProfile, noise: float) -> list[dict[str, Any]]:
    """The pick under every budget of one panel, against what was trained."""
    batch = ArchitectureBatch.of(panel.shapes)
    expected = law.loss_draws(batch, panel.tokens).mean(axis=0)
    known, real = (
        cost_draws(batch, profile, WORKLOAD, count=DRAWS, seed=seed, weight_bits=BITS)
        for seed in (0, TRUTH_SEED)
    )
    seconds, memory = real.decode_s[:, TRUTH], real.memory_bytes[:, TRUTH]
    found = []
    for fast, small in itertools.product(FAST_ENOUGH, SMALL_ENOUGH):
        slowest, most = limit(seconds, fast), limit(memory, small)
        feasible = (seconds <= slowest) & (memory <= most)
        kept = ((known.decode_s <= slowest) & (known.memory_bytes <= most)).mean(axis=1)
        promised = kept >= CONFIDENCE
        if feasible.sum() < LEAST_FEASIBLE:
            continue
        best = int(np.where(feasible, panel.losses, np.inf).argmin())
        pick = int(np.where(promised, expected, np.inf).argmin()) if promised.any() else None
        meets = pick is not None and bool(feasible[pick])
        deviation = noise * panel.losses[best]
        if pick is None or not meets:
            regret = law_regret = None
        else:
            regret = float(panel.losses[pick] - panel.losses[best]) / deviation
            could = panel.losses[promised & feasible].min()
            law_regret = float(panel.losses[pick] - could) / deviation
        found.append(
            {
                "tokens_per_parameter": panel.tokens_per_parameter,
                "fast": fast,
                "small": small,
                "feasible": int(feasible.sum()),
                "promised": int(promised.sum()),
                "pick": pick,
                "best": best,
                "regret": regret,
                "law_regret": law_regret,
            }
        )
    return found


def report() -> dict[str, Any]:
    """All figures, as `--json` prints them; regrets in standard deviations of seed noise."""
    study = load_study()
    records = [*study.fitted, *study.held_out]
    below, held_out = parted(records)
    law = fit_law(table_of(below), form=FORM, bootstrap=BOOTSTRAP, holdout=False).law
    profile, noise = simulated(), seed_noise().run
    found = panels(held_out)
    verdicts = [verdict for panel in found for verdict in judge(panel, law, profile, noise)]
    batch = ArchitectureBatch.of(found[0].shapes)
    known, real = (
        cost_draws(batch, profile, WORKLOAD, count=DRAWS, seed=seed, weight_bits=BITS)
        for seed in (0, TRUTH_SEED)
    )
    low, high = known.interval("decode_s")
    truth = real.decode_s[:, TRUTH]

    def good(name: str) -> list[dict[str, Any]]:
        return [one for one in verdicts if one[name] is not None and one[name] <= WITHIN]

    return {
        "shapes": len(found[0].shapes),
        "fitted_runs": len(below),
        "budgets": len(verdicts),
        "no_promise": sum(one["pick"] is None for one in verdicts),
        "missed": sum(one["pick"] is not None and one["regret"] is None for one in verdicts),
        "within_two_deviations": len(good("regret")) / len(verdicts),
        "law_within_two_deviations": len(good("law_regret")) / len(verdicts),
        "distinct_right_picks": len({one["pick"] for one in good("regret")}),
        "distinct_best": len({one["best"] for one in verdicts}),
        "speed_inside_interval": float(np.mean((low <= truth) & (truth <= high))),
        "verdicts": verdicts,
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = report()
    if asked.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        if name != "verdicts":
            print(f"{name:26} {value}")


if __name__ == "__main__":
    main()
