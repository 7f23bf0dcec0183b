"""The folder of one external run: what its trainer is given, and what it must leave there.

config.json     the architecture, as Hugging Face configurations have it
run.json        all else: tokens, seed, suggested recipe, where text and validation set are
log.txt         what the trainer printed
result.json     left by the trainer: the final loss, and what it wishes to add
"""

import datetime
import json
import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from shapelaw.results.record import (
    ArchitectureFields,
    Corpus,
    CurvePoint,
    FormatLoss,
    ParameterCounts,
    Recipe,
    RunRecord,
    content_key,
)
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import convert, parse_json, read_bytes, reason_of
from shapelaw.sweeps.corpus.token_corpus import TokenCorpus
from shapelaw.sweeps.training.trunk import TrunkJob, recipe_of, resolve
from shapelaw.sweeps.worker_environment import processor_name

CONFIG_FILE, RUN_FILE, RESULT_FILE, LOG_FILE = "config.json", "run.json", "result.json", "log.txt"
RUN_FILE_VERSION = 1
LARGEST_RESULT_BYTES = 16_000_000
TOKENS_WITHIN = 0.02
"""How far the tokens trained on may be from those asked for: whole steps of another batch."""
CURVE_POINTS = 1000

Positive = Annotated[int, msgspec.Meta(ge=1)]


class UnusableResult(Exception):
    """What the trainer left is no result; the message says why."""


class BranchFile(msgspec.Struct, frozen=True, kw_only=True):
    """A budget of the trunk the run belongs to."""

    run_key: str
    tokens: int
    decay_tokens: int


class CorpusFile(msgspec.Struct, frozen=True, kw_only=True):
    """The design's text, tokenised. A trainer with data of its own says so in its result."""

    record: Corpus
    train: str
    """File of training tokens, little-endian unsigned integers of `dtype`."""
    train_tokens: int
    held_out: str
    """File of all tokens kept from training."""
    held_out_tokens: int
    dtype: str
    validation_starts: list[int]
    """Where in `held_out` each validation window of sequence_length + 1 tokens begins."""
    tokenizer: str | None
    """A tokenizer.json, where there is one."""


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """run.json."""

    version: int = RUN_FILE_VERSION
    run_key: str
    trunk_key: str
    design: str
    architecture: ArchitectureFields
    n_parameters: ParameterCounts
    tokens: int
    flops: float
    seed: int
    sequence_length: int
    branches: list[BranchFile]
    """All budgets of the trunk, smallest first. Each is a run of its own; a trainer that can
    branch a short decay off a longer run may leave checkpoints in `trunk_folder` for the others."""
    trunk_folder: str
    recipe: Recipe
    """Suggested: peak learning rate, batch, schedule."""
    corpus: CorpusFile


class ResultCorpus(msgspec.Struct, frozen=True, kw_only=True):
    """Data of the trainer's own."""

    name: str
    tokenizer: str
    validation_tokens: Positive
    bytes_per_token: Annotated[float, msgspec.Meta(gt=0)] | None = None


