"""Run a design: train what its folder does not hold yet, keep each run as it finishes.

    from shapelaw.sweeps.design.design import load_design
    from shapelaw.sweeps.running.run_sweep import run_sweep

    result = run_sweep(load_design("smoke"), "runs/smoke")
    result.records                        # every run of the design, as results.record.RunRecord

The engine says what happened (`sweeps.events`); this driver alone writes. Stop it any way you
like: runs that finished are on the disk, and the same call does the rest.
"""

import contextlib
import datetime
import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from shapelaw.results.record import (
    ArchitectureFields,
    Corpus,
    ParameterCounts,
    RunRecord,
    content_key,
)
from shapelaw.results.store import TORN_FILE, RunStore
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.corpus.sources import CorpusSpec
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.design.design import Design, naming
from shapelaw.sweeps.design.layout import Planned, layout
from shapelaw.sweeps.running import status as watch
from shapelaw.sweeps.running.dispatcher import ATTEMPTS, Engine, Patience, drive
from shapelaw.sweeps.running.experiment_tracker import Tracker, tracker_for
from shapelaw.sweeps.running.local_engine import LocalEngine
from shapelaw.sweeps.running.trainers import (
    BUILT_IN,
    SILENCE_SECONDS,
    CommandTrainer,
    PythonTrainer,
    Trainer,
    check_program,
    command_trainer,
)
from shapelaw.sweeps.running.worker_events import Event, Finished, GaveUp, Unit
from shapelaw.sweeps.training.trunk import Branch, TrunkJob, check_divides, recipe_of, resolve
from shapelaw.sweeps.training_speed import Speed, known_speed, remember_speed
from shapelaw.sweeps.worker_environment import (
    accelerators,
    default_cache_dir,
    default_trainer_workers,
    default_workers,
    jax_devices,
    processor_name,
)

