"""Cells of a table as numbers: decimal commas, thousands separators, suffixes and units.

How numbers are written is judged from the whole file: `1,234` alone may be either.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.units import parse_count, parse_flops

MISSING = frozenset(
    {"", "-", "--", "–", "—", ".", "?", "na", "n/a", "#n/a", "nan", "none", "null", "nil"}
)
"""What stands in a cell that holds nothing, in lower case."""

_COMMA_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?")
_POINT_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]+)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
_LOOKED_AT = 2_000
_LONGEST = 120
"""Characters of a number with its unit."""
_UNIT_AFTER = re.compile(r"\s*nats?(\s*(/|per)\s*tok(en)?)?\s*$", re.IGNORECASE)


def decimal_commas(columns: Mapping[str, Sequence[Any]], delimiter: str | None) -> bool:
    """Whether a file's commas are decimal ones, where a cell by itself does not tell.

    Args:
        columns: all cells of the file.
        delimiter: between cells of a CSV: a semicolon stands where commas are decimal.
    """
    written = False
    for cells in columns.values():
        text = [cell for cell in cells[:_LOOKED_AT] if isinstance(cell, str)]
        with_comma = [cell for cell in text if "," in cell]
        if with_comma and not all(_COMMA_THOUSANDS.fullmatch(cell) for cell in with_comma):
            return all(
                _DECIMAL_COMMA.fullmatch(c) or _POINT_THOUSANDS.fullmatch(c) for c in with_comma
            )
        if any(cell.count(".") > 1 and _POINT_THOUSANDS.fullmatch(cell) for cell in text):
            return True
        if any(cell.count(",") > 1 and _COMMA_THOUSANDS.fullmatch(cell) for cell in text):
            return False
        written = written or bool(with_comma)
    return written and delimiter == ";"


def numbers(cells: Sequence[Any], *, decimal_comma: bool) -> np.ndarray:
    """A column's cells as float64, NaN where a cell holds no number.

    Args:
        decimal_comma: the file writes decimal commas, and perhaps points between thousands.
    """
    try:  # nearly every column: many times as fast
        if not decimal_comma and not any("_" in cell for cell in cells):
            return np.fromiter(map(float, cells), float, len(cells))
    except (TypeError, ValueError):  # a cell that is no text, or none of a number alone
        pass
    return np.array([_number(cell, decimal_comma) for cell in cells], dtype=float)


def _number(cell: Any, comma: bool) -> float:
    if not isinstance(cell, str):
        return _plain(cell)
    text = cell.strip()
    if text.lower() in MISSING:
        return math.nan
    if comma:
        text = text.replace(".", "") if _POINT_THOUSANDS.fullmatch(text) else text
        text = text.replace(",", ".")
    try:
        return float(text) if "_" not in text else math.nan
    except ValueError:
        pass
    if len(text) > _LONGEST:
        return math.nan
    text = _UNIT_AFTER.sub("", text)
    sign = -1.0 if text.startswith("-") else 1.0
    for parse in (parse_count, parse_flops):
        try:
            return sign * parse(text.lstrip("+-"))
        except BadInput:
            continue
    return math.nan


def _plain(cell: Any) -> float:
    if cell is None or isinstance(cell, bool):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return math.nan
