"""A verification for people at a terminal of 80 columns."""

from typing import TYPE_CHECKING, Any

from shapelaw.scaling.terminal_text import literal
from shapelaw.scaling.units import show_count, show_flops
from shapelaw.verification.verdict import OPEN

if TYPE_CHECKING:
    from rich.console import RenderableType


def verification_tables(report: dict[str, Any]) -> "list[RenderableType]":
    """Of a plan's report, or of a finished one: it has a verdict."""
    from rich.table import Table
    from rich.text import Text

    done = "verdict" in report
    lines = []
    if done:
        verdict = (report["verdict"], "bold")
        settled = report["verdict"] != OPEN
        said = (
            ("The pick ", verdict) if settled else ("These runs ", verdict, " if the pick stands")
        )
        lines.append(Text.assemble(*said, "."))
    before = f"{report['probability_before']:.2f}"
    after = f", {report['probability_after']:.2f} after" if done else ""
    lines.append(
        Text(
            f"That no rival is better by {report['tolerance_nats']:g} nats: probability {before} "
            f"before the runs{after}."
        )
    )
    cost = f"{report['runs']} runs, {show_flops(report['flops'])}, {report['seeds']} "
    cost += "seed" if report["seeds"] == 1 else "seeds"
    if not done or report["verdict"] == OPEN:
        more = report["power_of_more"]
        cost += (
            f"; they {'were' if done else 'are'} expected to settle it with probability "
            f"{report['power']:.2f}, {more['times_flops']:g} times the FLOPs with "
            f"{more['power']:.2f}"
        )
    lines.append(Text(f"{cost}."))
    finalists = Table(title="Loss less the pick's", title_justify="left", box=None, padding=(0, 2))
    for name in ("finalist", "shape", "before", *(("after",) if done else ())):
        finalists.add_column(name, no_wrap=name != "finalist", justify="left")
    for each in report["finalists"]:
        row: list[RenderableType] = [literal(each["name"], most=30), _shape(each["architecture"])]
        for when in ("before", "after") if done else ("before",):
            low, high = each[f"loss_difference_interval_{when}"]
            row.append("" if each["name"] == "pick" else f"{low:+.3f} to {high:+.3f}")
        finalists.add_row(*row)
    proxies = Table(title="Proxies", title_justify="left", box=None, padding=(0, 2))
    for name in ("of", "shape", "parameters", "tokens"):
        proxies.add_column(name, no_wrap=name != "of")
    for each in report["proxies"]:
        tokens = " ".join(show_count(value) for value in each["tokens"])
        proxies.add_row(
            literal(each["of"], most=30),
            _shape(each["architecture"]),
            show_count(each["non_embedding"]),
            tokens,
        )
    return [*lines, finalists, proxies]


def _shape(fields: dict[str, Any]) -> str:
    sharing = f"×{fields['sharing']}" if fields["sharing"] > 1 else ""
    return f"{fields['d_model']}·{fields['n_blocks']}{sharing}"
