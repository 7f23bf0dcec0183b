"""A design: which runs to do, read from a TOML file that reads as a sentence.

    design = load_design("smoke")          # a preset, or a path
    design.jobs()                          # one TrunkJob per shape and seed, in order
    design.plan()                          # what it costs and what it can tell, before it runs

The file says sizes, a base shape and what varies around it; `[[part]]` tables, done in order, make
a study of several such designs. Depth is solved from the size (`sweeps.shapes`).
"""

import functools
import itertools
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from results.record import ArchitectureFields
from scaling.architecture import Architecture
from scaling.errors import BadInput
from sweeps import combinators, shapes
from sweeps.combinators import Overlays
from sweeps.job import SEQUENCE_LENGTH, TrunkJob, resolve
from sweeps.shapes import Point
from sweeps.sources import CorpusSpec, vocabulary_size

WHOLE_AXES = frozenset({"gqa_group", "sharing", "sharing_order", "window"})
"""Axes whose values are chosen from a list; the others are ratios, spread in the logarithm."""

Positive = Annotated[float, msgspec.Meta(gt=0)]
Whole = Annotated[int, msgspec.Meta(ge=1)]
Sharing = Literal["stored", "applied"]
Order = Literal["immediate", "cycle"]


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The reference shape. In a part, whatever is left out is the design's own."""

    non_embedding: Whole | tuple[Whole, ...] | None = None
    """Sizes, in stored parameters without the embedding."""
    aspect_ratio: Positive | None = None
    """d_model / depth of the base shape; sets its width at each size."""
    mlp_attention_ratio: Positive | None = None
    gqa_group: Whole | None = None
    sharing: Whole | None = None
    sharing_equal: Sharing | None = None
    """What a shared shape keeps: `stored` parameters, or `applied` ones (the FLOPs)."""
    sharing_order: Order | None = None
    learning_rate: Positive | None = None
    """Multiple of the recipe's rate for the shape."""
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
    gqa_group: tuple[Whole, ...] | None = None
    sharing: tuple[Whole, ...] | None = None
    sharing_order: tuple[Order, ...] | None = None
    learning_rate: tuple[Positive, ...] | None = None
    window: tuple[Whole, ...] | None = None

    def given(self) -> dict[str, tuple[Any, ...]]:
        """The axes that have values."""
        return {name: getattr(self, name) for name in Axes.__struct_fields__
                if getattr(self, name) is not None}


