"""The front of an answer as a picture: loss against decode speed, with its uncertainty."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.scaling.atomic_files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shapelaw.search.answer.answer import Answer, Candidate

BLUE = "#4c78a8"
MOST_LOSS = 1.25
"""Times the pick's loss, up to which the front is shown."""

MOST_BARS = 12
"""Points of the front whose intervals are shown: more would hide one another."""


def write_front(answer: "Answer", path: Path | str) -> None:
    """Draw `front_figure` to `path`; the format follows from the name: PNG, SVG or PDF.

    Raises:
        BadInput, NoAnswer: the file cannot be written.
    """
    with replacing(path) as temporary:
        front_figure(answer).savefig(temporary, dpi=160)


def front_figure(answer: "Answer") -> "Figure":
    """The front against the pick, with intervals both ways, and what stands beside it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    best = answer.best
    front = sorted(answer.front, key=lambda candidate: candidate.decode_tokens_per_s)
    # The fast end of a front is models nobody would ship.
    front = [each for each in front if each.loss <= MOST_LOSS * best.loss] or [best]
    speed = np.array([candidate.decode_tokens_per_s for candidate in front])
    loss = np.array([candidate.loss - best.loss for candidate in front])

    figure = Figure(figsize=(8.2, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axhline(0, color="#9aa3ad", linewidth=0.9)
    axes.plot(speed, loss, color=BLUE, linewidth=1.6, label=f"front ({len(answer.front)} shapes)")
    shown = np.unique(np.linspace(0, len(front) - 1, MOST_BARS).astype(int))
    spans = np.array([front[k].intervals.get("decode_tokens_per_s", (np.nan,) * 2) for k in shown])
    reach = np.abs(np.nan_to_num(spans.T - speed[shown], nan=0.0))
    gaps = _loss_spans(answer, [front[k] for k in shown])
    axes.errorbar(
        speed[shown],
        loss[shown],
        xerr=reach,
        yerr=gaps,
        fmt="none",
        ecolor=BLUE,
        elinewidth=0.8,
        alpha=0.55,
        label="90 % of the draws",
    )
    axes.plot(
        best.decode_tokens_per_s,
        0.0,
        marker="*",
        markersize=15,
        color="#e45756",
        linestyle="none",
        label="the pick",
    )
    window = [speed.min(), speed.max()]
    for beside, marker in zip((*answer.near_ties, *answer.baselines), "o^sDv<>PX", strict=False):
        candidate = beside.candidate
        window.append(candidate.decode_tokens_per_s)
        axes.plot(
            candidate.decode_tokens_per_s,
            beside.loss_difference,
            marker=marker,
            color="#f58518" if beside.feasible else "#9d9d9d",
            linestyle="none",
            label=(beside.why + ("" if beside.feasible else " (does not fit)")).replace("$", r"\$"),
        )
    floor = answer.problem.budget.decode_tokens_per_s
    if floor is not None:
        window.append(float(floor))
        axes.axvline(
            float(floor),
            color="#54595f",
            linestyle=":",
            linewidth=1.2,
            label=f"speed asked for: {float(floor):g} tok/s",
        )
    axes.set_xscale("log")
    # Bars of the fastest shapes reach far up: the front sets the scale.
    low = min(0.0, *(each.loss_difference for each in (*answer.near_ties, *answer.baselines)), 0.0)
    axes.set_ylim(low - 0.08 * (loss.max() - low + 0.01), 1.35 * loss.max() + 0.02)
    axes.set_xlim(min(window) / 1.12, max(window) * 1.12)
    _plain_ticks(axes.xaxis, min(window), max(window))
    axes.set_xlabel("decode speed, tokens/s")
    axes.set_ylabel("loss against the pick, nats/token")
    # Names from files are shown as they are, never as mathematics.
    axes.set_title(
        f"What speed costs in loss: {answer.device.title}, law {answer.law.label}".replace(
            "$", r"\$"
        ),
        loc="left",
        fontsize=10.5,
        fontweight="bold",
    )
    axes.grid(True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _loss_spans(answer: "Answer", shown: "list[Candidate]") -> np.ndarray:
    """[2, n]: how far the 90 % interval of each difference to the pick reaches below and above."""
    from shapelaw.scaling.architecture import ArchitectureBatch
    from shapelaw.search.pareto.loss_differences import loss_differences
    from shapelaw.search.pareto.problem import Points

    every = [answer.best, *shown]
    batch = ArchitectureBatch.of([each.architecture for each in every])
    points = Points(batch, np.zeros(len(every)), {}, np.arange(len(every)))
    tokens = np.array([each.training_tokens for each in every])
    gaps = loss_differences(answer.law, points, tokens)
    ends = np.array([gap.interval for gap in gaps]).T
    middle = np.array([gap.middle for gap in gaps])
    return np.abs(ends - middle)


def _plain_ticks(line: Any, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    values = [step * 10.0**power for power in powers for step in (1, 2, 5)]
    line.set_major_locator(FixedLocator([value for value in values if low <= value <= high]))
    line.set_major_formatter(StrMethodFormatter("{x:,g}"))
    line.set_minor_locator(NullLocator())
