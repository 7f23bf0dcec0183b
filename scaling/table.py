"""A table of runs, as the laws see it: parameters, tokens, loss, and whatever shape is known."""

import dataclasses
from collections.abc import Mapping

import numpy as np

SHAPE_COLUMNS: tuple[str, ...] = (
    "d_model", "n_layers", "d_ff", "n_heads", "n_kv_heads", "head_dim", "sharing", "n_applied",
)
"""Shape columns a table may have. `n_layers` is applied depth; `n_applied` counts parameters with
sharing, by the same convention as `n`."""


@dataclasses.dataclass(frozen=True, eq=False)
class RunTable:
    """Columns of equal length [rows], float64 except `run`.

    `run` names the trunk a row comes from: rows of one run are correlated and are resampled and
    held out together.
    """

    n: np.ndarray
    """Stored parameters, by the count named in `count`."""
    d: np.ndarray
    """Training tokens."""
    loss: np.ndarray
    """Nats per token."""
    run: np.ndarray
    """Name of the run (strings)."""
    shape: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """Columns among SHAPE_COLUMNS that the table has."""
    count: str = "as given"
    """`non_embedding`, `total` or `as given`."""
