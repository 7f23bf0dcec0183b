"""The study's figures."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.study.effects import Effect
from benchmarks.study.laws import HeldOut
from benchmarks.study.loop import PanelShape
from benchmarks.study.measure import SharingTiming
from shapelaw.scaling.run_table import RunTable

INK, BLUE, RED, GREY = "#1b2733", "#2066a8", "#c0392b", "#8a97a3"


def _axes(width: float = 7.0, height: float = 4.4, columns: int = 1) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": GREY,
            "axes.labelcolor": INK,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "axes.grid": True,
            "grid.color": "#e8ecef",
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.titlesize": 10.5,
            "svg.hashsalt": "shapelaw",
        }
    )
    return pyplot.subplots(1, columns, figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    # No date inside: the same records give the same bytes.
    figure.savefig(path, dpi=130, metadata={"Software": None})
    from matplotlib import pyplot

    pyplot.close(figure)


def _plain_log(line: Any) -> None:
    """Few plain numbers on a short logarithmic axis."""
    from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

    line.set_major_locator(MaxNLocator(7))
    line.set_major_formatter(StrMethodFormatter("{x:.2f}"))
    line.set_minor_locator(NullLocator())


def _same_axes(axes: Any, values: Any) -> None:
    """Both axes alike, from the least value to the greatest, with the line on which they agree."""
    low, high = float(np.min(values)), float(np.max(values))
    ends = [low - 0.04 * (high - low), high + 0.04 * (high - low)]
    axes.plot(ends, ends, color=INK, lw=1, zorder=1)
    axes.set(xlim=ends, ylim=ends)
    axes.set_aspect("equal", adjustable="box")


def runs_figure(table: RunTable, held_out: RunTable, path: Path) -> None:
    """Loss against training compute, every run; the held-out size marked."""
    figure, axes = _axes()
    for one, colour, label in ((table, BLUE, "fitted"), (held_out, RED, "held out")):
        compute = 6 * one.shape["n_applied"] * one.d
        axes.scatter(compute, one.loss, s=14, color=colour, alpha=0.65, label=label, lw=0)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="6 · applied parameters · tokens (FLOPs)",
        ylabel="loss (nats per byte)",
        title="Every run, and the size that no law saw",
    )
    _plain_log(axes.yaxis)
    axes.legend(frameon=False)
    _save(figure, path)


def effects_figure(effects: list[Effect], noise: float, path: Path) -> None:
    """Every axis value against its base, in per cent of loss."""
    figure, axes = _axes(7.0, 0.28 * len(effects) + 1.2)
    for row, effect in enumerate(reversed(effects)):
        colour = BLUE if effect.mean < 0 else INK
        low, high = effect.interval
        if np.isfinite(low):
            axes.plot([100 * low, 100 * high], [row, row], color=colour, lw=2)
        axes.scatter(100 * effect.mean, row, color=colour, s=30, zorder=3)
        for value in effect.per_size.values():
            axes.scatter(100 * value, row, color=GREY, s=10, zorder=2)
    axes.axvspan(-100 * noise, 100 * noise, color="#f0f2f4", zorder=0)
    axes.axvline(0, color=GREY, lw=1)
    axes.set_yticks(range(len(effects)), [effect.axis for effect in reversed(effects)])
    axes.set_ylim(-0.8, len(effects) - 0.2)
    axes.set_title("What each change of shape does to the loss")
    axes.set_xlabel(
        "loss against the base shape\nof the same size, budget and seed (%)\n"
        "dot: mean; bar: 90 %; grey: each size;\nband: noise of one seed"
    )
    _save(figure, path)


def held_out_figure(best: HeldOut, held_out: RunTable, path: Path) -> None:
    """Predicted against observed at the size the law never saw."""
    figure, axes = _axes(5.2, 4.6)
    rows = best.fit.law.predict_table(held_out)["rows"]
    predicted = np.array([row["loss"] for row in rows])
    low, high = np.array([row["interval"] for row in rows]).T
    axes.vlines(held_out.loss, low, high, color=GREY, lw=1, alpha=0.7)
    axes.scatter(held_out.loss, predicted, color=BLUE, s=18, zorder=3)
    _same_axes(axes, [held_out.loss, low, high])
    error = float(np.mean(np.abs(np.log(predicted / held_out.loss))))
    axes.set(
        xlabel="trained loss (nats per byte)",
        ylabel=f"predicted by {best.form}, 90 %",
        title=f"The size that no law saw is met to {error:.2%}",
    )
    _save(figure, path)


def panel_figure(panel: list[PanelShape], path: Path) -> None:
    """Predicted against measured decode speed, and what each shape of the panel reached."""
    figure, (speed, loss) = _axes(10.0, 4.2, columns=2)
    measured = [shape.measured_tokens_per_s for shape in panel]
    speed.scatter(measured, [shape.predicted_tokens_per_s for shape in panel], color=BLUE)
    predicted = [shape.predicted_tokens_per_s for shape in panel]
    _same_axes(speed, [measured, predicted])
    error = float(np.mean(np.abs(np.array(predicted) / np.array(measured) - 1)))
    speed.set(
        xlabel="measured decode (tokens/s)",
        ylabel="predicted decode (tokens/s)",
        title=f"Speed is met to {error:.1%}",
    )
    for axis in (speed.xaxis, speed.yaxis, loss.xaxis):
        axis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    tokens = max(panel[0].losses)
    loss.scatter(measured, [shape.losses[tokens] for shape in panel], color=BLUE)
    reached = [shape.losses[tokens] for shape in panel]
    across, up = max(measured) - min(measured), max(reached) - min(reached)
    placed: list[tuple[float, float]] = []
    for shape in sorted(panel, key=lambda each: each.losses[tokens]):
        a, x, y = shape.architecture, shape.measured_tokens_per_s, shape.losses[tokens]
        # A name goes up until it lies on no other.
        level = y
        while any(
            abs(x - other) < 0.13 * across and abs(level - taken) < 0.045 * up
            for other, taken in placed
        ):
            level += 0.045 * up
        placed.append((x, level))
        loss.annotate(
            f"{a.d_model}×{a.n_blocks}" + (f"×{a.sharing}" if a.sharing > 1 else ""),
            (x, y),
            (x + 0.015 * across, level),
            fontsize=8,
            va="center",
        )
    loss.set(
        xlabel="measured decode (tokens/s)",
        ylabel=f"loss after {tokens:,} tokens",
        title="Faster shapes, and what they lose",
        xlim=(min(measured) - 0.05 * across, max(measured) + 0.16 * across),
        ylim=(min(reached) - 0.06 * up, max(reached) + 0.1 * up),
    )
    _save(figure, path)


def sharing_figure(
    timings: list[SharingTiming], losses: list[tuple[str, Effect]], path: Path
) -> None:
    """Recompute or move: seconds a token at equal depth, shared against distinct blocks; what
    sharing does to the loss."""
    figure, (axes, loss) = _axes(11.0, 4.2, columns=2)
    names = list(dict.fromkeys(timing.family for timing in timings))
    kinds = list(dict.fromkeys(timing.kind for timing in timings))
    width = 0.8 / len(kinds)
    for k, kind in enumerate(kinds):
        chosen = {timing.family: timing for timing in timings if timing.kind == kind}
        places = np.arange(len(names)) + (k - (len(kinds) - 1) / 2) * width
        axes.bar(
            places,
            [1e3 * chosen[name].measured_s for name in names],
            width * 0.92,
            color=(GREY, BLUE, RED)[k % 3],
            label=kind,
        )
        axes.scatter(
            places,
            [1e3 * chosen[name].predicted_s for name in names],
            color=INK,
            marker="_",
            s=160,
            zorder=3,
            label="predicted" if k == 0 else None,
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("milliseconds a token (bars: measured)")
    axes.set_title("A token takes: the same blocks again, or others")
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False)
    for row, (_, effect) in enumerate(reversed(losses)):
        colour = BLUE if effect.mean < 0 else INK
        loss.plot([100 * bound for bound in effect.interval], [row, row], color=colour, lw=2)
        loss.scatter(100 * effect.mean, row, color=colour, s=30, zorder=3)
    loss.axvline(0, color=GREY, lw=1)
    loss.set_yticks(
        range(len(losses)),
        [words.replace(", against ", ",\nagainst ") for words, _ in reversed(losses)],
    )
    loss.set_xlabel("loss (%), mean and 90 % over trunks")
    loss.set_title("and what sharing does to the loss")
    _save(figure, path)
