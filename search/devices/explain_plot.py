"""An explanation as a figure."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.scaling.atomic_files import replacing
from shapelaw.scaling.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def explanation_figure(explanation: Mapping[str, Any]) -> "Figure":
    """Decode time by part, bytes by part, and joules by part where known."""
    from matplotlib.figure import Figure

    parts = explanation["parts"]
    names = [part["name"] for part in parts][::-1]
    columns: list[tuple[str, list[tuple[str, list[float]]]]] = [
        ("milliseconds", [("", [1e3 * part["seconds"] for part in parts])]),
        (
            "megabytes",
            [
                ("from DRAM", [part["bytes_moved"] / 1e6 for part in parts]),
                ("from cache", [part["bytes_cached"] / 1e6 for part in parts]),
            ],
        ),
    ]
    if explanation["energy_per_token_j"] is not None:
        columns.append(("millijoules", [("", [1e3 * part["joules"] for part in parts])]))
    drawing = Figure(figsize=(4.2 * len(columns), 0.4 * len(names) + 1.6), layout="constrained")
    panels = np.atleast_1d(drawing.subplots(1, len(columns), sharey=True))
    for panel, (label, series) in zip(panels, columns, strict=True):
        left = np.zeros(len(names))
        for (what, values), colour in zip(series, ("#2b6777", "#c8a15a"), strict=False):
            panel.barh(names, values[::-1], left=left, color=colour, label=what or None)
            left = left + np.array(values[::-1])
        panel.set_xlabel(label)
        panel.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            panel.legend(frameon=False, fontsize=8)
    drawing.suptitle(
        f"{explanation['device']}, {explanation['workload']}: one token takes "
        f"{1e3 * explanation['decode_s']:.3g} ms; scarce: {explanation['scarce']}",
        fontsize=10,
    )
    return drawing


def write_picture(explanation: Mapping[str, Any], path: Path | str) -> None:
    """Draw an explanation to `path`; its ending chooses the format (`.png`, `.svg`, `.pdf`).

    Raises:
        BadInput: no such format, or the file cannot be written.
    """
    try:
        with replacing(path) as temporary:
            explanation_figure(explanation).savefig(temporary)
    except ValueError as error:
        raise BadInput(f"picture = {path}: {' '.join(str(error).split())}") from None
