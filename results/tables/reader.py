"""Tables of runs: a sweep's folder, or other people's files, read with suspicion.

The table says in `columns` what was read from where and in `remarks` what was done or noticed.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.results.store import read_records
from shapelaw.results.tables.checkpoints import with_runs
from shapelaw.results.tables.column_names import (
    EPOCHS,
    FINISHED,
    FLOPS,
    MIXING,
    STATES,
    STEPS,
    TOKENS_PER_PARAMETER,
    ColumnMapping,
    find,
    normalised,
    refuse_missing,
    resolve,
)
from shapelaw.results.tables.file_formats import Columns, read_contents
from shapelaw.results.tables.from_records import table_of, unusable
from shapelaw.results.tables.plausibility import ask_about_units, converted
from shapelaw.results.tables.repeated_text import repeated_text
from shapelaw.results.tables.tuning_sweeps import best_of_sweeps
from shapelaw.results.tables.written_numbers import decimal_commas, numbers
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.run_table import SHAPE_COLUMNS, RunTable, joined
from shapelaw.scaling.user_files import exists, refuse, shown

NEEDED = ("n", "d", "loss")
_SHOWN = 5
BOUNDS = {
    "n": (1e-9, 1e18),
    "d": (1e-9, 1e21),
    "loss": (1e-9, 1e9),
    **dict.fromkeys(("d_model", "n_layers", "d_ff", "head_dim"), (1.0, 10000000.0)),
    **dict.fromkeys(("n_heads", "n_kv_heads", "sharing"), (1.0, 1000000.0)),
    **dict.fromkeys(("mlp_attention_ratio", "gqa_group"), (0.001, 100000.0)),
    "n_applied": (1e-9, 1e21),
}
"""Our name -> what no run lies outside of, in any unit that the column may have."""
_FLOPS_PER_PARAMETER_AND_TOKEN = 6
"""C = 6·N·D (arXiv 2001.08361)."""
_beyond_floats = np.errstate(over="ignore", divide="ignore", invalid="ignore")
"""Products that no float holds become infinite, and are refused as such where they are checked."""


def read_table(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    *,
    allow_mixed: bool = False,
    drop_invalid: bool = False,
    loss_needed: bool = True,
) -> tuple[RunTable, list[str]]:
    """Read a table of runs and say what was dropped and why.

    Args:
        path: a CSV, JSON, JSONL or Parquet file (plain or with gzip), or a sweep's folder.
        columns: our name -> the table's, for those that differ; `n`, `d` and `loss` may have a unit
            behind a colon (`params:millions`, `ppl:perplexity`).
        allow_mixed: accept losses of several tokenizers, corpora or validation sets.
        drop_invalid: drop rows with unusable numbers instead of refusing the table.
        loss_needed: where False, a table to predict: losses may be missing (NaN), and no row is
            left out for being a checkpoint or one of a sweep.

    Raises:
        BadInput: no such file, not a table, a column missing, a number that cannot be used, or
            numbers that cannot be counts or nats.
    """
    path = Path(path)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError):
        is_folder = False
    if is_folder:
        return _read_folder(path, allow_mixed)
    if not exists(path):
        refuse("runs", path, "no such file or folder")
    cells, delimiter = read_contents(path)
    if not cells or not len(next(iter(cells.values()))):
        refuse("runs", path, "it has no rows")
    if {"run_key", "schema_version", "trunk_key"} <= cells.keys():
        return _of_records(path, read_records(path), allow_mixed)
    if not allow_mixed:
        _refuse_mixtures(path, cells)
    comma = decimal_commas(cells, delimiter)
    return _build(path, cells, comma, columns or {}, drop_invalid, loss_needed)


def read_tables(
    paths: Sequence[str | Path], columns: Mapping[str, str] | None = None, **options: bool
) -> tuple[RunTable, list[str]]:
    """Several tables as one, and what was dropped; arguments as for `read_table`.

    Several tables are of one tokenizer and one validation set only if the user says so
    (`allow_mixed`): a table does not say what other tables hold.
    """
    if len(paths) > 1 and not options.get("allow_mixed"):
        raise BadInput(
            f"runs = {len(paths)} tables: their losses compare only if tokenizer, "
            "corpus and validation set are the same; say so with --allow-mixed"
        )
    read = [read_table(path, columns, **options) for path in paths]
    return joined([table for table, _ in read]), [line for _, lines in read for line in lines]


def _read_folder(path: Path, allow_mixed: bool) -> tuple[RunTable, list[str]]:
    file = path / "runs.jsonl"
    if not file.is_file():
        refuse(
            "runs",
            path,
            "a folder without runs.jsonl; give a sweep's folder or a CSV, JSON, "
            "JSONL or Parquet file",
        )
    return _of_records(path, read_records(path), allow_mixed)


def _of_records(
    path: Path, records: list[RunRecord], allow_mixed: bool
) -> tuple[RunTable, list[str]]:
    if not records:
        refuse("runs", path, "it holds no runs yet")
    dropped = [
        f"run {record.run_key}: {reason}"
        for record in records
        if (reason := unusable(record)) is not None
    ]
    return table_of(records, allow_mixed=allow_mixed), dropped


def _refuse_mixtures(path: Path, cells: Columns) -> None:
    for name, values in cells.items():
        if normalised(name) in MIXING:
            kinds = sorted({str(value) for value in values})
            if len(kinds) > 1:
                some = ", ".join(shown(kind, 24) for kind in kinds[:2])
                refuse(
                    "runs",
                    path,
                    f"column {shown(name, 30)!r} has {len(kinds)} values ({some}"
                    f"{', ...' if len(kinds) > 2 else ''}): losses do not compare; fit them "
                    "apart, or allow it with --allow-mixed",
                )


def _build(
    path: Path,
    cells: Columns,
    comma: bool,
    columns: Mapping[str, str],
    drop_invalid: bool,
    loss_needed: bool,
) -> tuple[RunTable, list[str]]:
    """The file's columns as a table of runs."""
    mapping = resolve(path, cells, columns)
    numeric = {
        ours: converted(numbers(cells[theirs], decimal_comma=comma), mapping.units.get(ours, ""))
        for ours, theirs in mapping.names.items()
        if ours != "run"
    }
    remarks = [
        *mapping.remarks,
        *_derived(path, cells, numeric, mapping, comma),
        *(
            f"column {shown(mapping.names[ours], 40)!r} is read as {unit}"
            for ours, unit in mapping.units.items()
        ),
    ]
    if loss_needed and "loss" not in numeric:
        refuse_missing(path, cells, "loss")
    remarks += _applied_depth(numeric, mapping)
    rows = len(numeric["n"])
    loss = numeric.pop("loss", None)
    dropped = _without_empty(numeric, mapping)
    checked = {**numeric, "loss": loss} if loss_needed and loss is not None else numeric
    good, lines = _usable(path, cells, checked, mapping, drop_invalid, rows)
    if loss_needed:
        good, unfinished = _finished(cells, good)
        lines += unfinished
    kept = np.flatnonzero(good)
    if not kept.size:
        refuse("runs", path, f"no row has a usable {', '.join(NEEDED)}")
    losses = np.full(rows, math.nan) if loss is None else loss
    named = "run" in mapping.names
    run = cells[mapping.names["run"]] if named else [f"row {row + 1}" for row in range(rows)]
    table = RunTable(
        n=numeric["n"][kept],
        d=numeric["d"][kept],
        loss=losses[kept],
        run=np.array([str(run[row]) for row in kept]),
        shape={name: numeric[name][kept] for name in SHAPE_COLUMNS if name in numeric},
        count=mapping.count,
        columns=mapping.names,
        remarks=(*remarks, *_repeated(cells, kept, comma)),
    )
    ask_about_units(path, table, mapping.names, mapping.units)
    if loss_needed:
        table = _arranged(table, cells, kept, named, comma)
    return table, [*dropped, *lines]