class Vary(Axes, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The axes, and which go together."""

    cross: tuple[str | tuple[str, ...], ...] | None = None
    """Axes (or groups of axes) done as a full product with each other and the base."""
    zip: tuple[str, ...] | None = None
    """Axes stepped together: the first values, the second values, ..."""


class Latin(Axes, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Latin hypercube: [low, high] for ratios, the values to choose from for whole numbers."""

    runs: Whole
    seed: int = 0


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One named shape, as it differs from the base."""

    label: str = ""
    d_model: Positive | None = None
    mlp_attention_ratio: Positive | None = None
    gqa_group: Whole | None = None
    sharing: Whole | None = None
    sharing_order: Order | None = None
    sharing_equal: Sharing | None = None
    learning_rate: Positive | None = None
    window: Whole | None = None
    global_every: Whole | None = None


class Run(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One architecture given in full, and its budgets: what `propose` writes."""

    architecture: ArchitectureFields
    tokens: tuple[Whole, ...]
    seed: int = 0
    batch_sequences: Whole | None = None
    """As in the trunks it is to be compared with; by the recipe's rule where left out."""
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
    seeds: tuple[int, ...] | None = None


class Planned(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One shape of a design, in whole numbers."""

    part: str
    label: str
    architecture: Architecture
    nominal: int
    """The size asked for; 0 where the architecture was given in full."""
    deviation: float
    asked: Point
    """What the design asked for, before whole numbers."""
    job: TrunkJob


class Dropped(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A point that no shape in whole numbers comes near."""

    part: str
    what: str
    why: str


class Design(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A design file. Make one with `load_design` or `read_design`, or from these fields."""

    name: str
    corpus: str | None = None
    text: tuple[str, ...] | None = None
    dataset: str | None = None
    dataset_config: str | None = None
    dataset_split: str = "train"
    dataset_field: str = "text"
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
    seeds: tuple[int, ...] = (0,)
    sequence_length: Whole = SEQUENCE_LENGTH
    batch_sequences: Whole | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
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
            raise BadInput("vary: a design with [[part]] tables has its [part.vary], cross and "
                           "latin inside them")
        return list(self.part)

    def layout(self) -> tuple[list[Planned], list[Dropped]]:
        """Every trunk of the design, in the order to do them, and the points that have no shape.

        A trunk asked for twice is done once, where it comes first, with all its budgets.

        Raises:
            BadInput: values that make no sense, or nothing left to do.
        """
        return _layout(self)

    def jobs(self) -> list[TrunkJob]:
        """One TrunkJob per shape, seed and learning rate, in the order to do them."""
        return [planned.job for planned in self.layout()[0]]

    def plan(self, workers: int | None = None) -> dict[str, Any]:
        """What the design costs here and what it can and cannot tell; see `sweeps.plan`."""
        from sweeps.plan import plan

        return plan(self, workers)


def load_design(name_or_path: str | os.PathLike[str]) -> Design:
    """A preset by name, or a TOML file by path.

    Raises:
        BadInput: no such preset or file, or a field of it that is unknown or out of range.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and not path.is_file():
        if str(name_or_path) in presets():
            return load_design(_preset_folder() / f"{name_or_path}.toml")
        raise BadInput(f"design = {str(name_or_path)!r}: a TOML file, or one of the presets "
                       f"{', '.join(presets())}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"design = {str(name_or_path)!r}: {error.strerror}") from None
    return read_design(content, where=str(name_or_path))


def read_design(content: bytes | str, where: str = "design") -> Design:
    """A design from the text of a TOML file, strictly. Raises BadInput."""
    try:
        design = msgspec.toml.decode(content, type=Design)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"{where}: {error}") from None
    design.corpus_spec()
    return design


def presets() -> list[str]:
    """Names of the designs that ship with the package."""
    return sorted(path.stem for path in _preset_folder().glob("*.toml"))


def _preset_folder() -> Path:
    return Path(str(resources.files("sweeps") / "presets"))


def _merged_base(design: Base, part: Base) -> dict[str, Any]:
    """Fields that are given, the part's before the design's."""
    fields: dict[str, Any] = {}
    for base in (design, part):
        for name in Base.__struct_fields__:
            value = getattr(base, name)
            if value is not None:
                fields[name] = value
    return fields


def _overlays(part: Part, base: Point) -> Overlays:
    """The points of one part around the base, sizes and budgets not yet in."""
    axes = part.vary.given()
    if part.cross and part.vary.cross:
        raise BadInput("cross: given twice; once, beside [vary] or in it")
    cross = part.cross or part.vary.cross or ()
    names = tuple(name for name in cross if isinstance(name, str))
    groups = [group for group in cross if not isinstance(group, str)] + ([names] if names else [])
    together = set(part.vary.zip or ())
    for name in itertools.chain(*groups, together):
        if name not in axes:
            raise BadInput(f"cross or zip names {name!r}: the axes varied here are "
                           f"{', '.join(axes) or 'none'}")
    crossed = {name for group in groups for name in group}
    alone = {name: values for name, values in axes.items()
             if name not in crossed and name not in together}
    designs = [combinators.one_at_a_time(alone)]
    values_of_base = msgspec.structs.asdict(base)
    designs += [combinators.full_factorial({name: axes[name] for name in group}, values_of_base)
                for group in groups]
    if part.vary.zip:
        designs.append(combinators.zipped(
            *(combinators.axis(name, axes[name]) for name in part.vary.zip)))
    if part.latin:
        designs.append(combinators.latin_hypercube(
            part.latin.given(), part.latin.runs, part.latin.seed, WHOLE_AXES))
    if part.shapes is not None:
        named = [_fields(shape) for shape in part.shapes]
        # A part that lists shapes means those, and the base only where something varies round it.
        designs = [named, *designs] if axes or part.latin else [named]
    return combinators.chain(*designs)


def _label(part: Part, overlay: dict[str, Any]) -> str:
    said = {name: value for name, value in overlay.items()
            if name not in ("non_embedding", "flops")}
    for shape in part.shapes or ():
        if shape.label and _fields(shape) == said:
            return shape.label
    return ", ".join(f"{name} {_short(value)}" for name, value in said.items()) or "base"


def _fields(shape: Shape) -> dict[str, Any]:
    """What a named shape sets."""
    return {name: value for name, value in msgspec.structs.asdict(shape).items()
            if value is not None and name != "label"}


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@functools.lru_cache(maxsize=16)
def _layout(design: Design) -> tuple[list[Planned], list[Dropped]]:
    corpus = design.corpus_spec()
    planned: list[Planned] = []
    dropped: list[Dropped] = []
    for number, part in enumerate(design.parts(), start=1):
        name = part.name or (f"part {number}" if design.part else design.name)
        found, lost = _lay_part(design, part, name, corpus)
        found.sort(key=lambda one: -_flops(one))  # long ones first: the workers end together
        planned += found
        dropped += lost
    if not planned:
        why = f" ({dropped[0].what}: {dropped[0].why})" if dropped else ""
        raise BadInput(f"design {design.name!r}: no shape comes near what it asks for{why}")
    return _merge_trunks(planned), dropped


def _flops(planned: Planned) -> float:
    per_token = planned.architecture.training_flops_per_token(planned.job.sequence_length)
    return float(per_token * max(planned.job.tokens))


def _lay_part(
    design: Design, part: Part, name: str, corpus: CorpusSpec
) -> tuple[list[Planned], list[Dropped]]:
    fields = _merged_base(design.base, part.base)
    sizes = fields.pop("non_embedding", ())
    sizes = (sizes,) if isinstance(sizes, int) else sizes
    vocab = fields.pop("vocab_size", None) or vocabulary_size(corpus)
    tied = fields.pop("tied_embeddings", True)
    seeds = design.seeds if part.seeds is None else part.seeds
    if not seeds:
        raise BadInput("seeds = []: at least one is needed")
    planned = [_given(design, corpus, name, run) for run in part.runs or ()]
    dropped: list[Dropped] = []
    if not sizes:
        if part.runs:
            return planned, dropped
        raise BadInput("base non_embedding: at least one size is needed, "
                       "such as non_embedding = [20_000, 40_000]")
    if vocab is None:
        raise BadInput(f"base vocab_size: must be given for tokens = {design.tokens!r}, "
                       "which does not say its vocabulary")
    budgets = _budgets(design, part)
    base = Point(
        non_embedding=sizes[0],
        base_mlp_attention_ratio=fields.get("mlp_attention_ratio", 2.0),
        base_gqa_group=fields.get("gqa_group", 1), **fields,
    )
    overlays = _overlays(part, base)
    if "flops" in budgets:
        overlays = combinators.iso_flop(budgets["flops"], sizes, overlays)
    else:
        overlays = combinators.iso_parameter(sizes, overlays)
    for overlay in overlays:
        point = msgspec.structs.replace(base, **overlay)
        shapes.check_point(point)
        label = _label(part, overlay)
        try:
            architecture = shapes.solve(point, vocab, tied)
        except shapes.Infeasible as reason:
            dropped.append(Dropped(part=name, what=f"{point.non_embedding:,} {label}",
                                   why=str(reason)))
            continue
        tokens = _tokens(budgets, point, architecture, design.sequence_length)
        planned += [_planned(design, corpus, name, label, architecture, tokens, seed, point)
                    for seed in seeds]
    return planned, dropped


def _budgets(design: Design, part: Part) -> dict[str, tuple[float, ...]]:
    """The one kind of budget that is given, the part's before the design's."""
    kinds = ("tokens_per_parameter", "token_budgets", "flops")
    for owner in (part, design):
        given = {kind: getattr(owner, kind) for kind in kinds if getattr(owner, kind)}
        if len(given) > 1:
            raise BadInput(f"{' and '.join(given)}: name one kind of budget")
        if given:
            return given
    return {"tokens_per_parameter": (20.0,)}


def _tokens(
    budgets: dict[str, tuple[float, ...]], point: Point, architecture: Architecture, length: int
) -> tuple[int, ...]:
    """Budgets D. Every shape of one nominal size has the same, so that losses compare."""
    (kind, values), = budgets.items()
    if kind == "tokens_per_parameter":
        values = tuple(value * point.non_embedding for value in values)
    elif kind == "flops":
        per_token = architecture.training_flops_per_token(length)
        values = tuple(value / per_token for value in values)
    return tuple(sorted({max(1, round(value)) for value in values}))


def _planned(
    design: Design, corpus: CorpusSpec, part: str, label: str, architecture: Architecture,
    tokens: Sequence[int], seed: int, point: Point,
) -> Planned:
    job = TrunkJob(
        architecture=ArchitectureFields.of(architecture), tokens=tuple(tokens), corpus=corpus,
        seed=seed, design=design.name, learning_rate=point.learning_rate,
        batch_sequences=design.batch_sequences, sequence_length=design.sequence_length,
        sharing_order=point.sharing_order, precision=design.precision,
    )
    deviation = shapes.deviation(architecture, point) if point.non_embedding else 0.0
    return Planned(part=part, label=label, architecture=architecture, job=job,
                   nominal=point.non_embedding, deviation=deviation, asked=point)


def _given(design: Design, corpus: CorpusSpec, part: str, run: Run) -> Planned:
    """A run whose architecture was given in full."""
    planned = _planned(design, corpus, part, "as given", run.architecture.build(), run.tokens,
                       run.seed, Point(non_embedding=0))
    job = msgspec.structs.replace(
        planned.job, batch_sequences=run.batch_sequences or design.batch_sequences,
        warmup_steps=run.warmup_steps,
    )
    return msgspec.structs.replace(planned, job=job)


def _merge_trunks(planned: list[Planned]) -> list[Planned]:
    """Each trunk once, where it first comes, with the budgets of all who ask for it."""
    merged: dict[TrunkJob, Planned] = {}
    for one in planned:
        job = one.job
        trunk = msgspec.structs.replace(job, tokens=())
        if job.architecture.sharing == 1:  # the order of applications is the same
            trunk = msgspec.structs.replace(trunk, sharing_order="immediate")
            job = msgspec.structs.replace(job, sharing_order="immediate")
        if trunk in merged:
            first = merged[trunk]
            tokens = tuple(sorted({*first.job.tokens, *job.tokens}))
            joined = msgspec.structs.replace(first.job, tokens=tokens)
            merged[trunk] = msgspec.structs.replace(first, job=joined)
        else:
            merged[trunk] = msgspec.structs.replace(one, job=job)
    for one in merged.values():
        resolve(one.job)  # two budgets of the same number of steps, and the like, said at once
    return list(merged.values())
