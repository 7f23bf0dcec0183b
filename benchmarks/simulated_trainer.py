"""A trainer that trains nothing: losses from a known law, at once or after a short sleep.

For drills of everything around training (workers killed, stores resumed, Ray) and for simulations
in which the truth is known. Losses depend on the job alone, as a real trainer's do.
"""

import datetime
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.results.record import ArchitectureFields, CurvePoint, ParameterCounts, RunRecord
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.running.messages import Standing
from shapelaw.sweeps.training.trunk import TrunkJob, recipe_of, resolve

SECONDS = "SHAPELAW_PRETEND_SECONDS"
"""Environment variable: how long a budget takes."""
NOISE = 0.005


def train(
    job: TrunkJob, *, cache_dir: Path, progress: Callable[[Any], None] | None = None
) -> Iterator[RunRecord]:
    """As `sweeps.train.train_trunk`, with a law for a model."""
    plan = resolve(job)
    corpus = load_corpus(job.corpus, cache_dir)
    seconds = float(os.environ.get(SECONDS, "0.05"))
    noise = float(np.random.default_rng(int(plan.trunk_key, 16)).normal(0, NOISE))
    for branch in plan.branches:
        time.sleep(seconds)
        if progress is not None:
            progress(Standing(0, branch.tokens, plan.trained_tokens, 1.0, 1.0))
        n = plan.architecture.non_embedding_parameters
        loss = 1.0 + 20 * n**-0.35 + 60 * branch.tokens**-0.37 + noise
        yield RunRecord(
            run_key=branch.run_key,
            trunk_key=plan.trunk_key,
            design=job.design,
            architecture=ArchitectureFields.of(plan.architecture),
            corpus=corpus.record,
            n_parameters=ParameterCounts.of(plan.architecture),
            tokens=branch.tokens,
            epochs=0.0,
            flops=branch.flops,
            trunk_flops_shared=branch.shared_flops,
            recipe=recipe_of(job, branch),
            seed=job.seed,
            status="finished",
            loss=loss,
            loss_standard_error=NOISE,
            bits_per_byte=loss / math.log(2),
            curve=[CurvePoint(tokens=branch.tokens, loss=loss)],
            wall_seconds=seconds,
            device_seconds=0.0,
            tokens_per_second=0.0,
            hardware="none",
            software={},
            finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )


def jump_clock() -> None:
    """From now on this process's wall clock jumps an hour back and forth with every look at it."""
    looks, real = itertools.count(), time.time
    time.time = lambda: real() - 3600 * (next(looks) % 2)


def train_while_the_clock_jumps(job: TrunkJob, **options: Any) -> Iterator[RunRecord]:
    """As `train`, on a machine whose clock is set back."""
    jump_clock()
    yield from train(job, **options)


HUNGER = 4 * 2**30
"""Bytes that `train_in_memory` needs for a shape whose blocks are shared."""


def train_in_memory(job: TrunkJob, **options: Any) -> Iterator[RunRecord]:
    """As `train`, by a trainer that needs HUNGER where blocks are shared."""
    held = np.empty(HUNGER if resolve(job).architecture.sharing > 1 else 1, dtype=np.uint8)
    yield from train(job, **options)
    del held


def fail(job: TrunkJob, **_: Any) -> Iterator[RunRecord]:
    """A trainer that always raises."""
    raise RuntimeError(f"pretending that {job.design} cannot be trained")
    yield


def die(job: TrunkJob, **_: Any) -> Iterator[RunRecord]:
    """A trainer whose process dies without a word."""
    os._exit(9)
    yield
