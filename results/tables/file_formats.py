"""Files of runs as tools write them, as columns of plain cells.

CSV of any delimiter (comments, unnamed columns, gzip), JSON documents (a list of rows, one wrapped
in an object as `trainer_state.json` does, columns, pandas' `split`), JSONL (a bare NaN is a missing
value), Parquet, and long tables of tag, step and value (TensorBoard). Nothing here knows what a
column means.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import (
    decoded,
    one_line,
    open_regular,
    parse_json,
    read_bytes,
    refuse,
    shown,
)

Columns = dict[str, list[Any]]
"""Name of a column -> its cells: numbers, text, None."""

LARGEST = 400_000_000
"""Bytes of a table as text; a million runs need a tenth of it."""
MOST_CELLS = 16_000_000
"""A million runs of sixteen columns: what a machine of 4 GB holds."""
MOST_ROWS = 4_000_000
MOST_COLUMNS = 2_000
_ROWS_UNDER = ("log_history", "runs", "rows", "data", "records", "results", "history", "table")
"""Keys that tools put a list of rows under, most telling first."""
_LONGEST_HEADER = 100_000
csv.field_size_limit(1_000_000)


class Contents(NamedTuple):
    """What a file holds."""

    columns: Columns
    delimiter: str | None = None
    """Between the cells of a CSV."""


def read_contents(path: Path) -> Contents:
    """The table in a file, by what the file holds and not by its name.

    Raises:
        BadInput: empty, too large, binary, or not a table.
    """
    with open_regular(path, "runs") as file:
        head = file.read(8)
    if not head:
        refuse("runs", path, "the file is empty")
    if head[:4] == b"PAR1":
        return Contents(_trimmed(path, _read_parquet(path)))
    if path.suffix.lower() in (".parquet", ".pq"):
        refuse("runs", path, "not a Parquet file")
    content = read_bytes(path, "runs", LARGEST)
    if content[:2] == b"\x1f\x8b":
        content = _decompressed(content, path)
    if content[:2] in (b"PK", b"BZ") or content[:4] == b"\x28\xb5\x2f\xfd":
        refuse(
            "runs",
            path,
            "an archive or spreadsheet; CSV, JSON, JSONL or Parquet is needed, plain or with gzip",
        )
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        content = _from_utf16(content, path)
    start = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not start:
        refuse("runs", path, "the file is empty")
    if start in (b"{", b"["):
        return Contents(_trimmed(path, _read_json(content, path)))
    decoded(content, "runs", path)
    columns, delimiter = _read_csv(content, path)
    return Contents(_trimmed(path, columns), delimiter)


def _decompressed(content: bytes, path: Path) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as stream:
            plain = stream.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        refuse("runs", path, f"a broken gzip file ({one_line(error, 80)})")
    if len(plain) > LARGEST:
        refuse("runs", path, f"more than {LARGEST:,} bytes when unpacked")
    return plain


def _from_utf16(content: bytes, path: Path) -> bytes:
    try:
        return content.decode("utf-16").encode()
    except UnicodeDecodeError:
        refuse("runs", path, "neither UTF-8 nor whole UTF-16 text; convert it to UTF-8")


def _trimmed(path: Path, table: Columns) -> Columns:
    """Without columns that hold nothing, and pivoted where it is a long table of scalars."""
    _refuse_many(path, 0, len(table))
    table = {
        name: cells
        for name, cells in table.items()
        if any(cell is not None and cell != "" for cell in cells)
    }
    for name in [name for name, cells in table.items() if _may_hold_objects(cells)]:
        if (objects := _objects(table[name], path)) is not None:
            del table[name]
            table |= {f"{name}.{inner}": cells for inner, cells in _of_rows(objects, path).items()}
    lower = {name.lower(): name for name in table}
    if {"tag", "step", "value"} <= set(lower):
        return _pivoted(path, table, lower)
    return table


def _may_hold_objects(cells: list[Any]) -> bool:
    return all(
        isinstance(cell, dict) or not cell or (isinstance(cell, str) and cell[0] + cell[-1] == "{}")
        for cell in cells
    )


def _objects(cells: list[Any], path: Path) -> list[dict[str, Any]] | None:
    """A column of objects, as JSON or as Python shows them; None where a cell is neither.

    Weights & Biases' own recipe for exporting runs leaves `config` and `summary` so.
    """
    found = []
    for cell in cells:
        if isinstance(cell, str) and cell:
            try:
                text = _PYTHON_WORD.sub(_as_json, cell).encode(errors="replace")
                cell = parse_json(text, "runs", path, allow_nan=True)
            except BadInput:
                return None
        found.append(cell or {})
    return found


# Possessive, and a text left open runs to the end: no way is tried twice, however long the cell.
_PYTHON_WORD = re.compile(
    r"""'(?:[^'\\]++|\\.?)*+(?:'|\Z)|"(?:[^"\\]++|\\.?)*+(?:"|\Z)"""
    r"|\b(?:True|False|None|nan|inf)\b"
)
_WORDS = {"True": "true", "False": "false", "None": "null", "nan": "NaN", "inf": "Infinity"}


