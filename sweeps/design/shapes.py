"""From what a design asks for (size, width, ratio, group, sharing) to whole numbers.

Depth is what is solved for: the width and the ratio say what a block costs, the size how many
blocks there are. Blocks come in whole numbers, so hidden size and MLP size give way a little: the
shape nearest to what was asked, size first, is taken.
"""

import functools
import math
from collections.abc import Iterator

import msgspec

from shapelaw.scaling.architecture import Architecture, SharingOrder
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.training.trunk import WeightFormat

SIZE_TOLERANCE, SIZE_LIMIT = 0.01, 0.05
"""Relative deviation of the non-embedding count that weighs one unit, and the most allowed."""
RATIO_TOLERANCE, RATIO_LIMIT = 0.10, 0.45
WIDTH_TOLERANCE, WIDTH_LIMIT = 0.05, 0.20
HEAD_TOLERANCE = 0.35
HEAD_DIM_LEAST = 8
BASE_ASPECT_RATIO = 16.0
"""d_model / depth of the base: 64 × 4, the best of the shapes tried at 2e5 parameters."""


class Infeasible(Exception):
    """No shape in whole numbers comes near what was asked; the message says which limit broke."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One shape a design asks for."""

    non_embedding: int
    """Nominal size; token budgets are counted from it."""
    aspect_ratio: float = BASE_ASPECT_RATIO
    """Of the base shape, d_model / depth; sets the base width."""
    base_mlp_attention_ratio: float = 2.0
    base_gqa_group: int = 1
    d_model: float = 1.0
    """Multiple of the base width at this size."""
    mlp_attention_ratio: float = 2.0
    gqa_group: int = 1
    sharing: int = 1
    sharing_equal: str = "stored"
    """`stored`: shared shapes keep the size; `applied`: they keep the FLOPs, and store less."""
    sharing_order: SharingOrder = "immediate"
    n_prelude: int = 0
    n_coda: int = 0
    input_injection: bool = False
    learning_rate: float = 1.0
    """Multiple of the recipe's."""
    weight_format: WeightFormat = "f16"
    head_dim: int | None = None
    window: int | None = None
    global_every: int | None = None
    flops: tuple[float, ...] | None = None


MOST_WIDTH = 200_000
"""Hidden size of a base shape."""


def preferred_head_dim(d_model: int) -> int:
    """16 up to hidden size 128, 32 up to 384, 64 above (as LLaMA-like models of 1B and less)."""
    return 16 if d_model <= 128 else 32 if d_model <= 384 else 64


def width_step(d_model: float) -> int:
    """Hidden sizes tried are multiples of 4 below 32, 8 below 256, 16 below 1024, then 64."""
    return 4 if d_model < 32 else 8 if d_model < 256 else 16 if d_model < 1024 else 64


