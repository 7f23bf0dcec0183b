"""Quantities as people type and read them: `500MB`, `0.5s`, `50mJ`, `1T`; and back again."""

import math
import re
from collections.abc import Iterable, Mapping

from shapelaw.scaling.errors import BadInput

Quantity = str | int | float

_NUMBER = re.compile(r"([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(.*)", re.IGNORECASE)

_BYTES = {
    "": 1.0,
    "b": 1.0,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "tb": 1e12,
    "k": 1e3,
    "m": 1e6,
    "g": 1e9,
    "t": 1e12,
    "kib": 2.0**10,
    "mib": 2.0**20,
    "gib": 2.0**30,
    "tib": 2.0**40,
}
_SECONDS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_JOULES = {"": 1.0, "j": 1.0, "mj": 1e-3, "uj": 1e-6, "µj": 1e-6}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_SPEEDS = {"": 1.0, "tok/s": 1.0, "tokens/s": 1.0}


def _parse(value: Quantity, name: str, units: Mapping[str, float], example: str) -> float:
    """A positive, finite number with one of `units` (lower case) behind it.

    Raises:
        BadInput: not a number, not a unit, not above zero.
    """
    refusal = BadInput(f"{name} = {value!r}: a number above 0 is needed, such as {example}")
    if isinstance(value, bool):
        raise refusal
    if isinstance(value, int | float):
        number = float(value)
    else:
        match = _NUMBER.fullmatch(value.strip())
        if match is None or match[2].lower() not in units:
            raise refusal
        number = float(match[1]) * units[match[2].lower()]
    if not math.isfinite(number) or number <= 0:
        raise refusal
    return number


def parse_bytes(value: Quantity, name: str = "memory") -> int:
    """Bytes from `500MB` (decimal), `2GiB` (binary) or a bare number of bytes.

    Raises:
        BadInput: less than a byte, or not a size.
    """
    size = _parse(value, name, _BYTES, "500MB or 2GiB")
    if size < 1:
        raise BadInput(f"{name} = {value!r}: at least one byte is needed, such as 500MB or 2GiB")
    return int(size)


def parse_seconds(value: Quantity, name: str = "ttft") -> float:
    """Seconds from `0.5`, `0.5s` or `500ms`. Raises BadInput otherwise."""
    return _parse(value, name, _SECONDS, "0.5 or 500ms")


def parse_joules(value: Quantity, name: str = "energy") -> float:
    """Joules from `0.05`, `0.05J` or `50mJ`. Raises BadInput otherwise."""
    return _parse(value, name, _JOULES, "0.05 or 50mJ")


def parse_speed(value: Quantity, name: str = "decode") -> float:
    """Tokens per second from `30` or `30tok/s`. Raises BadInput otherwise."""
    return _parse(value, name, _SPEEDS, "30")


def parse_count(value: Quantity, name: str = "tokens") -> float:
    """A count from `1e12`, `300B` or `1T`. Raises BadInput otherwise."""
    return _parse(value, name, _COUNTS, "1e12, 300B or 1T")


def parse_bits(value: str | Quantity | Iterable[Quantity], name: str = "bits") -> tuple[float, ...]:
    """Weight precisions, sorted and without repeats, from `4,8`, 8 or a list.

    Raises:
        BadInput: none given, or one outside 1 to 32.
    """
    parts: Iterable[Quantity]
    if isinstance(value, str):
        parts = [part for part in value.split(",") if part.strip()]
    elif isinstance(value, int | float):
        parts = [value]
    else:
        parts = value
    bits = sorted({_parse(part, name, {"": 1.0}, "8 or 4,8") for part in parts})
    if not bits or bits[0] < 1 or bits[-1] > 32:
        raise BadInput(f"{name} = {value!r}: weight precisions of 1 to 32 bits, such as 8 or 4,8")
    return tuple(bits)


def _scaled(value: float, steps: list[tuple[float, str]]) -> str:
    """Three significant digits with the first prefix that leaves a number of at least one."""
    if not math.isfinite(value):
        return "unknown"
    factor, unit = next((step for step in steps if abs(value) >= step[0] * 0.9995), steps[-1])
    shown = float(f"{value / factor:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(shown)))) if shown else 0
    return f"{shown:.{digits}f} {unit}".rstrip()


def show_bytes(value: float) -> str:
    """`412 MB`, decimal as memory budgets are."""
    return _scaled(value, [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")])


def show_seconds(value: float) -> str:
    """`38.2 ms`."""
    return _scaled(value, [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")])


def show_joules(value: float) -> str:
    """`35.1 mJ`."""
    return _scaled(value, [(1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")])


def show_count(value: float) -> str:
    """`125M`, `1.00T`: parameters, tokens, points."""
    return _scaled(value, [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")]).replace(
        " ", ""
    )


def show_flops(value: float) -> str:
    """`3.20e21 FLOPs`."""
    return f"{value:.3g} FLOPs"


def show_speed(value: float) -> str:
    """`31.4 tok/s`."""
    return f"{value:,.0f} tok/s" if value >= 999.5 else f"{value:.3g} tok/s"


def show_duration(seconds: float | None) -> str:
    """`1 h 05 min`, `3 min 20 s`, `12 s`, `?`."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
