"""What sparse attention skips, by the definitions of The Sparse Frontier (arXiv 2504.17768).

Sparsity is the share of the causal attention matrix (n·(n+1)/2 entries, or whole blocks of it) not
computed in prefill, or the share of the context's keys and values not read in decode. Compression
is 1/(1 − sparsity).
"""

import math
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]

TILE = 64
"""Side of the square tiles the vertical-slash kernel computes."""


class BlockSparse(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="block-sparse", tag_field="kind"
):
    """Prefill: each chunk of queries keeps its best `kept` chunks of keys."""

    chunk: Count
    kept: Count

    def sparsity(self, context: int) -> float:
        """1 − [k(k+1)/2 + (nb − k)k] / [nb(nb+1)/2], nb = ⌈n/chunk⌉ chunks, k of them kept."""
        blocks = math.ceil(context / self.chunk)
        kept = min(self.kept, blocks)
        computed = kept * (kept + 1) / 2 + (blocks - kept) * kept
        return 1 - computed / (blocks * (blocks + 1) / 2)


class VerticalSlash(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="vertical-slash", tag_field="kind"
):
    """Prefill: whole columns of keys and diagonals, computed as tiles and strips of 64 queries."""

    blocks: Count
    """64×64 tiles computed, over the whole matrix."""
    columns: Count
    """Columns computed, one for each strip of 64 queries, over the whole matrix."""

    def sparsity(self, context: int) -> float:
        """1 − (blocks·64² + columns·64) / (n(n+1)/2), never below zero."""
        computed = self.blocks * TILE**2 + self.columns * TILE
        return max(0.0, 1 - computed / (context * (context + 1) / 2))


class Quest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="quest", tag_field="kind"):
    """Decode: read the pages of keys whose bounds promise most; nothing is dropped from memory."""

    budget: Count
    """Tokens read at each step."""
    page: Count
    """Tokens on a page; each keeps the minimum and maximum of its keys, read at each step."""

    def sparsity(self, context: int) -> float:
        """1 − budget/n."""
        return 1 - min(self.budget, context) / context

    def page_vectors(self, context: int) -> float:
        """Key-sized vectors read at each step to choose pages; none when all is read."""
        return 0.0 if self.budget >= context else 2.0 * math.ceil(context / self.page)


class Eviction(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="eviction", tag_field="kind"
):
    """Decode: only `capacity` tokens stay in the cache (SnapKV and its kin)."""

    capacity: Count

    def sparsity(self, context: int) -> float:
        """1 − capacity/n."""
        return 1 - min(self.capacity, context) / context

    def page_vectors(self, context: int) -> float:
        """None: what is left is read whole."""
        del context
        return 0.0


PrefillSparsity = BlockSparse | VerticalSlash
DecodeSparsity = Quest | Eviction


def compression(sparsity: float) -> float:
    """How many times less is computed or read: 1/(1 − sparsity)."""
    return math.inf if sparsity >= 1 else 1 / (1 - sparsity)
