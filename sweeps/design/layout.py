"""What a design's file comes to: every trunk in whole numbers, in the order to do them."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from shapelaw.results.record import ArchitectureFields
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown
from shapelaw.sweeps.corpus.sources import CorpusSpec, vocabulary_size
from shapelaw.sweeps.design import factorial_designs, shapes
from shapelaw.sweeps.design.design import Base, Design, Part, Run, Shape
from shapelaw.sweeps.design.factorial_designs import Overlays
from shapelaw.sweeps.design.shapes import Point
from shapelaw.sweeps.training.schedule import batch_sequences_for
from shapelaw.sweeps.training.trunk import TrunkJob, resolve

WHOLE_AXES = frozenset(
    {
        "gqa_group",
        "sharing",
        "sharing_order",
        "n_prelude",
        "n_coda",
        "input_injection",
        "window",
        "weight_format",
    }
)
"""Axes whose values are chosen from a list; the others are ratios, spread in the logarithm."""

MOST_TOKENS = 10**17
"""Of a run: ten thousand times all text there is."""


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


@functools.lru_cache(maxsize=16)
def layout(design: Design) -> tuple[list[Planned], list[Dropped]]:
    """Every trunk of the design, in the order to do them, and the points that have no shape.

    A trunk asked for twice is done once, where it comes first, with all its budgets.

    Raises:
        BadInput: values that make no sense, or nothing left to do.
    """
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
    return _merge_trunks(_one_batch(design, planned)), dropped


def trunk_jobs(design: Design) -> list[TrunkJob]:
    """One job per shape, seed and learning rate, in the order to do them. Raises as `layout`."""
    return [planned.job for planned in layout(design)[0]]


def _one_batch(design: Design, planned: list[Planned]) -> list[Planned]:
    """The same batch for every run: one that grew with the budget would move losses with size.

    Where the design names none, it is that of the smallest budget: below the critical batch of
    every run, and unmoved by whatever larger runs are added later.
    """
    smallest = min(min(one.job.tokens) for one in planned)
    batch = design.batch_sequences or batch_sequences_for(smallest, design.sequence_length)
    return [
        msgspec.structs.replace(
            one,
            job=msgspec.structs.replace(one.job, batch_sequences=one.job.batch_sequences or batch),
        )
        for one in planned
    ]


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
    planned = [
        _given(design, corpus, name, run, seed)
        for run in part.runs or ()
        for seed in (seeds if run.seed is None else (run.seed,))
    ]
    dropped: list[Dropped] = []
    if not sizes:
        if part.runs:
            return planned, dropped
        raise BadInput(
            "base non_embedding: at least one size is needed, "
            "such as non_embedding = [20_000, 40_000]"
        )
    if vocab is None:
        raise BadInput(
            f"base vocab_size: must be given for tokens = {design.tokens!r}, "
            "which does not say its vocabulary"
        )
    budgets = _budgets(design, part)
    base = Point(
        non_embedding=sizes[0],
        base_mlp_attention_ratio=fields.get("mlp_attention_ratio", 2.0),
        base_gqa_group=fields.get("gqa_group", 1),
        **fields,
    )
    overlays = _overlays(part, base)
    if "flops" in budgets:
        overlays = factorial_designs.iso_flop(budgets["flops"], sizes, overlays)
    else:
        overlays = factorial_designs.iso_parameter(sizes, overlays)
    for overlay in overlays:
        point = msgspec.structs.replace(base, **overlay)
        shapes.check_point(point)
        label = _label(part, overlay)
        try:
            architecture = shapes.solve(point, vocab, tied)
        except shapes.Infeasible as reason:
            dropped.append(
                Dropped(part=name, what=f"{point.non_embedding:,} {label}", why=str(reason))
            )
            continue
        tokens = _tokens(budgets, point, architecture, design.sequence_length)
        planned += [
            _planned(design, corpus, name, label, architecture, tokens, seed, point)
            for seed in seeds
        ]
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
    ((kind, values),) = budgets.items()
    if kind == "tokens_per_parameter":
        values = tuple(value * point.non_embedding for value in values)
    elif kind == "flops":
        per_token = architecture.training_flops_per_token(length)
        values = tuple(value / per_token for value in values)
    return tuple(sorted({max(1, round(value)) for value in values}))


def _planned(
    design: Design,
    corpus: CorpusSpec,
    part: str,
    label: str,
    architecture: Architecture,
    tokens: Sequence[int],
    seed: int,
    point: Point,
) -> Planned:
    if max(tokens, default=0) > MOST_TOKENS:
        raise BadInput(
            f"part {shown(part, 40)}: {float(max(tokens)):.3g} tokens for "
            f"{architecture.non_embedding_parameters:,} parameters; at most {MOST_TOKENS:g} is "
            "needed: check tokens_per_parameter, token_budgets or flops"
        )
    job = TrunkJob(
        architecture=ArchitectureFields.of(architecture),
        tokens=tuple(tokens),
        corpus=corpus,
        seed=seed,
        design=design.name,
        learning_rate=point.learning_rate,
        sequence_length=design.sequence_length,
        precision=design.precision,
        weight_format=point.weight_format,
        measured_types=design.measured_types,
        trainer_version=design.trainer_version,
    )
    deviation = shapes.deviation(architecture, point) if point.non_embedding else 0.0
    return Planned(
        part=part,
        label=label,
        architecture=architecture,
        job=job,
        nominal=point.non_embedding,
        deviation=deviation,
        asked=point,
    )


def _given(design: Design, corpus: CorpusSpec, part: str, run: Run, seed: int) -> Planned:
    """A run whose architecture was given in full."""
    if not run.tokens:
        raise BadInput(
            f"part {shown(part, 40)}: run {shown(run.label or 'as given', 40)}: tokens = []: at "
            "least one budget is needed"
        )
    planned = _planned(
        design,
        corpus,
        part,
        run.label or "as given",
        run.architecture.build(),
        run.tokens,
        seed,
        Point(non_embedding=0, learning_rate=run.learning_rate, weight_format=run.weight_format),
    )
    job = msgspec.structs.replace(
        planned.job,
        batch_sequences=run.batch_sequences,
        warmup_steps=run.warmup_steps,
    )
    return msgspec.structs.replace(planned, job=job)


def _merge_trunks(planned: list[Planned]) -> list[Planned]:
    """Each trunk once, where it first comes, with the budgets of all who ask for it."""
    merged: dict[TrunkJob, Planned] = {}
    for one in planned:
        job = one.job
        trunk = msgspec.structs.replace(job, tokens=())
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
            raise BadInput(
                f"cross or zip names {name!r}: the axes varied here are {', '.join(axes) or 'none'}"
            )
    crossed = {name for group in groups for name in group}
    alone = {
        name: values
        for name, values in axes.items()
        if name not in crossed and name not in together
    }
    designs = [factorial_designs.one_at_a_time(alone)]
    values_of_base = msgspec.structs.asdict(base)
    designs += [
        factorial_designs.full_factorial({name: axes[name] for name in group}, values_of_base)
        for group in groups
    ]
    if part.vary.zip:
        designs.append(
            factorial_designs.zipped(
                *(factorial_designs.axis(name, axes[name]) for name in part.vary.zip)
            )
        )
    if part.latin:
        designs.append(
            factorial_designs.latin_hypercube(
                part.latin.given(), part.latin.runs, part.latin.seed, WHOLE_AXES
            )
        )
    if part.shapes is not None:
        named = [_fields(shape) for shape in part.shapes]
        # A part that lists shapes means those, and the base only where something varies round it.
        designs = [named, *designs] if axes or part.latin else [named]
    return factorial_designs.chain(*designs)


def _label(part: Part, overlay: dict[str, Any]) -> str:
    said = {
        name: value for name, value in overlay.items() if name not in ("non_embedding", "flops")
    }
    for shape in part.shapes or ():
        if shape.label and _fields(shape) == said:
            return shape.label
    return ", ".join(f"{name} {_short(value)}" for name, value in said.items()) or "base"


def _fields(shape: Shape) -> dict[str, Any]:
    """What a named shape sets."""
    return {
        name: value
        for name, value in msgspec.structs.asdict(shape).items()
        if value is not None and name != "label"
    }


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
