"""The README of results/sharing."""

from collections.abc import Sequence
from typing import Any

WIDEST = 0.005
"""Half-width of the 90 % intervals that the study is to reach."""
NAMES = {
    "distinct": "A",
    "twice": "B",
    "narrow": "C",
    "wide": "D",
    "cycle": "B in cycles",
    "prelude": "B with prelude, coda and injection",
    "thrice": "B, three times",
}


def percent(found: dict[str, Any]) -> str:
    """`-1.23 % [-1.50, -0.90]`."""
    return f"{100 * found['value']:+.2f} % [{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]"


def number(value: float | None) -> str:
    """Two decimals, or a word for what is not finite."""
    return "no bound" if value is None else f"{value:+.2f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def text(figures: dict[str, Any]) -> str:
    """The README of results/sharing."""
    missing = sum(part["missing"] for part in figures["to_come"])
    flops = sum(part["flops"] for part in figures["to_come"])
    parts = [
        f"""# The sharing study

Written by `python -m benchmarks.sharing_study --write` from `runs.jsonl`, the records of \
`shapelaw sweep sharing` as they were made. The preset says what the cells A, B, C and D are.

## Which runs there are

{figures["finished"]} finished runs; {missing} of the preset are to come \
({flops:.3g} FLOPs).

{
            table(
                ["part", "runs", "there", "to come, FLOPs"],
                [
                    [
                        part["part"],
                        str(part["runs"]),
                        str(part["runs"] - part["missing"]),
                        f"{part['flops']:.3g}",
                    ]
                    for part in figures["to_come"]
                ],
            )
        }
"""
    ]
    if figures["contrasts"]:
        parts.append(_contrast_text(figures))
    else:
        parts.append(
            "No two cells that are to be compared have been trained: nothing is claimed.\n"
        )
    if figures["equal_flops"]:
        rows = [
            [f"{one['tokens']:,}", str(one["base_depth"]), percent(one)]
            for one in figures["equal_flops"]
        ]
        parts.append(
            "## At equal FLOPs\n\nB on so many tokens against A on twice as many.\n\n"
            + table(["tokens of B", "base depth", "ln(loss B / loss A), 90 %"], rows)
            + "\n"
        )
    if figures["phi"]:
        rows = [
            [
                f"{one['tokens']:,}",
                NAMES[one["topology"]],
                one["depth_form"],
                f"{number(one['value'])} [{number(one['low'])}, {number(one['high'])}]",
            ]
            for one in figures["phi"]
        ]
        parts.append(
            "## φ by topology, under two forms of depth\n\n"
            + table(["tokens", "topology", "depth counts as", "φ, 90 %"], rows)
            + "\n"
        )
    if figures["learning_rate"]:
        rows = [
            [
                NAMES[one["of"]],
                str(one["base_depth"]),
                f"{one['tokens']:,}",
                f"{one['times']:g}",
                f"{100 * one['value']:+.2f} %",
            ]
            for one in figures["learning_rate"]
        ]
        parts.append(
            "## Other learning rates\n\n"
            + table(["cell", "base depth", "tokens", "times the rule's", "loss"], rows)
            + "\n"
        )
    return "\n".join(parts)


def _contrast_text(figures: dict[str, Any]) -> str:
    rows = [
        [
            f"{one['tokens']:,}",
            f"{NAMES[one['of']]} − {NAMES[one['against']]}",
            " and ".join(map(str, one["base_depths"])),
            percent(one),
            one["worth"],
        ]
        for one in figures["contrasts"]
    ]
    noise = "; ".join(
        f"{one['tokens']:,} tokens: {100 * one['noise']:.2f} %, "
        + (
            f"{one['freedom']} degrees of freedom"
            if one["freedom"] is not None
            else "the noise of the reference study: too few runs to tell it here"
        )
        for one in figures["budgets"]
    )
    largest = max(one["tokens"] for one in figures["budgets"])
    narrow = [
        one["high"] - one["low"] <= 2 * WIDEST
        for one in figures["contrasts"]
        if one["tokens"] == largest
        and (one["of"], one["against"]) in (("twice", "distinct"), ("twice", "narrow"))
        and len(one["base_depths"]) == 1
    ]
    return f"""## What the cells differ by

ln(loss / loss), 90 %: below zero the first is better. Noise of one run, of ln(loss): {noise}. \
Of the four intervals of B − A and B − C at the preset's largest budget \
{sum(narrow) if largest >= 12_000_000 else 0} are ± {100 * WIDEST:.1f} % or less.

{table(["tokens", "difference", "base depth", "90 %", "what it is"], rows)}
"""
