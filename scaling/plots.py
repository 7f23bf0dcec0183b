"""Pictures of a fit, each written as PNG and SVG. Matplotlib is imported only when one is drawn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.scaling.atomic_files import replacing
from shapelaw.scaling.bound_form import Array, predict_log_loss
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fit import Fit
from shapelaw.scaling.holdout.scores import scores
from shapelaw.scaling.law import Law, to_inner

INK, BLUE, RUST, PALE = "#22303c", "#2f6fb3", "#c8553d", "#b9cde4"
_COLOURS = "viridis"
_LEVEL = 0.9
_MOST_BARS = 400  # runs beyond which intervals would hide each other
_SLICES = 7

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
        _close(figure)
    return drawn


def _close(figure: Any) -> None:
    from matplotlib import pyplot

    pyplot.close(figure)


def _figure(columns: int = 1, rows: int = 1, width: float = 6.4, height: float = 4.6) -> Any:
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


def _plain_log_axis(axis: Any, which: str = "y") -> None:
    """Few plain numbers on a short logarithmic axis."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

    line = axis.yaxis if which == "y" else axis.xaxis
    line.set_major_locator(MaxNLocator(6))
    line.set_major_formatter(StrMethodFormatter("{x:.3g}"))
    line.set_minor_locator(NullLocator())
    line.set_minor_formatter(NullFormatter())


def _few_log_ticks(line: Any, values: Array) -> None:
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
    line.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    line.set_minor_locator(NullLocator())


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"


def _title(axis: Any, text: str) -> None:
    axis.set_title(text, loc="left", weight="bold", size=11)


def _from_data(axis: Any, values: Array, which: str = "x") -> None:
    """The axis begins and ends with the data, but for a twentieth of its length."""
    low, high = np.log(np.min(values)), np.log(np.max(values))
    pad = 0.05 * (high - low) + 1e-6
    ends = (float(np.exp(low - pad)), float(np.exp(high + pad)))
    axis.set_xlim(*ends) if which == "x" else axis.set_ylim(*ends)


def _colour_of_size(figure: Any, dots: Any, axis: Any, sizes: Array) -> None:
    bar = figure.colorbar(dots, ax=axis, label="parameters N", pad=0.02)
    _few_log_ticks(bar.ax.yaxis, sizes)


def _label(fit: Fit) -> str:
    return f"{fit.law.label}: {fit.law.runs} runs, {fit.runs} losses".replace("$", r"\$")


# --- pictures -------------------------------------------------------------------------------------


