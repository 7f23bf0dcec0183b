"""The training loop: one trunk, its budgets branched off it, a record for each.

The trunk runs at its peak learning rate; where a budget's decay begins, a copy of the state leaves
it, decays, is evaluated and becomes a record, and the trunk goes on. Losses are read one dispatch
late, so that looking for trouble never makes the device wait. One loop serves one run, a run spread
over devices, and a population of runs of one shape: they differ in what is compiled.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import msgspec
import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.corpus.token_corpus import TokenCorpus, load_corpus
from shapelaw.sweeps.training.checkpoints import Checkpoints, Position, Stretch
from shapelaw.sweeps.training.evaluation import (
    mean_and_error,
    validation_batches,
    validation_losses,
)
from shapelaw.sweeps.training.format_losses import losses_by_format, stacked
from shapelaw.sweeps.training.run_record import Spent, record_of
from shapelaw.sweeps.training.saved_weights import save_weights
from shapelaw.sweeps.training.sequence_order import sequences
from shapelaw.sweeps.training.step import (
    Parameters,
    Program,
    Setting,
    TrainState,
    program_for,
    use_compilation_cache,
)
from shapelaw.sweeps.training.trunk import (
    TrunkJob,
    TrunkPlan,
    check_divides,
    learning_rate_at,
    resolve,
)
from shapelaw.sweeps.training.weight_formats import TRAINED_TYPES, rounded_parameters

DISPATCH_TOKENS = 32_768
"""Tokens a dispatch trains on: about a second of one CPU core, so that progress is seen."""
DISPATCH_STEPS_MOST = 64
"""Of a dispatch; an accelerator, which does a step in milliseconds, always takes as many."""
EXPLODED = 1.5
"""A mean loss this many times that of guessing evenly has left the rails for good."""
CHECKPOINT_SECONDS = 60.0


def dispatch_steps(step_tokens: int) -> int:
    """Steps a dispatch, of so many tokens each; they change no loss."""
    if jax.default_backend() != "cpu":
        return DISPATCH_STEPS_MOST
    return max(1, min(DISPATCH_STEPS_MOST, DISPATCH_TOKENS // step_tokens))


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a trunk stands; handed to the caller after each dispatch."""

    trunk_key: str
    tokens: int
    """Trained on so far, decays included, all members of a population together."""
    total_tokens: int
    """To be trained on in all."""
    loss: float
    """Mean training loss of the last dispatch read."""
    tokens_per_second: float
    note: str = ""
    """What there is to say of how it was taken up again."""


def train_trunk(
    job: TrunkJob,
    *,
    cache_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    devices: int = 1,
    fully_sharded: bool = False,
) -> Iterator[RunRecord]:
    """Train a trunk and its branches; yields each budget's record as it is done, smallest first.

    Deterministic: the same job on the same kind of machine gives the same losses to the last
    digit, however many workers run beside it, given `worker.worker_environment`. On several
    devices sums are taken in another order: the same losses to about 1e-5.

    Args:
        job: what to train.
        cache_dir: for tokens and compiled programs.
        progress: called after each dispatch.
        checkpoint_dir: keep checkpoints below it, and go on from the last one found there
            that can be read; records made before are yielded again.
        checkpoint_seconds: between two checkpoints.
        devices: to split the batch among.
        fully_sharded: split the parameters too.

    Raises:
        BadInput: a corpus that cannot be read or does not fit the vocabulary, or a batch that
            does not divide among the devices.
    """
    yield from train_members(
        [job],
        cache_dir=cache_dir,
        progress=progress,
        checkpoint_dir=checkpoint_dir,
        checkpoint_seconds=checkpoint_seconds,
        devices=devices,
        fully_sharded=fully_sharded,
    )


def train_members(
    jobs: Sequence[TrunkJob],
    *,
    cache_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    checkpoint_dir: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    devices: int = 1,
    fully_sharded: bool = False,
) -> Iterator[RunRecord]:
    """As `train_trunk`, for jobs that differ in seed and learning rate alone."""
    plans = [resolve(job) for job in jobs]
    corpus = load_corpus(jobs[0].corpus, cache_dir)
    corpus.check_vocabulary(plans[0].architecture.vocab_size)
    corpus.windows(plans[0].sequence_length)
    check_divides(plans[0].batch_sequences, devices)
    if devices > 1 and len(jobs) > 1:
        raise BadInput(f"devices = {devices}: a population trains on one device")
    compiled = use_compilation_cache(cache_dir)
    setting = Setting(
        plans[0].architecture,
        plans[0].precision,
        jobs[0].weight_decay,
        plans[0].sequence_length,
        jobs[0].trainer_version,
        members=len(jobs),
        devices=devices,
        fully_sharded=fully_sharded and devices > 1,
    )
    program = program_for(setting, compiled)
    # Weights are rounded through the decays alone: trunk and evaluation are those of any run.
    decaying = program_for(setting._replace(weight_format=jobs[0].weight_format), compiled)
    checkpoints = None
    if checkpoint_dir is not None:
        checkpoints = Checkpoints(Path(checkpoint_dir) / plans[0].trunk_key, checkpoint_seconds)
    try:
        yield from _Trunk(jobs, plans, corpus, (program, decaying), progress, checkpoints).run()
        if checkpoints is not None:
            checkpoints.clear()
    finally:
        if checkpoints is not None:
            checkpoints.close()


