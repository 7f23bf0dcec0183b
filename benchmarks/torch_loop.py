"""The obvious way to do a sweep: one PyTorch model after another, each compiled, in one process.

    python -m benchmarks.torch_loop JOBS.json CACHE_DIR       prints one loss a line

The same shapes, text, order of text, batches, steps, schedule and optimizer as our own sweep
(`benchmarks.torch_model`). PyTorch is a dependency of the benchmarks alone.
"""

import json
import math
import sys
from pathlib import Path

import msgspec
import numpy as np
import torch

from benchmarks.torch_model import Stepper
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.training.sequence_order import sequences
from shapelaw.sweeps.training.trunk import TrunkJob, learning_rate_at, resolve

EVALUATION_SEQUENCES = 32


def train(job: TrunkJob, cache_dir: Path) -> list[float]:
    """One model for each budget; validation losses."""
    plan = resolve(job)
    corpus = load_corpus(job.corpus, cache_dir)
    length, batch = plan.sequence_length, plan.batch_sequences
    losses = []
    for branch in plan.branches:
        stepper = Stepper(plan.architecture, length, compiled=True)
        for step in range(branch.total_steps):
            for group in stepper.optimizer.param_groups:
                group["lr"] = learning_rate_at(plan, branch, step)
            rows = sequences(corpus.train, job.seed, step * batch, batch, length)
            stepper.step(torch.from_numpy(rows.astype(np.int64)).to(stepper.device))
        losses.append(evaluate(stepper, corpus.validation_windows(length)))
    return losses


def evaluate(stepper: Stepper, windows: np.ndarray) -> float:
    """Mean loss over the fixed validation windows [n, length + 1]."""
    total = 0.0
    count = len(windows) // EVALUATION_SEQUENCES * EVALUATION_SEQUENCES
    with torch.no_grad():
        for first in range(0, count, EVALUATION_SEQUENCES):
            rows = windows[first : first + EVALUATION_SEQUENCES].astype(np.int64)
            total += float(stepper.loss(torch.from_numpy(rows).to(stepper.device))) * len(rows)
    return total / count


def main(jobs_file: str, cache_dir: str) -> None:
    """Train every job of the file in turn."""
    jobs = msgspec.json.decode(Path(jobs_file).read_bytes(), type=list[TrunkJob])
    for job in jobs:
        torch.compiler.reset()
        for loss in train(job, Path(cache_dir)):
            if not math.isfinite(loss):
                raise ValueError("the loss is not a number")
            print(json.dumps(loss), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
