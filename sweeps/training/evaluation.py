"""The loss on the fixed validation set, with its standard error."""

import math
from typing import NamedTuple

import numpy as np

from shapelaw.sweeps.corpus.token_corpus import TokenCorpus
from shapelaw.sweeps.training.step import Parameters, Program

CLUSTERS = 64
"""Groups of neighbouring validation windows, the units of the standard error."""
BATCH_TOKENS = 4_096
"""Tokens a batch of the evaluation."""


class ValidationBatches(NamedTuple):
    """The validation windows in batches of one size; the last one is filled up with the first."""

    sequences: np.ndarray
    """[batches, windows a batch, T + 1]"""
    windows: int
    """Different ones."""

    @property
    def number(self) -> int:
        """Of batches."""
        return len(self.sequences)

    def windows_of(self, batches: np.ndarray) -> np.ndarray:
        """Numbers of the windows in these batches, each once."""
        size = self.sequences.shape[1]
        numbers = (np.asarray(batches)[:, None] * size + np.arange(size)).reshape(-1)
        return numbers[numbers < self.windows]


def validation_batches(
    corpus: TokenCorpus, sequence_length: int, devices: int = 1
) -> ValidationBatches:
    """All validation windows of a corpus, in batches that divide among the devices."""
    rows = corpus.validation_windows(sequence_length).astype(np.int32)
    windows = len(rows)
    batch = max(1, min(windows, BATCH_TOKENS // sequence_length))
    batch = -(-batch // devices) * devices
    batches = -(-windows // batch)
    padded = rows[np.arange(batches * batch) % windows]
    return ValidationBatches(padded.reshape(batches, batch, -1), windows)


def validation_losses(
    program: Program,
    parameters: Parameters,
    batches: ValidationBatches,
    chosen: np.ndarray | None = None,
) -> np.ndarray:
    """Mean loss of each validation window, nats a token: [members, windows].

    Args:
        program: the compiled evaluation.
        parameters: of its members.
        batches: the validation set.
        chosen: numbers of the batches to evaluate; None: all.
    """
    chosen = np.arange(batches.number) if chosen is None else chosen
    # One batch a call, so that any choice of them is the same compiled program.
    losses = [program.window_losses(parameters, batches.sequences[[number]]) for number in chosen]
    every = np.concatenate([np.asarray(one, np.float64)[:, 0] for one in losses], axis=1)
    return every[:, : len(batches.windows_of(chosen))]


def mean_and_error(window_losses: np.ndarray) -> tuple[float, float]:
    """Mean of window losses [windows] and its standard error.

    The error is over clusters of neighbouring windows, since losses within one document go
    together.
    """
    parts = np.array_split(window_losses, min(len(window_losses), CLUSTERS))
    clusters = [part.mean() for part in parts]
    error = np.std(clusters, ddof=1) / math.sqrt(len(clusters)) if len(clusters) > 1 else 0.0
    return float(window_losses.mean()), float(error)
