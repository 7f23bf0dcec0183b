"""Quantities as people type them: `500MB`, `0.5s`, `50mJ`, `20tok/s`, `1T`; and back again.

The one parser of numbers with units: options, files and Python come here, and what the `show_`
functions print it reads. A number is taken in decimal and rounded once, so that `0.4GB` is
400000000 and `50mJ` is 0.05 to the last digit. Where two units differ by case
alone (mJ, MJ), case counts.
"""

import decimal
import math
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown

Quantity = str | int | float

_NUMBER = re.compile(
    r"(?P<whole>[0-9]{1,3}(?:[,_'\u00a0\u202f ][0-9]{3})+(?![0-9])|[0-9]*)"
    r"(?P<fraction>\.[0-9]*)?"
    r"(?:[eE](?P<power>[+-]?[0-9]{1,3})|\s?[x×*·]\s?10\^?(?P<power10>[+-]?[0-9]{1,3}))?"
    r"\s*(?P<unit>[^0-9\s].*)?",
    re.DOTALL,
)
_SEPARATORS = str.maketrans("", "", ",_'\u00a0\u202f ")
_LONGEST = 80
_CONTEXT = decimal.Context(prec=60)

_MICRO = ("u", "µ", "μ")
_PREFIXES = {
    "k": "1e3",
    "M": "1e6",
    "G": "1e9",
    "T": "1e12",
    "P": "1e15",
    "E": "1e18",
    "Z": "1e21",
    "Y": "1e24",
}

_BYTES = {
    "": "1",
    "b": "1",
    "byte": "1",
    "bytes": "1",
    **{f"{p.lower()}{b}": _PREFIXES[p] for p in "kMGT" for b in ("", "b")},
    **{f"{p}i{b}": str(2 ** (10 * power)) for power, p in enumerate("kmgt", 1) for b in ("", "b")},
}
_SECONDS = {
    "": "1",
    "s": "1",
    "sec": "1",
    "seconds": "1",
    "second": "1",
    "ms": "1e-3",
    **{f"{p}s": "1e-6" for p in _MICRO},
    "ns": "1e-9",
    "min": "60",
    "h": "3600",
}
_IN_PARTS = re.compile(
    r"(?=.*h.*m|.*m.*s|.*h.*s)(?:([0-9]{1,9}) ?h)? ?(?:([0-9]{1,2}) ?min)? ?(?:([0-9]{1,2}) ?s)?"
)
"""As `show_duration` writes what takes minutes or hours."""
_JOULES = {
    "": "1",
    "J": "1",
    "j": "1",
    "mJ": "1e-3",
    "mj": "1e-3",
    "kJ": "1e3",
    "Wh": "3600",
    **{f"{p}{j}": "1e-6" for p in _MICRO for j in "Jj"},
    "nJ": "1e-9",
    "nj": "1e-9",
}
_COUNTS = {
    "": "1",
    "k": "1e3",
    "m": "1e6",
    "b": "1e9",
    "g": "1e9",
    "t": "1e12",
    **{
        f"{word}{s}": factor
        for s in ("", "s")
        for word, factor in (
            ("thousand", "1e3"),
            ("million", "1e6"),
            ("billion", "1e9"),
            ("trillion", "1e12"),
        )
    },
    "mn": "1e6",
    "bn": "1e9",
    "tn": "1e12",
}
_COUNTED = (
    "tokens",
    "token",
    "tok",
    "toks",
    "params",
    "param",
    "parameters",
    "parameter",
    "weights",
)
_FLOPS = {
    "": "1",
    **dict.fromkeys(("FLOPs", "FLOP", "flops", "flop", "FLOPS"), "1"),
    **{
        f"{prefix}{name}": factor
        for prefix, factor in _PREFIXES.items()
        for name in ("", "FLOPs", "FLOP", "FLOPS", "flops", "flop")
    },
}
_SPEEDS = {
    f"{prefix}{name}": factor
    for prefix, factor in (("", "1"), ("k", "1e3"), ("M", "1e6"))
    for name in ("tok/s", "tokens/s", "token/s", "toks/s", "t/s", "tps")
} | {"": "1"}


def _parse(
    value: Quantity,
    name: str,
    units: Mapping[str, str],
    example: str,
    *,
    any_case: bool = False,
    after: Iterable[str] = (),
    bounds: tuple[float, float] = (1e-18, 1e18),
) -> float:
    """A positive, finite number with one of `units` behind it, and one of the words `after`.

    Raises:
        BadInput: not a number, not a unit, not above zero, or outside `bounds`: what nobody means.
    """
    refusal = BadInput(f"{name} = {shown(value)}: a number above 0 is needed, such as {example}")
    if isinstance(value, bool):
        raise refusal
    if isinstance(value, int | float):
        number = _float(value)
    else:
        number = _of_text(str(value).strip(), units, any_case, after)
    if not math.isfinite(number) or number <= 0:
        raise refusal
    if not bounds[0] <= number <= bounds[1]:
        raise BadInput(f"{name} = {shown(value)}: {bounds[0]:g} to {bounds[1]:g} is needed")
    return number


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number beyond what a float holds
        return math.inf


