"""One decoder-only transformer's shape, and all that follows from it.

The block is pre-RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases: the LLaMA and MobileLLM
layout. `Architecture` is one shape (Python integers); `ArchitectureBatch` is many at once (NumPy
arrays). Both inherit every formula from `ShapeFormulas`, so the scalar and the vectorised path are
the same code.

The stored blocks are, in order, `n_prelude` blocks applied once, the shared blocks applied
`sharing` times each, and `n_coda` blocks applied once. With order `immediate` each shared block is
applied `sharing` times running (MobileLLM, arXiv 2402.14905); with order `cycle` the whole shared
stack is, one pass after the other (looped models, arXiv 2604.21106). Input injection adds what
entered the shared stack to the residual stream again at the start of each further cycle.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from shapelaw.scaling.errors import BadInput

ArrayOrNumber = Any  # a number for Architecture, an ndarray of one axis for ArchitectureBatch

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


def attention_parameters(
    d_model: ArrayOrNumber, head_dim: ArrayOrNumber, heads: ArrayOrNumber
) -> ArrayOrNumber:
    """Query, key, value and output matrices of one block: 2·d_model·head_dim·(H + H_kv).

    Args:
        heads: query heads and key-value heads together, H + H_kv.
    """
    return 2 * d_model * head_dim * heads


def mlp_parameters(d_model: ArrayOrNumber, d_ff: ArrayOrNumber) -> ArrayOrNumber:
    """Gate, up and down matrices of one SwiGLU block: 3·d_model·d_ff."""
    return 3 * d_model * d_ff


def block_parameters(
    d_model: ArrayOrNumber, head_dim: ArrayOrNumber, heads: ArrayOrNumber, d_ff: ArrayOrNumber
) -> ArrayOrNumber:
    """One block with its two RMSNorm gains."""
    attention = attention_parameters(d_model, head_dim, heads)
    return attention + mlp_parameters(d_model, d_ff) + 2 * d_model


def mlp_size_for(
    ratio: ArrayOrNumber, head_dim: ArrayOrNumber, heads: ArrayOrNumber
) -> ArrayOrNumber:
    """d_ff, not yet whole, at which MLP and attention parameters are as `ratio` to one."""
    return ratio * (attention_parameters(1, head_dim, heads) / mlp_parameters(1, 1))


class ShapeFormulas(abc.ABC):
    """Counts and ratios that need only the fields. Works on integers and on arrays."""

    vocab_size: ArrayOrNumber
    d_model: ArrayOrNumber
    n_blocks: ArrayOrNumber
    sharing: ArrayOrNumber
    n_prelude: ArrayOrNumber
    n_coda: ArrayOrNumber
    sharing_order: ArrayOrNumber
    input_injection: ArrayOrNumber
    n_heads: ArrayOrNumber
    n_kv_heads: ArrayOrNumber
    head_dim: ArrayOrNumber
    d_ff: ArrayOrNumber
    tied_embeddings: ArrayOrNumber
    window: ArrayOrNumber
    global_every: ArrayOrNumber
    last_local: ArrayOrNumber

    # --- topology ------------------------------------------------------------------------------

    @property
    def n_shared_blocks(self) -> ArrayOrNumber:
        """Blocks between prelude and coda: those that are applied `sharing` times."""
        return self.n_blocks - self.n_prelude - self.n_coda

    @property
    def depth(self) -> ArrayOrNumber:
        """Applied layers: prelude and coda once, each shared block `sharing` times."""
        return self.n_prelude + self.n_coda + self.sharing * self.n_shared_blocks

    @property
    @abc.abstractmethod
    def in_cycles(self) -> ArrayOrNumber:
        """Whether the shared stack is applied as a whole, pass after pass."""

    @property
    def n_injections(self) -> ArrayOrNumber:
        """How often the stack's input is added again: at the start of each cycle but the first."""
        return self.input_injection * (self.sharing - 1)

    @property
    def reuse_blocks(self) -> ArrayOrNumber:
        """Blocks applied from one application of a shared block to its next, itself included.

        One in immediate order; the shared stack in cycle order. What must stay in a cache for the
        next application to find its weights there.
        """
        blocks = np.where(self.in_cycles, self.n_shared_blocks, 1)
        return int(blocks) if blocks.ndim == 0 else blocks

    # --- widths ------------------------------------------------------------------------------

    @property
    def query_width(self) -> ArrayOrNumber:
        """Queries of one token in one layer, all heads together."""
        return self.n_heads * self.head_dim

    @property
    def key_width(self) -> ArrayOrNumber:
        """Keys of one token in one layer, and as many values: key-value heads, not query heads."""
        return self.n_kv_heads * self.head_dim

    # --- stored parameters -------------------------------------------------------------------

    @property
    def attention_parameters(self) -> ArrayOrNumber:
        """Query, key, value and output matrices of one block."""
        return attention_parameters(self.d_model, self.head_dim, self.n_heads + self.n_kv_heads)

    @property
    def mlp_parameters(self) -> ArrayOrNumber:
        """Gate, up and down matrices of one SwiGLU block."""
        return mlp_parameters(self.d_model, self.d_ff)

    @property
    def block_parameters(self) -> ArrayOrNumber:
        """One block with its two RMSNorm gains."""
        return self.attention_parameters + self.mlp_parameters + 2 * self.d_model

    @property
    def non_embedding_parameters(self) -> ArrayOrNumber:
        """N by the `non_embedding` count: all blocks stored once, and the final norm."""
        return self.n_blocks * self.block_parameters + self.d_model

    @property
    def shared_parameters(self) -> ArrayOrNumber:
        """Of the non-embedding parameters, those applied `sharing` times: N_shared."""
        return self.n_shared_blocks * self.block_parameters

    @property
    def once_parameters(self) -> ArrayOrNumber:
        """Of the non-embedding parameters, those applied once: N_once (prelude, coda, norm)."""
        return self.non_embedding_parameters - self.shared_parameters

    @property
    def embedding_parameters(self) -> ArrayOrNumber:
        """Token embedding, and the LM head where it is not tied to it."""
        matrix = self.vocab_size * self.d_model
        return matrix * (2 - 1 * self.tied_embeddings)

    @property
    def total_parameters(self) -> ArrayOrNumber:
        """Every stored parameter: the leaves of the model's tree."""
        return self.non_embedding_parameters + self.embedding_parameters

    @property
    def applied_parameters(self) -> ArrayOrNumber:
        """Non-embedding parameters counted as often as they are applied; sets the FLOPs."""
        return self.depth * self.block_parameters + self.d_model

    # --- ratios ------------------------------------------------------------------------------

    @property
    def mlp_attention_ratio(self) -> ArrayOrNumber:
        """r = MLP parameters / attention parameters (arXiv 2510.18245)."""
        return self.mlp_parameters / self.attention_parameters

    @property
    def gqa_group(self) -> ArrayOrNumber:
        """g = query heads per key-value head."""
        return self.n_heads // self.n_kv_heads

    @property
    def width_ratio(self) -> ArrayOrNumber:
        """x = d_model / √(non-embedding stored parameters) (arXiv 2510.18245)."""
        return self.d_model / np.sqrt(self.non_embedding_parameters)

    @property
    def aspect_ratio(self) -> ArrayOrNumber:
        """R = d_model / applied depth (Morph, arXiv 2501.18107)."""
        return self.d_model / self.depth

    # --- FLOPs: a multiply and an add are two operations ---------------------------------------

    @property
    def lm_head_flops(self) -> ArrayOrNumber:
        """Operations of the LM head for one token: 2·vocab·d_model, tied or not."""
        return 2 * self.vocab_size * self.d_model

    @property
    def block_matmul_flops(self) -> ArrayOrNumber:
        """Operations of one block's weight matrices for one token."""
        return 2 * (self.attention_parameters + self.mlp_parameters)

    def attention_flops_per_context_token(self) -> ArrayOrNumber:
        """Operations of scores and weighted values of one layer, per token, per token attended."""
        return 4 * self.query_width

    def matmul_flops_per_token(self, sequence_length: ArrayOrNumber) -> ArrayOrNumber:
        """Matrix-multiply operations of a forward pass, a token, with a dense T×T attention.

        The causal mask is not credited: training kernels and XLA's own count multiply the whole
        T×T matrix. The language-model head is counted in full.
        """
        attention = self.attention_flops_per_context_token() * sequence_length
        return self.depth * (self.block_matmul_flops + attention) + self.lm_head_flops

    def elementwise_flops_per_token(self, sequence_length: ArrayOrNumber) -> ArrayOrNumber:
        """All other operations of a forward pass, a token: norms, RoPE, softmax, SiLU, additions.

        As XLA counts them: one each, sums one less than their terms, exponentials and roots none.
        From 0.1 % of the multiplies at d_model 512 to 5 % where the model is smallest.
        """
        query, key = self.query_width, self.key_width
        norms_and_additions = 10 * self.d_model + 2
        scale_rope_and_division = 5 * query + 3 * key
        softmax = self.n_heads * (4 * sequence_length - 2)
        layer = norms_and_additions + scale_rope_and_division + softmax + 5 * self.d_ff
        return self.depth * layer + (4 + self.n_injections) * self.d_model

    def forward_flops_per_token(self, sequence_length: ArrayOrNumber) -> ArrayOrNumber:
        """Operations of a forward pass, a token: matrix multiplies and all the rest.

        Agrees with XLA's cost analysis of the dense forward pass.
        """
        return self.matmul_flops_per_token(sequence_length) + self.elementwise_flops_per_token(
            sequence_length
        )

    def training_flops_per_token(self, sequence_length: ArrayOrNumber) -> ArrayOrNumber:
        """Forward and backward: three times the forward pass."""
        return 3 * self.forward_flops_per_token(sequence_length)

    # --- attention pattern -------------------------------------------------------------------

    @property
    def n_global_blocks(self) -> ArrayOrNumber:
        """Blocks with full attention: all without a window; else each `global_every`-th, and the
        last unless `last_local`.

        With a window and no `global_every`, none (every block is local).
        """
        return self._n_global(once=1, shared=1)

    @property
    def n_global_layers(self) -> ArrayOrNumber:
        """Applied layers with full attention; a block is global or local wherever it is applied."""
        return self._n_global(once=1, shared=self.sharing)

    def _n_global(self, once: ArrayOrNumber, shared: ArrayOrNumber) -> ArrayOrNumber:
        """Global blocks, those outside the shared stack counted `once` and those in it `shared`."""
        window = np.asarray(self.window if self.window is not None else 0)
        every = np.asarray(self.global_every if self.global_every is not None else 0)
        spacing = np.maximum(every, 1)
        blocks, prelude = np.asarray(self.n_blocks), np.asarray(self.n_prelude)
        before_coda = blocks - self.n_coda
        within = before_coda // spacing - prelude // spacing
        outside = blocks // spacing - within
        # The last block is global wherever the spacing ends, where it is not said to be local.
        odd_last = np.minimum(blocks % spacing, 1) * (1 - 1 * np.asarray(self.last_local))
        in_coda = np.asarray(self.n_coda) > 0
        spaced = (within + np.where(in_coda, 0, odd_last)) * shared + (
            outside + np.where(in_coda, odd_last, 0)
        ) * once
        everything = (prelude + self.n_coda) * once + self.n_shared_blocks * shared
        count = np.where(window == 0, everything, np.where(every == 0, 0, spaced))
        return int(count) if count.ndim == 0 else count


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
