"""The figure of results/sharing: loss against time, with error bars on both, by device."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sharing_study.worth import sources

COLOURS = {"B": "#0b6e4f", "C": "#7a5195", "D": "#c8553d"}
SAYS = {
    "B": "the same 30 blocks, twice",
    "C": "60 narrower blocks, as many parameters",
    "D": "60 distinct blocks as wide",
}


def percent(logarithm: float) -> float:
    """exp(x) - 1 in per cent."""
    return 100 * float(np.expm1(logarithm))


def write_figure(figures: dict[str, Any], path: Path) -> None:
    """Three devices and, below right, what the sources say of B - A."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    plot, axes = pyplot.subplots(2, 2, figsize=(10.5, 8.6), layout="constrained")
    for axis, device in zip(axes.flat, figures["worth"]["devices"], strict=False):
        _device(axis, device)
    shown = [axis.get_ylim() for axis in axes.flat[:3]]
    for axis in axes.flat[:3]:
        axis.set_ylim(min(low for low, _ in shown), max(high for _, high in shown))
    _sources(axes.flat[3], sources(figures))
    handles, labels = axes.flat[0].get_legend_handles_labels()
    plot.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    plot.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(plot)


def _bars(of: dict[str, float]) -> tuple[float, np.ndarray]:
    value, low, high = (percent(of[name]) for name in ("value", "low", "high"))
    return value, np.array([[value - low], [high - value]])


def _device(axis: Any, device: dict[str, Any]) -> None:
    axis.axhline(0, color="#b8c0c6", linewidth=0.8)
    axis.axvline(0, color="#b8c0c6", linewidth=0.8)
    axis.plot(0, 0, "s", color="#333333", label="A: 30 blocks, each once")
    for cell, of in device["cells"].items():
        (x, x_bars), (y, y_bars) = _bars(of["time"]), _bars(of["loss"])
        axis.errorbar(
            x, y, xerr=x_bars, yerr=y_bars, fmt="o", color=COLOURS[cell], capsize=3,
            label=f"{cell}: {SAYS[cell]}",
        )  # fmt: skip
        if cell in device["measured"]:
            axis.plot(
                percent(device["measured"][cell]), y, "D", markerfacecolor="none", markersize=10,
                color=COLOURS[cell], label=f"{cell}: time as measured",
            )  # fmt: skip
    axis.set_title(
        f"{device['device']} ({device['engine']}, {device['bits']:.0f} bits)", loc="left"
    )
    axis.set_xlabel("time of a decoded token, beside A's, %")
    axis.set_ylabel("loss at 1T tokens, beside A's, %")


def _sources(axis: Any, found: list[tuple[str, dict[str, float]]]) -> None:
    for row, (_, of) in enumerate(found):
        value, bars = _bars(of)
        axis.errorbar(value, row, xerr=bars, fmt="o", color=COLOURS["B"], capsize=3)
    axis.axvline(0, color="#b8c0c6", linewidth=0.8)
    axis.set_yticks(range(len(found)), [label.replace(", ", "\n", 1) for label, _ in found])
    axis.set_ylim(len(found) - 0.5, -0.5)
    axis.set_title("What B loses beside A, by source", loc="left")
    axis.set_xlabel("loss of B beside A's, %")
