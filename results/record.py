"""The run record: what one training run was and what came of it. One JSON line each."""

import hashlib
import json
from collections import Counter
from typing import Annotated, Any, Literal

import msgspec

from shapelaw.scaling.architecture import Architecture, SharingOrder
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import one_line, shown

SCHEMA_VERSION = 2
"""1: eleven fields of architecture, the order of sharing in the recipe, no loss by format."""

MOST = {"tokens": 1e18, "flops": 1e36, "n_parameters.total": 1e16, "loss": 1e4}
"""What no run goes beyond."""
LONGEST_NAME = 1_000

TRAINER_OF_VERSION_1 = 3
"""The trainer that wrote the records of schema version 1."""

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class ArchitectureOfVersion1(
    msgspec.Struct, frozen=True, forbid_unknown_fields=False, kw_only=True
):
    """The fields of an architecture in records of version 1; run keys of that time hash them."""

    vocab_size: int
    d_model: int
    n_blocks: int
    sharing: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ff: int
    tied_embeddings: bool
    window: int | None
    global_every: int | None


class ArchitectureFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of `scaling.architecture.Architecture`, as they stand in a file."""

    vocab_size: Positive
    d_model: Positive
    n_blocks: Positive
    sharing: Positive = 1
    n_prelude: Count = 0
    n_coda: Count = 0
    sharing_order: SharingOrder = "immediate"
    input_injection: bool = False
    n_heads: Positive
    n_kv_heads: Positive
    head_dim: Positive
    d_ff: Positive
    tied_embeddings: bool = True
    window: Positive | None = None
    global_every: Positive | None = None

    def build(self) -> Architecture:
        """The architecture itself; raises BadInput where the fields do not fit together."""
        return Architecture(**msgspec.structs.asdict(self))

    @classmethod
    def of(cls, architecture: Architecture) -> "ArchitectureFields":
        """From an architecture. Raises BadInput for a pattern that no trainer here makes."""
        if architecture.last_local:
            raise BadInput("architecture last_local = true: no trainer here makes this pattern")
        return cls(**architecture.to_dict())


class ParameterCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """N, by each count."""

    non_embedding: Positive
    embedding: Positive
    total: Positive
    applied: Positive

    @classmethod
    def of(cls, architecture: Architecture) -> "ParameterCounts":
        """Counted from the architecture."""
        return cls(
            non_embedding=architecture.non_embedding_parameters,
            embedding=architecture.embedding_parameters,
            total=architecture.total_parameters,
            applied=architecture.applied_parameters,
        )


class Corpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was read, by which tokenizer; losses compare only where all three fingerprints agree."""

    name: str
    corpus_fingerprint: str
    """Hash of the training tokens."""
    tokenizer: str
    """`bytes`, `bpe-1024`, or the name of a tokenizer.json."""
    tokenizer_fingerprint: str
    validation_fingerprint: str
    """Hash of the validation tokens."""
    validation_tokens: Positive
    bytes_per_token: Annotated[float, msgspec.Meta(gt=0)] | None
    """On the validation set; turns nats per token into bits per byte. None: not known."""


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How it was trained: everything but shape, text and budget that could move the loss."""

    optimizer: str
    learning_rate: Annotated[float, msgspec.Meta(gt=0)]
    """Peak, after width and depth scaling."""
    schedule: str
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)]
    decay_steps: Annotated[int, msgspec.Meta(ge=0)]
    total_steps: Positive
    batch_sequences: Positive
    sequence_length: Positive
    weight_decay: NotNegative
    beta1: float
    beta2: float
    gradient_clip: NotNegative
    precision: str
    weight_format: str = "f16"
    """`f16`: trained as they are; else the weights were rounded to this format through the decay,
    and `loss` is the loss of the rounded ones."""
    trainer_version: int | None = None
    """Of the built-in trainer: 3 had another rule of learning rates; None: another trainer."""


class CurvePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One point of a training loss curve."""

    tokens: Positive
    loss: float


