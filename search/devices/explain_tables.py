"""An explanation as tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from shapelaw.scaling.terminal_text import literal
from shapelaw.scaling.units import show_bytes, show_joules, show_seconds, show_speed


def explanation_tables(explanation: Mapping[str, Any]) -> list[Any]:
    """Parts of one decode step, the totals, and the comparison with distinct blocks."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=literal(
            f"one token on {explanation['device']}, workload {explanation['workload']}, "
            f"{explanation['weight_bits']:g}-bit weights, context {explanation['context']:g}",
            most=300,
        ),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in ("part", "ms", "share", "DRAM MB", "cache MB", "Mop", "mJ"):
        table.add_column(column, justify="left" if column == "part" else "right", no_wrap=True)
    total = explanation["decode_s"]
    for part in explanation["parts"]:
        table.add_row(
            part["name"],
            f"{1e3 * part['seconds']:.3f}",
            f"{100 * part['seconds'] / total:.1f} %",
            f"{part['bytes_moved'] / 1e6:.2f}",
            f"{part['bytes_cached'] / 1e6:.2f}",
            f"{part['flops'] / 1e6:.1f}",
            _millijoules(part["joules"]),
        )
    table.add_section()
    table.add_row(
        "total",
        f"{1e3 * total:.3f}",
        "",
        *(
            f"{sum(part[key] for part in explanation['parts']) / 1e6:.2f}"
            for key in ("bytes_moved", "bytes_cached")
        ),
        f"{sum(part['flops'] for part in explanation['parts']) / 1e6:.1f}",
        _millijoules(explanation["energy_per_token_j"]),
    )
    tables: list[Any] = [table, _totals(explanation)]
    if "distinct_blocks" in explanation:
        twin = explanation["distinct_blocks"]
        tables.append(
            f"the same depth with {twin['n_blocks']} distinct blocks: "
            f"{show_seconds(twin['decode_s'])} a token, {show_bytes(twin['memory_bytes'])}, "
            f"{_joules(twin['energy_per_token_j'])} a token"
        )
    return tables


def _totals(explanation: Mapping[str, Any]) -> str:
    share = explanation["resources"][explanation["scarce"]] / explanation["decode_s"]
    lines = (
        f"scarce: {explanation['scarce']} ({100 * share:.0f} % of the time)",
        f"{show_speed(explanation['decode_tokens_per_s'])}, first token after "
        f"{show_seconds(explanation['ttft_s'])}",
        f"memory {show_bytes(explanation['memory_bytes'])} of the "
        f"{show_bytes(explanation['app_memory_bytes'])} an application may use",
    )
    return "\n".join(lines)


def _millijoules(joules: float | None) -> str:
    return "unknown" if joules is None else f"{1e3 * joules:.3f}"


def _joules(joules: float | None) -> str:
    return "unknown energy" if joules is None else show_joules(joules)
