"""A plan for a person at a terminal: its shapes, what they cost, and what they can tell."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from shapelaw.scaling.terminal_text import literal
from shapelaw.scaling.units import show_count, show_duration

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_SHORT = {"mlp_attention_ratio": "r", "gqa_group": "GQA", "learning_rate": "rate"}
"""Names of axes in a label, as the columns have them."""

_MOST_TOKENS = 2
"""Budgets that are listed; of more, the ends and their number."""


def _priced(cost: dict[str, Any]) -> str:
    """What the plan costs on an accelerator, which only the caller knows."""
    usd = cost["usd"]
    price = "no price is known"
    if usd is not None:
        price = f"{usd:,.2f} USD" if usd >= 1 else f"{usd:.2g} USD"
    return (
        f"on {cost['accelerator']} at {cost['utilisation']:.0%} of its 16-bit peak: "
        f"{cost['gpu_hours']:.3g} GPU-hours, {price}"
    )


def plan_table(outline: dict[str, Any], rows: int = 60) -> "RenderableType":
    """The plan for people: shapes (those trained with several seeds once), cost, what it tells."""
    from rich.console import Group
    from rich.text import Text

    head = Text(
        f"{outline['design']}: {_count(outline['runs'], 'run')} on "
        f"{_count(outline['trunks'], 'trunk')} of {_count(outline['shapes'], 'shape')}, "
        f"{outline['flops']:.3g} FLOPs "
        f"({outline['flops'] / outline['flops_of_separate_runs']:.0%} of separate runs), about "
        f"{show_duration(outline['seconds'])} on {_count(outline['workers'], 'worker')} "
        f"(speed: {outline['speed_from']})"
    )
    if (cost := outline.get("cost")) is not None:
        head.append(f"\n{_priced(cost)}")
    grouped = _over_seeds(outline["rows"])
    parts: list[RenderableType] = [head, *_shapes(grouped[:rows])]
    if len(grouped) > rows:
        parts.append(Text(f"... and {_count(len(grouped) - rows, 'more row')} (--json has all)"))
    off = max((abs(row["deviation"]) for row in outline["rows"]), default=0.0)
    parts.append(Text(f"sizes are within {off:.1%} of what the design asks for"))
    parts += [
        Text(f"left out: {point['what']} ({point['part']}): {point['why']}")
        for point in outline["dropped"]
    ]
    told = outline["identified"]
    for name, spread in told["varied"].items():
        parts.append(
            Text(
                f"varies: {name} {spread['low']:.3g} to {spread['high']:.3g}, "
                f"{_count(spread['values'], 'value')}"
            )
        )
    if told["crossed"]:
        pairs = ", ".join(" and ".join(pair) for pair in told["crossed"])
        parts.append(Text(f"crossed: {pairs}"))
    parts += [Text(note) for note in outline["notes"]]
    return Group(*parts)


def _over_seeds(rows: Iterable[dict[str, Any]]) -> list[tuple[dict[str, Any], list[int]]]:
    """Rows that differ in nothing but the seed, once, with their seeds; in their order."""
    found: dict[tuple[Any, ...], tuple[dict[str, Any], list[int]]] = {}
    for row in rows:
        shape = tuple(sorted((name, str(value)) for name, value in row["architecture"].items()))
        key = (row["part"], row["shape"], shape, tuple(row["tokens"]), row["learning_rate"])
        found.setdefault(key, (row, []))[1].append(row["seed"])
    return list(found.values())


_WIDTHS = {
    "shape": 22, "d × blocks": 11, "r": 4, "GQA": 3, "N": 5, "seeds": 5, "tokens": 15, "FLOPs": 7,
}  # fmt: skip
"""Of the columns: the same in the table of every part, 79 characters with the spaces between."""


def _shapes(grouped: list[tuple[dict[str, Any], list[int]]]) -> "list[Table]":
    """A table for each part of the design."""
    parts: dict[str, list[tuple[dict[str, Any], list[int]]]] = {}
    for row, seeds in grouped:
        parts.setdefault(row["part"], []).append((row, seeds))
    return [_part(name if len(parts) > 1 else None, rows) for name, rows in parts.items()]


def _part(name: str | None, rows: list[tuple[dict[str, Any], list[int]]]) -> "Table":
    from rich.table import Table

    table = Table(
        title=None if name is None else literal(name), title_justify="left", title_style="bold",
        box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False,
    )  # fmt: skip
    for title, width in _WIDTHS.items():
        left = title in ("shape", "d × blocks")
        table.add_column(title, justify="left" if left else "right", width=width)
    for row, seeds in rows:
        shape = row["architecture"]
        sharing = f" ×{shape['sharing']}" if shape["sharing"] > 1 else ""
        table.add_row(
            literal(_label(row["shape"])),
            f"{shape['d_model']} × {shape['n_blocks']}{sharing}",
            f"{row['mlp_attention_ratio']:.2g}",
            str(shape["n_heads"] // shape["n_kv_heads"]),
            show_count(row["non_embedding"]),
            str(len(seeds)),
            _tokens(row["tokens"]),
            f"{row['flops'] * len(seeds):.2g}",
        )
    return table


def _label(text: str) -> str:
    for name, short in _SHORT.items():
        text = text.replace(name, short)
    return text


def _tokens(budgets: list[int]) -> str:
    ends = f"{show_count(budgets[0])}–{show_count(budgets[-1])}"
    if len(budgets) <= _MOST_TOKENS:
        return ", ".join(map(show_count, budgets))
    return f"{ends} ({len(budgets)})"


def _count(number: int, one: str) -> str:
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"
