"""Every picture of a fit, written as PNG and SVG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from shapelaw.scaling.atomic_files import replacing
from shapelaw.scaling.fit import Fit
from shapelaw.scaling.plots.law_plots import isoflop, loss_against_compute, loss_against_shape
from shapelaw.scaling.plots.parameter_plots import correlations
from shapelaw.scaling.plots.run_plots import parity, residuals


def write_all(fit: Fit, folder: str | Path) -> list[Path]:
    """Draw every picture the fit has the columns for; returns the files written."""
    folder = Path(folder)
    drawn: list[Path] = []
    pictures: dict[str, Callable[[Fit], Any]] = {
        "parity": parity,
        "residuals": residuals,
        "isoflop": isoflop,
        "loss-against-compute": loss_against_compute,
        "shape": loss_against_shape,
        "correlations": correlations,
    }
    for name, draw in pictures.items():
        figure = draw(fit)
        if figure is None:
            continue
        for suffix, dots in ((".png", 160), (".svg", 100)):
            path = folder / f"{name}{suffix}"
            with replacing(path) as temporary:
                figure.savefig(temporary, dpi=dots, bbox_inches="tight", facecolor="white")
            drawn.append(path)
        close(figure)
    return drawn


def close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)
