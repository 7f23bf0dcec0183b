"""What the law says of sizes, budgets and shapes between and beyond the runs."""

from typing import Any

import numpy as np

from shapelaw.scaling.bound_form import Array
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fit import Fit
from shapelaw.scaling.plots.style import (
    COLOURS,
    INK,
    LABELS,
    RUST,
    colour_bar_of_sizes,
    few_log_ticks,
    label_of,
    limits_from_data,
    new_figure,
    plain_log_axis,
    set_title,
    short_number,
)

_SLICES = 7
_DRAWS = 200


def isoflop(fit: Fit) -> Any:
    """Loss against N at fixed compute, with the law through the slices and its optimum."""
    features = table_features(fit.table)
    log_c = features["ln_n"] + features["ln_d"]
    if np.ptp(log_c) < 0.5 or np.ptp(features["ln_n"]) < 0.5:
        return None
    figure, axes = new_figure(width=6.6)
    axis = axes[0, 0]
    levels = np.linspace(np.quantile(log_c, 0.05), np.quantile(log_c, 0.95), _SLICES)
    half = 0.5 * (levels[1] - levels[0])
    from matplotlib import colormaps

    best = []
    for number, level in enumerate(levels):
        colour = colormaps[COLOURS](number / _SLICES)
        near = np.abs(log_c - level) <= half
        # Each run is moved along the law to the slice's compute, so that dots and curve compare.
        moved = {name: column[near].copy() for name, column in features.items()}
        there = fit.law.log_loss_of(moved)
        moved["ln_d"] = level - moved["ln_n"]
        shifted = fit.table.loss[near] * np.exp(fit.law.log_loss_of(moved) - there)
        axis.scatter(
            np.exp(features["ln_n"][near]), shifted, s=13, color=colour, alpha=0.75, linewidths=0
        )
        span = (features["ln_n"].min(), features["ln_n"].max())
        if near.sum() > 2:
            span = (features["ln_n"][near].min() - 0.4, features["ln_n"][near].max() + 0.4)
        grid = np.linspace(*span, 160)
        curve, low, high = _band(fit, _grown(features, grid, level - grid))
        axis.plot(
            np.exp(grid),
            curve,
            color=colour,
            linewidth=1.6,
            label=f"{6 * np.exp(level):.0e}".replace("e+", "e"),
        )
        axis.fill_between(np.exp(grid), low, high, color=colour, alpha=0.15, linewidth=0)
        at = int(np.argmin(curve))
        if 0 < at < len(grid) - 1:
            best.append((np.exp(grid[at]), curve[at]))
    if best:
        axis.plot(
            *np.array(best).T,
            color=RUST,
            marker="o",
            markersize=5,
            linewidth=1.2,
            linestyle="--",
            label="optimum",
        )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="parameters N",
        ylabel="loss, nats per token",
    )
    set_title(axis, f"At equal compute a larger model is better up to a point\n({label_of(fit)})")
    plain_log_axis(axis)
    few_log_ticks(axis.xaxis, fit.table.n)
    axis.legend(title="C = 6·N·D, FLOPs", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def loss_against_compute(fit: Fit) -> Any:
    """Every run against its compute, and the least loss the law allows at each compute."""
    features = table_features(fit.table)
    log_c = features["ln_n"] + features["ln_d"]
    figure, axes = new_figure(width=6.6)
    axis = axes[0, 0]
    dots = axis.scatter(
        6 * np.exp(log_c),
        fit.table.loss,
        c=fit.table.n,
        s=15,
        cmap=COLOURS,
        norm="log",
        linewidths=0,
    )
    levels = np.linspace(log_c.min(), log_c.max() + 1.0, 40)
    least = []
    for level in levels:
        grid = np.linspace(0.5 * level - 5, 0.5 * level + 5, 121)
        curve = fit.law.log_loss_of(_grown(features, grid, level - grid))
        at = int(np.argmin(curve))
        least.append((grid[at], level - grid[at]))
    frontier = np.array(least)
    middle, low, high = _band(fit, _grown(features, frontier[:, 0], frontier[:, 1]))
    axis.plot(
        6 * np.exp(levels), middle, color=RUST, linewidth=2, label="least loss at each compute"
    )
    axis.fill_between(
        6 * np.exp(levels),
        low,
        high,
        color=RUST,
        alpha=0.18,
        linewidth=0,
        label="90 % of bootstrap draws",
    )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="training compute C = 6·N·D, FLOPs",
        ylabel="loss, nats per token",
    )
    set_title(axis, f"How far each run lies above the least loss of its compute\n({label_of(fit)})")
    plain_log_axis(axis)
    limits_from_data(axis, 6 * np.exp(levels))
    axis.legend(loc="upper right")
    colour_bar_of_sizes(figure, dots, axis, fit.table.n)
    return figure


