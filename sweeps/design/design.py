"""A design: which runs to do, read from a TOML file that reads as a sentence.

    design = load_design("smoke")          # a preset, or a path

The file says sizes, a base shape and what varies around it; `[[part]]` tables, done in order, make
a study of several such designs. `sweeps.design.layout` turns what it says into shapes,
`sweeps.design.plan` says what they cost.
"""

import contextlib
import os
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from shapelaw.results.record import ArchitectureFields
from shapelaw.scaling.architecture import SharingOrder
from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.units import parse_bytes, parse_flops, whole_count, with_units
from shapelaw.scaling.user_files import (
    LARGEST_TOML,
    convert,
    exists,
    parse_toml,
    read_bytes,
    refuse,
    shown,
)
from shapelaw.sweeps.corpus.sources import CorpusSpec
from shapelaw.sweeps.training.schedule import TRAINER_VERSION, TrainerVersion
from shapelaw.sweeps.training.trunk import MEASURED_TYPES, SEQUENCE_LENGTH, WeightFormat

if TYPE_CHECKING:
    pass

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e30)]
Whole = Annotated[int, msgspec.Meta(ge=1, le=10**16)]
Size = Annotated[int, msgspec.Meta(ge=1, le=10**13)]
"""Parameters of a model."""
Small = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=10_000)]
Runs = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Seed = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Sharing = Literal["stored", "applied"]


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The reference shape. In a part, whatever is left out is the design's own."""

    non_embedding: Size | tuple[Size, ...] | None = None
    """Sizes, in stored parameters without the embedding."""
    aspect_ratio: Positive | None = None
    """d_model / depth of the base shape; sets its width at each size."""
    mlp_attention_ratio: Positive | None = None
    gqa_group: Small | None = None
    sharing: Small | None = None
    sharing_equal: Sharing | None = None
    """What a shared shape keeps: `stored` parameters, or `applied` ones (the FLOPs)."""
    sharing_order: SharingOrder | None = None
    n_prelude: Count | None = None
    n_coda: Count | None = None
    input_injection: bool | None = None
    learning_rate: Positive | None = None
    """Multiple of the recipe's rate for the shape."""
    weight_format: WeightFormat | None = None
    """What training rounds the weights to through its decays; f16: nothing."""
    head_dim: Whole | None = None
    window: Whole | None = None
    global_every: Whole | None = None
    tied_embeddings: bool | None = None
    vocab_size: Whole | None = None
    """The tokenizer's own where left out."""


class Axes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Values to visit, an axis at a time unless `cross` or `zip` names the axis."""

    d_model: tuple[Positive, ...] | None = None
    """Multiples of the base width at the same size."""
    mlp_attention_ratio: tuple[Positive, ...] | None = None
    gqa_group: tuple[Small, ...] | None = None
    sharing: tuple[Small, ...] | None = None
    sharing_order: tuple[SharingOrder, ...] | None = None
    n_prelude: tuple[Count, ...] | None = None
    n_coda: tuple[Count, ...] | None = None
    input_injection: tuple[bool, ...] | None = None
    learning_rate: tuple[Positive, ...] | None = None
    weight_format: tuple[WeightFormat, ...] | None = None
    window: tuple[Whole, ...] | None = None

    def given(self) -> dict[str, tuple[Any, ...]]:
        """The axes that have values."""
        return {
            name: getattr(self, name)
            for name in Axes.__struct_fields__
            if getattr(self, name) is not None
        }


class Vary(Axes, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The axes, and which go together."""

    cross: tuple[str | tuple[str, ...], ...] | None = None
    """Axes (or groups of axes) done as a full product with each other and the base."""
    zip: tuple[str, ...] | None = None
    """Axes stepped together: the first values, the second values, ..."""


