"""The shapes a query may choose from: a strict TOML file of values and ranges for each axis.

A file says what varies, as in

    name = "mine"
    d_model = { from = 256, to = 2048, step = 64 }
    n_blocks = { from = 4, to = 48, step = 2 }
    sharing = [1, 2, 3]
    topology = ["immediate", { order = "cycle", n_prelude = 1, n_coda = 1 }]
    head_dim = 64
    gqa_group = [1, 2, 4]
    mlp_attention_ratio = { from = 0.5, to = 5, step = 0.25 }
    attention = ["full", { window = 512, global_every = 4 }]
    weight_bits = [4, 8]

Divisibility and alignment are settled when the space is built (search/grid.py), so that every point
is a model somebody could train.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from shapelaw.scaling.architecture import (
    LEAST_VOCABULARY,
    MOST,
    SHARING_ORDERS,
    ArchitectureBatch,
    SharingOrder,
)
from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.units import parse_count, with_units
from shapelaw.scaling.user_files import (
    LARGEST_TOML,
    convert,
    exists,
    parse_toml,
    read_text,
    refuse,
    shown,
)
from shapelaw.search.space.grid import Grid

PRESETS = Path(__file__).parent / "presets"

MAX_VALUES = 200_000
"""Values one axis may have; a longer list is a slip of the step."""


MOST_BASES, MOST_WIDTHS = 500_000, 100_000_000
"""Combinations of the axes that make a width, without and with the MLP: seconds to count."""
MOST_OF_OTHERS = 10_000.0
"""Of axes that are no field of an architecture: ratios, groups, depth, bits."""


class Range(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Evenly spaced values (`step`) or evenly spaced ratios (`factor`), both ends included."""

    low: float = msgspec.field(name="from")
    high: float = msgspec.field(name="to")
    step: float | None = None
    factor: float | None = None
    multiple_of: int = 1
    """With `factor`, on axes of whole numbers: round each value to a multiple of this."""

    def values(self, name: str) -> np.ndarray:
        """The values as floats, rising. Raises BadInput in one line naming the axis."""
        if not 0 < self.low <= self.high < math.inf:
            raise BadInput(
                f"space {name}: from = {self.low}, to = {self.high}: 0 < from <= to is needed"
            )
        if (self.step is None) == (self.factor is None):
            raise BadInput(f"space {name}: a range needs either step or factor")
        if not 1 <= self.multiple_of <= 2**40:
            raise BadInput(f"space {name}: multiple_of = {self.multiple_of}: 1 or more is needed")
        if self.step is not None:
            if not (math.isfinite(self.step) and self.step > 0):
                raise BadInput(f"space {name}: step = {self.step}: a number above 0 is needed")
            steps_there = (self.high - self.low) / self.step
        else:
            assert self.factor is not None
            if not (math.isfinite(self.factor) and self.factor > 1):
                raise BadInput(f"space {name}: factor = {self.factor}: a number above 1 is needed")
            steps_there = (math.log(self.high) - math.log(self.low)) / math.log(self.factor)
        if not steps_there < MAX_VALUES:
            raise BadInput(
                f"space {name}: {steps_there:.4g} values: at most {MAX_VALUES}; use a larger step"
            )
        count = math.floor(steps_there + 1e-9) + 1
        steps = np.arange(count)
        if self.step is not None:
            return np.round(self.low + self.step * steps, 9)
        values = self.low * float(self.factor or 1) ** steps
        if self.multiple_of > 1:
            values = np.maximum(np.rint(values / self.multiple_of), 1) * self.multiple_of
        return values


class Pattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sliding-window attention, with every so many blocks (and the last) attending globally."""

    window: int
    global_every: int | None = None


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From so many to so many, both included."""

    low: float = msgspec.field(name="from", default=0)
    high: float | None = msgspec.field(name="to", default=None)


