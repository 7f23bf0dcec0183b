"""The Jetson Orin Nano in its power modes: one set of constants a mode, energy included."""

from typing import Any

from benchmarks import device_rows
from benchmarks.fit_catalogue import (
    Document,
    datasheet_document,
    figure,
    profile_of,
    with_bandwidth,
)
from search.devices.constants import Constants, constants
from search.devices.fitting import Free, Observation, Solution, field, solve

SOURCE = (
    "fitted to eight models with llama.cpp b9292 at a context of 2048 to 2304, mode {mode}, "
    "smolhub.com jetson-nano-super benchmark (commit 05c9940)"
)


def free_constants() -> list[Free]:
    """What a mode's eight decode timings are asked for."""
    return [
        with_bandwidth(5e9, 1.02e11, 5e10),
        field("per_layer", 1e-6, 1e-3, 1e-4),
        field("per_token", 1e-6, 2e-2, 1e-3),
    ]


def fit_mode(rows: list[Observation], template: Constants) -> Solution:
    """One mode's decode constants."""
    return solve(rows, template, free_constants(), starts=3)


def jetson_documents(sheet: dict[str, Any], typical: dict[str, Any]) -> list[Document]:
    """A profile for each power mode."""
    rows = device_rows.jetson_rows() or []
    documents = []
    for mode, name in device_rows.JETSON_MODES.items():
        document = datasheet_document(f"jetson-orin-nano-{name}", sheet, typical)
        document["title"] += f" in its {mode} mode (llama.cpp on CUDA)"
        chosen = [row for row in rows if row.mode == mode]
        source = SOURCE.format(mode=mode)
        c = fit_mode([row.decode for row in chosen], constants(profile_of(document))).constants
        document["memory"]["bandwidth"] = figure(c.bandwidth / 1e9, "GB/s", source, "fitted")
        document["overhead"]["per_layer"] = figure(c.per_layer * 1e6, "us", source, "fitted")
        document["overhead"]["per_token"] = figure(c.per_token * 1e6, "us", source, "fitted")
        found = solve([row.prefill for row in chosen], c, [
            field("efficiency", 0.01, 1, 0.3), field("half_width", 1, 4000, 500),
        ], starts=2).constants
        document["compute"]["efficiency"] = figure(found.efficiency, "share", source, "fitted")
        document["compute"]["half_width"] = figure(found.half_width, "features", source, "fitted")
        documents.append(document)
    return documents
