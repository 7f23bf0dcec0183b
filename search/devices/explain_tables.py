"""An explanation as tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from shapelaw.scaling.terminal_text import literal


def explanation_tables(explanation: Mapping[str, Any]) -> list[Any]:
    """Parts of one decode step, the totals, and the comparison with distinct blocks."""
    from rich.table import Table

    table = Table(
        title=literal(
            f"one token on {explanation['device']}, workload {explanation['workload']}, "
            f"{explanation['weight_bits']:g}-bit weights, context {explanation['context']:g}",
            most=300,
        ),
        title_justify="left",
    )
    for column in ("part", "ms", "share", "MB from DRAM", "MB from cache", "Mop", "mJ"):
        table.add_column(column, justify="left" if column == "part" else "right")
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
            f"the same depth with {twin['n_blocks']} distinct blocks: {1e3 * twin['decode_s']:.3f} "
            f"ms a token, {twin['memory_bytes'] / 1e6:,.0f} MB, "
            f"{_millijoules(twin['energy_per_token_j'])} mJ a token"
        )
    return tables


def _totals(explanation: Mapping[str, Any]) -> str:
    share = explanation["resources"][explanation["scarce"]] / explanation["decode_s"]
    lines = (
        f"scarce: {explanation['scarce']} ({100 * share:.0f} % of the time)",
        f"{explanation['decode_tokens_per_s']:.4g} tokens/s, first token after "
        f"{explanation['ttft_s']:.4g} s",
        f"memory {explanation['memory_bytes'] / 1e6:,.0f} MB of the "
        f"{explanation['app_memory_bytes'] / 1e6:,.0f} MB an application may use",
    )
    return "\n".join(lines)


def _millijoules(joules: float | None) -> str:
    return "unknown" if joules is None else f"{1e3 * joules:.3f}"