WEIGHTS_FOLDER = "weights"
CHECKPOINTS_FOLDER = "checkpoints"
CHECKPOINT_FROM_SECONDS = 300.0
"""A trunk expected to take this long leaves checkpoints; a shorter one is sooner done again."""
LOGS_FOLDER = "logs"
COMMAND_FOLDER = "trained"
"""Below it, a folder for each run that a command trains."""
EngineName = Literal["local", "ray", "slurm"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What came of a sweep. Counts are of this design's runs."""

    finished: int
    """Finished now."""
    reused: int
    """Finished or diverged before: the folder held them."""
    diverged: int
    """Diverged now."""
    failed: int
    """Given up now; the same sweep tries them again."""
    records: list[RunRecord]
    """All runs of the design that the folder now holds, in the design's order."""


def run_sweep(
    design: Design,
    out: str | os.PathLike[str],
    *,
    engine: EngineName = "local",
    workers: int | None = None,
    address: str = "auto",
    live: bool | None = None,
    track: str | None = None,
    keep_weights: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    wait_seconds: float = 0.0,
    attempts: int = ATTEMPTS,
    patience: Patience | None = None,
    trainer: str = BUILT_IN,
    devices_per_run: int = 1,
    fully_sharded: bool = False,
    command: str | None = None,
    trainer_name: str | None = None,
    silence_seconds: float = SILENCE_SECONDS,
    resources: Mapping[str, str] | None = None,
    begun: Callable[[], None] | None = None,
) -> SweepResult:
    """Train every run of the design that `out` does not hold.

    Args:
        out: the folder; made, or resumed.
        engine: `local` worker processes, `ray` on the cluster at `address`, or `slurm` jobs.
        workers: how many at once; one per core or two per accelerator where None.
        address: of the cluster; `auto` finds a running one, `local` starts one here.
        live: a live table; where None, if stderr is a terminal. Otherwise plain lines.
        track: `trackio` or `wandb`, to send every run there too.
        keep_weights: keep trained weights in `out`/weights.
        cache_dir: for tokens and compiled programs; per user where None.
        wait_seconds: how long to wait for another sweep that is writing to `out`.
        attempts: how often a run whose worker dies is begun before it counts as failed.
        patience: how long a worker may say nothing before it is replaced.
        trainer: `module:function`, with the signature of `training.trainer.train_trunk`.
        devices_per_run: split the batch of each run among so many devices.
        fully_sharded: with several devices: split parameters and moments too.
        command: the command line of a trainer of the user's own, instead; see
            `running.trainers.command_trainer` and docs/external-trainers.md.
        trainer_name: with `command`: what stands for it in the runs' keys.
        silence_seconds: with `command`: neither a word nor a file for so long, and it is hung.
        resources: with `slurm`: of each job; see `running.slurm_engine.slurm_resources`.
        begun: called once nothing is refused any more, before anything is trained or shown.

    Raises:
        BadInput: the design, its corpus or the folder cannot be used.
        NoAnswer: another sweep is writing to `out`, the disk is full, workers cannot start.
        KeyboardInterrupt: after Ctrl-C, with everything put away.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"workers = {workers}: one or more is needed")
    if engine not in ENGINES:
        raise BadInput(f"engine = {engine!r}: {', '.join(ENGINES)}")
    if resources and engine != "slurm":
        raise BadInput(f"resource: engine = {engine!r} takes none; they are for slurm")
    if devices_per_run != 1 or fully_sharded:
        _check_devices(devices_per_run, fully_sharded, engine, command)
    planned = layout(design)[0]
    if devices_per_run > 1:
        for one in planned:
            check_divides(resolve(one.job).batch_sequences, devices_per_run)
    tracker = tracker_for(track, design.name)
    folder, cache = Path(out), Path(cache_dir) if cache_dir is not None else default_cache_dir()
    chosen: Trainer = PythonTrainer(trainer, devices_per_run, fully_sharded)
    if command is not None:
        chosen = own = command_trainer(
            command,
            name=trainer_name,
            folder=folder / COMMAND_FOLDER,
            working_directory=Path.cwd(),
            silence_seconds=silence_seconds,
        )
        if engine == "local" or address == "local":
            check_program(own)
        planned = [_for_command(one, chosen) for one in planned]
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(RunStore(folder, wait_seconds=wait_seconds))
        units = list(_missing(planned, store, folder, keep_weights, known_speed(cache)))
        if command is not None:
            units = list(_each_budget(units))
        elif engine == "local" and devices_per_run == 1 and accelerators():
            units = list(_together(units))
        wanted = {branch.run_key: one for one in planned for branch in resolve(one.job).branches}
        reused = len([key for key in wanted if store.done(key)])
        plans = [resolve(one.job) for one in planned]
        if command is None:
            flops = sum(plan.flops for plan in plans)
        else:
            flops = sum(branch.flops for plan in plans for branch in plan.branches)
        state = watch.SweepState.of(design.name, folder, list(wanted), flops, units, reused)
        state.notes += _other_batches(design, planned, store)
        if store.torn:
            state.notes.append(
                f"{store.torn} torn lines of runs.jsonl were set aside in {TORN_FILE}; "
                "what they held is trained again"
            )
        finished: list[RunRecord] = []
        if units:
            # Tokenised here once, rather than by every worker at the same time.
            corpora = {}
            for spec in {job.corpus for unit in units for job in unit.jobs}:
                with naming(design.name):
                    corpus = load_corpus(spec, cache)
                corpora[spec] = corpus.record
                if keep_weights and corpus.tokenizer_file is not None:
                    _keep_tokenizer(folder, corpus.tokenizer_file, corpus.record)
            place = _engine(engine, workers, address, cache, folder, chosen, resources or {})
        if begun is not None:
            begun()
        if units:
            show = stack.enter_context(watch.display(state, live))
            if patience is None:
                patience = patience_with(chosen, engine)
            events = stack.enter_context(
                contextlib.closing(drive(units, place, attempts=attempts, patience=patience))
            )
            for event in events:
                new = [record for record in _records(event, corpora) if store.append(record)]
                for record in new:
                    finished.append(record)
                    _tell(tracker, record)
                # A trunk taken up from a checkpoint gives the records it had made before again.
                if new or not isinstance(event, Finished):
                    state.take(event)
                show.update()
        if tracker is not None:
            tracker.close()
        remember_speed(cache, finished)
        kept = {record.run_key: record for record in store.records}
        state.close()
    count = {
        status: len([r for r in finished if r.status == status])
        for status in ("finished", "diverged", "failed")
    }
    return SweepResult(
        finished=count["finished"],
        reused=reused,
        diverged=count["diverged"],
        failed=count["failed"],
        records=[kept[key] for key in wanted if key in kept],
    )


def _check_devices(devices: int, fully_sharded: bool, engine: str, command: str | None) -> None:
    """Raises BadInput where runs cannot be split among so many devices."""
    if devices < 1:
        raise BadInput(f"devices_per_run = {devices}: one or more is needed")
    if devices == 1:
        raise BadInput("fully_sharded: needs devices_per_run of two or more")
    if command is not None:
        raise BadInput(
            f"devices_per_run = {devices}: the built-in trainer's; a command sees to its own"
        )
    if engine == "local" and devices > jax_devices():
        raise BadInput(f"devices_per_run = {devices}: JAX finds {jax_devices()} on this machine")


def _other_batches(design: Design, planned: Sequence[Planned], store: RunStore) -> Iterator[str]:
    """Says so where runs of the design were done with a batch that it no longer gives."""
    now = {resolve(one.job).batch_sequences for one in planned}
    held = Counter(
        record.recipe.batch_sequences
        for record in store.records
        if record.design == design.name and record.status == "finished"
    )
    for batch, runs in held.items():
        if batch not in now:
            yield (
                f"batch_sequences: {runs} runs of {design.name} held here were done with "
                f"{batch}, which the design no longer gives; they are not used, and their "
                f"losses do not compare. To keep them: batch_sequences = {batch}"
            )


def _missing(
    planned: Sequence[Planned], store: RunStore, folder: Path, keep_weights: bool, speed: Speed
) -> Iterator[Unit]:
    """Units of the runs that are not done, in the design's order.

    A trunk of which some budgets are done is trained for the others alone. Its batch and warmup,
    which follow from all its budgets, are then written out, so that it stays the same trunk. Where
    it left checkpoints, though, it goes on with the budgets it had then.
    """
    weights = str(folder.resolve() / WEIGHTS_FOLDER) if keep_weights else None
    for number, one in enumerate(planned):
        plan = resolve(one.job)
        missing = [branch for branch in plan.branches if not store.done(branch.run_key)]
        if not missing:
            continue
        checkpoints = None
        if plan.flops > CHECKPOINT_FROM_SECONDS * speed.flops_per_second:
            for first in range(plan.branches.index(missing[0]) + 1):
                place = _checkpoints(folder, plan.branches[first:])
                if (place / plan.trunk_key).is_dir():
                    missing = list(plan.branches[first:])
                    break
            checkpoints = str(_checkpoints(folder, missing))
        job = msgspec.structs.replace(
            one.job,
            tokens=tuple(branch.tokens for branch in missing),
            batch_sequences=plan.batch_sequences,
            warmup_steps=plan.warmup_steps,
            precision=plan.precision,
            keep_weights=weights,
        )
        again = resolve(job)
        assert [b.run_key for b in again.branches] == [b.run_key for b in missing]
        yield Unit(
            number=number,
            label=f"{one.part}: {one.label}",
            jobs=(job,),
            flops=again.flops,
            shared_flops={branch.run_key: branch.shared_flops for branch in missing},
            checkpoint_dir=checkpoints,
        )


def _keep_tokenizer(folder: Path, tokenizer: Path, corpus: Corpus) -> None:
    """Beside the weights, under its fingerprint: an export carries it along."""
    name = f"tokenizer-{corpus.tokenizer_fingerprint}.json"
    write_atomically(folder / WEIGHTS_FOLDER / name, tokenizer.read_bytes())


def _checkpoints(folder: Path, branches: Sequence[Branch]) -> Path:
    """Where a trunk with these budgets keeps its checkpoints."""
    return folder.resolve() / CHECKPOINTS_FOLDER / content_key([b.tokens for b in branches])


def _together(units: Sequence[Unit]) -> Iterator[Unit]:
    """On an accelerator, runs of one kind as one unit: a population fills it."""
    from shapelaw.sweeps.training.seed_population import kind_of

    kinds: dict[str, list[Unit]] = {}
    for unit in units:
        # A trunk long enough for checkpoints is long enough to have the device to itself.
        key = kind_of(unit.jobs[0]) if unit.checkpoint_dir is None else f"alone {unit.number}"
        kinds.setdefault(key, []).append(unit)
    for alike in kinds.values():
        first = alike[0]
        yield Unit(
            number=first.number,
            label=first.label,
            jobs=tuple(unit.jobs[0] for unit in alike),
            flops=sum(unit.flops for unit in alike),
            checkpoint_dir=first.checkpoint_dir,
            shared_flops={key: value for unit in alike for key, value in unit.shared_flops.items()},
        )


def patience_with(trainer: Trainer, engine: str) -> Patience:
    """How long to wait for a word: a command is watched by its worker, a lost node by SLURM."""
    usual = Patience()
    return Patience(
        silent_seconds=900.0 if engine == "slurm" else usual.silent_seconds,
        stalled_seconds=None if isinstance(trainer, CommandTrainer) else usual.stalled_seconds,
    )


def _for_command(one: Planned, trainer: CommandTrainer) -> Planned:
    """The trunk as the user's own trainer's: its runs have keys of their own."""
    job = msgspec.structs.replace(
        one.job,
        trainer=trainer.name,
        trunk_tokens=tuple(branch.tokens for branch in resolve(one.job).branches),
    )
    return msgspec.structs.replace(one, job=job)


def _each_budget(units: Sequence[Unit]) -> Iterator[Unit]:
    """A unit for each budget: a command trains one, and fails for one."""
    numbers = itertools.count()
    for unit in units:
        for branch in resolve(unit.jobs[0]).branches:
            yield Unit(
                number=next(numbers),
                label=unit.label,
                jobs=(msgspec.structs.replace(unit.jobs[0], tokens=(branch.tokens,)),),
                flops=branch.flops,
            )


def _engine(
    name: str,
    workers: int | None,
    address: str,
    cache: Path,
    folder: Path,
    trainer: Trainer,
    resources: Mapping[str, str],
) -> Engine:
    if name == "ray":
        from shapelaw.sweeps.running.ray_engine import RayEngine

        return RayEngine(workers=workers, address=address, cache_dir=cache, trainer=trainer)
    if name == "slurm":
        from shapelaw.sweeps.running.slurm_engine import SlurmEngine

        return SlurmEngine(
            workers=workers,
            address=address,
            cache_dir=cache,
            folder=folder,
            trainer=trainer,
            resources=resources,
        )
    if isinstance(trainer, PythonTrainer):
        usual = default_workers(trainer.devices)
    else:
        usual = default_trainer_workers()
    return LocalEngine(
        workers=workers or usual,
        cache_dir=cache,
        logs=folder / LOGS_FOLDER,
        trainer=trainer,
    )


def _records(event: Event, corpora: Mapping[CorpusSpec, Corpus]) -> Iterator[RunRecord]:
    """The records an event brings: a result, or a failure for each budget that was given up."""
    match event:
        case Finished(record=record):
            yield record
        case GaveUp(unit=unit, reason=reason):
            for job in unit.jobs:
                for branch in resolve(job).branches:
                    yield _failed(unit, job, branch, corpora[job.corpus], reason)


def _failed(unit: Unit, job: TrunkJob, branch: Branch, corpus: Corpus, reason: str) -> RunRecord:
    """The record of a run that was given up."""
    plan = resolve(job)
    return RunRecord(
        run_key=branch.run_key,
        trunk_key=plan.trunk_key,
        design=job.design,
        architecture=ArchitectureFields.of(plan.architecture),
        corpus=corpus,
        n_parameters=ParameterCounts.of(plan.architecture),
        tokens=branch.tokens,
        epochs=0.0,
        flops=branch.flops,
        trunk_flops_shared=unit.shared_flops.get(branch.run_key, 0.0),
        recipe=recipe_of(job, branch),
        seed=job.seed,
        status="failed",
        reason=reason,
        trainer=job.trainer or "shapelaw",
        loss=None,
        loss_standard_error=None,
        bits_per_byte=None,
        curve=[],
        wall_seconds=0.0,
        device_seconds=0.0,
        tokens_per_second=0.0,
        hardware=processor_name(),
        software={},
        finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _tell(tracker: Tracker | None, record: RunRecord) -> None:
    if tracker is not None:
        tracker.send(record)
