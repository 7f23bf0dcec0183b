"""Which column of a table is which quantity: what the user said, then the names in use.

Names are compared without case, punctuation and the prefixes that trackers add (`config.`,
`summary/`). Where two columns could be the same quantity the user is asked, and a column that looks
like a shape and was not taken is named with a suggestion.
"""

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import NoReturn

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.run_table import SHAPE_COLUMNS, Count
from shapelaw.scaling.user_files import refuse, shown

_NAMES = tomllib.loads(
    (resources.files("shapelaw.results.tables") / "column_names.toml").read_text("utf-8")
)
SYNONYMS: dict[str, list[str]] = _NAMES["synonyms"]
"""Our name -> names a column is found under when the user names none, most telling first."""
TOTAL = frozenset(_NAMES["count"]["total"])
"""Names that say N counts everything, the embedding included."""
FLOPS: list[str] = _NAMES["others"]["flops"]
TOKENS_PER_PARAMETER: list[str] = _NAMES["others"]["tokens_per_parameter"]
SEEDS: list[str] = _NAMES["others"]["seeds"]
STEPS: list[str] = _NAMES["others"]["steps"]
TUNED = frozenset(_NAMES["others"]["tuned"])
"""Settings of training that are tuned, not part of a law: of several values the best counts."""
STATES: list[str] = _NAMES["others"]["states"]
FINISHED = frozenset(_NAMES["others"]["finished"])
EPOCHS: list[str] = _NAMES["others"]["epochs"]
MIXING = frozenset(_NAMES["others"]["mixing"])
"""Columns that say which losses compare with which."""
_UNIT_TAILS = {tail: unit for unit, tails in _NAMES["units"].items() for tail in tails}
_PREFIXES = frozenset(_NAMES["others"]["prefixes"])

UNITS: dict[str, tuple[str, ...]] = {
    "counts": ("thousands", "millions", "billions", "trillions", "log10", "ln", "raw"),
    "loss": ("nats", "perplexity", "bits", "log10", "ln"),
}
"""Units a column may be told to have: `n=params:millions`, `loss=ppl:perplexity`."""

_LOOKS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("n_kv_heads", re.compile(r"kv|key_value|query_group")),
    ("n_heads", re.compile(r"head(?!_?(dim|size))|attn_h")),
    ("head_dim", re.compile(r"head_?(dim|size)|(dim|size)_?head")),
    ("sharing", re.compile(r"loop|recur|shar|repeat")),
    ("d_ff", re.compile(r"(^|_)(ff|mlp|inter|feed)")),
    ("n_layers", re.compile(r"layer|block|depth|(^|_)n?l$")),
    ("d_model", re.compile(r"emb|hidden|width|channel|residual|(^|_)dim")),
)
"""Ours -> how a name of it looks, the narrower first."""
_NEEDED = ("n", "d", "loss")


@dataclasses.dataclass(frozen=True)
class ColumnMapping:
    """Our name -> the table's column, its unit where the user gave one, and what was remarked."""

    names: dict[str, str]
    units: dict[str, str]
    remarks: tuple[str, ...]
    count: Count
    """What the name of N's column says."""


def normalised(name: str) -> str:
    """`Model Size` to `model_size`, `eval/loss` to `eval_loss`, `nParams` to `n_params`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def spellings(name: str) -> list[str]:
    """The name normalised, and without a tracker's prefix."""
    full = normalised(name)
    head, _, tail = full.partition("_")
    found = [full, full.replace("_", "")] if full.count("_") == 0 else [full]
    if tail and re.search(r"[./|:]", name) and head in _PREFIXES:
        found.append(tail)
    compact = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return list(dict.fromkeys([*found, compact]))


def find(table: Iterable[str], names: Iterable[str]) -> str | None:
    """The first column called by one of `names`, or None."""
    known = {spelling: name for name in reversed(list(table)) for spelling in spellings(name)}
    return next((known[name] for name in names if name in known), None)


def resolve(path: Path, table: Iterable[str], columns: Mapping[str, str]) -> ColumnMapping:
    """Our names to the table's; what neither the user nor a name in use tells is left out.

    Args:
        columns: ours -> theirs as the user said, a unit after a colon where there is one.

    Raises:
        BadInput: a name or unit the user gave is not there, or two columns could be one quantity.
    """
    table = list(table)
    names, units = _as_said(path, table, columns)
    remarks: list[str] = []
    taken = {theirs for ours, theirs in names.items() if ours != "run"}
    for ours in (*_NEEDED, "run", *SHAPE_COLUMNS):
        if ours in names:
            continue
        hits = _hits(table, ours, taken)
        if not hits:
            continue
        best = hits[0][1]
        rivals = [name for rank, name in hits if rank == hits[0][0] and name != best]
        if rivals:
            refuse(
                "runs",
                path,
                f"columns {shown(best, 40)!r} and {shown(rivals[0], 40)!r} could both be {ours}: "
                f"say which with --columns {ours}={shown(best, 40)}",
            )
        names[ours] = best
        taken.add(best)
        if ours in _NEEDED and len(hits) > 1:
            others = ", ".join(repr(shown(name, 40)) for _, name in hits[1:4])
            remarks.append(
                f"{ours} is column {shown(best, 40)!r}, not {others}: --columns {ours}=NAME takes "
                "another"
            )
    remarks += _suggestions(table, names)
    return ColumnMapping(names, units, tuple(remarks), _count(names.get("n", "")))