def head_choices(d_model: int, group: int, head_dim: int | None) -> Iterator[tuple[int, int]]:
    """(n_heads, head_dim) that together are exactly the hidden size, n_heads a multiple of `group`.

    From hidden size 32 on the number of heads is a multiple of 4 where the group allows, so that
    groups of 1, 2 and 4 are compared at the same heads.
    """
    for heads in _divisors(d_model):
        if heads % group or (d_model // heads) % 2:
            continue
        if head_dim is not None and d_model // heads != head_dim:
            continue
        if heads > 1 and d_model // heads < HEAD_DIM_LEAST:
            continue
        by_four = d_model >= 32 and 4 % group == 0
        if head_dim is None and heads % (4 if by_four else 2 if group <= 2 else 1):
            continue
        yield heads, d_model // heads


@functools.lru_cache(maxsize=4096)
def _divisors(number: int) -> list[int]:
    """What divides a whole number, rising."""
    small = [one for one in range(1, math.isqrt(number) + 1) if number % one == 0]
    return sorted({*small, *(number // one for one in small)})


def base_width(point: Point) -> float:
    """Hidden size d with n_blocks = d / aspect_ratio at this size: N = n_blocks · c · d²."""
    attention = 2 * (1 + 1 / point.base_gqa_group)
    per_block = attention * (1 + point.base_mlp_attention_ratio)
    return float((point.non_embedding * point.aspect_ratio / per_block) ** (1 / 3))


def solve(point: Point, vocab_size: int, tied_embeddings: bool = True) -> Architecture:
    """The architecture nearest to the point.

    The base's own width is solved first; a multiple is of that, so that `d_model = 1.0` is the
    same width whatever else varies.

    Raises:
        Infeasible: no shape is within the limits above.
        BadInput: the point makes no sense at any size.
    """
    base = Point(
        non_embedding=point.non_embedding,
        aspect_ratio=point.aspect_ratio,
        mlp_attention_ratio=point.base_mlp_attention_ratio,
        gqa_group=point.base_gqa_group,
        base_mlp_attention_ratio=point.base_mlp_attention_ratio,
        base_gqa_group=point.base_gqa_group,
        head_dim=point.head_dim,
    )
    width = base_width(base)
    if width > MOST_WIDTH:
        raise BadInput(
            f"aspect_ratio = {point.aspect_ratio:g}: {point.non_embedding:,} parameters would be "
            f"{width:.3g} wide; at most {MOST_WIDTH:,} is needed"
        )
    width = _nearest(base, width, vocab_size, tied_embeddings).d_model * point.d_model
    return _nearest(point, width, vocab_size, tied_embeddings)


def _nearest(point: Point, width: float, vocab_size: int, tied_embeddings: bool) -> Architecture:
    best: tuple[float, Architecture] | None = None
    blame: list[tuple[float, str]] = []
    for d_model, (heads, head_dim), n_blocks, d_ff in _candidates(point, width):
        architecture = Architecture(
            vocab_size=vocab_size,
            d_model=d_model,
            n_blocks=n_blocks,
            sharing=point.sharing,
            n_prelude=point.n_prelude,
            n_coda=point.n_coda,
            # Where nothing is applied twice there is no order to tell apart.
            sharing_order=point.sharing_order if point.sharing > 1 else "immediate",
            input_injection=point.input_injection and point.sharing > 1,
            n_heads=heads,
            n_kv_heads=heads // point.gqa_group,
            head_dim=head_dim,
            d_ff=d_ff,
            tied_embeddings=tied_embeddings,
            window=point.window,
            global_every=point.global_every,
        )
        size = abs(math.log1p(deviation(architecture, point)))
        ratio = abs(math.log(architecture.mlp_attention_ratio / point.mlp_attention_ratio))
        wide = abs(math.log(d_model / width))
        head = abs(math.log(head_dim / (point.head_dim or preferred_head_dim(d_model))))
        cost = math.hypot(
            size / SIZE_TOLERANCE,
            ratio / RATIO_TOLERANCE,
            wide / WIDTH_TOLERANCE,
            head / HEAD_TOLERANCE,
        )
        if size > SIZE_LIMIT or ratio > RATIO_LIMIT:
            nearest = (
                f"nearest is {d_model}×{n_blocks} with r = "
                f"{architecture.mlp_attention_ratio:.2g} and "
                f"{architecture.non_embedding_parameters:,} parameters"
            )
            blame.append((cost, nearest))
        elif best is None or cost < best[0]:
            best = (cost, architecture)
    if best is None:
        trouble = (
            min(blame)[1]
            if blame
            else (
                f"no hidden size near {width:.0f} has heads of {HEAD_DIM_LEAST} or more "
                f"in groups of {point.gqa_group}"
                + (f" with head_dim {point.head_dim}" if point.head_dim else "")
            )
        )
        raise Infeasible(trouble)
    return best[1]


def _candidates(point: Point, width: float) -> Iterator[tuple[int, tuple[int, int], int, int]]:
    """(d_model, (n_heads, head_dim), n_blocks, d_ff) around what was asked."""
    step = width_step(width)
    low = max(step, math.ceil(width * math.exp(-WIDTH_LIMIT) / step) * step)
    high = math.floor(width * math.exp(WIDTH_LIMIT) / step) * step
    for d_model in range(low, high + 1, step):
        for heads, head_dim in head_choices(d_model, point.gqa_group, point.head_dim):
            attention = 2 * d_model * head_dim * (heads + heads // point.gqa_group)
            block = attention * (1 + point.mlp_attention_ratio) + 2 * d_model
            # Blocks that add up to the size: as stored, or as often as they are applied.
            times = point.sharing if point.sharing_equal == "applied" else 1
            once = point.n_prelude + point.n_coda
            shared = ((point.non_embedding - d_model) / block - once) / times
            around = {max(1, math.floor(shared)), max(1, math.ceil(shared))}
            for n_shared in sorted(around):
                n_blocks = once + n_shared
                counted = once + times * n_shared
                d_ff = ((point.non_embedding - d_model) / counted - attention - 2 * d_model) / (
                    3 * d_model
                )
                ff_step = 4 if d_ff < 64 else 8 if d_ff < 512 else 32
                for rounded in {math.floor(d_ff / ff_step), math.ceil(d_ff / ff_step)}:
                    if rounded > 0:
                        yield d_model, (heads, head_dim), n_blocks, rounded * ff_step


def check_point(point: Point) -> None:
    """Raise BadInput for values that make no sense at any size."""
    for name, least in (
        ("non_embedding", 1000),
        ("gqa_group", 1),
        ("sharing", 1),
        ("n_prelude", 0),
        ("n_coda", 0),
    ):
        if getattr(point, name) < least:
            raise BadInput(f"{name} = {getattr(point, name)}: {least} or more is needed")
    for name in ("aspect_ratio", "d_model", "mlp_attention_ratio", "learning_rate"):
        value = getattr(point, name)
        if not (value > 0 and math.isfinite(value)):
            raise BadInput(f"{name} = {value}: a positive number is needed")
    if point.d_model > 16:
        raise BadInput(
            f"d_model = {point.d_model:g}: values are multiples of the base width "
            "at the same size, such as 0.5 or 2.0"
        )
    if point.input_injection and point.sharing > 1 and point.sharing_order != "cycle":
        raise BadInput('input_injection = true: needs sharing_order = "cycle" beside it')
    if point.global_every is not None and point.window is None:
        raise BadInput(f"global_every = {point.global_every}: needs a window beside it")


def deviation(architecture: Architecture, point: Point) -> float:
    """Relative deviation of the size from what was asked: +0.02 is 2 % more parameters."""
    target = point.non_embedding
    if point.sharing_equal == "applied":
        return architecture.applied_parameters / target - 1
    return architecture.non_embedding_parameters / target - 1
