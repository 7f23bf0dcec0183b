"""A space made concrete: which combinations are models, how many there are, and which is which.

Two ways to name a point. By *number*, 0 to n − 1, for spaces that are enumerated. By *coordinates*,
one index into each axis, for spaces that are not: there a neighbour is one index further.
"""

import dataclasses
from functools import cached_property

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.shape_formulas import block_parameters, mlp_parameters, mlp_size_for

HEAD_TOLERANCE = 0.125
"""How far rounding heads to a multiple of the group may move a given attention width."""

_COUNT_ROWS = 4_000_000
"""d_ff values looked at together while counting; bounds memory, not the answer."""

AXES = (
    "d_model",
    "head_dim",
    "gqa_group",
    "attention_width",
    "mlp",
    "blocks",
    "sharing",
    "topology",
    "pattern",
    "vocab_size",
    "tied",
    "bits",
)
"""The coordinates of a point, in order."""


_TOPOLOGY = ("sharing_order", "n_prelude", "n_coda", "input_injection")


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Sorted values of every axis, and the arithmetic between points, numbers and coordinates."""

    name: str
    d_model: np.ndarray
    head_dim: np.ndarray
    gqa_group: np.ndarray
    attention_width: np.ndarray | None
    ratio: np.ndarray | None
    d_ff: np.ndarray | None
    d_ff_multiple_of: int
    blocks: np.ndarray
    blocks_are_depth: bool
    sharing: np.ndarray
    patterns: np.ndarray
    """[patterns, 2]: window, global_every; 0 for none."""
    topologies: np.ndarray
    """[topologies, 4]: order (place in SHARING_ORDERS), n_prelude, n_coda, input_injection. Where
    nothing is applied twice they are one, and the plain one stands for it."""
    vocab_size: np.ndarray
    tied: np.ndarray
    bits: np.ndarray
    smallest: int = 0
    """Least stored non-embedding parameters."""
    largest: int | None = None
    """Most stored non-embedding parameters; None for no bound."""

    # --- by coordinates ----------------------------------------------------------------------

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of values along each of AXES."""
        mlp = self.ratio if self.ratio is not None else self.d_ff
        assert mlp is not None
        widths = 1 if self.attention_width is None else len(self.attention_width)
        return (
            len(self.d_model),
            len(self.head_dim),
            len(self.gqa_group),
            widths,
            len(mlp),
            len(self.blocks),
            len(self.sharing),
            len(self.topologies),
            len(self.patterns),
            len(self.vocab_size),
            len(self.tied),
            len(self.bits),
        )

    def heads(
        self, d_model: np.ndarray, head_dim: np.ndarray, group: np.ndarray, width: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Query heads, key-value heads and whether the combination divides, each [n]."""
        if width is None:
            n_heads = d_model // head_dim
            kv_heads = np.maximum(n_heads // group, 1)
            return n_heads, kv_heads, (d_model % head_dim == 0) & (n_heads == kv_heads * group)
        wanted = width * d_model / head_dim
        kv_heads = np.maximum(np.rint(wanted / group), 1).astype(np.int64)
        n_heads = kv_heads * group
        return n_heads, kv_heads, np.abs(n_heads / wanted - 1) <= HEAD_TOLERANCE

    def mlp_size(
        self, mlp: np.ndarray, head_dim: np.ndarray, n_heads: np.ndarray, kv_heads: np.ndarray
    ) -> np.ndarray:
        """d_ff for indices `mlp` into the ratio (or d_ff) axis, aligned."""
        if self.ratio is None:
            assert self.d_ff is not None
            return np.broadcast_to(self.d_ff[mlp], np.broadcast(mlp, n_heads).shape)
        exact = mlp_size_for(self.ratio[mlp], head_dim, n_heads + kv_heads)
        aligned = np.maximum(np.rint(exact / self.d_ff_multiple_of), 1) * self.d_ff_multiple_of
        return aligned.astype(np.int64)

    def decode(self, coordinates: np.ndarray) -> tuple[ArchitectureBatch, np.ndarray, np.ndarray]:
        """Points from coordinates [n, len(AXES)]: architectures, weight bits, and which are valid.

        Rows that are not valid hold numbers too, and must not be used.
        """
        c = dict(zip(AXES, coordinates.T, strict=True))
        d_model, head_dim = self.d_model[c["d_model"]], self.head_dim[c["head_dim"]]
        group = self.gqa_group[c["gqa_group"]]
        width = None if self.attention_width is None else self.attention_width[c["attention_width"]]
        n_heads, kv_heads, valid = self.heads(d_model, head_dim, group, width)
        sharing = self.sharing[c["sharing"]]
        n_blocks, topology, whole = self._stack(self.blocks[c["blocks"]], sharing, c["topology"])
        valid = valid & whole
        pattern = self.patterns[c["pattern"]]
        batch = ArchitectureBatch(
            vocab_size=self.vocab_size[c["vocab_size"]],
            d_model=d_model,
            n_blocks=n_blocks,
            sharing=sharing,
            **topology,
            n_heads=n_heads,
            n_kv_heads=kv_heads,
            head_dim=head_dim,
            d_ff=self.mlp_size(c["mlp"], head_dim, n_heads, kv_heads),
            tied_embeddings=self.tied[c["tied"]],
            window=pattern[:, 0],
            global_every=pattern[:, 1],
        )
        if self.is_bounded:
            valid = valid & self._within(np.asarray(batch.non_embedding_parameters))
        return batch, self.bits[c["bits"]], valid

    def _stack(
        self, blocks: np.ndarray, sharing: np.ndarray, topology: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
        """Blocks stored, columns of topology, and which stacks are whole and distinct, each [n].

        Args:
            blocks: blocks, or depths where `blocks_are_depth`.
            topology: rows of `topologies`.
        """
        shared = sharing > 1
        columns = np.where(shared[:, None], self.topologies[topology], 0)
        once = columns[:, 1] + columns[:, 2]
        valid = shared | (topology == 0)
        if self.blocks_are_depth:
            valid = valid & ((blocks - once) % sharing == 0)
            blocks = np.maximum((blocks - once) // sharing, 0) + once
        valid = valid & (blocks > once)
        return np.maximum(blocks, 1), dict(zip(_TOPOLOGY, columns.T, strict=True)), valid

    # --- bounds on size ------------------------------------------------------------------------

    @property
    def is_bounded(self) -> bool:
        """Whether sizes are bounded."""
        return self.smallest > 0 or self.largest is not None

    def _within(self, parameters: np.ndarray) -> np.ndarray:
        most = np.inf if self.largest is None else self.largest
        return np.asarray((parameters >= self.smallest) & (parameters <= most))

    def _mlp_bounds(
        self, base: dict[str, int], blocks: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Least and most d_ff that keep a base within the bounds, for each number of blocks."""
        d_model = base["d_model"]
        heads = base["n_heads"] + base["n_kv_heads"]
        fixed = block_parameters(d_model, base["head_dim"], heads, 0)
        each = mlp_parameters(d_model, 1)
        # N = blocks·(fixed + 3·d_model·d_ff) + d_model, solved for d_ff in whole numbers.
        low = -(-(-(-(self.smallest - d_model) // blocks) - fixed) // each)
        if self.largest is None:
            return low, np.full(len(blocks), np.iinfo(np.int64).max)
        return low, ((self.largest - d_model) // blocks - fixed) // each

    @cached_property
    def stack_widths(self) -> np.ndarray:
        """How many widths go with each stack [stacks]: all, or those within the bounds."""
        if not self.is_bounded:
            return np.full(len(self.stacks), self.n_widths)
        blocks, which = np.unique(self.stacks[:, 0], return_inverse=True)
        total = np.zeros(len(blocks), dtype=np.int64)
        count = len(self.bases["d_model"])
        step = max(1, _COUNT_ROWS // self.shape[4])
        for start in range(0, count, step):
            sizes, fresh = self._mlp_rows(start, min(start + step, count))
            for row in range(len(sizes)):
                base = {name: int(column[start + row]) for name, column in self.bases.items()}
                low, high = self._mlp_bounds(base, blocks)
                distinct = sizes[row, fresh[row]]
                below = np.searchsorted(distinct, low, side="left")
                total += np.maximum(np.searchsorted(distinct, high, side="right") - below, 0)
        return total[which]

    @cached_property
    def _stack_members(self) -> list[np.ndarray] | None:
        """Widths that go with each stack, by index; None where all do."""
        if not self.is_bounded:
            return None
        w = self.widths
        heads = w["n_heads"] + w["n_kv_heads"]
        block = block_parameters(w["d_model"], w["head_dim"], heads, w["d_ff"])
        members = {
            blocks: np.flatnonzero(self._within(blocks * block + w["d_model"]))
            for blocks in np.unique(self.stacks[:, 0]).tolist()
        }
        return [members[blocks] for blocks in self.stacks[:, 0].tolist()]

    def _locate(
        self, numbers: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Indices of stack, pattern, vocabulary, tying and width of architectures by number."""
        inner = (len(self.patterns), len(self.vocab_size), len(self.tied))
        ends = np.cumsum(self.stack_widths * int(np.prod(inner)))
        stack = np.searchsorted(ends, numbers, side="right")
        starts = np.concatenate([[0], ends])
        outer, width = np.divmod(numbers - starts[stack], self.stack_widths[stack])
        members = self._stack_members
        if members is not None:
            offsets = np.concatenate([[0], np.cumsum(self.stack_widths)])
            width = self._all_members[offsets[stack] + width]
        pattern, vocabulary, tying = np.unravel_index(outer, inner)
        return stack, pattern, vocabulary, tying, width

    @cached_property
    def _all_members(self) -> np.ndarray:
        return np.concatenate(self._stack_members or [np.empty(0, np.int64)])

    # --- by number ---------------------------------------------------------------------------

    @cached_property
    def bases(self) -> dict[str, np.ndarray]:
        """Distinct (d_model, head_dim, heads, kv heads), rising, as columns.

        `cross` is the first combination of those four axes that gives the row.
        """
        widths = [0] if self.attention_width is None else list(range(len(self.attention_width)))
        d_model, head_dim, group, width = (
            axis.ravel()
            for axis in np.meshgrid(
                self.d_model, self.head_dim, self.gqa_group, widths, indexing="ij"
            )
        )
        n_heads, kv_heads, valid = self.heads(
            d_model,
            head_dim,
            group,
            None if self.attention_width is None else self.attention_width[width],
        )
        rows, first = np.unique(
            np.stack([d_model, head_dim, n_heads, kv_heads], axis=1)[valid],
            axis=0,
            return_index=True,
        )
        names = ("d_model", "head_dim", "n_heads", "n_kv_heads")
        found = dict(zip(names, rows.T, strict=True))
        found["cross"] = np.flatnonzero(valid)[first]
        return found

    @cached_property
    def stacks(self) -> np.ndarray:
        """Distinct stacks [stacks, 3]: n_blocks, sharing, topology; less sharing first, then
        shallower."""
        topology = np.arange(len(self.topologies))
        sharing, blocks, topology = (
            a.ravel() for a in np.meshgrid(self.sharing, self.blocks, topology, indexing="ij")
        )
        stored, _, valid = self._stack(blocks, sharing, topology)
        return np.stack([stored, sharing, topology], axis=1)[valid]

    def _mlp_rows(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """d_ff of bases start..stop as rows [bases, mlp], and which differ from the one before."""
        base = {name: column[start:stop, None] for name, column in self.bases.items()}
        sizes = self.mlp_size(
            np.arange(self.shape[4])[None, :], base["head_dim"], base["n_heads"], base["n_kv_heads"]
        )
        fresh = np.ones(sizes.shape, dtype=bool)
        fresh[:, 1:] = sizes[:, 1:] != sizes[:, :-1]
        return sizes, fresh

    @cached_property
    def n_widths(self) -> int:
        """Distinct widths: a base and a d_ff."""
        total, count = 0, len(self.bases["d_model"])
        if self.d_ff is not None:
            return count * len(self.d_ff)  # given, not rounded from a ratio: all distinct
        step = max(1, _COUNT_ROWS // self.shape[4])
        for start in range(0, count, step):
            _, fresh = self._mlp_rows(start, min(start + step, count))
            total += int(fresh.sum())
        return total

    @cached_property
    def widths(self) -> dict[str, np.ndarray]:
        """Every distinct width as columns; only for spaces small enough to enumerate."""
        sizes, fresh = self._mlp_rows(0, len(self.bases["d_model"]))
        base, mlp = np.nonzero(fresh)
        columns = {name: column[base] for name, column in self.bases.items()}
        columns["d_ff"], columns["mlp"] = sizes[fresh], mlp
        return columns

    def n_architectures(self) -> int:
        """Distinct architectures, weight precision aside."""
        outer = len(self.patterns) * len(self.vocab_size) * len(self.tied)
        return outer * int(self.stack_widths.sum())

    def size(self) -> int:
        """Distinct points: architectures times weight precisions."""
        return self.n_architectures() * len(self.bits)

    def architectures(self, numbers: np.ndarray) -> ArchitectureBatch:
        """Architectures by number [n], in the order `Space.enumerate` describes."""
        stack, pattern, vocabulary, tied, width = self._locate(numbers)
        columns = {
            name: self.widths[name][width]
            for name in ("d_model", "head_dim", "n_heads", "n_kv_heads", "d_ff")
        }
        return ArchitectureBatch(
            vocab_size=self.vocab_size[vocabulary],
            n_blocks=self.stacks[stack, 0],
            sharing=self.stacks[stack, 1],
            **self._topology_of(stack),
            tied_embeddings=self.tied[tied],
            window=self.patterns[pattern, 0],
            global_every=self.patterns[pattern, 1],
            **columns,
        )

    def _topology_of(self, stack: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of topology of stacks by number [n]."""
        _, sharing, topology = self.stacks[stack].T
        columns = np.where(sharing[:, None] > 1, self.topologies[topology], 0)
        return dict(zip(_TOPOLOGY, columns.T, strict=True))

    def coordinates(self, numbers: np.ndarray) -> np.ndarray:
        """Coordinates [n, len(AXES)] of points by number: architecture number · bits + bit."""
        architecture, bit = np.divmod(numbers, len(self.bits))
        stack, pattern, vocabulary, tied, width = self._locate(architecture)
        blocks = self.stacks[stack, 0]
        if self.blocks_are_depth:
            once = self._topology_of(stack)
            once_blocks = once["n_prelude"] + once["n_coda"]
            blocks = (blocks - once_blocks) * self.stacks[stack, 1] + once_blocks
        return np.stack(
            [
                *np.unravel_index(self.widths["cross"][width], self.shape[:4]),
                self.widths["mlp"][width],
                np.searchsorted(self.blocks, blocks),
                np.searchsorted(self.sharing, self.stacks[stack, 1]),
                self.stacks[stack, 2],
                pattern,
                vocabulary,
                tied,
                bit,
            ],
            axis=1,
        )
