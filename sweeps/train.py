"""The training loop: one trunk, its budgets branched off it, a record for each.

The trunk runs at its peak learning rate; where a budget's decay begins, a copy of the state leaves
it, decays, is evaluated and becomes a record, and the trunk goes on. Losses are read one dispatch
late, so that looking for trouble never makes the device wait.
"""

import datetime
import importlib.metadata
import itertools
import math
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from results.record import (
    ArchitectureFields,
    CurvePoint,
    ParameterCounts,
    RunRecord,
)
from sweeps.corpus import TokenCorpus, load_corpus
from sweeps.job import Branch, TrunkJob, TrunkPlan, learning_rate_at, recipe_of, resolve
from sweeps.order import sequences
from sweeps.program import Program, Setting, TrainState, program_for, use_compilation_cache
from sweeps.worker import processor_name

DISPATCH_TOKENS = 32_768
"""Tokens a dispatch trains on: about a second of one CPU core, so that progress is seen."""
DISPATCH_STEPS_MOST = 64
CURVE_POINTS = 30
EXPLODED = 1.5
"""A mean loss this many times that of guessing evenly has left the rails for good."""
CLUSTERS = 64
"""Groups of neighbouring validation windows, the units of the standard error."""
EVALUATION_TOKENS = 4_096
"""Tokens a batch of the evaluation."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a trunk stands; handed to the caller after each dispatch."""

    trunk_key: str
    tokens: int
    """Trained on so far, decays included."""
    total_tokens: int
    """To be trained on in all, decays included."""
    loss: float
    """Mean training loss of the last dispatch read."""
    tokens_per_second: float


class Diverged(Exception):
    """The loss is not a number, or has exploded."""


def train_trunk(
    job: TrunkJob,
    *,
    cache_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    checkpoint_dir: Path | None = None,
) -> Iterator[RunRecord]:
    """Train a trunk and its branches; yields each budget's record as it is done, smallest first.

    Deterministic: the same job on the same kind of machine gives the same losses to the last
    digit, however many workers run beside it, given `worker.worker_environment`.

    Raises:
        BadInput: a corpus that cannot be read or does not fit the vocabulary.
    """
    plan = resolve(job)
    corpus = load_corpus(job.corpus, cache_dir)
    corpus.check_vocabulary(plan.architecture.vocab_size)
    corpus.windows(plan.sequence_length)
    use_compilation_cache(cache_dir)
    yield from _Trunk(job, plan, corpus, progress).run()


