"""Numbers that cannot be what their column is taken for: units are asked about, never guessed.

A loss of 700 is a perplexity; parameters up to 320 are millions; bits only a column's name tells.
Each question ends in the words that answer it (`--columns n=params:millions`).
"""

from pathlib import Path

import numpy as np

from shapelaw.results.tables.column_names import normalised
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.user_files import refuse, shown

LARGEST_LOSS = 14.0
"""Nats a token: guessing evenly among 1.2 million tokens."""
UNTRAINED_LOSS = 6.5
"""Nats a token that the best of several runs of 1e7 parameters and 1e9 tokens is always below."""
LEAST_PARAMETERS = 1_000
LEAST_TOKENS = 20_000
LEAST_TOKENS_PER_PARAMETER = 0.02
MOST_TOKENS_PER_PARAMETER = 3e6
LARGEST_LOGARITHM = 35.0
"""ln of 1.6e15: counts below it may be logarithms."""

_FACTORS = {"thousands": 1e3, "millions": 1e6, "billions": 1e9, "trillions": 1e12}


def converted(values: np.ndarray, unit: str) -> np.ndarray:
    """A column in the unit the user named, as a plain count or in nats."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if unit in _FACTORS:
            return values * _FACTORS[unit]
        if unit == "log10":
            return np.power(10.0, values)
        if unit == "ln":
            return np.exp(values)
        if unit == "perplexity":
            return np.log(values)
        return values * np.log(2.0) if unit == "bits" else values


def ask_about_units(
    path: Path, table: RunTable, names: dict[str, str], told: dict[str, str]
) -> None:
    """Raises BadInput where a column's numbers cannot be plain counts or nats a token.

    Args:
        names: our name -> the table's column.
        told: units the user gave: what is told is not asked about.
    """
    if "n" not in told and "n" in names:
        _ask_count(path, "n", names["n"], table.n, LEAST_PARAMETERS)
    if "d" not in told and "d" in names:
        _ask_count(path, "d", names["d"], table.d, LEAST_TOKENS)
    if not told.keys() & {"n", "d"} and {"n", "d"} <= names.keys():
        _ask_together(path, table, names)
    if "loss" in names and "loss" not in told:
        _ask_loss(path, names["loss"], table)


def _median(values: np.ndarray) -> float:
    with np.errstate(over="ignore"):  # infinite between two values near the largest there is
        return float(np.median(values))


def _ask_count(path: Path, ours: str, column: str, values: np.ndarray, least: float) -> None:
    typical = _median(values)
    if typical >= least:
        return
    what = "parameters" if ours == "n" else "tokens"
    whole = bool(np.all(values == np.rint(values)))
    low, high = float(values.min()), float(values.max())
    if not whole and low > 2.5 and high < LARGEST_LOGARITHM:
        looks = ("log10", "ln") if high < 15 else ("ln", "log10")
    else:
        looks = ("millions", "billions") if ours == "n" else ("billions", "millions")
    _ask(path, ours, column, f"{low:g} to {high:g} are not counts of {what}", looks)


def _ask_together(path: Path, table: RunTable, names: dict[str, str]) -> None:
    with np.errstate(over="ignore"):  # a count near zero is refused by what follows
        ratio = _median(table.d / table.n)
    if ratio < LEAST_TOKENS_PER_PARAMETER:
        _ask(
            path,
            "d",
            names["d"],
            f"{ratio:.2g} tokens a parameter in the median: perhaps not plain counts",
            ("millions", "billions", "raw"),
        )
    if ratio > MOST_TOKENS_PER_PARAMETER:
        _ask(
            path,
            "n",
            names["n"],
            f"{ratio:.2g} tokens a parameter in the median: perhaps not plain counts",
            ("millions", "billions", "raw"),
        )
    width, depth = table.shape.get("d_model"), table.shape.get("n_layers")
    if width is None or depth is None:
        return
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        stored = depth / table.shape.get("sharing", np.ones(len(depth)))
        share = _median(table.n / (stored * width**2))
    if share < 0.2:
        _ask(
            path,
            "n",
            names["n"],
            f"{_median(table.n):.3g} parameters are fewer than d_model² × n_layers",
            ("thousands", "millions", "raw"),
        )


def _ask_loss(path: Path, column: str, table: RunTable) -> None:
    loss = table.loss[np.isfinite(table.loss)]
    if not loss.size:
        return
    spelled = normalised(column)
    if "ppl" in spelled or "perplexity" in spelled:
        _ask(path, "loss", column, "its name says perplexity", ("perplexity", "nats"))
    if "bpb" in spelled or "bpc" in spelled or "bits" in spelled.split("_"):
        _ask(path, "loss", column, "its name says bits", ("bits", "nats"))
    if "log" in spelled.split("_") or "log10" in spelled or "ln" in spelled.split("_"):
        _ask(path, "loss", column, "its name says a logarithm of the loss", ("ln", "log10", "nats"))
    trained = (table.n >= 1e7) & (table.d >= 1e9)
    best = float(np.min(loss))
    if _median(loss) > LARGEST_LOSS or (trained.any() and best > UNTRAINED_LOSS):
        _ask(
            path,
            "loss",
            column,
            f"{best:.4g} to {loss.max():.4g} are too much for nats a token",
            ("perplexity", "nats"),
        )
    if trained.any() and float(np.max(loss)) < 0.6:
        _ask(
            path,
            "loss",
            column,
            f"{best:.4g} to {loss.max():.4g} are too little for nats a token",
            ("log10", "ln", "nats"),
        )


def _ask(path: Path, ours: str, column: str, why: str, looks: tuple[str, ...]) -> None:
    name = shown(column, 40)
    ways = " or ".join(f"{ours}={name}:{unit}" for unit in looks)
    refuse("runs", path, f"column {name!r}: {why}; say what it is with --columns {ways}")
