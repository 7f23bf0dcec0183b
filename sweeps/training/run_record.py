"""From what a run did to the record of it."""

import datetime
import functools
import importlib.metadata
import itertools
import math
import platform

import jax
import msgspec
import numpy as np

from shapelaw.results.record import (
    ArchitectureFields,
    CurvePoint,
    FormatLoss,
    ParameterCounts,
    RunRecord,
)
from shapelaw.sweeps.corpus.token_corpus import TokenCorpus
from shapelaw.sweeps.training.trunk import Branch, TrunkJob, TrunkPlan, recipe_of
from shapelaw.sweeps.worker_environment import processor_name

CURVE_POINTS = 30


class Spent(msgspec.Struct, kw_only=True):
    """What was used since the last record: a branch is charged with what it added."""

    wall_seconds: float = 0.0
    device_seconds: float = 0.0
    format_seconds: float = 0.0
    tokens: int = 0


def record_of(
    job: TrunkJob,
    plan: TrunkPlan,
    branch: Branch,
    corpus: TokenCorpus,
    *,
    losses: list[float],
    result: tuple[float, float] | None,
    loss_by_format: dict[str, FormatLoss],
    reason: str | None,
    spent: Spent,
) -> RunRecord:
    """The record of one budget; `result` is validation loss and standard error, nats a token."""
    loss, error = result if result is not None else (None, None)
    bits = None
    if loss is not None and corpus.record.bytes_per_token is not None:
        bits = loss / math.log(2) / corpus.record.bytes_per_token
    return RunRecord(
        run_key=branch.run_key,
        trunk_key=plan.trunk_key,
        design=job.design,
        architecture=ArchitectureFields.of(plan.architecture),
        corpus=corpus.record,
        n_parameters=ParameterCounts.of(plan.architecture),
        tokens=branch.tokens,
        epochs=corpus.epochs(branch.tokens, plan.sequence_length),
        flops=branch.flops,
        trunk_flops_shared=branch.shared_flops,
        recipe=recipe_of(job, branch),
        seed=job.seed,
        status="finished" if reason is None else "diverged",
        reason=reason,
        loss=loss,
        loss_standard_error=error,
        bits_per_byte=bits,
        loss_by_format=loss_by_format,
        format_seconds=spent.format_seconds,
        curve=thinned(losses, plan.batch_sequences * plan.sequence_length),
        wall_seconds=spent.wall_seconds,
        device_seconds=spent.device_seconds,
        tokens_per_second=spent.tokens / max(spent.wall_seconds, 1e-9),
        hardware=hardware(),
        software=software(),
        finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def thinned(losses: list[float], tokens_per_step: int) -> list[CurvePoint]:
    """The loss curve as at most CURVE_POINTS means over equal stretches of steps."""
    finite = list(itertools.takewhile(math.isfinite, losses))
    ends = np.unique(np.linspace(0, len(finite), CURVE_POINTS + 1).astype(int))
    return [
        CurvePoint(tokens=int(end) * tokens_per_step, loss=float(np.mean(finite[begin:end])))
        for begin, end in itertools.pairwise(ends)
    ]


@functools.cache
def hardware() -> str:
    """What computed: the accelerator's name, or the processor's."""
    device = jax.devices()[0]
    return processor_name() if device.platform == "cpu" else str(device.device_kind)


@functools.cache
def _versions() -> dict[str, str]:
    names = ("shapelaw", "jax", "jaxlib", "flax", "optax", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **versions}


def software() -> dict[str, str]:
    """Versions of what the losses come from."""
    return dict(_versions())