class _Trunk:
    """One trunk under way."""

    def __init__(
        self, job: TrunkJob, plan: TrunkPlan, corpus: TokenCorpus,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.job, self.plan, self.corpus, self.progress = job, plan, corpus, progress
        self.program: Program = program_for(Setting(
            plan.architecture, job.sharing_order, plan.precision, job.weight_decay,
            plan.sequence_length,
        ))
        per_step = plan.batch_sequences * plan.sequence_length
        self.steps_per_dispatch = max(1, min(DISPATCH_STEPS_MOST, DISPATCH_TOKENS // per_step))
        self.trained_tokens = 0
        self.device_seconds = 0.0
        self.segment_tokens = 0
        self.segment_started = time.perf_counter()

    def run(self) -> Iterator[RunRecord]:
        """Trunk and branches in turn."""
        state = self.program.begin(self.job.seed)
        trunk_losses: list[float] = []
        step = 0
        trouble: str | None = None
        for number, branch in enumerate(self.plan.branches):
            last = number == len(self.plan.branches) - 1
            if trouble is None:
                try:
                    state = self.advance(state, branch, step, branch.stable_steps, trunk_losses)
                    step = branch.stable_steps
                except Diverged as reason:
                    trouble = str(reason)
            if trouble is not None:
                yield self.record(branch, trunk_losses, None, trouble)
                continue
            losses = list(trunk_losses)
            # Steps consume the state they are given, so a decay works on a copy.
            decaying = state if last else jax.tree.map(jnp.copy, state)
            try:
                decayed = self.advance(decaying, branch, step, branch.total_steps, losses)
                loss, error = self.evaluate(decayed.parameters)
                if not math.isfinite(loss):
                    raise Diverged("the validation loss is not a number")
            except Diverged as reason:
                yield self.record(branch, losses, None, str(reason))
                continue
            yield self.record(branch, losses, (loss, error), None)

    def advance(
        self, state: TrainState, branch: Branch, first: int, end: int, losses: list[float]
    ) -> TrainState:
        """Steps `first` to `end - 1` on the way of `branch`; appends their losses to `losses`."""
        plan, most = self.plan, self.steps_per_dispatch
        unread: tuple[jax.Array, int] | None = None
        started = time.perf_counter()
        for begin in range(first, end, most):
            count = min(most, end - begin)
            batches, rates = self.inputs(branch, begin, count)
            state, step_losses = self.program.advance(state, batches, rates, count)
            if unread is not None:
                self.read(*unread, losses, started)
            unread = (step_losses, count)
        if unread is not None:
            self.read(*unread, losses, started)
        self.device_seconds += time.perf_counter() - started
        self.segment_tokens += (end - first) * plan.batch_sequences * plan.sequence_length
        return state

    def inputs(self, branch: Branch, begin: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Batches [S, B, T+1] and learning rates [S] of steps from `begin`; idle ones are zero."""
        plan, most = self.plan, self.steps_per_dispatch
        batch, length = plan.batch_sequences, plan.sequence_length
        batches = np.zeros((most, batch, length + 1), np.int32)
        batches[:count] = sequences(
            self.corpus.train, self.job.seed, begin * batch, count * batch, length
        ).reshape(count, batch, length + 1)
        rates = np.zeros(most, np.float32)
        rates[:count] = [learning_rate_at(plan, branch, begin + i) for i in range(count)]
        return batches, rates

    def read(self, step_losses: jax.Array, count: int, losses: list[float], started: float) -> None:
        """Take in the losses of a dispatch. Raises Diverged where they show trouble."""
        values = np.asarray(step_losses)[:count]
        losses.extend(values.tolist())
        plan = self.plan
        self.trained_tokens += count * plan.batch_sequences * plan.sequence_length
        mean = float(values.mean())
        if self.progress is not None:
            seconds = time.perf_counter() - self.segment_started
            self.progress(Progress(
                trunk_key=plan.trunk_key, tokens=self.trained_tokens,
                total_tokens=plan.trained_tokens, loss=mean,
                tokens_per_second=self.trained_tokens / max(seconds, 1e-9),
            ))
        if not np.all(np.isfinite(values)):
            raise Diverged(f"the loss is not a number at step {len(losses)}")
        if mean > EXPLODED * math.log(plan.architecture.vocab_size):
            raise Diverged(f"the loss reached {mean:.3g} nats a token at step {len(losses)}")

    def evaluate(self, parameters: Any) -> tuple[float, float]:
        """Mean loss on the validation set, nats a token, and its standard error."""
        started = time.perf_counter()
        result = evaluate(self.program, parameters, self.corpus, self.plan.sequence_length)
        self.device_seconds += time.perf_counter() - started
        return result

    def record(
        self, branch: Branch, losses: list[float], result: tuple[float, float] | None,
        reason: str | None,
    ) -> RunRecord:
        """The record of one budget; seconds are those spent since the last record."""
        job, plan, corpus = self.job, self.plan, self.corpus
        loss, error = result if result is not None else (None, None)
        bits = None
        if loss is not None and corpus.record.bytes_per_token is not None:
            bits = loss / math.log(2) / corpus.record.bytes_per_token
        now = time.perf_counter()
        wall, self.segment_started = now - self.segment_started, now
        device, self.device_seconds = self.device_seconds, 0.0
        tokens, self.segment_tokens = self.segment_tokens, 0
        return RunRecord(
            run_key=branch.run_key, trunk_key=plan.trunk_key, design=job.design,
            architecture=ArchitectureFields.of(plan.architecture), corpus=corpus.record,
            n_parameters=ParameterCounts.of(plan.architecture), tokens=branch.tokens,
            epochs=corpus.epochs(branch.tokens, plan.sequence_length), flops=branch.flops,
            trunk_flops_shared=branch.shared_flops, recipe=recipe_of(job, branch), seed=job.seed,
            status="finished" if reason is None else "diverged", reason=reason,
            loss=loss, loss_standard_error=error, bits_per_byte=bits,
            curve=thinned(losses, plan.batch_sequences * plan.sequence_length),
            wall_seconds=wall, device_seconds=device, tokens_per_second=tokens / max(wall, 1e-9),
            hardware=hardware(), software=software(),
            finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )


def evaluate(
    program: Program, parameters: Any, corpus: TokenCorpus, sequence_length: int
) -> tuple[float, float]:
    """Mean loss on the fixed validation set, nats a token, and its standard error.

    The standard error is over clusters of neighbouring windows, since losses within one document
    go together.
    """
    rows = corpus.validation_windows(sequence_length).astype(np.int32)
    windows = len(rows)
    batch = max(1, min(windows, EVALUATION_TOKENS // sequence_length))
    batches = -(-windows // batch)
    padded = rows[np.arange(batches * batch) % windows]
    losses = program.window_losses(parameters, padded.reshape(batches, batch, -1))
    values = np.asarray(losses, np.float64).ravel()[:windows]
    clusters = [part.mean() for part in np.array_split(values, min(windows, CLUSTERS))]
    error = np.std(clusters, ddof=1) / math.sqrt(len(clusters)) if len(clusters) > 1 else 0.0
    return float(values.mean()), float(error)


def thinned(losses: list[float], tokens_per_step: int) -> list[CurvePoint]:
    """The loss curve as at most CURVE_POINTS means over equal stretches of steps."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    ends = np.unique(np.linspace(0, len(finite), CURVE_POINTS + 1).astype(int))
    return [
        CurvePoint(tokens=int(end) * tokens_per_step, loss=float(np.mean(finite[begin:end])))
        for begin, end in itertools.pairwise(ends)
    ]


def hardware() -> str:
    """What computed: the accelerator's name, or the processor's."""
    device = jax.devices()[0]
    return processor_name() if device.platform == "cpu" else str(device.device_kind)


def software() -> dict[str, str]:
    """Versions of what the losses come from."""
    names = ("shapelaw", "jax", "jaxlib", "flax", "optax", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **versions}