def _of_text(text: str, units: Mapping[str, str], any_case: bool, after: Iterable[str]) -> float:
    """The value of a text; NaN where it is no number with such a unit."""
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None or not (match["whole"] or (match["fraction"] or ".") != "."):
        return math.nan
    unit = (match["unit"] or "").strip()
    factor = _factor(unit, units, any_case)
    if factor is None:
        for word in after:
            if unit.lower().endswith(word):
                factor = _factor(unit[: -len(word)].strip(), units, any_case)
                break
    if factor is None:
        return math.nan
    power = match["power"] or match["power10"] or "0"
    digits = f"{match['whole'].translate(_SEPARATORS) or 0}{match['fraction'] or ''}"
    return float(_CONTEXT.multiply(Decimal(f"{digits}e{power}"), Decimal(factor)))


def _factor(unit: str, units: Mapping[str, str], any_case: bool) -> str | None:
    return units.get(unit.lower() if any_case else unit)


def parse_bytes(value: Quantity, name: str = "memory") -> int:
    """Bytes from `500MB` (decimal), `2GiB` (binary) or a bare number of bytes.

    Raises:
        BadInput: less than a byte, or not a size.
    """
    size = _parse(value, name, _BYTES, "500MB or 2GiB", any_case=True, bounds=(1e-9, 1e24))
    if size < 1:
        raise BadInput(
            f"{name} = {shown(value)}: at least one byte is needed, such as 500MB or 2GiB"
        )
    return int(size)


def parse_seconds(value: Quantity, name: str = "ttft") -> float:
    """Seconds from `0.5`, `0.5s`, `500ms`, `90min` or `1 h 30 min`. Raises BadInput otherwise."""
    if isinstance(value, str) and (parts := _IN_PARTS.fullmatch(value.strip())):
        hours, minutes, seconds = (int(part or 0) for part in parts.groups())
        value = 3600 * hours + 60 * minutes + seconds
    return _parse(value, name, _SECONDS, "0.5 or 500ms")


def parse_joules(value: Quantity, name: str = "energy") -> float:
    """Joules from `0.05`, `0.05J` or `50mJ` (a token). Raises BadInput otherwise."""
    return _parse(value, name, _JOULES, "0.05 or 50mJ", after=("/token", "/tok"))


def parse_speed(value: Quantity, name: str = "decode") -> float:
    """Tokens per second from `30` or `30tok/s`. Raises BadInput otherwise."""
    return _parse(value, name, _SPEEDS, "30 or 30tok/s")


def parse_count(value: Quantity, name: str = "tokens") -> float:
    """A count from `1e12`, `300B`, `1T`, `5,000,000` or `5M tokens`. Raises BadInput otherwise."""
    most = (1e-9, 1e24)
    return _parse(
        value, name, _COUNTS, "1e12, 300B or 1T", any_case=True, after=_COUNTED, bounds=most
    )


def parse_flops(value: Quantity, name: str = "flops") -> float:
    """FLOPs from `1e21`, `3.2e21 FLOPs` or `3.2 ZFLOPs`. Raises BadInput otherwise."""
    return _parse(value, name, _FLOPS, "1e21 or 3.2ZFLOPs", bounds=(1e-9, 1e40))


def whole_count(value: Quantity, name: str = "tokens") -> int:
    """A whole count from `300B`, `1e9` or `2k`. Raises BadInput otherwise."""
    count = parse_count(value, name)
    if count != int(count):
        raise BadInput(f"{name} = {shown(value)}: a whole number is needed")
    return int(count)


def with_units(document: Any, parsers: Mapping[str, Callable[[Quantity, str], Any]]) -> Any:
    """A file's document with the texts of some fields parsed: name of the field -> its parser.

    Numbers stay as they are, to be checked by the type they are for. Lists are taken item by item.

    Raises:
        BadInput: a text is no such quantity.
    """
    if isinstance(document, list):
        return [with_units(item, parsers) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        name: _parsed(value, name, parsers[name]) if name in parsers else with_units(value, parsers)
        for name, value in document.items()
    }


def _parsed(value: Any, name: str, parse: Callable[[Quantity, str], Any]) -> Any:
    if isinstance(value, list):
        return [_parsed(item, name, parse) for item in value]
    if isinstance(value, dict):
        return {key: _parsed(item, f"{name}.{key}", parse) for key, item in value.items()}
    return parse(value, name) if isinstance(value, str) else value


def parse_bits(value: Quantity | Iterable[Quantity], name: str = "bits") -> tuple[float, ...]:
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
    bits = sorted({_parse(part, name, {"": "1"}, "8 or 4,8") for part in parts})
    if not bits or bits[0] < 1 or bits[-1] > 32:
        raise BadInput(
            f"{name} = {shown(value)}: weight precisions of 1 to 32 bits, such as 8 or 4,8"
        )
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