def parity(fit: Fit) -> Any:
    """Observed against predicted loss, with the 90 % interval a new run would fall in."""
    features = table_features(fit.table)
    predicted = np.exp(np.log(fit.table.loss) - fit.residuals)
    low, high = fit.law.interval_of(features, _LEVEL)
    figure, axes = _figure(width=5.6, height=5.2)
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
        cmap=_COLOURS,
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
        _from_data(axis, np.array(ends), which)
        _plain_log_axis(axis, which)
    axis.set_aspect("equal", adjustable="box")
    inside = float(np.mean((fit.table.loss >= low) & (fit.table.loss <= high)))
    found = scores(np.log(predicted), np.log(fit.table.loss))
    _title(
        axis,
        f"Runs are met to {found['mean_abs_log']:.2%}, {inside:.0%} inside the interval\n"
        f"({_label(fit)})",
    )
    axis.legend(loc="upper left")
    _colour_of_size(figure, dots, axis, fit.table.n)
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
    figure, axes = _figure(columns, rows, 3.6 * columns, 2.9 * rows)
    percent = 100 * fit.residuals
    reach = 1.15 * float(np.quantile(np.abs(percent), 0.995)) or 1.0
    for position, (name, column) in enumerate(features.items()):
        axis = axes[position // columns, position % columns]
        x = np.exp(column)
        axis.axhline(0, color=INK, linewidth=0.9)
        axis.scatter(x, np.clip(percent, -reach, reach), s=9, color=BLUE, alpha=0.45, linewidths=0)
        axis.plot(*_running_median(column, percent), color=RUST, linewidth=2)
        axis.set(xscale="log", xlabel=LABELS[name], ylim=(-reach, reach))
        _few_log_ticks(axis.xaxis, x)
        _from_data(axis, x)
        if position % columns == 0:
            axis.set_ylabel("observed over predicted, %")
    for spare in range(len(features), rows * columns):
        axes[spare // columns, spare % columns].set_visible(False)
    figure.suptitle(
        f"No column should bend the line: what {_label(fit)} leave unexplained\n"
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
    """Predicted loss and its 90 % band from the bootstrap draws (without a run's own noise)."""
    form = fit.law.declaration
    middle = np.exp(predict_log_loss(form, fit.law.inner(), features))
    if not len(fit.law.draws):
        return middle, middle, middle
    draws = np.stack(
        [predict_log_loss(form, theta, features) for theta in to_inner(form, fit.law.draws[:200])]
    )
    low, high = np.exp(np.quantile(draws, [0.05, 0.95], axis=0))
    return middle, low, high


def isoflop(fit: Fit) -> Any:
    """Loss against N at fixed compute, with the law through the slices and its optimum."""
    features = table_features(fit.table)
    log_c = features["ln_n"] + features["ln_d"]
    if np.ptp(log_c) < 0.5 or np.ptp(features["ln_n"]) < 0.5:
        return None
    figure, axes = _figure(width=6.6)
    axis = axes[0, 0]
    levels = np.linspace(np.quantile(log_c, 0.05), np.quantile(log_c, 0.95), _SLICES)
    half = 0.5 * (levels[1] - levels[0])
    from matplotlib import colormaps

    best = []
    for number, level in enumerate(levels):
        colour = colormaps[_COLOURS](number / _SLICES)
        near = np.abs(log_c - level) <= half
        # Each run is moved along the law to the slice's compute, so that dots and curve compare.
        moved = {name: column[near].copy() for name, column in features.items()}
        there = _predict(fit, moved)
        moved["ln_d"] = level - moved["ln_n"]
        shifted = fit.table.loss[near] * np.exp(_predict(fit, moved) - there)
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
    _title(axis, f"At equal compute a larger model is better up to a point\n({_label(fit)})")
    _plain_log_axis(axis)
    _few_log_ticks(axis.xaxis, fit.table.n)
    axis.legend(title="C = 6·N·D, FLOPs", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _predict(fit: Fit, features: dict[str, Array]) -> Array:
    return predict_log_loss(fit.law.declaration, fit.law.inner(), features)


def loss_against_compute(fit: Fit) -> Any:
    """Every run against its compute, and the least loss the law allows at each compute."""
    features = table_features(fit.table)
    log_c = features["ln_n"] + features["ln_d"]
    figure, axes = _figure(width=6.6)
    axis = axes[0, 0]
    dots = axis.scatter(
        6 * np.exp(log_c),
        fit.table.loss,
        c=fit.table.n,
        s=15,
        cmap=_COLOURS,
        norm="log",
        linewidths=0,
    )
    levels = np.linspace(log_c.min(), log_c.max() + 1.0, 40)
    least = []
    for level in levels:
        grid = np.linspace(0.5 * level - 5, 0.5 * level + 5, 121)
        curve = _predict(fit, _grown(features, grid, level - grid))
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
    _title(axis, f"How far each run lies above the least loss of its compute\n({_label(fit)})")
    _plain_log_axis(axis)
    _from_data(axis, 6 * np.exp(levels))
    axis.legend(loc="upper right")
    _colour_of_size(figure, dots, axis, fit.table.n)
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
    figure, axes = _figure(columns, rows, 5.2 * columns, 3.9 * rows)
    sizes = np.unique(np.quantile(features["ln_n"], [0.05, 0.5, 0.95]).round(6))
    from matplotlib import colormaps

    for position, name in enumerate(axes_here):
        axis = axes[position // columns, position % columns]
        column = features[name]
        grid = np.linspace(column.min() - 0.05, column.max() + 0.05, 120)
        for number, log_n in enumerate(sizes):
            colour = colormaps[_COLOURS](0.1 + 0.75 * number / max(len(sizes) - 1, 1))
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
                label=f"N = {_short(float(np.exp(log_n)))}",
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
        _few_log_ticks(axis.xaxis, np.exp(column))
        if position % columns == 0:
            axis.set_ylabel("loss above the best, %")
        if not position:
            axis.legend(title="at fixed N and D")
    for spare in range(len(axes_here), rows * columns):
        axes[spare // columns, spare % columns].set_visible(False)
    figure.suptitle(
        f"What shape does to the loss ({_label(fit)}; band: 90 %; ticks: what was run)",
        x=0.01,
        ha="left",
        weight="bold",
        size=11.5,
    )
    return figure


def correlations(fit: Fit) -> Any:
    """How bootstrap draws of the parameters move together."""
    if len(fit.law.draws) < 10:
        return None
    form = fit.law.declaration
    inner = to_inner(form, fit.law.draws)
    moving = np.flatnonzero(inner.std(axis=0) > 1e-12)
    names = [("ln " if form.parameters[k].log else "") + form.names[k] for k in moving]
    matrix = np.corrcoef(inner[:, moving].T)
    size = 0.55 * len(names) + 1.8
    figure, axes = _figure(width=size + 0.9, height=size)
    axis = axes[0, 0]
    picture = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    for row in range(len(names)):
        for column in range(len(names)):
            value = matrix[row, column]
            axis.text(
                column,
                row,
                f"{value:.2f}".replace("0.", "."),
                ha="center",
                va="center",
                size=7.5,
                color="white" if abs(value) > 0.6 else INK,
            )
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    apart = np.abs(matrix - np.eye(len(names)))
    first, second = np.unravel_index(int(np.argmax(apart)), apart.shape)
    _title(
        axis,
        f"{names[second]} and {names[first]} are told apart least "
        f"({matrix[first, second]:+.2f}, bootstrap draws)",
    )
    figure.colorbar(picture, ax=axis, shrink=0.8, pad=0.03)
    return figure


def parameter_intervals(law: Law) -> Any:
    """Each parameter's draws relative to its estimate: 90 % as a line, the middle half thicker."""
    figure, panels = _figure(height=0.4 * len(law.parameters) + 1.2)
    (axes,) = np.ravel(panels)
    names = list(law.parameters)
    for place, value in enumerate(law.parameters.values()):
        axes.plot(1.0, place, "o", color="#2b6777")
        if len(law.draws) and value:
            low, first, third, high = np.quantile(
                law.draws[:, place] / value, [0.05, 0.25, 0.75, 0.95]
            )
            axes.plot([low, high], [place, place], color="#2b6777", linewidth=1)
            axes.plot([first, third], [place, place], color="#2b6777", linewidth=3)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("draw / estimate")
    _title(axes, f"{law.label}: parameters and their 90 % intervals".replace("$", r"\$"))
    return figure