def _arranged(
    table: RunTable, cells: Columns, kept: np.ndarray, named: bool, comma: bool
) -> RunTable:
    """Sweeps reduced to their best, then rows grouped into runs."""
    reduced = best_of_sweeps(table, cells, kept)
    name = find(cells, STEPS)
    step = None
    if name is not None and name not in table.columns.values() and len(reduced) == len(table):
        step = numbers(cells[name], decimal_comma=comma)[kept]
        step[np.isinf(step)] = math.nan  # two of them are in no order, and have no difference
    return with_runs(reduced, named, step)


def _repeated(cells: Columns, kept: np.ndarray, comma: bool) -> tuple[str, ...]:
    """What a column of epochs, where there is one, says of repeated text."""
    name = find(cells, EPOCHS)
    if name is None:
        return ()
    return repeated_text(numbers(cells[name], decimal_comma=comma)[kept], "rows")


@_beyond_floats
def _derived(
    path: Path, cells: Columns, numeric: dict[str, np.ndarray], mapping: ColumnMapping, comma: bool
) -> list[str]:
    """N or D from FLOPs or from tokens a parameter, where their column is missing; said."""
    missing = [ours for ours in ("n", "d") if ours not in numeric]
    if not missing:
        return []
    ours = missing[0]
    flops, ratio = find(cells, FLOPS), find(cells, TOKENS_PER_PARAMETER)
    if len(missing) == 1 and flops is not None:
        other = numeric["d" if ours == "n" else "n"]
        numeric[ours] = numbers(cells[flops], decimal_comma=comma) / (
            _FLOPS_PER_PARAMETER_AND_TOKEN * other
        )
        mapping.names[ours] = flops
        formula = "N = C/(6D)" if ours == "n" else "D = C/(6N)"
        return [f"{ours} has no column: {formula}, with C from {shown(flops, 40)!r}"]
    if missing == ["d"] and ratio is not None:
        numeric["d"] = numbers(cells[ratio], decimal_comma=comma) * numeric["n"]
        mapping.names["d"] = ratio
        return [f"d has no column: D = N · {shown(ratio, 40)!r}"]
    refuse_missing(path, cells, ours)