class FormatLoss(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What storing all matrices in one tensor type does to a run's loss, nats a token."""

    loss: float
    """`loss` of the run and `difference` together."""
    difference: float
    """Mean over windows of the loss in this type less the run's own loss on the same windows."""
    standard_error: NotNegative
    """Of `difference`, from the finite number of windows."""
    blocks_difference: float | None = None
    """As `difference`, with the token embedding left as it was."""
    blocks_standard_error: NotNegative | None = None
    tokens: Positive | None = None
    """Validation tokens it was measured on."""


class RunRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One run. `loss` is in nats per token on the validation set; None where it did not finish."""

    schema_version: Literal[2] = 2
    run_key: str
    """Hash of everything that defines the run: architecture, corpus, recipe, tokens, seed."""
    trunk_key: str
    """Hash of what it shares with the other branches of its trunk; runs of a trunk correlate."""
    design: str
    """Name of the design it was made for."""
    architecture: ArchitectureFields
    corpus: Corpus
    n_parameters: ParameterCounts
    tokens: Positive
    """D, training tokens seen."""
    epochs: NotNegative
    """Passes over the training text; above 1 means repeated data."""
    flops: NotNegative
    """C, training FLOPs of this budget (forward and backward, full T×T attention)."""
    trunk_flops_shared: NotNegative = 0.0
    """Of `flops`, what was computed once for several branches."""
    recipe: Recipe
    seed: int
    status: Literal["finished", "diverged", "failed"]
    reason: str | None = None
    loss: float | None
    loss_standard_error: float | None
    """Standard error of `loss` from the finite validation set."""
    bits_per_byte: float | None
    loss_by_format: dict[str, FormatLoss] = {}
    """By tensor type; empty where it was not measured."""
    format_seconds: NotNegative = 0.0
    """Of `wall_seconds`, what measuring `loss_by_format` took."""
    curve: list[CurvePoint]
    trainer: str = "shapelaw"
    """What trained it: the built-in trainer, or the name of an external one."""
    wall_seconds: NotNegative
    device_seconds: NotNegative
    tokens_per_second: NotNegative
    hardware: str
    software: dict[str, str]
    finished_at: str
    """ISO 8601, UTC."""


def content_key(*parts: object) -> str:
    """Sixteen hex digits that change when any part does: structs, dicts or plain values."""
    encoded = msgspec.json.encode(parts, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:16]


def decode_record(line: bytes, where: str) -> RunRecord:
    """Read one line, strictly. Raises BadInput naming `where`, the field and the trouble."""
    try:
        record = _of_any_version(msgspec.json.decode(line))
        json.loads(line, object_pairs_hook=_no_key_twice)
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: byte 0x{error.object[error.start]:02x} is not UTF-8") from None
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadInput(f"{where}: {one_line(error, 160)}") from None
    _check_sense(record, where)
    return record


def _no_key_twice(items: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in items]
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"the key {shown(twice)!r} stands twice in one object")


def _check_sense(record: RunRecord, where: str) -> None:
    """Raises BadInput for numbers that no run has and for names that are no text."""
    counts = record.n_parameters
    numbers = {
        "tokens": record.tokens,
        "flops": record.flops,
        "n_parameters.total": max(counts.total, counts.non_embedding, counts.applied),
        "loss": abs(record.loss or 0.0),
    }
    for name, value in numbers.items():
        if value > MOST[name]:
            raise BadInput(
                f"{where}: {name} = {shown(value, 24)}: at most {MOST[name]:g} is needed"
            )
    for name in ("run_key", "trunk_key", "design"):
        text = getattr(record, name)
        if not text.isprintable() or len(text) > LONGEST_NAME:
            raise BadInput(
                f"{where}: {name} = {shown(text)!r}: a short text without control "
                "characters is needed"
            )


def _of_any_version(fields: Any) -> RunRecord:
    """A record from its plain values, brought up to the present version."""
    if isinstance(fields, dict) and fields.get("schema_version", 1) == 1:
        recipe, architecture = fields.get("recipe"), fields.get("architecture")
        if isinstance(recipe, dict) and isinstance(architecture, dict):
            order = recipe.pop("sharing_order", "immediate")
            # Where no block is applied twice the order means nothing.
            shared = architecture.get("sharing", 1) != 1
            architecture.setdefault("sharing_order", order if shared else "immediate")
            recipe.setdefault("trainer_version", TRAINER_OF_VERSION_1)
        fields["schema_version"] = SCHEMA_VERSION
    return msgspec.convert(fields, RunRecord)
