"""Figures of the evidence's page: best depth against size, parameters by study, few-shot curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

INK, BLUE, RED, GREY = "#1b2733", "#2066a8", "#c0392b", "#8a97a3"
Ends = Sequence[float]


def _plots(columns: int, height: float, rows: int = 1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.color": INK}
    )
    return pyplot.subplots(rows, columns, figsize=(9, height), layout="constrained", squeeze=False)


def _save(figure: Any, path: Path) -> None:
    # No date inside: the same draws give the same bytes.
    figure.savefig(path, dpi=110, metadata={"Software": None})
    from matplotlib import pyplot

    pyplot.close(figure)


def depth_figure(
    sizes: np.ndarray, depth: np.ndarray, models: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Best depth [3, sizes] (5, 50 and 95 %) against non-embedding N; models: (N, layers)."""
    figure, axes = _plots(1, 4.6)
    axis = axes[0, 0]
    axis.fill_between(sizes, depth[0], depth[2], color=BLUE, alpha=0.18, lw=0, label="90 %")
    axis.plot(sizes, depth[1], color=BLUE, label="median")
    taken: list[tuple[float, float]] = []
    for name, (n, layers) in models.items():
        axis.plot(n, layers, "o", color=RED, ms=4)
        near = [1 for m, d in taken if abs(np.log(n / m)) < 0.8 and abs(np.log(layers / d)) < 0.15]
        taken.append((n, layers))
        axis.annotate(
            name, (n, layers), (4, -3 - 9 * len(near)), textcoords="offset points", fontsize=7
        )
    axis.set(xscale="log", yscale="log", xlabel="non-embedding parameters", ylabel="layers")
    axis.legend(frameon=False)
    _save(figure, path)


def forest_figure(parameters: Mapping[str, Mapping[str, Ends]], path: Path) -> None:
    """Median and 90 % of each study, by parameter."""
    columns = 3
    rows = -(-len(parameters) // columns)
    figure, axes = _plots(columns, 2.1 * rows, rows)
    for axis, (parameter, studies) in zip(axes.ravel(), parameters.items(), strict=False):
        for place, (name, (low, middle, high)) in enumerate(list(studies.items())[::-1]):
            colour = BLUE if name == "a new study" else INK
            axis.plot([low, high], [place, place], color=colour, lw=2)
            axis.plot(middle, place, "o", color=colour, ms=4)
        axis.set_yticks(range(len(studies)), list(studies)[::-1], fontsize=7)
        axis.set_title(parameter, fontsize=9)
        axis.locator_params(axis="x", nbins=4)
    for axis in axes.ravel()[len(parameters) :]:
        axis.axis("off")
    _save(figure, path)


def few_shot_figure(few: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Error against number of runs, by table: the evidence and the better plain form."""
    counts = [int(count) for count in few]
    tables = list(few[str(counts[0])]["tables"])
    columns = 4
    rows = -(-len(tables) // columns)
    figure, axes = _plots(columns, 1.9 * rows, rows)
    for axis, name in zip(axes.ravel(), tables, strict=False):
        found = [few[str(count)]["tables"][name] for count in counts]
        axis.plot(counts, [100 * one["error"] for one in found], "o-", color=BLUE, ms=3)
        best = [100 * min(one["chinchilla"], one["shape"]) for one in found]
        axis.plot(counts, best, "s--", color=RED, ms=3)
        axis.set_title(name, fontsize=9)
        axis.set(xticks=counts, ylim=(0, None))
    for axis in axes.ravel()[len(tables) :]:
        axis.axis("off")
    figure.supxlabel("runs")
    figure.supylabel("mean |Δ ln L| of the dearest fifth, %")
    _save(figure, path)
