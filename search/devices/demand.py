"""A workload as the numbers that cost depends on: one workload for all rows, or one for each row.

The search costs a million shapes under one workload (plain numbers); a fit predicts some hundred
timings, each taken under its own (arrays [n]). The formulas are the same.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from shapelaw.search.workload import Workload

Number = Any
"""A float, or an array [n] with one entry a row."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """What one request asks for, in tokens."""

    batch: Number
    """Sequences decoded together."""
    context: Number
    """Tokens in view of a decoded token."""
    final_context: Number
    """Tokens in the KV cache at the end."""
    kept_share: Number
    """Share of the final context whose keys and values stay in memory."""
    read_share: Number
    """Share of the context whose keys and values a decode step reads."""
    page_vectors: Number
    """Key-sized vectors that a decode step reads beside that."""
    final_page_vectors: Number
    """The same at the final context: kept in memory."""
    new: Number
    """Tokens that the mean turn's prefill computes."""
    prefix: Number
    """Tokens that it finds in a cached prefix."""
    dense_share: Number
    """Share of full attention's query-key pairs that prefill computes."""

    @classmethod
    def of(cls, w: Workload) -> "Demand":
        """One workload's numbers."""
        sparse = w.prefill_attention
        dense = 1.0 if sparse is None else 1 - sparse.sparsity(max(1, round(w.mean_input)))
        return cls(
            batch=float(w.batch),
            context=w.decode_context,
            final_context=w.final_context,
            kept_share=w.kept_tokens(w.final_context) / w.final_context,
            read_share=w.read_share(w.decode_context),
            page_vectors=w.page_vectors(w.decode_context),
            final_page_vectors=w.page_vectors(w.final_context),
            new=w.prefill_tokens,
            prefix=w.prefix_tokens,
            dense_share=dense,
        )

    @classmethod
    def stack(cls, workloads: Sequence[Workload]) -> "Demand":
        """One entry a workload."""
        each = [cls.of(w) for w in workloads]
        return cls(
            **{
                f.name: np.array([getattr(d, f.name) for d in each])
                for f in dataclasses.fields(cls)
            }
        )

    def attended(self, window: np.ndarray, context: Number) -> np.ndarray:
        """Keys in view of one token [n]: the context, or the window where that is shorter."""
        return np.where(window == 0, context, np.minimum(window, context))

    def pairs(self, window: np.ndarray) -> np.ndarray:
        """Query-key pairs that the prefill computes in one layer and one head [n].

        Causal: query i of n after a prefix of p sees p + i keys, or its window of them.
        """
        new, prefix = self.new, self.prefix
        dense = (new * prefix + new * (new + 1) / 2) * self.dense_share
        # The first `ramp` queries see fewer keys than the window; the others see a full one.
        ramp = np.clip(window - prefix, 0, new)
        local = ramp * prefix + ramp * (ramp + 1) / 2 + (new - ramp) * window
        return np.where(window == 0, dense, local)
