"""Devices and calibrations as tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from shapelaw.scaling.terminal_text import literal
from shapelaw.search.devices.profile import DeviceProfile


def device_tables(description: Mapping[str, Any]) -> list[Any]:
    """The catalogue (`describe_all`), or one device with each figure (`describe`)."""
    from rich.table import Table

    if "devices" in description:
        table = Table(title="devices", title_justify="left")
        for column in ("name", "kind", "engines", "what it is"):
            table.add_column(column)
        for device in description["devices"]:
            engines = ", ".join(dict.fromkeys(each.split("/")[0] for each in device["engines"]))
            table.add_row(
                literal(device["name"]),
                literal(device["kind"]),
                literal(engines),
                literal(device["summary"]),
            )
        for device in description["unusable"]:
            table.add_row(literal(device["name"]), "", "", literal(device["why"], most=300))
        return [table, *description["notes"]]
    table = Table(title=literal(description["title"]), title_justify="left")
    for column in ("figure", "value", "unit", "status", "source"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for figure in description["figures"]:
        table.add_row(
            figure["name"],
            f"{figure['value']:.4g}",
            figure["unit"],
            figure["status"],
            literal(figure["source"], most=400),
        )
    return [table, *description["notes"]]


def profile_tables(profile: DeviceProfile) -> list[Any]:
    """One profile, figure by figure."""
    rows = [{**row, "name": row["figure"]} for row in profile.to_rows()]
    return device_tables({"title": profile.title, "figures": rows, "notes": list(profile.notes)})


def calibration_tables(report: Mapping[str, Any]) -> list[Any]:
    """What was fitted, how well, and what the measurements leave open."""
    from rich.table import Table

    fitted = Table(title=literal(f"{report['name']} ({report['engine']})"), title_justify="left")
    for column in ("figure", "value", "unit", "uncertainty"):
        fitted.add_column(column, justify="left" if column == "figure" else "right")
    for row in report["fitted"]:
        fitted.add_row(row["name"], f"{row['value']:.4g}", row["unit"], row["uncertainty"])
    errors = Table(title="agreement, leaving each shape out in turn", title_justify="left")
    for column in ("phase", "timings", "mean error", "worst", "repeatability", "plain roofline"):
        errors.add_column(column, justify="left" if column == "phase" else "right")
    for phase, row in report["errors"].items():
        errors.add_row(
            phase,
            str(row["timings"]),
            *(
                "–" if row[key] is None else f"{100 * row[key]:.1f} %"
                for key in ("held_out_mean", "held_out_worst", "repeatability", "roofline_mean")
            ),
        )
    tables: list[Any] = [fitted, errors]
    if report.get("setting"):
        tables.append("rows taken, of the fastest setting: " + report["setting"])
    if report["not_determined"]:
        tables.append("not determined by these timings: " + ", ".join(report["not_determined"]))
    if "profile" in report:
        tables.append(f"written to {report['profile']}")
    return tables
