"""What each axis does to the loss, straight from paired runs: no law in between.

A shape is compared with the base shape of its own size, budget, seed and text order, so that what
a seed does to both cancels.
"""

import dataclasses
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.design.design import load_design
from shapelaw.sweeps.design.layout import layout
from shapelaw.sweeps.training.trunk import resolve

DESIGN = "reference"
BASE_SHARE = "base"


@dataclasses.dataclass(frozen=True)
class Effect:
    """One value of one axis against the base."""

    axis: str
    """What differs from the base, in the design's words."""
    per_size: dict[int, float]
    """Nominal size -> mean ln(loss / base loss) over budgets and seeds."""
    mean: float
    interval: tuple[float, float]
    """90 %, over trunks: the budgets of one trunk are not independent."""
    trunks: int


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A record with what the design asked for."""

    record: RunRecord
    part: str
    label: str
    nominal: int


def labelled(records: list[RunRecord]) -> list[Labelled]:
    """Records of the design, each with the label of the point it was made for.

    Matched by what was trained, not by key: a key knows the text, which is that of another Python
    where another Python reads the records.
    """
    planned = {}
    for one in layout(load_design(DESIGN))[0]:
        plan = resolve(one.job)
        for branch in plan.branches:
            planned[
                _Trained(plan.architecture, one.job.seed, branch.tokens, _rate(plan.learning_rate))
            ] = one
    found = []
    for record in records:
        match = planned.get(
            _Trained(
                record.architecture.build(),
                record.seed,
                record.tokens,
                _rate(record.recipe.learning_rate),
            )
        )
        if match is not None:
            found.append(Labelled(record, match.part, match.label, match.nominal))
    return found


class _Trained(NamedTuple):
    """What tells the runs of the design apart."""

    architecture: Architecture
    seed: int
    tokens: int
    learning_rate: str


def _rate(learning_rate: float) -> str:
    return f"{learning_rate:.6g}"


def paired_effects(runs: list[Labelled]) -> list[Effect]:
    """Every label that has partners, the largest gain first."""
    base = {
        (run.nominal, run.record.tokens, run.record.seed): run.record.loss
        for run in runs
        if run.label == BASE_SHARE
    }
    trunks: dict[str, dict[tuple[int, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        partner = base.get((run.nominal, run.record.tokens, run.record.seed))
        if run.label == BASE_SHARE or partner is None or run.record.loss is None:
            continue
        axis = run.label + (", equal FLOPs" if "equal FLOPs" in run.part else "")
        trunks[axis][run.nominal, run.record.trunk_key].append(
            float(np.log(run.record.loss / partner))
        )
    effects = [_effect(axis, found) for axis, found in trunks.items()]
    return sorted(effects, key=lambda effect: effect.mean)


def _effect(axis: str, trunks: dict[tuple[int, str], list[float]]) -> Effect:
    means = np.array([np.mean(values) for values in trunks.values()])
    sizes: dict[int, list[float]] = defaultdict(list)
    for (nominal, _), values in trunks.items():
        sizes[nominal].append(float(np.mean(values)))
    generator = np.random.default_rng(0)
    draws = generator.choice(means, (4000, len(means))).mean(axis=1)
    low, high = np.quantile(draws, [0.05, 0.95]) if len(means) > 1 else (np.nan, np.nan)
    return Effect(
        axis=axis,
        per_size={size: float(np.mean(values)) for size, values in sorted(sizes.items())},
        mean=float(means.mean()),
        interval=(float(low), float(high)),
        trunks=len(means),
    )


def sharing_effects(effects: list[Effect]) -> list[tuple[str, Effect]]:
    """What sharing does to the loss, in words: beside the unshared model of as many parameters, and
    beside the one of as many distinct blocks as there are applications."""
    by_axis = {effect.axis: effect for effect in effects}
    found = []
    for times in (2, 3):
        for axis, words in (
            (f"sharing {times}", "the same parameters applied once"),
            (f"sharing {times}, equal FLOPs", "distinct blocks, the same work"),
        ):
            if axis in by_axis:
                found.append((f"blocks applied {times} times, against {words}", by_axis[axis]))
    return found


def learning_rate_check(runs: list[Labelled]) -> dict[tuple[int, int, str], dict[float, float]]:
    """(nominal size, tokens, shape) -> {multiple of the rule's learning rate: loss}.

    The rule itself, multiple 1, was trained as part of the shape sweeps: it is found by its shape.
    """
    by_rule = {
        (run.record.architecture, run.record.tokens, run.record.seed): run.record.loss
        for run in runs
        if "learning_rate" not in run.label
    }
    found: dict[tuple[int, int, str], dict[float, float]] = defaultdict(dict)
    for run in runs:
        shape, checked, multiple = run.label.rpartition("learning_rate ")
        if not checked or run.record.loss is None:
            continue
        losses = found[run.nominal, run.record.tokens, shape.rstrip(", ") or "base"]
        losses[float(multiple)] = run.record.loss
        rule = by_rule.get((run.record.architecture, run.record.tokens, run.record.seed))
        if rule is not None:
            losses[1.0] = rule
    return dict(sorted(found.items()))