def _as_json(word: re.Match[str]) -> str:
    """A word that Python writes otherwise than JSON; what stands in double quotes is both."""
    text = word[0]
    if text[0] == "'":
        return json.dumps(text[1:-1].replace("\\'", "'"))
    return _WORDS.get(text, text)


def _pivoted(path: Path, table: Columns, names: Mapping[str, str]) -> Columns:
    """A long table (run, tag, step, value) with a column for each tag, a row for each step."""
    tags, steps, values = (table[names[name]] for name in ("tag", "step", "value"))
    runs = table[names["run"]] if "run" in names else [""] * len(steps)
    rows: dict[tuple[Any, Any], dict[str, Any]] = {}
    for run, tag, step, value in zip(runs, tags, steps, values, strict=True):
        row = rows.setdefault((run, step), {"run": run, "step": step})
        row[str(tag)] = value
    return _of_rows(list(rows.values()), path)


# --- Parquet -------------------------------------------------------------------------------------


def _read_parquet(path: Path) -> Columns:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        with open_regular(path, "runs") as file:
            described = parquet.ParquetFile(file)
            about = described.metadata
            _refuse_many(path, about.num_rows, about.num_columns)
            groups = [about.row_group(number) for number in range(about.num_row_groups)]
            parts = [g.column(k) for g in groups for k in range(g.num_columns)]
            if (leaves := sum(part.num_values for part in parts)) > MOST_CELLS:
                refuse("runs", path, f"{leaves:,} values; at most {MOST_CELLS:,} are read")
            if sum(part.total_uncompressed_size for part in parts) > LARGEST:
                refuse("runs", path, f"more than {LARGEST:,} bytes when unpacked")
            table = described.read()
            return {name: table.column(name).to_pylist() for name in table.column_names}
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, BadInput):
            raise
        refuse("runs", path, f"not a readable Parquet file ({one_line(error, 80)})")


# --- JSON ----------------------------------------------------------------------------------------


def _read_json(content: bytes, path: Path) -> Columns:
    """A document, or a document a line."""
    first, _, rest = content.strip().partition(b"\n")
    if rest.strip() and first.lstrip(b"\xef\xbb\xbf ")[:1] == b"{" and _is_whole(first):
        return _read_jsonl(content, path)
    document = parse_json(content, "runs", path, allow_nan=True, most=MOST_CELLS)
    return _of_document(document, path)


def _is_whole(line: bytes) -> bool:
    """Whether a line is a document of its own: then the file is JSONL."""
    if line.count(b"{") > 1000 or line.count(b"[") > 1000:
        return line.rstrip().endswith(b"}")
    try:
        json.loads(line)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested deep
        return line.rstrip().endswith(b"}") and line.count(b"{") == line.count(b"}")
    return True


def _read_jsonl(content: bytes, path: Path) -> Columns:
    lines = [line for line in content.split(b"\n") if line.strip()]
    _refuse_many(path, len(lines), 1)
    if (values := content.count(b",")) > MOST_CELLS:
        refuse("runs", path, f"{values:,} values; at most {MOST_CELLS:,} are read")
    try:  # all at once is many times as fast; a fault is then looked for line by line
        whole = b"[" + b",\n".join(lines) + b"]"
        rows = parse_json(whole, "runs", path, allow_nan=True, most=MOST_CELLS)
        if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
            return _of_rows(rows, path)
    except BadInput:
        pass
    rows = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, "runs", path, allow_nan=True)
        except BadInput as error:
            reason = str(error).partition(f"runs = {shown(str(path), 100)}: ")[2]
            refuse("runs", path, f"line {number}: {reason.removeprefix('line 1: ')}")
        if not isinstance(row, dict):
            refuse("runs", path, f"line {number}: an object is needed")
        rows.append(row)
    return _of_rows(rows, path)


def _of_document(document: Any, path: Path) -> Columns:
    if isinstance(document, list):
        return _of_list(document, path)
    if not isinstance(document, dict):
        refuse("runs", path, "not a table: a list of rows is needed")
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        names = [str(name) for name in document["columns"]]
        rows = document["data"]
        if all(isinstance(row, list) and len(row) == len(names) for row in rows):
            return {name: [row[index] for row in rows] for index, name in enumerate(names)}
    lists = [key for key, value in document.items() if _is_rows(value)]
    for key in (*[name for name in _ROWS_UNDER if name in lists], *lists[:1]):
        if key in _ROWS_UNDER or len(lists) == 1:
            return _of_list(document[key], path)
    if lists:
        refuse(
            "runs",
            path,
            f"several lists of rows: {', '.join(shown(k, 30) for k in lists[:5])}; one is needed",
        )
    values = list(document.values())
    if values and all(isinstance(value, list) for value in values):
        if len({len(value) for value in values}) == 1:
            return {str(name): list(value) for name, value in document.items()}
        refuse("runs", path, "its columns differ in length")
    if values and all(isinstance(value, dict) for value in values):
        keys = list(values[0])
        if (
            keys
            and all(list(value) == keys for value in values)
            and all(key.isdecimal() for key in keys)
        ):  # pandas' to_json: column -> row -> cell
            return {str(name): list(value.values()) for name, value in document.items()}
        return _of_rows([{"name": name, **value} for name, value in document.items()], path)
    return _of_rows([document], path)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _of_list(rows: list[Any], path: Path) -> Columns:
    if not rows:
        refuse("runs", path, "it has no rows")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            refuse("runs", path, f"row {number}: an object is needed, not {shown(row, 40)}")
    return _of_rows(rows, path)