class Topology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How shared blocks are applied, with blocks before and after them that are applied once."""

    order: SharingOrder = "cycle"
    n_prelude: int = 0
    n_coda: int = 0
    input_injection: bool = False


WholeAxis = int | list[int] | Range
NumberAxis = float | list[float] | Range


class Space(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """Values of every axis. Each is one value, a list, or a range.

    Raises:
        BadInput: when checked (`load_space`, `from_toml`, `grid`): an axis is empty or unusable.
    """

    name: str
    d_model: WholeAxis
    """Hidden sizes."""
    n_blocks: WholeAxis | None = None
    """Distinct blocks stored. Give this or `depth`."""
    depth: WholeAxis | None = None
    """Applied layers, = n_blocks · sharing: combinations that do not divide are left out."""
    sharing: WholeAxis = 1
    """How often each block is applied."""
    topology: list[SharingOrder | Topology] = msgspec.field(default_factory=lambda: ["immediate"])
    """How blocks applied several times are: `immediate`, `cycle`, or a table of order, n_prelude,
    n_coda and input_injection. Nothing where sharing is 1."""
    head_dim: WholeAxis = 64
    """Head sizes, even."""
    gqa_group: WholeAxis = 1
    """Query heads per key-value head."""
    attention_width: NumberAxis | None = None
    """n_heads·head_dim / d_model. Absent: exactly 1, and what does not divide is left out. Given:
    heads are rounded to a multiple of the group, and left out where that moves them by more than an
    eighth."""
    mlp_attention_ratio: NumberAxis | None = None
    """MLP over attention parameters; d_ff follows, rounded to `d_ff_multiple_of`. Give this or
    `d_ff`."""
    d_ff: WholeAxis | None = None
    """Hidden sizes of the MLP, directly."""
    d_ff_multiple_of: int = 64
    """Alignment of a d_ff that follows from a ratio."""
    attention: list[Literal["full"] | Pattern] = msgspec.field(default_factory=lambda: ["full"])
    """Attention patterns."""
    vocab_size: WholeAxis = 32_000
    tied_embeddings: bool | list[bool] = True
    weight_bits: NumberAxis = 8
    """Stored precisions of the weights."""
    non_embedding: Bounds | None = None
    """Keep only shapes whose blocks hold this many parameters."""

    @classmethod
    def from_toml(cls, text: str, where: str) -> "Space":
        """Parse and check; `where` names the file in errors. Raises BadInput in one line."""
        document = with_units(parse_toml(text, "space", where), {"non_embedding": parse_count})
        space = convert(document, cls, "space", where)
        try:
            space.grid()
        except BadInput as error:
            refuse("space", where, str(error))
        return space

    @classmethod
    def from_file(cls, path: Path | str) -> "Space":
        """Read a space from a TOML file. Raises BadInput in one line where it cannot be used."""
        return cls.from_toml(read_text(path, "space", LARGEST_TOML), str(path))

    def with_bits(self, bits: tuple[float, ...]) -> "Space":
        """The same shapes at these weight precisions."""
        return msgspec.structs.replace(self, weight_bits=[float(value) for value in bits])

    @classmethod
    def around(
        cls,
        law: Any,
        *,
        factor: float = 4.0,
        vocab_size: int = 1024,
        weight_bits: tuple[float, ...] = (8.0,),
    ) -> "Space":
        """Shapes of about the sizes a law was fitted on, up to `factor` times beyond.

        For laws of very small models, whose shapes no preset holds. Ratios stay within what the law
        saw; depth and width follow from the sizes.

        Raises:
            BadInput: the law does not say what sizes it saw.
        """
        seen: dict[str, tuple[float, float]] = getattr(law, "range", {})
        if "N" not in seen:
            raise BadInput("law: does not say what sizes it saw; name a space")
        least, most = seen["N"][0] / factor, seen["N"][1] * factor
        reach = factor**0.5
        low, high = seen.get("d_model", (0.06 * least**0.5 * reach, 0.2 * most**0.5 / reach))
        depth = seen.get("depth", (2.0, 32.0 / reach))
        ratios = seen.get("mlp_attention_ratio", (0.5, 5.0))
        groups = [g for g in (1, 2, 4, 8) if g <= seen.get("gqa_group", (1, 1))[1] * 1.001]
        sharing = range(1, round(seen.get("sharing", (1, 1))[1]) + 1)
        blocks = range(1, max(2, round(depth[1] * reach)) + 1)
        return cls(
            name="around-the-law",
            d_model=Range(
                low=max(16.0, round(low / reach / 8) * 8.0),
                high=max(16.0, round(high * reach / 8) * 8.0),
                step=8.0,
            ),
            n_blocks=[b for b in blocks if b <= 12 or b % 2 == 0],
            sharing=list(sharing),
            head_dim=[8, 16, 32, 64],
            gqa_group=groups,
            mlp_attention_ratio=Range(
                low=ratios[0], high=ratios[1], factor=max(1.15, (ratios[1] / ratios[0]) ** 0.125)
            ),
            d_ff_multiple_of=8,
            vocab_size=vocab_size,
            weight_bits=list(weight_bits),
            non_embedding=Bounds(low=least, high=most),
        )

    def grid(self) -> Grid:
        """The space made concrete: aligned, divisible, countable. Built once."""
        known: dict[str, Any] = self.__dict__
        if "_grid" not in known:
            known["_grid"] = self._build()
        grid: Grid = known["_grid"]
        return grid

    def _build(self) -> Grid:
        if (self.n_blocks is None) == (self.depth is None):
            raise BadInput(f"space {self.name}: give either n_blocks or depth")
        if (self.mlp_attention_ratio is None) == (self.d_ff is None):
            raise BadInput(f"space {self.name}: give either mlp_attention_ratio or d_ff")
        if not 1 <= self.d_ff_multiple_of <= MOST["d_ff"]:
            raise BadInput(
                f"space d_ff_multiple_of = {self.d_ff_multiple_of}: 1 to {MOST['d_ff']} is needed"
            )
        head_dim = _whole(self.head_dim, "head_dim")
        if np.any(head_dim % 2):
            raise BadInput(f"space head_dim = {self.head_dim}: even sizes are needed (RoPE)")
        bits = _numbers(self.weight_bits, "weight_bits")
        if bits[0] < 1 or bits[-1] > 32:
            raise BadInput(f"space weight_bits = {bits.tolist()}: 1 to 32 bits are needed")
        tied = self.tied_embeddings
        bounds = self.non_embedding or Bounds()
        if not 0 <= bounds.low <= (2.0**61 if bounds.high is None else bounds.high) < 2**62:
            raise BadInput(
                f"space non_embedding: from = {bounds.low}, to = {bounds.high}: "
                "0 <= from <= to is needed"
            )
        blocks = self.n_blocks if self.n_blocks is not None else self.depth
        assert blocks is not None
        vocabularies = _whole(self.vocab_size, "vocab_size")
        if vocabularies[0] < LEAST_VOCABULARY:
            raise BadInput(
                f"space vocab_size = {vocabularies[0]}: at least {LEAST_VOCABULARY} is needed, or "
                "there is nothing to predict"
            )
        grid = Grid(
            name=self.name,
            d_model=_whole(self.d_model, "d_model"),
            head_dim=head_dim,
            gqa_group=_whole(self.gqa_group, "gqa_group"),
            attention_width=None
            if self.attention_width is None
            else _numbers(self.attention_width, "attention_width"),
            ratio=None
            if self.mlp_attention_ratio is None
            else _numbers(self.mlp_attention_ratio, "mlp_attention_ratio"),
            d_ff=None if self.d_ff is None else _whole(self.d_ff, "d_ff"),
            d_ff_multiple_of=self.d_ff_multiple_of,
            blocks=_whole(blocks, "n_blocks" if self.depth is None else "depth"),
            blocks_are_depth=self.depth is not None,
            sharing=_whole(self.sharing, "sharing"),
            patterns=self._patterns(),
            topologies=self._topologies(),
            vocab_size=vocabularies,
            tied=np.array(
                sorted({tied} if isinstance(tied, bool) else set(tied), reverse=True),
                dtype=np.int64,
            ),
            bits=bits,
            smallest=math.ceil(bounds.low),
            largest=None if bounds.high is None else math.floor(bounds.high),
        )
        bases, sizes = math.prod(grid.shape[:4]), math.prod(grid.shape[:5])
        if bases > MOST_BASES or sizes > MOST_WIDTHS:
            raise BadInput(
                f"space {self.name}: d_model, head_dim, gqa_group, attention_width make {bases:,} "
                f"combinations, {sizes:,} with the MLP: at most {MOST_BASES:,} and "
                f"{MOST_WIDTHS:,}; use larger steps"
            )
        if grid.size() == 0:
            raise BadInput(
                f"space {self.name}: nothing is left after divisibility: check head_dim "
                "against d_model, gqa_group against heads, sharing against depth, and "
                "non_embedding"
            )
        return grid

    def _patterns(self) -> np.ndarray:
        """[patterns, 2]: window and global_every, 0 for none; full attention first."""
        rows = []
        for pattern in self.attention:
            if isinstance(pattern, str):
                rows.append((0, 0))
                continue
            every = 1 if pattern.global_every is None else pattern.global_every
            if not (1 <= pattern.window <= MOST["window"] and 1 <= every <= MOST["global_every"]):
                raise BadInput(
                    f"space attention: window = {pattern.window}, global_every = "
                    f"{pattern.global_every}: positive whole numbers are needed, at most "
                    f"{MOST['window']} and {MOST['global_every']}"
                )
            rows.append((pattern.window, pattern.global_every or 0))
        if not rows:
            raise BadInput('space attention = []: at least one pattern, such as "full"')
        return np.array(sorted(set(rows)), dtype=np.int64)

    def _topologies(self) -> np.ndarray:
        """[topologies, 4]: order, n_prelude, n_coda, input_injection; the plainest first."""
        rows = []
        for given in self.topology:
            one = given if isinstance(given, Topology) else Topology(order=given)
            if not (0 <= one.n_prelude < MOST["n_blocks"] and 0 <= one.n_coda < MOST["n_blocks"]):
                raise BadInput(
                    f"space topology: n_prelude = {one.n_prelude}, n_coda = {one.n_coda}: whole "
                    f"numbers from 0 to {MOST['n_blocks'] - 1} are needed"
                )
            if one.input_injection and one.order != "cycle":
                raise BadInput('space topology: input_injection = true needs order = "cycle"')
            order = SHARING_ORDERS.index(one.order)
            rows.append((order, one.n_prelude, one.n_coda, int(one.input_injection)))
        if not rows:
            raise BadInput('space topology = []: at least one, such as "immediate"')
        return np.array(sorted(set(rows)), dtype=np.int64)

    def size(self) -> int:
        """Number of distinct points, counted without making them."""
        return self.grid().size()

    def enumerate(self, chunk: int = 65_536) -> Iterator[tuple[ArchitectureBatch, np.ndarray]]:
        """Every point once, in the space's order: batches of about `chunk` and weight bits.

        The order: less shared and shallower first, then full attention before windows, then smaller
        vocabularies, then narrower, then thinner MLPs, then fewer bits. The earlier of two points
        with equal objectives is the one a front keeps.
        """
        grid = self.grid()
        step = max(1, chunk // len(grid.bits))
        total = grid.n_architectures()
        for start in range(0, total, step):
            batch = grid.architectures(np.arange(start, min(start + step, total)))
            repeated = np.repeat(np.arange(len(batch)), len(grid.bits))
            yield batch.take(repeated), np.tile(grid.bits, len(batch))


def _whole(axis: WholeAxis, name: str) -> np.ndarray:
    """The axis as rising whole numbers without repeats. Raises BadInput naming the axis."""
    values = _numbers(
        [float(value) for value in axis] if isinstance(axis, list) else axis,
        name,
        MOST.get(name, MOST_OF_OTHERS),
    )
    if isinstance(axis, Range) and axis.factor is not None:
        values = np.maximum(np.rint(values), 1)
    if np.any(values != np.rint(values)):
        raise BadInput(f"space {name}: whole numbers are needed, not {values.tolist()[:3]}")
    return np.unique(values.astype(np.int64))


def _numbers(axis: NumberAxis, name: str, most: float = MOST_OF_OTHERS) -> np.ndarray:
    """The axis as rising positive numbers without repeats. Raises BadInput naming the axis."""
    if isinstance(axis, Range):
        values = np.unique(axis.values(name))
    else:
        values = np.unique(np.array(axis if isinstance(axis, list) else [axis], dtype=float))
    if not len(values) or not 1e-6 < values[0] <= values[-1] <= most:
        raise BadInput(
            f"space {name} = {shown(msgspec.to_builtins(axis))}: one or more numbers above 0 are "
            f"needed, at most {most:g}"
        )
    if len(values) > MAX_VALUES:
        raise BadInput(f"space {name}: {len(values)} values: at most {MAX_VALUES}")
    return values


def space_names() -> list[str]:
    """The presets that ship with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_space(name_or_path: str | Path) -> Space:
    """A preset by name, or a file. Raises BadInput naming what exists."""
    path = PRESETS / f"{name_or_path}.toml"
    if str(name_or_path) in space_names():
        return Space.from_file(path)
    if exists(name_or_path):
        return Space.from_file(name_or_path)
    raise BadInput(
        f"space = {shown(str(name_or_path))}: a file or one of {', '.join(space_names())}"
        f"{close_names(str(name_or_path), space_names())}"
    )
