"""How the pictures look: the figure, its title, its axes and their numbers."""

from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.fit import Fit

INK, BLUE, RUST, PALE = "#22303c", "#2f6fb3", "#c8553d", "#b9cde4"
COLOURS = "viridis"

LABELS = {
    "ln_n": "parameters N",
    "ln_d": "training tokens D",
    "ln_width": "d_model",
    "ln_depth": "applied layers",
    "ln_aspect": "d_model / layers",
    "ln_x": "d_model / √N",
    "ln_r": "MLP / attention parameters",
    "ln_g": "query heads per KV head",
    "ln_s": "times each block is applied",
}


def new_figure(columns: int = 1, rows: int = 1, width: float = 6.4, height: float = 4.6) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(
        {
            "font.size": 10.5,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titleweight": "bold",
            "axes.titlesize": 11.5,
            "axes.titlelocation": "left",
            "axes.grid": True,
            "grid.color": "#e6eaee",
            "grid.linewidth": 0.7,
            "axes.axisbelow": True,
            "legend.frameon": False,
        }
    ):
        return pyplot.subplots(
            rows, columns, figsize=(width, height), squeeze=False, layout="constrained"
        )


def plain_log_axis(axis: Any, which: str = "y") -> None:
    """Few plain numbers on a short logarithmic axis."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

    line = axis.yaxis if which == "y" else axis.xaxis
    line.set_major_locator(MaxNLocator(6))
    line.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    line.set_minor_locator(NullLocator())
    line.set_minor_formatter(NullFormatter())


def few_log_ticks(line: Any, values: Array) -> None:
    """At most five round numbers, written as people do (20k, 3M), so that none overlap."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = float(np.min(values)), float(np.max(values))
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    chosen: list[float] = []
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        chosen = [step * 10.0**power for power in powers for step in steps]
        chosen = [value for value in chosen if low / 1.05 <= value <= high * 1.05]
        if len(chosen) <= 5:
            break
    while len(chosen) > 5:
        chosen = chosen[::2]
    line.set_major_locator(FixedLocator(chosen))
    line.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    line.set_minor_locator(NullLocator())


def short_number(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def set_title(axis: Any, text: str) -> None:
    axis.set_title(text, loc="left", weight="bold", size=11)


def limits_from_data(axis: Any, values: Array, which: str = "x") -> None:
    """The axis begins and ends with the data, but for a twentieth of its length."""
    low, high = np.log(np.min(values)), np.log(np.max(values))
    pad = 0.05 * (high - low) + 1e-6
    ends = (float(np.exp(low - pad)), float(np.exp(high + pad)))
    axis.set_xlim(*ends) if which == "x" else axis.set_ylim(*ends)


def colour_bar_of_sizes(figure: Any, dots: Any, axis: Any, sizes: Array) -> None:
    bar = figure.colorbar(dots, ax=axis, label="parameters N", pad=0.02)
    few_log_ticks(bar.ax.yaxis, sizes)


def label_of(fit: Fit) -> str:
    return f"{fit.law.label}: {fit.law.runs} runs, {fit.runs} losses".replace("$", r"\$")
