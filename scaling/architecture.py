"""One decoder-only transformer's shape, and many shapes as columns.

`Architecture` is one shape (Python integers); `ArchitectureBatch` is many at once (NumPy arrays).
What follows from a shape is in shape_formulas.py.

The stored blocks are, in order, `n_prelude` blocks applied once, the shared blocks applied
`sharing` times each, and `n_coda` blocks applied once. With order `immediate` each shared block is
applied `sharing` times running (MobileLLM, arXiv 2402.14905); with order `cycle` the whole shared
stack is, one pass after the other (looped models, arXiv 2604.21106). Input injection adds what
entered the shared stack to the residual stream again at the start of each further cycle.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.shape_formulas import ShapeFormulas

SharingOrder = Literal["immediate", "cycle"]
SHARING_ORDERS: tuple[SharingOrder, ...] = get_args(SharingOrder)
"""A batch holds the place in this list: 0 immediate, 1 cycle."""


MOST = {
    "vocab_size": 10_000_000,
    "d_model": 1_000_000,
    "n_blocks": 10_000,
    "sharing": 1_000,
    "n_heads": 100_000,
    "n_kv_heads": 100_000,
    "head_dim": 100_000,
    "d_ff": 10_000_000,
    "window": 1_000_000_000,
    "global_every": 1_000_000,
}
"""What no model goes beyond: a larger number is a slip, and would ask for absurd work."""

LEAST_VOCABULARY = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture(ShapeFormulas):
    """One transformer's shape. Frozen, hashable, validated when made.

    Raises:
        BadInput: a field is not a positive integer, heads do not divide, or a window is misused.
    """

    vocab_size: int
    """Rows of the token embedding."""
    d_model: int
    """Hidden size."""
    n_blocks: int
    """Distinct blocks stored."""
    sharing: int = 1
    """How often each shared block is applied."""
    n_prelude: int = 0
    """Of the blocks, the first that are applied once."""
    n_coda: int = 0
    """Of the blocks, the last that are applied once."""
    sharing_order: SharingOrder = "immediate"
    """`immediate`: each shared block `sharing` times running; `cycle`: the shared stack."""
    input_injection: bool = False
    """In cycle order: what entered the shared stack is added again as each further cycle starts."""
    n_heads: int
    """Query heads."""
    n_kv_heads: int
    """Key-value heads; divides n_heads."""
    head_dim: int
    """Size of one head; even, for RoPE."""
    d_ff: int
    """Hidden size of the SwiGLU MLP."""
    tied_embeddings: bool = True
    """Whether the LM head is the token embedding."""
    window: int | None = None
    """Sliding-window length of local blocks; None means full attention everywhere."""
    global_every: int | None = None
    """With a window: each such block, and the last one, attends globally; None means none does."""
    last_local: bool = False
    """The last block is global only where `global_every` makes it so (Gemma 2 and 3)."""

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name)
            optional = name in ("window", "global_every")
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise BadInput(
                    f"architecture {name} = {value!r:.40}: a positive whole number"
                    f"{' or none' if optional else ''} is needed, at most {most}"
                )
        if self.vocab_size < LEAST_VOCABULARY:
            raise BadInput(
                f"architecture vocab_size = {self.vocab_size}: at least {LEAST_VOCABULARY} is "
                "needed, or there is nothing to predict"
            )
        for name in ("tied_embeddings", "input_injection", "last_local"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise BadInput(f"architecture {name} = {value!r}: true or false is needed")
        self._check_topology()
        if self.n_heads % self.n_kv_heads:
            raise BadInput(
                f"architecture n_kv_heads = {self.n_kv_heads}: must divide n_heads = {self.n_heads}"
            )
        if self.head_dim % 2:
            raise BadInput(f"architecture head_dim = {self.head_dim}: must be even (RoPE)")
        if self.global_every is not None and self.window is None:
            raise BadInput(
                f"architecture global_every = {self.global_every}: needs a window beside it"
            )

    def _check_topology(self) -> None:
        for name in ("n_prelude", "n_coda"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise BadInput(
                    f"architecture {name} = {value!r:.40}: 0 or a positive whole number is needed"
                )
        if self.n_shared_blocks < 1:
            raise BadInput(
                f"architecture n_prelude = {self.n_prelude}, n_coda = {self.n_coda}: of n_blocks = "
                f"{self.n_blocks} at least one must be left between them, to be shared"
            )
        if self.sharing_order not in SHARING_ORDERS:
            raise BadInput(
                f"architecture sharing_order = {self.sharing_order!r}: "
                f"{' or '.join(SHARING_ORDERS)} is needed"
            )
        if self.input_injection and self.sharing_order != "cycle":
            raise BadInput(
                'architecture input_injection = true: needs sharing_order = "cycle", '
                "since it is done as a cycle starts"
            )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Architecture":
        """Build from a mapping, strictly: unknown or missing fields raise BadInput naming them."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                raise BadInput(f"architecture has no field {name!r}; fields: {', '.join(known)}")
        for name, field in known.items():
            if field.default is dataclasses.MISSING and name not in fields:
                raise BadInput(f"architecture field {name!r} is missing")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields, in order, as plain values; `last_local` only where it is true."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if not self.last_local:
            del fields["last_local"]
        return fields

    @property
    def in_cycles(self) -> bool:
        """Whether the shared stack is applied as a whole, pass after pass."""
        return self.sharing_order == "cycle"

    def applied_blocks(self) -> list[int]:
        """Number (from 0) of the stored block behind each applied layer, in order [depth]."""
        end = self.n_blocks - self.n_coda
        shared, repeats = range(self.n_prelude, end), range(self.sharing)
        if self.in_cycles:
            middle = [block for _ in repeats for block in shared]
        else:
            middle = [block for block in shared for _ in repeats]
        return [*range(self.n_prelude), *middle, *range(end, self.n_blocks)]

    def unshared(self) -> "Architecture":
        """The same applied depth with every layer a block of its own."""
        return dataclasses.replace(
            self,
            n_blocks=self.depth,
            sharing=1,
            n_prelude=0,
            n_coda=0,
            sharing_order="immediate",
            input_injection=False,
        )

    def injected_layers(self) -> list[int]:
        """Applied layers (from 0) that are given the input of the shared stack once more."""
        if not self.input_injection:
            return []
        return [self.n_prelude + cycle * self.n_shared_blocks for cycle in range(1, self.sharing)]

    def is_global(self, block: int) -> bool:
        """Whether block number `block` (from 0) attends to the whole context."""
        if self.window is None:
            return True
        if self.global_every is None:
            return False
        last = block == self.n_blocks - 1 and not self.last_local
        return (block + 1) % self.global_every == 0 or last


