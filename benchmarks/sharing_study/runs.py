"""The runs of the preset `sharing`, by cell, and those that are to come."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shapelaw.results.record import RunRecord
from shapelaw.sweeps.design.design import load_design
from shapelaw.sweeps.design.layout import layout
from shapelaw.sweeps.training.trunk import resolve

FOLDER = Path(__file__).parents[2] / "results" / "sharing"
DEPTHS = (4, 8)
"""Base depths: distinct blocks of A."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One finished run of the study in one cell; C at 4 layers is A at 8 and counts as both."""

    cell: str
    depth: int
    """Base depth: distinct blocks of A."""
    seed: int
    tokens: int
    log_loss: float
    learning_rate: float = 1.0
    """Multiple of the rule's."""


def cell_of(label: str) -> tuple[str, int]:
    """Cell and base depth that a label of the preset names."""
    letter, depth, rest = label[0], int(label[1]), label[2:]
    cell = {"A": "distinct", "B": "twice", "C": "narrow", "D": "wide"}[letter]
    for word, other in (("cycles", "cycle"), ("prelude", "prelude"), ("three", "thrice")):
        if word in rest:
            cell = other
    return cell, depth


def runs_of(records: Sequence[RunRecord]) -> list[Run]:
    """The finished records that the preset asked for, once for each cell that they are in."""
    cells: dict[Any, set[tuple[str, int]]] = {}
    for part in load_design("sharing").parts():
        for run in part.runs or ():
            cells.setdefault(run.architecture.build(), set()).add(cell_of(run.label))
    rule = {
        one.architecture: resolve(one.job).learning_rate / one.job.learning_rate
        for one in layout(load_design("sharing"))[0]
    }
    found = []
    for record in records:
        shape = record.architecture.build()
        if record.status != "finished" or record.loss is None or shape not in cells:
            continue
        multiple = round(record.recipe.learning_rate / rule[shape], 3)
        found += [
            Run(cell, depth, record.seed, record.tokens, math.log(record.loss), multiple)
            for cell, depth in sorted(cells[shape])
        ]
    return found


def to_come(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """By part of the preset: runs that are not there, and their FLOPs."""
    done = {
        (record.architecture.build(), record.seed, record.tokens, record.recipe.learning_rate)
        for record in records
        if record.status == "finished"
    }
    parts: dict[str, dict[str, Any]] = {}
    for one in layout(load_design("sharing"))[0]:
        plan = resolve(one.job)
        part = parts.setdefault(one.part, {"part": one.part, "runs": 0, "missing": 0, "flops": 0.0})
        for branch in plan.branches:
            part["runs"] += 1
            key = (plan.architecture, one.job.seed, branch.tokens, plan.learning_rate)
            if key not in done:
                part["missing"] += 1
                part["flops"] += branch.flops - branch.shared_flops
    return list(parts.values())
