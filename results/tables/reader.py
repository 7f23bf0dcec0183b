"""Other people's tables of runs: CSV, JSONL, Parquet, or a sweep's folder, read with suspicion."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.results.tables.from_records import table_of, unusable
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.run_table import SHAPE_COLUMNS, RunTable, joined

NEEDED = ("n", "d", "loss")
SYNONYMS: dict[str, tuple[str, ...]] = {
    "n": (
        "n",
        "n_params",
        "params",
        "parameters",
        "num_params",
        "n_parameters",
        "model_size",
        "non_embedding_params",
        "n_non_embedding",
        "non_embedding",
        "n_total",
        "total_params",
        "num_parameters",
    ),
    "d": (
        "d",
        "tokens",
        "n_tokens",
        "training_tokens",
        "num_tokens",
        "train_tokens",
        "tokens_seen",
        "dataset_size",
        "total_tokens",
    ),
    "loss": ("loss", "val_loss", "validation_loss", "eval_loss", "final_loss", "test_loss"),
    "run": ("run", "run_id", "run_name", "trunk", "trunk_key", "model", "model_name"),
    "d_model": ("d_model", "hidden_size", "width", "n_embd", "model_dim", "dim"),
    "n_layers": ("n_layers", "depth", "num_layers", "layers", "n_layer", "num_hidden_layers"),
    "d_ff": ("d_ff", "ffn", "ffn_size", "intermediate_size", "d_ffn", "ffw_size", "mlp_dim"),
    "n_heads": ("n_heads", "num_heads", "n_head", "heads", "num_attention_heads"),
    "n_kv_heads": ("n_kv_heads", "num_kv_heads", "kv_heads", "num_key_value_heads"),
    "head_dim": ("head_dim", "kv_size", "d_head", "head_size"),
    "sharing": ("sharing", "share", "n_loops", "loops", "recurrences", "num_loops"),
    "n_applied": ("n_applied", "applied_params", "n_params_applied"),
    "mlp_attention_ratio": ("mlp_attention_ratio", "mlp_attn_ratio"),
    "gqa_group": ("gqa_group", "gqa"),
}
"""Names a column is found under when it is not named by the user, most telling first."""
MIXING = (
    "tokenizer",
    "tokenizer_fingerprint",
    "corpus",
    "corpus_fingerprint",
    "dataset",
    "validation",
    "validation_set",
    "validation_fingerprint",
    "val_set",
    "eval_set",
)
"""Columns that say which losses compare with which."""
_LARGEST = 2_000_000_000
_SHOWN = 5


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
        path: CSV, JSONL or Parquet file, or a sweep's folder.
        columns: our name -> the table's, for those that differ.
        allow_mixed: accept losses of several tokenizers, corpora or validation sets.
        drop_invalid: drop rows with unusable numbers instead of refusing the table.
        loss_needed: where False, a table to predict: losses may be missing (NaN).

    Raises:
        BadInput: no such file, not a table, a column missing, or a number that cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, allow_mixed)
    if not path.is_file():
        raise BadInput(f"runs = {path}: no such file or folder")
    table = _read_columns(path)
    if not table or not len(next(iter(table.values()))):
        raise BadInput(f"runs = {path}: it has no rows")
    names = _resolve(path, table, columns or {}, loss_needed)
    if not allow_mixed:
        _refuse_mixtures(path, table)
    return _build(path, table, names, drop_invalid, loss_needed)


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
        raise BadInput(
            f"runs = {path}: a folder without runs.jsonl; give a sweep's folder or a "
            "CSV, JSONL or Parquet file"
        )
    from shapelaw.results.store import read_records

    return _of_records(path, read_records(path), allow_mixed)


def _of_records(
    path: Path, records: list[RunRecord], allow_mixed: bool
) -> tuple[RunTable, list[str]]:
    if not records:
        raise BadInput(f"runs = {path}: it holds no runs yet")
    dropped = [
        f"run {record.run_key}: {reason}"
        for record in records
        if (reason := unusable(record)) is not None
    ]
    return table_of(records, allow_mixed=allow_mixed), dropped


# --- reading files into columns of plain values -------------------------------------------------


def _read_columns(path: Path) -> dict[str, list[Any]]:
    size = path.stat().st_size
    if size == 0:
        raise BadInput(f"runs = {path}: the file is empty")
    if size > _LARGEST:
        raise BadInput(f"runs = {path}: {size} bytes; at most {_LARGEST} are read")
    with path.open("rb") as file:
        head = file.read(4096)
    if head[:4] == b"PAR1":
        return _read_parquet(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        raise BadInput(f"runs = {path}: not a Parquet file")
    if b"\0" in head:
        raise BadInput(f"runs = {path}: binary, not a CSV, JSONL or Parquet table")
    if head.lstrip()[:1] == b"{":
        return _read_jsonl(path)
    return _read_csv(path)


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(path)
    except (arrow.ArrowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise BadInput(f"runs = {path}: not a readable Parquet file ({first})") from None
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _read_jsonl(path: Path) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BadInput(f"runs = {path}: line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise BadInput(f"runs = {path}: line {number}: an object is needed")
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_csv(path: Path) -> dict[str, list[Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(100_000)
            if not first.endswith("\n") and len(first) >= 100_000:
                raise BadInput(f"runs = {path}: its first line is not a CSV header")
            delimiter = max(",;\t", key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader)]
            if len(header) < 2:
                raise BadInput(
                    f"runs = {path}: its first line is not a CSV header of several columns"
                )
            if len(set(header)) < len(header):
                twice = next(name for name in header if header.count(name) > 1)
                raise BadInput(f"runs = {path}: two columns are called {twice[:40]!r}")
            rows = []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise BadInput(
                        f"runs = {path}: line {reader.line_num} has {len(row)} cells "
                        f"where the header has {len(header)}"
                    )
                rows.append(row)
    except UnicodeDecodeError:
        raise BadInput(f"runs = {path}: not UTF-8 text, so not a CSV or JSONL table") from None
    except (csv.Error, StopIteration) as error:
        raise BadInput(f"runs = {path}: not a CSV table ({error})") from None
    return (
        {name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=True)}
        if rows
        else {}
    )


# --- from the file's columns to ours --------------------------------------------------------------


def _resolve(
    path: Path, table: Mapping[str, list[Any]], columns: Mapping[str, str], loss_needed: bool
) -> dict[str, str]:
    """Our name -> the table's column: what the user said, then obvious names."""
    accepted = (*NEEDED, "run", *SHAPE_COLUMNS)
    for ours, theirs in columns.items():
        if ours not in accepted:
            raise BadInput(
                f"columns {ours}={theirs}: one of {', '.join(accepted)} is needed on the left"
            )
        if theirs not in table:
            raise BadInput(
                f"columns {ours}={theirs}: {path.name} has no column {theirs!r}; it "
                f"has {_listed(table)}"
            )
    names = dict(columns)
    lower = {name.lower().replace(" ", "_").replace("-", "_"): name for name in table}
    taken = set(names.values())
    for ours in accepted:
        if ours in names:
            continue
        for synonym in SYNONYMS[ours]:
            if synonym in lower and lower[synonym] not in taken:
                names[ours] = lower[synonym]
                taken.add(lower[synonym])
                break
    for ours in NEEDED:
        if ours not in names and (ours != "loss" or loss_needed):
            raise BadInput(
                f"runs = {path}: no column for {ours}; it has {_listed(table)}; say "
                f"which with --columns {ours}=NAME"
            )
    return names