class _Trunk:
    """A trunk under way: one run, or the members of a population in step."""

    def __init__(
        self,
        jobs: Sequence[TrunkJob],
        plans: Sequence[TrunkPlan],
        corpus: TokenCorpus,
        programs: tuple[Program, Program],
        progress: Callable[[Progress], None] | None,
        checkpoints: Checkpoints | None,
    ) -> None:
        self.jobs, self.plans, self.corpus = jobs, plans, corpus
        self.program, self.decaying = programs
        self.validation = validation_batches(corpus, plans[0].sequence_length, self.program.devices)
        self.progress, self.checkpoints = progress, checkpoints
        plan = plans[0]
        self.step_tokens = plan.batch_sequences * plan.sequence_length
        self.steps_per_dispatch = dispatch_steps(self.step_tokens)
        self.total_tokens = plan.trained_tokens * len(jobs)
        self.trained_tokens = 0
        self.note = ""
        self.started = self.last_record = time.perf_counter()
        self.spent = Spent()

    def run(self) -> Iterator[RunRecord]:
        """Trunk and branches in turn."""
        branches = self.plans[0].branches
        seeds = np.array([job.seed & 0x7FFF_FFFF for job in self.jobs], np.int32)
        self.trunk: TrainState | None = self.program.begin(seeds)
        self.decay: TrainState | None = None
        self.position = Position(trunk=Stretch.fresh(len(self.jobs)))
        self.restore()
        yield from self.position.records
        for number in range(self.position.branch, len(branches)):
            branch = branches[number]
            if self.position.decay is None:
                assert self.trunk is not None
                self.trunk = self.go(number, self.trunk, self.position.trunk, branch.stable_steps)
                # Steps consume the state they are given, so a decay works on a copy.
                last = number == len(branches) - 1
                self.decay = self.trunk if last else jax.tree.map(jnp.copy, self.trunk)
                self.trunk = None if last else self.trunk
                self.position.decay = self.position.trunk.copy()
            assert self.decay is not None
            self.decay = self.go(number, self.decay, self.position.decay, branch.total_steps)
            records = self.conclude(number, self.decay, self.position.decay)
            self.decay = self.position.decay = None
            self.position.branch = number + 1
            self.position.records.extend(records)
            yield from records

    def go(self, number: int, state: TrainState, stretch: Stretch, end: int) -> TrainState:
        """From where the stretch stands to step `end`, on the way of budget `number`."""
        unread: tuple[jax.Array, int] | None = None
        started = time.perf_counter()
        first = stretch.step
        while stretch.step < end and not all(stretch.trouble):
            count = min(self.steps_per_dispatch, end - stretch.step)
            batches, rates = self.inputs(number, stretch.step, count)
            on_decay = stretch is self.position.decay
            program = self.decaying if on_decay else self.program
            state, losses = program.advance(state, batches, rates, count)
            if unread is not None:
                self.read(stretch, *unread)
            unread = (losses, count)
            stretch.step += count
            if self.checkpoints is not None and self.checkpoints.due():
                self.read(stretch, *unread)
                unread = None
                self.checkpoints.save(
                    self.position, self.trunk if on_decay else state, state if on_decay else None
                )
        if unread is not None:
            self.read(stretch, *unread)
        self.spent.device_seconds += time.perf_counter() - started
        self.spent.tokens += (stretch.step - first) * self.step_tokens
        return state

    def inputs(self, number: int, begin: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Batches [P, S, B, T+1] and learning rates [P, S] of `count` steps from `begin`."""
        plan, members, most = self.plans[0], len(self.jobs), self.steps_per_dispatch
        batch, length = plan.batch_sequences, plan.sequence_length
        batches = np.zeros((members, most, batch, length + 1), np.int32)
        rates = np.zeros((members, most), np.float32)
        for member, (job, plan) in enumerate(zip(self.jobs, self.plans, strict=True)):
            batches[member, :count] = sequences(
                self.corpus.train, job.seed, begin * batch, count * batch, length
            ).reshape(count, batch, length + 1)
            branch = plan.branches[number]
            rates[member, :count] = [
                learning_rate_at(plan, branch, begin + index) for index in range(count)
            ]
        return batches, rates

    def read(self, stretch: Stretch, dispatched: jax.Array, count: int) -> None:
        """Take in the losses of a dispatch, and mark the members whose losses show trouble."""
        values = np.asarray(dispatched)[:, :count]
        most = EXPLODED * math.log(self.plans[0].architecture.vocab_size)
        for member, losses in enumerate(values):
            if stretch.trouble[member] is not None:
                continue
            stretch.losses[member].extend(losses.tolist())
            step, mean = len(stretch.losses[member]), float(losses.mean())
            if not np.all(np.isfinite(losses)):
                stretch.trouble[member] = f"the loss is not a number by step {step}"
            elif mean > most:
                stretch.trouble[member] = f"the loss reached {mean:.3g} nats a token by step {step}"
        self.trained_tokens += count * self.step_tokens * len(self.jobs)
        if self.progress is not None:
            seconds = time.perf_counter() - self.started
            note, self.note = self.note, ""
            self.progress(
                Progress(
                    trunk_key=self.plans[0].trunk_key,
                    tokens=self.trained_tokens,
                    total_tokens=self.total_tokens,
                    loss=float(values.mean()),
                    tokens_per_second=self.trained_tokens / max(seconds, 1e-9),
                    note=note,
                )
            )

    def conclude(self, number: int, state: TrainState, stretch: Stretch) -> list[RunRecord]:
        """Evaluate the members that are well, and make every member's record."""
        started = time.perf_counter()
        parameters = [
            self.program.member(state.parameters, member) for member in range(len(self.jobs))
        ]
        window_losses, formats = None, None
        evaluated = started
        if not all(stretch.trouble):
            window_losses = self.own_losses(state.parameters, parameters)
            evaluated = time.perf_counter()
            formats = losses_by_format(
                self.program,
                parameters,
                self.validation,
                self.plans[0].branches[number].tokens,
                window_losses,
                self.jobs[0].measured_types,
            )
        now = time.perf_counter()
        self.spent.device_seconds += now - started
        self.spent.wall_seconds = now - self.last_record
        # The members of a population worked at once: each is charged its share of the time.
        members = len(self.jobs)
        spent = Spent(
            wall_seconds=self.spent.wall_seconds / members,
            tokens=self.spent.tokens,
            device_seconds=self.spent.device_seconds / members,
            format_seconds=(now - evaluated) / members if formats else 0.0,
        )
        self.last_record, self.spent = now, Spent()
        records = []
        for member, (job, plan) in enumerate(zip(self.jobs, self.plans, strict=True)):
            branch, reason, result = plan.branches[number], stretch.trouble[member], None
            if reason is None and window_losses is not None:
                result = mean_and_error(window_losses[member])
                if not math.isfinite(result[0]):
                    reason, result = "the validation loss is not a number", None
            if result is not None and job.keep_weights is not None:
                save_weights(
                    Path(job.keep_weights), branch.run_key, plan.architecture, parameters[member]
                )
            records.append(
                record_of(
                    job,
                    plan,
                    branch,
                    self.corpus,
                    losses=stretch.losses[member],
                    result=result,
                    loss_by_format=formats[member] if formats and result is not None else {},
                    reason=reason,
                    spent=spent,
                )
            )
        return records

    def own_losses(self, state: Parameters, members: Sequence[Parameters]) -> np.ndarray:
        """Losses of the members [members, windows] as they are trained: rounded where that was."""
        trained_to = TRAINED_TYPES.get(self.jobs[0].weight_format)
        if trained_to is not None:
            rounded = [rounded_parameters(one, trained_to) for one in members]
            state = stacked(self.program, rounded)
        return validation_losses(self.program, state, self.validation)

    def restore(self) -> None:
        """Go on from the last checkpoint, where there is one."""
        if self.checkpoints is None:
            return
        kept = self.checkpoints.restore(self.trunk)
        if self.checkpoints.spoilt:
            self.note = f"spoilt checkpoints: {self.checkpoints.spoilt}; " + (
                "it begins again" if kept is None else "it goes on from one before"
            )
        if kept is not None:
            self.position, self.trunk, self.decay = kept
            done = self.position.decay or self.position.trunk
            self.trained_tokens = done.step * self.step_tokens * len(self.jobs)