def refuse_missing(path: Path, table: Iterable[str], ours: str) -> NoReturn:
    """Raises BadInput: no column is `ours`, with those there are and how to name one."""
    table = list(table)
    for name in table:
        unit = unit_in_name(name, ours)
        if unit:
            refuse(
                "runs",
                path,
                f"no column for {ours}; column {shown(name, 40)!r} looks like {ours} in {unit}: "
                f"--columns {ours}={shown(name, 40)}:{unit} reads it",
            )
    refuse(
        "runs",
        path,
        f"no column for {ours}; it has {_listed(table)}; say which with --columns {ours}=NAME",
    )


def unit_in_name(name: str, ours: str) -> str:
    """`params_m` is N in millions and `Tokens (B)` D in billions; "" where a name says no unit."""
    if ours not in ("n", "d"):
        return ""
    for spelling in spellings(name):
        stem, _, tail = spelling.rpartition("_")
        if stem in SYNONYMS[ours] and tail in _UNIT_TAILS:
            return _UNIT_TAILS[tail]
    return ""


def _as_said(
    path: Path, table: list[str], columns: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    accepted = (*_NEEDED, "run", *SHAPE_COLUMNS)
    names: dict[str, str] = {}
    units: dict[str, str] = {}
    for ours, said in columns.items():
        if ours not in accepted:
            raise BadInput(
                f"--columns {shown(ours, 30)}={shown(said, 30)}: one of "
                f"{', '.join(accepted)} is needed on the left"
            )
        theirs, unit = _split_unit(ours, said, table)
        if theirs not in table:
            alike = [name for name in table if normalised(name) == normalised(theirs)]
            if len(alike) != 1:
                raise BadInput(
                    f"--columns {ours}={shown(said, 40)}: {shown(path.name, 40)} has no column "
                    f"{shown(theirs, 40)!r}; it has {_listed(table)}"
                )
            theirs = alike[0]
        names[ours] = theirs
        if unit:
            units[ours] = unit
    return names, units


def _split_unit(ours: str, said: str, table: list[str]) -> tuple[str, str]:
    name, colon, unit = said.rpartition(":")
    if said in table or not colon or ours not in _NEEDED:
        return said, ""
    accepted = UNITS["loss" if ours == "loss" else "counts"]
    if unit not in accepted:
        raise BadInput(
            f"--columns {ours}={shown(said, 60)}: after the colon stands a unit, one of "
            f"{', '.join(accepted)}"
        )
    return name, unit


def _hits(table: list[str], ours: str, taken: set[str]) -> list[tuple[int, str]]:
    """(rank of the synonym, column) for every free column that could be ours, best first."""
    ranks = {synonym: rank for rank, synonym in enumerate(SYNONYMS[ours])}
    found = []
    for name in table:
        if name in taken:
            continue
        rank = min(
            (ranks[spelling] for spelling in spellings(name) if spelling in ranks), default=None
        )
        if rank is not None:
            found.append((rank, name))
    return sorted(found, key=lambda hit: (hit[0], table.index(hit[1])))


def _suggestions(table: list[str], names: Mapping[str, str]) -> list[str]:
    """Columns that look like a shape and are not taken, each with what to say."""
    said = []
    found = set(names)
    for name in table:
        if name in names.values() or normalised(name) in {*TUNED, *STEPS, *FLOPS}:
            continue
        for ours, look in _LOOKS:
            if look.search(normalised(name)):
                if ours not in found:
                    said.append(
                        f"column {shown(name, 40)!r} looks like {ours} and is not read: "
                        f"--columns {ours}={shown(name, 40)} reads it"
                    )
                    found.add(ours)
                break
    return said


def _count(name: str) -> Count:
    spelled = normalised(name)
    if "non_emb" in spelled or "nonemb" in spelled:
        return "non_embedding"
    return "total" if TOTAL & set(spellings(name)) or "total" in spelled else "as given"


def _listed(table: Iterable[str]) -> str:
    names = [shown(name, 24) for name in table]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