class Latin(Axes, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Latin hypercube: [low, high] for ratios, the values to choose from for whole numbers."""

    runs: Runs
    seed: Seed = 0


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One named shape, as it differs from the base."""

    label: str = ""
    d_model: Positive | None = None
    mlp_attention_ratio: Positive | None = None
    gqa_group: Small | None = None
    sharing: Small | None = None
    sharing_order: SharingOrder | None = None
    n_prelude: Count | None = None
    n_coda: Count | None = None
    input_injection: bool | None = None
    sharing_equal: Sharing | None = None
    learning_rate: Positive | None = None
    weight_format: WeightFormat | None = None
    window: Whole | None = None
    global_every: Whole | None = None


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One architecture given in full, and its budgets: what `propose` writes."""

    architecture: ArchitectureFields
    tokens: tuple[Whole, ...]
    label: str = ""
    seed: Seed | None = None
    """Of this run alone; where left out, one run for each seed of the part or the design."""
    learning_rate: Positive = 1.0
    """Multiple of the recipe's rate for the shape."""
    weight_format: WeightFormat = "f16"
    batch_sequences: Whole | None = None
    """As in the trunks it is to be compared with; the design's where left out."""
    warmup_steps: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stretch of a study: done before the parts after it."""

    name: str = ""
    base: Base = Base()
    vary: Vary = Vary()
    cross: tuple[str | tuple[str, ...], ...] | None = None
    latin: Latin | None = None
    shapes: tuple[Shape, ...] | None = None
    runs: tuple[Run, ...] | None = None
    tokens_per_parameter: tuple[Positive, ...] | None = None
    token_budgets: tuple[Whole, ...] | None = None
    flops: tuple[Positive, ...] | None = None
    """Iso-FLOP: budgets in training FLOPs, from which each shape's tokens follow."""
    seeds: tuple[Seed, ...] | None = None


class Design(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A design file. Make one with `load_design` or `read_design`, or from these fields."""

    name: str
    corpus: str | None = None
    text: tuple[str, ...] | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    dataset_split: str = "train"
    dataset_field: str = "text"
    encoding: str = "utf-8"
    """Of the text files."""
    dataset_bytes: Whole = CorpusSpec().dataset_bytes
    tokens: str | None = None
    tokenizer: str = "bytes"
    validation_tokens: Whole = CorpusSpec().validation_tokens
    tokens_per_parameter: tuple[Positive, ...] | None = None
    """Budgets D as multiples of the nominal size, branches of one trunk; 20 where none is given."""
    token_budgets: tuple[Whole, ...] | None = None
    """Budgets D in tokens, instead."""
    flops: tuple[Positive, ...] | None = None
    """Budgets in training FLOPs, instead."""
    seeds: tuple[Seed, ...] = (0,)
    sequence_length: Whole = SEQUENCE_LENGTH
    batch_sequences: Whole | None = None
    """Of every run, so that losses compare across sizes and budgets; where left out, what the rule
    in `sweeps.schedule` gives for the smallest budget of the design."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    measured_types: tuple[str, ...] = MEASURED_TYPES
    """Tensor types whose price in loss is measured at the end of every budget."""
    trainer_version: TrainerVersion = TRAINER_VERSION
    """3: go on with a sweep whose records the trainer of that version made."""
    base: Base = Base()
    vary: Vary = Vary()
    cross: tuple[str | tuple[str, ...], ...] | None = None
    latin: Latin | None = None
    part: tuple[Part, ...] = ()

    def corpus_spec(self) -> CorpusSpec:
        """The text of the design. Raises BadInput where it is given twice or unknown."""
        spec = CorpusSpec(**{name: getattr(self, name) for name in CorpusSpec.__struct_fields__})
        spec.kind()
        return spec

    def parts(self) -> list[Part]:
        """The parts in order; a design without `[[part]]` is one part."""
        if not self.part:
            return [Part(vary=self.vary, cross=self.cross, latin=self.latin)]
        if self.vary != Vary() or self.cross or self.latin:
            raise BadInput(
                "vary: a design with [[part]] tables has its [part.vary], cross and "
                "latin inside them"
            )
        return list(self.part)


_QUANTITIES = {
    "non_embedding": whole_count,
    "token_budgets": whole_count,
    "validation_tokens": whole_count,
    "sequence_length": whole_count,
    "window": whole_count,
    "dataset_bytes": parse_bytes,
    "flops": parse_flops,
}
"""Fields that may be written with a unit: `token_budgets = ["1M", "4M"]`."""
_QUANTITIES_OF_PARTS = {**_QUANTITIES, "tokens": whole_count}
"""There `tokens` are a run's budgets; of the design they are a file."""


def load_design(name_or_path: str | os.PathLike[str]) -> Design:
    """A preset by name, or a TOML file by path.

    Raises:
        BadInput: no such preset or file, or a field of it that is unknown or out of range.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and not exists(path):
        if str(name_or_path) in presets():
            return load_design(_preset_folder() / f"{name_or_path}.toml")
        raise BadInput(
            f"design = {shown(str(name_or_path))}: a TOML file, or one of the presets "
            f"{', '.join(presets())}{close_names(str(name_or_path), presets())}"
        )
    return read_design(read_bytes(path, "design", LARGEST_TOML), where=str(name_or_path))


def read_design(content: bytes | str, where: str = "design") -> Design:
    """A design from the text of a TOML file, strictly. Raises BadInput."""
    document: dict[str, Any] = {}
    for name, value in parse_toml(content, "design", where).items():
        parsers = _QUANTITIES_OF_PARTS if name == "part" else _QUANTITIES
        document |= with_units({name: value}, parsers)
    design = convert(document, Design, "design", where)
    with naming(where):
        design.corpus_spec()
    return design


@contextlib.contextmanager
def naming(design: str) -> Iterator[None]:
    """Whatever is wrong with a design's text or runs is said with the design's file or name first.

    Raises:
        BadInput: as what stands in the block raises, `design = NAME: ` before it.
    """
    try:
        yield
    except BadInput as error:
        if str(error).startswith("design = "):
            raise
        refuse("design", design, str(error))


def presets() -> list[str]:
    """Names of the designs that ship with the package."""
    return sorted(path.stem for path in _preset_folder().glob("*.toml"))


def _preset_folder() -> Path:
    return Path(str(resources.files("shapelaw.sweeps.design") / "presets"))
