"""One trunk to train: what defines it, what it resolves to, and the keys of its runs.

A trunk is one warmup-stable-decay run of one architecture; each of its token budgets is a branch
off it with a short decay, and becomes one run record. Everything is known before anything is
trained, and without importing a framework: a driver can tell what is done and what is not.
"""

import functools
import math
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from shapelaw.results.record import ArchitectureFields, ArchitectureOfVersion1, Recipe, content_key
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.corpus.sources import CorpusSpec, corpus_identity, vocabulary_size
from shapelaw.sweeps.training import schedule
from shapelaw.sweeps.worker_environment import accelerator_expected

__all__ = ["Branch", "CorpusSpec", "TrunkJob", "TrunkPlan", "job_keys", "resolve"]

SEQUENCE_LENGTH = 128
WeightFormat = Literal["f16", "int4_g32"]
MEASURED_TYPES = ("q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "q3_k", "q2_k", "int4_g32_f32")
"""Tensor types whose price in loss every run measures on its own weights."""

Positive = Annotated[int, msgspec.Meta(ge=1)]


class TrunkJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One trunk with its budgets. None means: by the rule in `sweeps.schedule`.

    Runs that are to be compared should share `tokens` and `batch_sequences`: give every shape of
    one nominal size the same budgets, rather than budgets from each shape's own parameter count.
    """

    architecture: ArchitectureFields
    tokens: tuple[Positive, ...]
    """Budgets D, in tokens, any order; each is rounded to whole steps."""
    corpus: CorpusSpec = CorpusSpec()
    seed: int = 0
    """Seeds the weights and the order of the text; the order is the same for every shape."""
    design: str = ""
    """Name of the design it was made for; no part of a key."""
    learning_rate: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Multiple of the tuned, width- and depth-scaled peak of `schedule.learning_rate_for`."""
    batch_sequences: Positive | None = None
    sequence_length: Positive = SEQUENCE_LENGTH
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] | None = None
    weight_decay: Annotated[float, msgspec.Meta(ge=0)] = schedule.WEIGHT_DECAY
    trainer_version: schedule.TrainerVersion = schedule.TRAINER_VERSION
    """3 trains as the records of that version were trained, so that their sweeps can go on."""
    weight_format: WeightFormat = "f16"
    """`int4_g32`: through each decay the forward pass reads weights rounded to four bits and a
    scale for each 32, with straight-through derivatives (quantisation-aware training)."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the matrix multiplies; auto: float32 on a CPU, bfloat16 on an accelerator."""
    measured_types: tuple[str, ...] = MEASURED_TYPES
    """Tensor types for `loss_by_format` of the records; no part of a key."""
    keep_weights: str | None = None
    """A folder: each budget's weights, unrounded, go to `<folder>/<run_key>.safetensors`; no part
    of a key."""
    trainer: str = ""
    """Name of an external trainer, part of every key; "" for the built-in one."""
    trunk_tokens: tuple[Positive, ...] = ()
    """All budgets of the trunk, where `tokens` are some of them; no part of a key."""


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """One budget of a trunk."""

    run_key: str
    tokens: int
    """D: total_steps · batch_sequences · sequence_length."""
    total_steps: int
    decay_steps: int
    flops: float
    """C, of the whole path from step 0 to the end of the decay."""
    shared_flops: float
    """Of `flops`, what the next smaller budget of this trunk has already paid."""

    @property
    def stable_steps(self) -> int:
        """Steps on the trunk before the decay branches off."""
        return self.total_steps - self.decay_steps


class TrunkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a job resolves to: defaults filled in, budgets in whole steps, keys computed."""

    trunk_key: str
    architecture: Architecture
    learning_rate: float
    """Peak, after scaling."""
    batch_sequences: int
    sequence_length: int
    warmup_steps: int
    precision: str
    branches: tuple[Branch, ...]
    """By tokens, smallest first."""

    @property
    def flops(self) -> float:
        """FLOPs to train the trunk with all its branches: nothing is computed twice."""
        return sum(branch.flops - branch.shared_flops for branch in self.branches)

    @property
    def trained_tokens(self) -> int:
        """Tokens that are trained on, decays included."""
        per_step = self.batch_sequences * self.sequence_length
        stable = max(branch.stable_steps for branch in self.branches)
        return per_step * (stable + sum(branch.decay_steps for branch in self.branches))


@functools.lru_cache(maxsize=4096)
def resolve(job: TrunkJob) -> TrunkPlan:
    """Fill in the defaults and compute the keys.

    Raises:
        BadInput: no budget, two budgets that are the same number of steps, a vocabulary smaller
            than the tokenizer's, or a corpus that is not there.
    """
    architecture = job.architecture.build()
    if not job.tokens:
        raise BadInput("tokens = []: at least one budget is needed")
    least = vocabulary_size(job.corpus)
    if least is not None and architecture.vocab_size < least:
        raise BadInput(
            f"vocab_size = {architecture.vocab_size}: the tokenizer "
            f"{job.corpus.tokenizer!r} needs at least {least}"
        )
    budgets = sorted(job.tokens)
    length = job.sequence_length
    batch = job.batch_sequences or schedule.batch_sequences_for(budgets[-1], length)
    steps = [max(2, round(tokens / (batch * length))) for tokens in budgets]
    if len(set(steps)) < len(steps):
        raise BadInput(
            f"tokens = {budgets}: two budgets are the same number of steps of "
            f"{batch * length} tokens; make the batch smaller or drop one"
        )
    warmup = job.warmup_steps
    if warmup is None:
        warmup = schedule.warmup_steps_for(steps[0])
    precision = job.precision
    if precision == "auto":
        precision = "bfloat16" if accelerator_expected() else "float32"
    learning_rate = schedule.learning_rate_for(
        architecture, batch * length, job.learning_rate, job.trainer_version
    )
    shape, order = _trunk_key_parts(job)
    trunk_key = content_key(
        "trunk",
        job.trainer_version,
        shape,
        corpus_identity(job.corpus),
        job.seed,
        learning_rate,
        batch,
        length,
        warmup,
        job.weight_decay,
        order,
        precision,
        schedule.BETA1,
        schedule.BETA2,
        schedule.GRADIENT_CLIP,
        *([job.trainer] if job.trainer else []),
    )
    per_token = float(architecture.training_flops_per_token(length))
    branches = []
    paid_steps = 0
    for total in steps:
        decay = schedule.decay_steps_for(total)
        branches.append(
            Branch(
                run_key=content_key(trunk_key, total, decay),
                tokens=total * batch * length,
                total_steps=total,
                decay_steps=decay,
                flops=per_token * total * batch * length,
                shared_flops=per_token * min(paid_steps, total - decay) * batch * length,
            )
        )
        paid_steps = total - decay
    return TrunkPlan(
        trunk_key=trunk_key,
        architecture=architecture,
        learning_rate=learning_rate,
        batch_sequences=batch,
        sequence_length=length,
        warmup_steps=warmup,
        precision=precision,
        branches=tuple(branches),
    )


def _trunk_key_parts(job: TrunkJob) -> tuple[object, object]:
    """The shape, and the weight format; in version 3 the order of sharing, written apart.

    Raises BadInput for what trainers of version 3 could not do.
    """
    shape = job.architecture
    if job.trainer_version > schedule.UNSCALED_LOGITS:
        return shape, job.weight_format
    earlier = msgspec.convert(msgspec.structs.asdict(shape), ArchitectureOfVersion1, strict=False)
    if shape.n_prelude or shape.n_coda or shape.input_injection or job.weight_format != "f16":
        raise BadInput(
            f"trainer_version = {job.trainer_version}: has neither prelude, coda, input "
            "injection nor weight formats; leave trainer_version out"
        )
    return earlier, shape.sharing_order


def job_keys(job: TrunkJob) -> list[str]:
    """Run keys, one a budget, smallest first."""
    return [branch.run_key for branch in resolve(job).branches]


def weights_file(folder: Path, run_key: str) -> Path:
    """Where the weights of a run go, below the folder that `keep_weights` names."""
    return folder / f"{run_key}.safetensors"


def recipe_of(job: TrunkJob, branch: Branch) -> Recipe:
    """The recipe of one branch, as its record carries it."""
    plan = resolve(job)
    return Recipe(
        optimizer="adamw",
        learning_rate=plan.learning_rate,
        schedule="warmup-stable-decay (1 - sqrt)",
        warmup_steps=plan.warmup_steps,
        decay_steps=branch.decay_steps,
        total_steps=branch.total_steps,
        batch_sequences=plan.batch_sequences,
        sequence_length=plan.sequence_length,
        weight_decay=job.weight_decay,
        beta1=schedule.BETA1,
        beta2=schedule.BETA2,
        gradient_clip=schedule.GRADIENT_CLIP,
        precision=plan.precision,
        weight_format=job.weight_format,
        trainer_version=job.trainer_version,
    )


def learning_rate_at(plan: TrunkPlan, branch: Branch, step: int) -> float:
    """Learning rate of step `step` (from 0) on the way to the end of `branch`."""
    if step < plan.warmup_steps:
        return plan.learning_rate * (step + 1) / plan.warmup_steps
    into_decay = step - branch.stable_steps
    if into_decay < 0:
        return plan.learning_rate
    return plan.learning_rate * (1 - math.sqrt((into_decay + 1) / (branch.decay_steps + 1)))


def check_divides(batch_sequences: int, devices: int) -> None:
    """Raises BadInput where a batch does not split evenly among the devices."""
    if batch_sequences % devices:
        raise BadInput(
            f"batch_sequences = {batch_sequences}: must be a multiple of the "
            f"{devices} devices it is split among"
        )