def _of_rows(rows: list[dict[str, Any]], path: Path) -> Columns:
    """Rows as columns; an object inside a row becomes columns with a dot in their name."""
    flat = [_flat(row) if any(isinstance(v, dict) for v in row.values()) else row for row in rows]
    names = dict.fromkeys(name for row in flat for name in row)
    _refuse_many(path, len(flat), len(names))
    return {name: [row.get(name) for row in flat] for name in names}


def _refuse_many(path: Path, rows: int, columns: int) -> None:
    if columns > MOST_COLUMNS:
        refuse("runs", path, f"{columns} columns; at most {MOST_COLUMNS} are read")
    if rows * columns > MOST_CELLS or rows > MOST_ROWS:
        refuse(
            "runs",
            path,
            f"{rows:,} rows of {columns} columns; at most {MOST_ROWS:,} rows and {MOST_CELLS:,} "
            "cells are read; keep the columns of N, D, loss, run and shape, and fewer rows",
        )


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


# --- CSV -----------------------------------------------------------------------------------------


def _read_csv(content: bytes, path: Path) -> tuple[Columns, str]:
    comments: list[str] = []
    lines = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
    position = 0
    while (line := lines.readline(_LONGEST_HEADER)) and (line.startswith("#") or not line.strip()):
        if line.startswith("#"):
            comments.append(line)
        position = lines.tell()
    if len(line) >= _LONGEST_HEADER:
        refuse("runs", path, "its first line is not a CSV header")
    header_line = line
    if comments and _numeric(line) and len(_cells(comments[-1].lstrip("# "))) == len(_cells(line)):
        header_line = comments[-1].lstrip("# ")  # as numpy.savetxt writes it
    else:
        position = lines.tell()
    delimiter = _delimiter(header_line)
    header = [name.strip() for name in _cells(header_line, delimiter)]
    if len(header) < 2:
        refuse(
            "runs",
            path,
            f"its first line, {shown(header_line.strip(), 40)!r}, is not a header "
            "of several columns (comma, semicolon, tab or | between them)",
        )
    if _numeric(header_line):
        refuse(
            "runs", path, "its first line holds numbers; a header that names the columns is needed"
        )
    _refuse_many(path, 0, len(header))
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        refuse("runs", path, f"two columns are called {shown(twice, 40)!r}")
    lines.seek(position)
    rows = _csv_rows(lines, delimiter, len(header), path)
    columns = list(zip(*rows, strict=True)) if rows else []
    table = {}
    for index, (name, cells) in enumerate(zip(header, columns, strict=bool(rows))):
        if name:
            table[name] = [cell.strip() for cell in cells]
        elif index and any(cell.strip() for cell in cells):
            table[f"unnamed column {index + 1}"] = [cell.strip() for cell in cells]
    return table, delimiter


def _csv_rows(lines: io.TextIOWrapper, delimiter: str, width: int, path: Path) -> list[list[str]]:
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=delimiter == " ")
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not any(row) or row[0].startswith("#"):
                continue
            if len(row) > width and not any(cell.strip() for cell in row[width:]):
                row = row[:width]
            if len(rows) * width >= MOST_CELLS or len(rows) >= MOST_ROWS:
                _refuse_many(path, len(rows) + 1, width)
            if len(row) != width:
                refuse(
                    "runs",
                    path,
                    f"line {reader.line_num} of the table has {len(row)} cells "
                    f"where the header has {width}",
                )
            rows.append(row)
    except csv.Error as error:
        refuse("runs", path, f"not a CSV table ({one_line(error, 100)})")
    return rows


def _delimiter(line: str) -> str:
    counts = {mark: len(_cells(line, mark)) for mark in (",", ";", "\t", "|")}
    best = max(counts, key=lambda mark: counts[mark])
    if counts[best] > 1:
        return best
    return " " if len(line.split()) > 1 else ","


def _cells(line: str, delimiter: str | None = None) -> list[str]:
    mark = delimiter if delimiter is not None else _delimiter(line)
    try:
        return next(csv.reader([line.strip()], delimiter=mark, skipinitialspace=True), [])
    except csv.Error:
        return []


_DIGITS = re.compile(r"\s*[+-]?[0-9][0-9.,eE+-]*\s*")


def _numeric(line: str) -> bool:
    """Whether a line holds nothing but numbers: a row, not a header."""
    cells = [cell for cell in _cells(line) if cell.strip()]
    return bool(cells) and all(_DIGITS.fullmatch(cell) for cell in cells)