FIELDS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Architecture))
TOPOLOGY = ("n_prelude", "n_coda", "sharing_order", "input_injection")
"""Fields that say which blocks are shared and in which order; all 0 in the plain case."""
MAY_BE_LEFT_OUT = (*TOPOLOGY, "last_local")


def _left_out() -> np.ndarray:
    """A column that was not given; filled with zeros once the number of rows is known."""
    return np.zeros(0, dtype=np.int64)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class ArchitectureBatch(ShapeFormulas):
    """Many shapes as columns, each an array [n]; 0 stands for None in window and global_every.

    `sharing_order` holds the place in SHARING_ORDERS. The columns of topology may be left out: all
    blocks are then shared, in immediate order.
    """

    vocab_size: np.ndarray
    d_model: np.ndarray
    n_blocks: np.ndarray
    sharing: np.ndarray
    n_prelude: np.ndarray = dataclasses.field(default_factory=_left_out)
    n_coda: np.ndarray = dataclasses.field(default_factory=_left_out)
    sharing_order: np.ndarray = dataclasses.field(default_factory=_left_out)
    input_injection: np.ndarray = dataclasses.field(default_factory=_left_out)
    n_heads: np.ndarray
    n_kv_heads: np.ndarray
    head_dim: np.ndarray
    d_ff: np.ndarray
    tied_embeddings: np.ndarray
    window: np.ndarray
    global_every: np.ndarray
    last_local: np.ndarray = dataclasses.field(default_factory=_left_out)

    def __post_init__(self) -> None:
        for name in MAY_BE_LEFT_OUT:
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.zeros(len(self), dtype=np.int64))

    @property
    def in_cycles(self) -> np.ndarray:
        """Whether the shared stack is applied as a whole, pass after pass [n]."""
        return np.asarray(self.sharing_order) == SHARING_ORDERS.index("cycle")

    @classmethod
    def of(cls, architectures: Iterable[Architecture]) -> "ArchitectureBatch":
        """Columns from a list of architectures."""
        rows = list(architectures)
        values: dict[str, list[Any]] = {
            name: [getattr(row, name) for row in rows] for name in FIELDS
        }
        values["sharing_order"] = [SHARING_ORDERS.index(order) for order in values["sharing_order"]]
        return cls(
            **{
                name: np.array([value or 0 for value in column], dtype=np.int64)
                for name, column in values.items()
            }
        )

    def __len__(self) -> int:
        return len(self.d_model)

    def __getitem__(self, index: int) -> Architecture:
        """Row `index` as one Architecture."""
        fields: dict[str, Any] = {name: int(getattr(self, name)[index]) for name in FIELDS}
        fields["sharing_order"] = SHARING_ORDERS[fields["sharing_order"]]
        for name in ("tied_embeddings", "input_injection", "last_local"):
            fields[name] = bool(fields[name])
        for name in ("window", "global_every"):
            fields[name] = fields[name] or None
        return Architecture(**fields)

    def take(self, indices: Sequence[int] | np.ndarray) -> "ArchitectureBatch":
        """The rows at `indices` (whole numbers or a mask), as another batch."""
        chosen = np.asarray(indices)
        return ArchitectureBatch(**{name: getattr(self, name)[chosen] for name in FIELDS})
