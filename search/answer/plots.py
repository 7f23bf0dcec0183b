"""The front of an answer as a picture: loss against decode speed, with its uncertainty."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shapelaw.scaling.atomic_files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shapelaw.search.answer.answer import Answer


def write_front(answer: "Answer", path: Path | str) -> None:
    """Draw `front_figure` to `path`; the format follows from the name: PNG, SVG or PDF.

    Raises:
        BadInput, NoAnswer: the file cannot be written.
    """
    with replacing(path) as temporary:
        front_figure(answer).savefig(temporary, dpi=160)


def front_figure(answer: "Answer") -> "Figure":
    """The front, the pick, what stands beside it, and the budget of speed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    front = sorted(answer.front, key=lambda candidate: candidate.decode_tokens_per_s)
    speed = np.array([candidate.decode_tokens_per_s for candidate in front])
    loss = np.array([candidate.loss for candidate in front])
    band = np.array([candidate.loss_interval for candidate in front])

    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.fill_between(
        speed,
        band[:, 0],
        band[:, 1],
        color="#4c78a8",
        alpha=0.18,
        linewidth=0,
        label="90 % for one run",
    )
    axes.plot(speed, loss, color="#4c78a8", linewidth=1.6, label=f"front ({len(front)} shapes)")
    best = answer.best
    axes.plot(
        best.decode_tokens_per_s,
        best.loss,
        marker="*",
        markersize=15,
        color="#e45756",
        linestyle="none",
        label="the pick",
    )
    for beside, marker in zip((*answer.near_ties, *answer.baselines), "o^sDv<>", strict=False):
        axes.plot(
            beside.candidate.decode_tokens_per_s,
            beside.candidate.loss,
            marker=marker,
            color="#f58518" if beside.feasible else "#9d9d9d",
            linestyle="none",
            label=beside.why + ("" if beside.feasible else " (does not fit)"),
        )
    floor = answer.problem.budget.decode_tokens_per_s
    if floor is not None:
        axes.axvline(
            float(floor),
            color="#54595f",
            linestyle=":",
            linewidth=1.2,
            label=f"speed asked for: {float(floor):g} tok/s",
        )
    axes.set_xscale("log")
    axes.set_xlabel("decode speed, tokens/s")
    axes.set_ylabel("loss, nats/token")
    # Names from files are shown as they are, never as mathematics.
    axes.set_title(
        f"{answer.device.title}, law {answer.law.label}".replace("$", r"\$"),
        loc="left",
        fontsize=10,
    )
    axes.grid(True, alpha=0.25)
    axes.legend(fontsize=8, frameon=False)
    return figure