def _listed(table: Iterable[str]) -> str:
    names = [name[:40] for name in table]
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more


def _refuse_mixtures(path: Path, table: Mapping[str, list[Any]]) -> None:
    for name, values in table.items():
        if name.lower().replace(" ", "_").replace("-", "_") in MIXING:
            kinds = sorted({str(value) for value in values})
            if len(kinds) > 1:
                shown = ", ".join(kind[:40] for kind in kinds[:3])
                raise BadInput(
                    f"runs = {path}: column {name!r} has {len(kinds)} values ({shown}"
                    f"{', ...' if len(kinds) > 3 else ''}): losses do not compare; fit them apart, "
                    "or allow it with --allow-mixed"
                )


def _number(value: Any) -> float:
    if value is None or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _build(
    path: Path,
    table: Mapping[str, list[Any]],
    names: Mapping[str, str],
    drop_invalid: bool,
    loss_needed: bool,
) -> tuple[RunTable, list[str]]:
    numeric = {
        ours: np.array([_number(value) for value in table[theirs]])
        for ours, theirs in names.items()
        if ours != "run"
    }
    rows = len(numeric["n"])
    if not loss_needed:
        loss = numeric.pop("loss", np.full(rows, math.nan))
    dropped: list[str] = []
    # A shape column that is mostly text or blanks was found by its name alone: it is no shape.
    for ours in [name for name in numeric if name not in NEEDED]:
        usable = np.isfinite(numeric[ours]) & (numeric[ours] > 0)
        if not usable.any():
            dropped.append(f"column {names[ours]!r}: no usable number in it")
            del numeric[ours]
    good = np.ones(rows, dtype=bool)
    for ours, values in numeric.items():
        bad = ~(np.isfinite(values) & (values > 0))
        first = np.flatnonzero(bad & good)
        if not first.size:
            continue
        cell = str(table[names[ours]][int(first[0])])[:40]
        if not drop_invalid:
            more = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
            raise BadInput(
                f"runs = {path}: row {int(first[0]) + 1}{more}: {names[ours]} = {cell!r}: a finite "
                "number above 0 is needed; correct or remove the row, or pass --drop-invalid"
            )
        dropped += [
            f"row {row + 1}: {names[ours]} = {str(table[names[ours]][row])[:40]!r}"
            for row in first[:_SHOWN]
        ]
        if first.size > _SHOWN:
            dropped.append(f"{first.size - _SHOWN} more rows with an unusable {names[ours]}")
        good &= ~bad
    if not good.any():
        raise BadInput(f"runs = {path}: no row has a usable {', '.join(NEEDED)}")
    run = _run_names(table, names, numeric, rows)
    return RunTable(
        n=numeric["n"][good],
        d=numeric["d"][good],
        run=run[good],
        loss=(numeric["loss"] if loss_needed else loss)[good],
        shape={name: numeric[name][good] for name in SHAPE_COLUMNS if name in numeric},
        count="non_embedding" if "non_embed" in names["n"].lower() else "as given",
    ), dropped


def _run_names(
    table: Mapping[str, list[Any]],
    names: Mapping[str, str],
    numeric: Mapping[str, np.ndarray],
    rows: int,
) -> np.ndarray:
    """The run of each row. Without such a column: rows of one shape are one run; else each row is.

    Rows that share a shape share whatever is particular to it, so they are resampled together.
    """
    if "run" in names:
        return np.array([str(value) for value in table[names["run"]]])
    shape = [numeric[name] for name in SHAPE_COLUMNS if name in numeric]
    if not shape:
        return np.array([f"row {row + 1}" for row in range(rows)])
    keys = np.stack([numeric["n"], *shape], axis=1)
    group = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    return np.array([f"shape {number + 1}" for number in group])