def loss_against_shape(fit: Fit) -> Any:
    """Loss along each shape axis at fixed N and D, relative to its best, with the draws' band."""
    features = table_features(fit.table)
    read = set(fit.law.declaration.features)
    axes_here: list[str] = []
    if {"ln_width", "ln_depth"} <= read or "ln_aspect" in read:
        axes_here.append("ln_aspect")
    axes_here += [name for name in ("ln_x", "ln_r", "ln_g") if name in read]
    if "ln_s" in read or "ln_n_looped" in read:
        axes_here.append("ln_s")
    if not axes_here:
        return None
    columns = min(2, len(axes_here))
    rows = -(-len(axes_here) // columns)
    figure, axes = new_figure(columns, rows, 5.2 * columns, 3.9 * rows)
    sizes = np.unique(np.quantile(features["ln_n"], [0.05, 0.5, 0.95]).round(6))
    from matplotlib import colormaps

    for position, name in enumerate(axes_here):
        axis = axes[position // columns, position % columns]
        column = features[name]
        grid = np.linspace(column.min() - 0.05, column.max() + 0.05, 120)
        for number, log_n in enumerate(sizes):
            colour = colormaps[COLOURS](0.1 + 0.75 * number / max(len(sizes) - 1, 1))
            log_d = log_n + float(np.median(features["ln_d"] - features["ln_n"]))
            moved = _grown(features, np.full(120, log_n), np.full(120, log_d))
            moved[name] = grid
            if name == "ln_aspect" and "ln_width" in moved:
                volume = 2 * moved["ln_width"] + moved["ln_depth"]
                moved["ln_width"], moved["ln_depth"] = (volume + grid) / 3, (volume - 2 * grid) / 3
            middle, low, high = _band(fit, moved)
            best = middle.min()
            axis.plot(
                np.exp(grid),
                100 * (middle / best - 1),
                color=colour,
                linewidth=1.8,
                label=f"N = {short_number(float(np.exp(log_n)))}",
            )
            axis.fill_between(
                np.exp(grid),
                100 * (low / best - 1),
                100 * (high / best - 1),
                color=colour,
                alpha=0.16,
                linewidth=0,
            )
        seen = np.unique(np.exp(column).round(9))
        axis.plot(
            seen,
            np.full(len(seen), 0.015),
            "|",
            color=INK,
            markersize=7,
            alpha=0.5,
            transform=axis.get_xaxis_transform(),
        )
        axis.set(xscale="log", xlabel=LABELS[name], xlim=(np.exp(grid[0]), np.exp(grid[-1])))
        few_log_ticks(axis.xaxis, np.exp(column))
        if position % columns == 0:
            axis.set_ylabel("loss above the best, %")
        if not position:
            axis.legend(title="at fixed N and D")
    for spare in range(len(axes_here), rows * columns):
        axes[spare // columns, spare % columns].set_visible(False)
    figure.suptitle(
        f"What shape does to the loss ({label_of(fit)}; band: 90 %; ticks: what was run)",
        x=0.01,
        ha="left",
        weight="bold",
        size=11.5,
    )
    return figure


def _grown(features: dict[str, Array], log_n: Array, log_d: Array) -> dict[str, Array]:
    """The runs' middle shape at other sizes: width and depth grow as N^⅓."""
    middle = {name: np.full(len(log_n), np.median(column)) for name, column in features.items()}
    shift = log_n - middle["ln_n"]
    for name, rate in {
        "ln_width": 1 / 3,
        "ln_depth": 1 / 3,
        "ln_x": -1 / 6,
        "ln_n_once": 1.0,
        "ln_n_recurrent": 1.0,
    }.items():
        if name in middle:
            middle[name] = middle[name] + rate * shift
    middle["ln_n"], middle["ln_d"] = log_n, log_d
    return middle


def _band(fit: Fit, features: dict[str, Array]) -> tuple[Array, Array, Array]:
    """Predicted loss and its 90 % band from the law's draws (without a run's own noise)."""
    middle = np.exp(fit.law.log_loss_of(features))
    draws = np.exp(fit.law.log_draws_of(features, _DRAWS))
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    return middle, low, high
