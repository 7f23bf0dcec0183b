"""Reads the pooled evidence that ships, and makes laws of it."""

import functools
from importlib import resources
from typing import Any

import msgspec
import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.conditioning import Runs, condition
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw, new_study
from shapelaw.scaling.evidence.study_features import of_table
from shapelaw.scaling.evidence.study_law import PARAMETERS
from shapelaw.scaling.evidence.study_population import Population, read_population
from shapelaw.scaling.run_table import RunTable, checked

EVIDENCE = "evidence"
FEW_RUNS = 24
"""A table of fewer runs is fitted with the evidence as its prior where the user names none: forms
of up to twelve parameters are then left undetermined by the runs alone."""
_MOST_ROWS = 400

Ranges = dict[str, tuple[float, float]]


class DataSheet(msgspec.Struct, frozen=True):
    """The parts of the data sheet that laws need."""

    ranges: Ranges
    studies: list[dict[str, object]]


@functools.cache
def shipped_population() -> Population:
    """Draws of the population."""
    folder = resources.files("shapelaw.results.evidence")
    with resources.as_file(folder / "population.npz") as path:
        return read_population(path)


@functools.cache
def data_sheet() -> DataSheet:
    """Names, rows, ranges and licences of the studies."""
    text = (resources.files("shapelaw.results.evidence") / "data_sheet.json").read_bytes()
    return msgspec.json.decode(text, type=DataSheet)


@functools.cache
def evidence_law() -> EvidenceLaw:
    """The law of a study nobody has run yet."""
    sheet = data_sheet()
    families = len({study["family"] for study in sheet.studies})
    source = (
        f"a population of {len(sheet.studies)} studies from {families} sources and published "
        "figures (results/evidence/README.md); the level of loss differs between corpora and is "
        "not known: compare differences"
    )
    return new_study(shipped_population(), dict(sheet.ranges), EVIDENCE, source)


def informed_share(prior: np.ndarray, theta: np.ndarray) -> dict[str, float]:
    """Of each parameter, the share of the population's variance that the runs took away, 0 to 1.

    By the width of the middle 68 %: levels of studies have long tails.
    """
    before, after = (
        np.diff(np.quantile(draws, [0.16, 0.84], axis=0), axis=0)[0] for draws in (prior, theta)
    )
    return {
        name: float(np.clip(1 - (after[i] / before[i]) ** 2, 0.0, 1.0))
        for i, name in enumerate(PARAMETERS)
    }


def contradictions(prior: np.ndarray, theta: np.ndarray) -> dict[str, float]:
    """Parameters with a median beyond 98 % of the population: name -> its quantile."""
    found = {}
    for i, name in enumerate(PARAMETERS[1:], start=1):
        place = float(np.mean(prior[:, i] < np.median(theta[:, i])))
        if not 0.01 <= place <= 0.99:
            found[name] = place
    return found


def fit_with_evidence(
    table: RunTable,
    *,
    label: str = "runs",
    source: str = "",
    seed: int = 0,
    dropped: list[str] | None = None,
) -> tuple[EvidenceLaw, dict[str, Any]]:
    """The population turned into the law of a table of runs, and the report of `fit --json`.

    Raises:
        BadInput: numbers that cannot be used, or more rows than this is meant for.
    """
    table = checked(table)
    if len(table) > _MOST_ROWS:
        raise BadInput(
            f"rows = {len(table)}: --prior evidence takes up to {_MOST_ROWS}; so many determine a "
            "law of their own: use --prior none"
        )
    runs = Runs(
        of_table(table),
        np.log(table.loss),
        np.unique(table.run, return_inverse=True)[1].ravel(),
        np.ones(len(table)),
    )
    population = shipped_population()
    theta = condition(population, runs, seed=seed)
    law = EvidenceLaw(
        theta, _joint_range(table), label, f"{source}; prior: {EVIDENCE}", len(set(table.run))
    )
    prior, _ = population.new_studies(len(theta), np.random.default_rng(0))
    error = runs.log_loss - law.log_loss_of(law.middle, runs.features)[0]
    names = [*PARAMETERS]
    low, high = np.quantile(theta[:, : len(names)], [0.05, 0.95], axis=0)
    report: dict[str, Any] = {
        "form": "study",
        "prior": EVIDENCE,
        "objective": float(np.sum(_huber(error))),
        "parameters": dict(zip(names, theta.mean(axis=0)[: len(names)].tolist(), strict=True)),
        "intervals": {
            name: [float(a), float(b)] for name, a, b in zip(names, low, high, strict=True)
        },
        "diagnostics": {
            "mean_abs_log": float(np.mean(np.abs(error))),
            "from_runs": informed_share(prior, theta),
            "contradicts_population": contradictions(prior, theta),
        },
        "holdout": {},
        "columns": dict(table.columns),
        "count": table.count,
        "runs": len(set(table.run)),
        "rows": len(table),
        "dropped": dropped or [],
    }
    return law, report


def _huber(error: np.ndarray, delta: float = 1e-3) -> np.ndarray:
    size = np.abs(error)
    return np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def _joint_range(table: RunTable) -> Ranges:
    """What the studies or these runs have seen."""
    found = dict(data_sheet().ranges)
    for axis, values in (("N", table.n), ("tokens", table.d)):
        found[axis] = (float(values.min()), float(values.max()))
    return found
