"""The runs beside what the law says of them."""

from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fit import Fit
from shapelaw.scaling.holdout.scores import scores
from shapelaw.scaling.plots.style import (
    BLUE,
    COLOURS,
    INK,
    LABELS,
    PALE,
    RUST,
    colour_bar_of_sizes,
    few_log_ticks,
    label_of,
    limits_from_data,
    new_figure,
    plain_log_axis,
    set_title,
)

_LEVEL = 0.9
_MOST_BARS = 400  # runs beyond which intervals would hide each other


def parity(fit: Fit) -> Any:
    """Observed against predicted loss, with the 90 % interval a new run would fall in."""
    features = table_features(fit.table)
    predicted = np.exp(np.log(fit.table.loss) - fit.residuals)
    low, high = fit.law.interval_of(features, _LEVEL)
    figure, axes = new_figure(width=5.6, height=5.2)
    axis = axes[0, 0]
    rows = np.arange(len(predicted))
    if len(rows) > _MOST_BARS:
        rows = np.random.default_rng(0).choice(rows, _MOST_BARS, replace=False)
    axis.vlines(
        predicted[rows],
        low[rows],
        high[rows],
        color=PALE,
        linewidth=1.6,
        zorder=1,
        label=f"{_LEVEL:.0%} interval",
    )
    dots = axis.scatter(
        predicted,
        fit.table.loss,
        c=fit.table.n,
        s=16,
        cmap=COLOURS,
        norm="log",
        zorder=3,
        linewidths=0,
    )
    ends = [min(predicted.min(), fit.table.loss.min()), max(predicted.max(), fit.table.loss.max())]
    axis.plot(ends, ends, color=INK, linewidth=0.9, zorder=2)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="predicted loss, nats per token",
        ylabel="observed loss, nats per token",
    )
    for which in ("x", "y"):
        limits_from_data(axis, np.array(ends), which)
        plain_log_axis(axis, which)
    axis.set_aspect("equal", adjustable="box")
    inside = float(np.mean((fit.table.loss >= low) & (fit.table.loss <= high)))
    found = scores(np.log(predicted), np.log(fit.table.loss))
    set_title(
        axis,
        f"Runs are met to {found['mean_abs_log']:.2%}, {inside:.0%} inside the interval\n"
        f"({label_of(fit)})",
    )
    axis.legend(loc="upper left")
    colour_bar_of_sizes(figure, dots, axis, fit.table.n)
    return figure


def residuals(fit: Fit) -> Any:
    """Log residuals against every column that varies: a law that fits shows no pattern in any."""
    features = {
        name: column
        for name, column in table_features(fit.table).items()
        if name in LABELS and np.all(np.isfinite(column)) and np.ptp(column) > 1e-9
    }
    columns = min(3, len(features))
    if not columns:
        return None
    rows = -(-len(features) // columns)
    figure, axes = new_figure(columns, rows, 3.6 * columns, 2.9 * rows)
    percent = 100 * fit.residuals
    reach = 1.15 * float(np.quantile(np.abs(percent), 0.995)) or 1.0
    for position, (name, column) in enumerate(features.items()):
        axis = axes[position // columns, position % columns]
        x = np.exp(column)
        axis.axhline(0, color=INK, linewidth=0.9)
        axis.scatter(x, np.clip(percent, -reach, reach), s=9, color=BLUE, alpha=0.45, linewidths=0)
        axis.plot(*_running_median(column, percent), color=RUST, linewidth=2)
        axis.set(xscale="log", xlabel=LABELS[name], ylim=(-reach, reach))
        few_log_ticks(axis.xaxis, x)
        limits_from_data(axis, x)
        if position % columns == 0:
            axis.set_ylabel("observed over predicted, %")
    for spare in range(len(features), rows * columns):
        axes[spare // columns, spare % columns].set_visible(False)
    figure.suptitle(
        f"No column should bend the line: what {label_of(fit)} leave unexplained\n"
        "(line: running median)",
        x=0.01,
        ha="left",
        weight="bold",
        size=11.5,
    )
    return figure


def _running_median(column: Array, values: Array) -> tuple[Array, Array]:
    """Medians in up to nine bins of equal counts."""
    edges = np.unique(np.quantile(column, np.linspace(0, 1, 10)))
    if len(edges) < 3:
        edges = np.array([column.min() - 1e-9, column.mean(), column.max() + 1e-9])
    which = np.clip(np.searchsorted(edges, column, side="right") - 1, 0, len(edges) - 2)
    middles = [
        (np.exp(column[which == k].mean()), np.median(values[which == k]))
        for k in range(len(edges) - 1)
        if np.any(which == k)
    ]
    found = np.array(middles)
    return found[:, 0], found[:, 1]
