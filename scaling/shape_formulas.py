"""Counts, ratios and operations of a shape, for one shape and for many at once.

The block is pre-RMSNorm, RoPE, grouped-query attention, SwiGLU, no biases: the LLaMA and MobileLLM
layout. `Architecture` (Python integers) and `ArchitectureBatch` (NumPy arrays) both inherit every
formula from `ShapeFormulas`, so the scalar and the vectorised path are the same code.
"""

import abc
from typing import Any

import numpy as np

ArrayOrNumber = Any  # a number for Architecture, an ndarray of one axis for ArchitectureBatch


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
