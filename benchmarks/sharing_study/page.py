"""The README of results/sharing."""

from collections.abc import Sequence
from typing import Any

from benchmarks.sharing_study.worth import SURE

FIGURE = "figures/worth.png"
WIDEST = 0.005
"""Half-width of the 90 % intervals that the study is to reach."""
UNSTEADY = 3.0
"""Times the assumed noise by which a difference may move between budgets without a word."""
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
    parts.append(_worth_text(figures["worth"]))
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
{sum(narrow) if largest >= 12_000_000 else 0} are ± {100 * WIDEST:.1f} % or less.\
{_unsteady(figures)}

{table(["tokens", "difference", "base depth", "90 %", "what it is"], rows)}
"""


def _unsteady(figures: dict[str, Any]) -> str:
    """A word of warning where differences jump by more than their intervals allow."""
    found = figures["unsteady"]
    if found is None or found["of_noise"] < UNSTEADY:
        return ""
    return (
        f" At {found['base_depth']} layers B − A moves by {100 * found['move']:+.1f} % from "
        f"{found['from']:,} to {found['to']:,} tokens, {found['of_noise']:.0f} times the noise "
        "assumed: runs of this size scatter more than those the noise was taken from, the "
        "intervals here are too narrow, and nothing is told until further seeds are there."
    )


def _equal_cells(equal: dict[str, Any]) -> list[str]:
    blocks = equal["blocks"]
    return [
        f"{blocks['value']:.0f} [{blocks['low']:.0f}, {blocks['high']:.0f}]",
        percent(equal["loss"]),
        f"{equal['probability_sharing_better']:.2f}",
    ]


def _worth_text(found: dict[str, Any]) -> str:
    rows, says = [], []
    for device in found["devices"]:
        cells, measured = device["cells"], device["measured"]
        rows.append(
            [
                device["device"],
                "profile",
                *(percent(cells[cell]["time"]) for cell in "BCD"),
                *_equal_cells(device["equal_time"]),
            ]
        )
        if measured:
            times = [f"{100 * measured[cell]:+.2f} %" if cell in measured else "" for cell in "BCD"]
            rows.append(
                [
                    device["device"],
                    "measured",
                    *times,
                    *_equal_cells(device["equal_measured_time"]),
                ]
            )
        p = (device["equal_measured_time"] or device["equal_time"])["probability_sharing_better"]
        verdict = (
            "applying the blocks twice is better"
            if p >= SURE
            else "distinct blocks are better"
            if 1 - p >= SURE
            else "cannot be told"
        )
        says.append(f"{device['device']}: {verdict}")
    copying = [f"{one['device']} ({one['engine']})" for one in found["devices"] if one["copies"]]
    copies = (
        f"Engines that store a shared block as often as it is applied, so that B is D to them: "
        f"{', '.join(copying)}."
        if copying
        else ""
    )
    cells = found["devices"][0]["cells"]
    reference = found["reference"]
    return f"""## What sharing buys and what it costs

A are the 30 blocks of MobileLLM-125M (arXiv 2402.14905), B the same blocks applied twice, C 60 \
narrower blocks of as many parameters, D 60 distinct blocks as wide. Loss is the evidence law's at \
{found["tokens"]:.0e} tokens for a study nobody has run; time is one decoded token by the device's \
profile: draws of both, 90 %. ln(loss / A's): B {percent(cells["B"]["loss"])}, C \
{percent(cells["C"]["loss"])}, D {percent(cells["D"]["loss"])}.

![Loss against time by device]({FIGURE})

{
        table(
            [
                "device",
                "time",
                "ln(time B / A)",
                "ln(time C / A)",
                "ln(time D / A)",
                "distinct blocks in B's time",
                "ln(loss B / theirs)",
                "probability that B is better",
            ],
            rows,
        )
    }

At equal time of a token (as measured, where somebody did), with a probability of {SURE:g}: \
{"; ".join(says)}. Where a measured time lies outside the profile's interval, the interval is too \
narrow: it holds the noise of constants and not the form's error. At equal memory the \
distinct stack is A (equal width) or C (equal depth).

Where it cannot tell: the law's B less A rests on published figures of two sources and on the \
reference study, whose own pairs say {percent(reference)} ({reference["trunks"]} trunks of 12,000 \
to 80,000 parameters, at most 80 tokens a parameter); the pairs of this study stand below. What \
would tell: B, C and D at 4 and 8 layers with three seeds (the parts above that are to come), and \
a pair of A and B at 1e8 parameters on 1e10 tokens or more, which takes an accelerator. No H100 \
was timed with shared blocks: its times are the profile's. {copies}
"""
