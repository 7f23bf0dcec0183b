"""Run a design: train what its folder does not hold yet, keep each run as it finishes.

    from shapelaw.sweeps.design.design import load_design
    from shapelaw.sweeps.running.runner import run_sweep

    result = run_sweep(load_design("smoke"), "runs/smoke")
    result.records                        # every run of the design, as results.record.RunRecord

The engine says what happened (`sweeps.events`); this driver alone writes. Stop it any way you
like: runs that finished are on the disk, and the same call does the rest.
"""

import contextlib
import datetime
import os
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from shapelaw.results.record import (
    ArchitectureFields,
    Corpus,
    ParameterCounts,
    RunRecord,
    content_key,
)
from shapelaw.results.store import RunStore
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.corpus.sources import CorpusSpec
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.design.design import Design
from shapelaw.sweeps.design.layout import Planned, layout
from shapelaw.sweeps.running import local_engine
from shapelaw.sweeps.running import status as watch
from shapelaw.sweeps.running.events import Event, Finished, GaveUp, Unit
from shapelaw.sweeps.running.experiment_tracker import Tracker, tracker_for
from shapelaw.sweeps.running.worker import DEFAULT_TRAINER
from shapelaw.sweeps.training.trunk import Branch, TrunkJob, recipe_of, resolve
from shapelaw.sweeps.training_speed import Speed, known_speed, remember_speed
from shapelaw.sweeps.worker_environment import (
    accelerators,
    default_cache_dir,
    default_workers,
    processor_name,
)

WEIGHTS_FOLDER = "weights"
CHECKPOINTS_FOLDER = "checkpoints"
CHECKPOINT_FROM_SECONDS = 300.0
"""A trunk expected to take this long leaves checkpoints; a shorter one is sooner done again."""
LOGS_FOLDER = "logs"


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
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    address: str = "auto",
    live: bool | None = None,
    track: str | None = None,
    keep_weights: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    wait_seconds: float = 0.0,
    attempts: int = local_engine.ATTEMPTS,
    trainer: str = DEFAULT_TRAINER,
) -> SweepResult:
    """Train every run of the design that `out` does not hold.

    Args:
        out: the folder; made, or resumed.
        engine: `local` worker processes, or `ray` on the cluster at `address`.
        workers: how many at once; one per core or two per accelerator where None.
        address: of the Ray cluster; `auto` finds a running one, `local` starts one here.
        live: a live table; where None, if stderr is a terminal. Otherwise plain lines.
        track: `trackio` or `wandb`, to send every run there too.
        keep_weights: keep trained weights in `out`/weights.
        cache_dir: for tokens and compiled programs; per user where None.
        wait_seconds: how long to wait for another sweep that is writing to `out`.
        attempts: how often a run whose worker dies is begun before it counts as failed.
        trainer: `module:function`, with the signature of `sweeps.train.train_trunk`.

    Raises:
        BadInput: the design, its corpus or the folder cannot be used.
        NoAnswer: another sweep is writing to `out`, the disk is full, workers cannot start.
        KeyboardInterrupt: after Ctrl-C, with everything put away.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"workers = {workers}: one or more is needed")
    planned = layout(design)[0]
    tracker = tracker_for(track, design.name)
    folder, cache = Path(out), Path(cache_dir) if cache_dir is not None else default_cache_dir()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(RunStore(folder, wait_seconds=wait_seconds))
        units = list(_missing(planned, store, folder, keep_weights, known_speed(cache)))
        if engine == "local" and accelerators():
            units = list(_together(units))
        wanted = {branch.run_key: one for one in planned for branch in resolve(one.job).branches}
        reused = len([key for key in wanted if store.done(key)])
        state = watch.SweepState.of(design.name, folder, planned, units, reused)
        state.notes += _other_batches(design, planned, store)
        finished: list[RunRecord] = []
        if units:
            # Tokenised here once, rather than by every worker at the same time.
            corpora = {
                spec: load_corpus(spec, cache).record
                for spec in {job.corpus for unit in units for job in unit.jobs}
            }
            show = stack.enter_context(watch.display(state, live))
            events = stack.enter_context(
                contextlib.closing(
                    _events(engine, units, workers, address, cache, folder, trainer, attempts)
                )
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


def _checkpoints(folder: Path, branches: Sequence[Branch]) -> Path:
    """Where a trunk with these budgets keeps its checkpoints."""
    return folder.resolve() / CHECKPOINTS_FOLDER / content_key([b.tokens for b in branches])


def _together(units: Sequence[Unit]) -> Iterator[Unit]:
    """On an accelerator, runs of one kind as one unit: a population fills it."""
    from shapelaw.sweeps.training.population import kind_of

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


def _events(
    engine: str,
    units: Sequence[Unit],
    workers: int | None,
    address: str,
    cache: Path,
    folder: Path,
    trainer: str,
    attempts: int,
) -> Generator[Event]:
    if engine == "local":
        return local_engine.run_local(
            units,
            workers=workers or default_workers(),
            cache_dir=cache,
            logs=folder / LOGS_FOLDER,
            trainer=trainer,
            attempts=attempts,
        )
    if engine == "ray":
        from shapelaw.sweeps.running.ray_engine import run_ray

        return run_ray(
            units,
            workers=workers,
            address=address,
            cache_dir=cache,
            trainer=trainer,
            attempts=attempts,
        )
    raise BadInput(f"engine = {engine!r}: local or ray")


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
