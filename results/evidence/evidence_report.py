"""A fit with the evidence as its prior, for the terminal."""

from collections.abc import Mapping
from typing import Any


def evidence_tables(report: Mapping[str, Any]) -> list[Any]:
    """Parameters with intervals, and how much of each came from the runs."""
    from rich.table import Table

    told = report["diagnostics"]
    table = Table(
        title=f"prior: {report['prior']}   runs: {report['runs']}   rows: {report['rows']}",
        title_justify="left",
    )
    for column in ("parameter", "value", "90 % interval", "from the runs"):
        table.add_column(column)
    for name, value in report["parameters"].items():
        low, high = report["intervals"][name]
        share = told["from_runs"][name]
        table.add_row(name, f"{value:.4g}", f"{low:.4g} to {high:.4g}", f"{share:.0%}")
    odd = [
        f"{name}: the runs lie at the {place:.1%} quantile of the population"
        for name, place in told["contradicts_population"].items()
    ]
    return [table, *odd]
