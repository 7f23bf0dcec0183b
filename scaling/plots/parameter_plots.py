"""The parameters of a law and how sure they are."""

from typing import Any

import numpy as np

from shapelaw.scaling.coordinates import to_inner
from shapelaw.scaling.fit import Fit
from shapelaw.scaling.law import Law
from shapelaw.scaling.plots.style import INK, new_figure, set_title


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
    figure, axes = new_figure(width=size + 0.9, height=size)
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
    set_title(
        axis,
        f"{names[second]} and {names[first]} are told apart least "
        f"({matrix[first, second]:+.2f}, bootstrap draws)",
    )
    figure.colorbar(picture, ax=axis, shrink=0.8, pad=0.03)
    return figure


def parameter_intervals(law: Law) -> Any:
    """Each parameter's draws relative to its estimate: 90 % as a line, the middle half thicker."""
    figure, panels = new_figure(height=0.4 * len(law.parameters) + 1.2)
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
    set_title(axes, f"{law.label}: parameters and their 90 % intervals".replace("$", r"\$"))
    return figure
