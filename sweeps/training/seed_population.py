"""Runs of one shape trained as one: seeds and learning rates side by side in every array.

On an accelerator a small model leaves most of the device idle, and a population fills it. On a CPU
core it gains nothing (`python -m benchmarks.train population` measures it), so there each run is
trained alone. In between the device itself decides: members are added while that pays.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import msgspec
import numpy as np

from shapelaw.results.record import RunRecord, content_key
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.training.step import Setting, program_for, use_compilation_cache
from shapelaw.sweeps.training.trainer import Progress, dispatch_steps, train_members
from shapelaw.sweeps.training.trunk import TrunkJob, TrunkPlan, resolve
from shapelaw.sweeps.worker_environment import accelerator_expected, machine_identity

WORTH_DOUBLING = 1.15
"""A population is doubled while its tokens a second grow by this factor or more."""
PROBE_STEPS = 8
MEMBERS_MOST = 1024


def kind_of(job: TrunkJob) -> str:
    """Jobs of one kind can be trained as one: they differ in seed, learning rate and name alone."""
    plan = resolve(job)
    return content_key(
        job.architecture,
        job.corpus,
        job.trainer_version,
        job.weight_format,
        job.weight_decay,
        plan.batch_sequences,
        plan.sequence_length,
        plan.warmup_steps,
        plan.precision,
        [branch.total_steps for branch in plan.branches],
    )


def populations(jobs: Sequence[TrunkJob]) -> list[list[TrunkJob]]:
    """The jobs in groups of one kind, in the order they first appear."""
    groups: dict[str, list[TrunkJob]] = defaultdict(list)
    for job in jobs:
        groups[kind_of(job)].append(job)
    return list(groups.values())


def train_population(
    jobs: Sequence[TrunkJob],
    *,
    cache_dir: Path,
    progress: Callable[[Progress], None] | None = None,
    members: int | None = None,
) -> Iterator[RunRecord]:
    """Train jobs of one kind, `members` at a time; yields each budget's records as they are done.

    Args:
        jobs: of one kind (`kind_of`).
        cache_dir: for tokens, compiled programs and the measured size.
        progress: called after each dispatch.
        members: at a time; None: as many as this device was measured to gain from.

    Raises:
        BadInput: jobs of different kinds, or what `train_trunk` raises.
    """
    if len({kind_of(job) for job in jobs}) > 1:
        raise BadInput("population: its jobs differ in more than seed and learning rate")
    if members is None:
        members = population_size(jobs[0], len(jobs), cache_dir)
    for first in range(0, len(jobs), members):
        yield from train_members(
            jobs[first : first + members], cache_dir=cache_dir, progress=progress
        )


def population_size(job: TrunkJob, most: int, cache_dir: Path) -> int:
    """How many runs of this kind to train at once here, `most` at most; measured once and kept."""
    if not accelerator_expected() or most == 1:
        return 1
    plan = resolve(job)
    device = jax.devices()[0]
    key = content_key(
        machine_identity(),
        str(device.device_kind),
        jax.__version__,
        most,
        job.architecture,
        plan.batch_sequences,
        plan.sequence_length,
        plan.precision,
    )
    file = Path(cache_dir) / "populations" / f"{key}.json"
    try:
        best = msgspec.json.decode(file.read_bytes(), type=int)
    except (OSError, msgspec.MsgspecError):
        use_compilation_cache(cache_dir)
        best = _measured_size(job, plan, min(most, MEMBERS_MOST))
        write_atomically(file, msgspec.json.encode(best))
    return max(1, min(best, most))


def _measured_size(job: TrunkJob, plan: TrunkPlan, most: int) -> int:
    """Grow the population twofold while tokens a second grow, memory lasts and there are runs."""
    best, best_rate = 1, tokens_per_second(job, plan, 1)
    while best < most:
        members = min(2 * best, most)
        try:
            rate = tokens_per_second(job, plan, members)
        except jax.errors.JaxRuntimeError:  # out of memory
            break
        if rate < best_rate * WORTH_DOUBLING ** math.log2(members / best):
            break
        best, best_rate = members, rate
    return best


def tokens_per_second(job: TrunkJob, plan: TrunkPlan, members: int, repeats: int = 3) -> float:
    """Tokens a second of `members` runs trained as one, all together, on random tokens."""
    program = program_for(
        Setting(
            plan.architecture,
            plan.precision,
            job.weight_decay,
            plan.sequence_length,
            job.trainer_version,
            members=members,
        )
    )
    state = program.begin(np.arange(members, dtype=np.int32))
    # Arrays of the size that training has, so that its program is compiled here, not another.
    steps = dispatch_steps(plan.batch_sequences * plan.sequence_length)
    shape = (members, steps, plan.batch_sequences, plan.sequence_length + 1)
    vocabulary = plan.architecture.vocab_size
    batches = np.random.default_rng(0).integers(0, vocabulary, shape).astype(np.int32)
    rates = np.full(shape[:2], plan.learning_rate, np.float32)
    seconds = []
    for _ in range(repeats + 1):  # the first one compiles
        started = time.perf_counter()
        state, losses = program.advance(state, batches, rates, min(PROBE_STEPS, steps))
        losses.block_until_ready()
        seconds.append(time.perf_counter() - started)
    tokens = members * min(PROBE_STEPS, steps) * plan.batch_sequences * plan.sequence_length
    return tokens / min(seconds[1:])