class ResultFile(msgspec.Struct, frozen=True, kw_only=True):
    """result.json. Fields that are not named here are left alone."""

    loss: float | None
    """Final validation loss, nats a token."""
    tokens: Positive
    """Trained on."""
    status: Literal["finished", "diverged"] = "finished"
    reason: str | None = None
    loss_standard_error: float | None = None
    bits_per_byte: float | None = None
    loss_by_format: dict[str, FormatLoss | float] = {}
    """Tensor type → validation loss of the weights rounded to it, alone or as records have it."""
    curve: list[CurvePoint | tuple[int, float]] = []
    """Training loss: (tokens, loss) pairs."""
    trunk_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Where training began from a checkpoint of the trunk: the tokens that had been paid for."""
    recipe: dict[str, Any] = {}
    """Fields of the suggested recipe that were otherwise."""
    corpus: ResultCorpus | None = None
    train_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    hardware: str | None = None
    software: dict[str, str] = {}


def write_run_folder(
    folder: Path, job: TrunkJob, corpus: TokenCorpus, branches: list[BranchFile], trunk_folder: Path
) -> None:
    """Write config.json and run.json of a job of one budget; what else is there stays."""
    from shapelaw.scaling.hugging_face_config import hf_config

    plan = resolve(job)
    (branch,) = plan.branches
    folder.mkdir(parents=True, exist_ok=True)
    trunk_folder.mkdir(parents=True, exist_ok=True)
    run = RunFile(
        run_key=branch.run_key,
        trunk_key=plan.trunk_key,
        design=job.design,
        architecture=job.architecture,
        n_parameters=ParameterCounts.of(plan.architecture),
        tokens=branch.tokens,
        flops=branch.flops,
        seed=job.seed,
        sequence_length=plan.sequence_length,
        branches=branches,
        trunk_folder=str(trunk_folder),
        recipe=recipe_of(job, branch),
        corpus=_corpus_file(corpus, plan.sequence_length),
    )
    config = hf_config(plan.architecture, context_length=plan.sequence_length)
    _replace(folder / CONFIG_FILE, json.dumps(config, indent=2).encode() + b"\n")
    _replace(folder / RUN_FILE, msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")


def _file_of(tokens: np.ndarray) -> str:
    """Where memory-mapped tokens lie."""
    assert isinstance(tokens, np.memmap)
    return str(tokens.filename)


def _corpus_file(corpus: TokenCorpus, sequence_length: int) -> CorpusFile:
    return CorpusFile(
        record=corpus.record,
        train=_file_of(corpus.train),
        train_tokens=len(corpus.train),
        held_out=_file_of(corpus.held_out),
        held_out_tokens=len(corpus.held_out),
        dtype=corpus.train.dtype.str,
        validation_starts=corpus.validation_starts(sequence_length).tolist(),
        tokenizer=None if corpus.tokenizer_file is None else str(corpus.tokenizer_file),
    )


def read_result(folder: Path, job: TrunkJob) -> ResultFile:
    """What the trainer left. Raises UnusableResult."""
    path = folder / RESULT_FILE
    if not path.exists():
        raise UnusableResult(f"it wrote no {RESULT_FILE}")
    try:
        content = read_bytes(path, "result", LARGEST_RESULT_BYTES)
        # Python's own writer puts NaN into JSON, where it has no place: read, to be named.
        plain = parse_json(content, "result", path, allow_nan=True)
        result = convert(plain, ResultFile, "result", path)
    except BadInput as error:
        raise UnusableResult(f"{RESULT_FILE}: {reason_of(error)}"[:200]) from None
    if result.status == "finished" and (result.loss is None or not math.isfinite(result.loss)):
        raise UnusableResult(f"{RESULT_FILE}: loss = {result.loss}: a finite number is needed")
    if result.loss is not None and result.loss < 0:
        raise UnusableResult(f"{RESULT_FILE}: loss = {result.loss:g}: nats a token are positive")
    asked = resolve(job).branches[0].tokens
    off = abs(result.tokens / asked - 1)
    if result.status == "finished" and off > TOKENS_WITHIN:
        raise UnusableResult(
            f"{RESULT_FILE}: tokens = {result.tokens}: {asked} were asked for, and at most "
            f"{TOKENS_WITHIN:.0%} more or fewer will do"
        )
    by_format = result.loss_by_format.values()
    numbers = [result.loss_standard_error, result.bits_per_byte]
    numbers += [value.loss if isinstance(value, FormatLoss) else value for value in by_format]
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise UnusableResult(f"{RESULT_FILE}: every number must be finite")
    return result


def record_of_result(
    job: TrunkJob, result: ResultFile, corpus: TokenCorpus, trainer: str, wall_seconds: float
) -> RunRecord:
    """The run's record. Raises UnusableResult where the result's recipe makes no sense."""
    plan = resolve(job)
    (branch,) = plan.branches
    per_token = branch.flops / branch.tokens
    recipe = {**msgspec.structs.asdict(recipe_of(job, branch)), **result.recipe}
    try:
        recipe_used = msgspec.convert(recipe, Recipe)
    except msgspec.ValidationError as error:
        raise UnusableResult(f"{RESULT_FILE}: recipe: {error}"[:200]) from None
    trained_on = corpus.record if result.corpus is None else _corpus_record(result.corpus)
    finished = result.status == "finished"
    bits = result.bits_per_byte
    if bits is None and finished and trained_on.bytes_per_token is not None:
        assert result.loss is not None
        bits = result.loss / math.log(2) / trained_on.bytes_per_token
    curve = [
        point if isinstance(point, CurvePoint) else CurvePoint(tokens=point[0], loss=point[1])
        for point in result.curve
    ]
    curve = [point for point in curve if point.tokens > 0 and math.isfinite(point.loss)]
    seconds = result.train_seconds if result.train_seconds is not None else wall_seconds
    return RunRecord(
        run_key=branch.run_key,
        trunk_key=plan.trunk_key,
        design=job.design,
        architecture=job.architecture,
        corpus=trained_on,
        n_parameters=ParameterCounts.of(plan.architecture),
        tokens=result.tokens,
        epochs=(
            corpus.epochs(result.tokens, plan.sequence_length) if result.corpus is None else 0.0
        ),
        flops=per_token * result.tokens,
        trunk_flops_shared=per_token * min(result.trunk_tokens, result.tokens),
        recipe=recipe_used,
        seed=job.seed,
        status=result.status,
        reason=None if finished else (result.reason or "its trainer says it diverged")[:300],
        loss=result.loss if finished else None,
        loss_standard_error=result.loss_standard_error if finished else None,
        bits_per_byte=bits if finished else None,
        loss_by_format=_format_losses(result) if finished else {},
        curve=curve[:: -(-len(curve) // CURVE_POINTS) or 1],
        trainer=trainer,
        wall_seconds=wall_seconds,
        device_seconds=seconds,
        tokens_per_second=(result.tokens - result.trunk_tokens) / max(seconds, 1e-9),
        hardware=result.hardware or processor_name(),
        software=result.software,
        finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _format_losses(result: ResultFile) -> dict[str, FormatLoss]:
    """As records have them. A loss without an error gets the run's own, which is the larger: both
    losses are of the same windows."""
    assert result.loss is not None
    return {
        name: value
        if isinstance(value, FormatLoss)
        else FormatLoss(
            loss=value,
            difference=value - result.loss,
            standard_error=result.loss_standard_error or 0.0,
        )
        for name, value in result.loss_by_format.items()
    }


def _corpus_record(given: ResultCorpus) -> Corpus:
    """Data that only the trainer has seen: told apart by what it calls them."""
    return Corpus(
        name=given.name,
        corpus_fingerprint=content_key("external corpus", given.name, given.tokenizer),
        tokenizer=given.tokenizer,
        tokenizer_fingerprint=content_key("external tokenizer", given.tokenizer),
        validation_fingerprint=content_key("external validation", given.name, given.tokenizer),
        validation_tokens=given.validation_tokens,
        bytes_per_token=given.bytes_per_token,
    )


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    os.replace(beside, path)
