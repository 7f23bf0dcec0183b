"""The loss on the fixed validation set, with its standard error."""

import math

import numpy as np

from shapelaw.sweeps.corpus.token_corpus import TokenCorpus
from shapelaw.sweeps.training.step import Parameters, Program

CLUSTERS = 64
"""Groups of neighbouring validation windows, the units of the standard error."""
BATCH_TOKENS = 4_096
"""Tokens a batch of the evaluation."""


def validation_losses(
    program: Program, parameters: Parameters, corpus: TokenCorpus, sequence_length: int
) -> np.ndarray:
    """Mean loss of each validation window, nats a token: [members, windows]."""
    rows = corpus.validation_windows(sequence_length).astype(np.int32)
    windows = len(rows)
    batch = max(1, min(windows, BATCH_TOKENS // sequence_length))
    batch = -(-batch // program.devices) * program.devices
    batches = -(-windows // batch)
    padded = rows[np.arange(batches * batch) % windows]
    losses = program.window_losses(parameters, padded.reshape(batches, batch, -1))
    return np.asarray(losses, np.float64).reshape(program.members, -1)[:, :windows]


def mean_and_error(window_losses: np.ndarray) -> tuple[float, float]:
    """Mean of window losses [windows] and its standard error.

    The error is over clusters of neighbouring windows, since losses within one document go
    together.
    """
    parts = np.array_split(window_losses, min(len(window_losses), CLUSTERS))
    clusters = [part.mean() for part in parts]
    error = np.std(clusters, ddof=1) / math.sqrt(len(clusters)) if len(clusters) > 1 else 0.0
    return float(window_losses.mean()), float(error)