@_beyond_floats
def _applied_depth(numeric: dict[str, np.ndarray], mapping: ColumnMapping) -> list[str]:
    """Blocks stored times how often each is applied, where the table counts blocks; said."""
    name = mapping.names.get("n_layers", "")
    sharing = numeric.get("sharing")
    if "block" not in normalised(name) or sharing is None or not np.any(sharing > 1):
        return []
    numeric["n_layers"] = numeric["n_layers"] * sharing
    return [
        f"n_layers (applied depth) is {shown(name, 40)!r} times "
        f"{shown(mapping.names['sharing'], 40)!r}"
    ]


def _without_empty(numeric: dict[str, np.ndarray], mapping: ColumnMapping) -> list[str]:
    """Takes out shape columns without a number: found by their name alone, they are no shape."""
    dropped = []
    for ours in [name for name in numeric if name not in NEEDED]:
        usable = np.isfinite(numeric[ours]) & (numeric[ours] > 0)
        if not usable.any():
            dropped.append(f"column {shown(mapping.names.pop(ours), 40)!r}: no usable number in it")
            del numeric[ours]
    return dropped


def _usable(
    path: Path,
    cells: Columns,
    numeric: Mapping[str, np.ndarray],
    mapping: ColumnMapping,
    drop_invalid: bool,
    rows: int,
) -> tuple[np.ndarray, list[str]]:
    """Which rows have a usable number everywhere [rows], and what is to be dropped.

    Raises:
        BadInput: a number cannot be used and `drop_invalid` is False.
    """
    good = np.ones(rows, dtype=bool)
    dropped: list[str] = []
    for ours, values in numeric.items():
        least, most = BOUNDS.get(ours, (1e-12, 1e30))
        bad = ~((values >= least) & (values <= most))
        first = np.flatnonzero(bad & good)
        if not first.size:
            continue
        name = mapping.names[ours]
        if not drop_invalid:
            more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
            refuse(
                "runs",
                path,
                f"row {int(first[0]) + 1}{more}: {shown(name, 40)} = "
                f"{shown(str(cells[name][int(first[0])]), 30)!r}: a finite number above 0 is "
                f"needed, {least:g} to {most:g}; correct or remove the row, or pass --drop-invalid",
            )
        dropped += [
            f"row {row + 1}: {shown(name, 40)} = {shown(str(cells[name][row]), 40)!r}"
            for row in first[:_SHOWN]
        ]
        if first.size > _SHOWN:
            dropped.append(f"{first.size - _SHOWN} more rows with an unusable {shown(name, 40)}")
        good &= ~bad
    return good, dropped


def _finished(cells: Columns, good: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Without the rows that a tracker marks as crashed, failed or running."""
    name = find(cells, STATES)
    if name is None or not all(isinstance(cell, str) for cell in cells[name]):
        return good, []
    ended = np.array([cell.strip().lower() in FINISHED for cell in cells[name]])
    if not ended.any() or not (good & ~ended).any():
        return good, []
    states = sorted({cells[name][row] for row in np.flatnonzero(good & ~ended)})
    return good & ended, [
        f"{int((good & ~ended).sum())} rows of runs that did not finish "
        f"({shown(name, 30)} = {shown(', '.join(states), 40)})"
    ]
