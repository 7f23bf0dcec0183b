"""Where time, bytes, operations and joules go, part by part: the heart of the cost model.

A part takes the larger of the time its bytes need and the time its operations need; parts follow
one another. Bytes come from the cache level that still holds them (search.devices.residency) and
otherwise from DRAM. Every function works on arrays [n], one entry an architecture.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.devices.cache_residency import resident_share
from shapelaw.search.devices.constants import Constants
from shapelaw.search.workload import Workload

RESOURCES = (
    "memory bandwidth",
    "cache bandwidth",
    "compute",
    "unpacking weights",
    "per-layer overhead",
    "per-token overhead",
)
"""What can be scarce, in the order in which ties are broken."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One part's share. Arrays [n]; `by_resource` splits `seconds` over RESOURCES."""

    name: str
    seconds: np.ndarray
    bytes_moved: np.ndarray
    """From DRAM."""
    bytes_cached: np.ndarray
    """From a cache level."""
    flops: np.ndarray
    by_resource: dict[str, np.ndarray]

    def joules(self, constants: Constants) -> np.ndarray:
        """Bytes and operations at their price, static power while it lasts. NaN if unknown."""
        per_dram_byte, per_cache_byte, per_operation, static = constants.energy
        return (
            self.bytes_moved * per_dram_byte
            + self.bytes_cached * per_cache_byte
            + self.flops * per_operation
            + self.seconds * static
        )


@dataclasses.dataclass(frozen=True)
class Reading:
    """How bytes read again and again are served: shares [n] by level, and seconds a byte."""

    dram_share: np.ndarray
    dram_seconds: np.ndarray
    """Seconds a byte spent waiting for DRAM (already times its share)."""
    cache_seconds: np.ndarray
    """Seconds a byte spent on the caches."""


def serve(resident: list[np.ndarray], constants: Constants, bandwidth: float) -> Reading:
    """Split each byte over the levels, given the share resident in each (fastest first)."""
    inner: np.ndarray | float = 0.0
    cache_seconds: np.ndarray | float = 0.0
    for share, rate in zip(resident, constants.cache_bandwidth, strict=True):
        outer = np.maximum(inner, share)
        cache_seconds = cache_seconds + (outer - inner) / rate
        inner = outer
    dram = 1.0 - np.asarray(inner)
    return Reading(dram, dram / bandwidth, np.asarray(cache_seconds))


def resident(working_set: np.ndarray, constants: Constants) -> list[np.ndarray]:
    """Share of a cyclically read working set in each cache level."""
    return [resident_share(working_set, size) for size in constants.cache_capacity]


def serve_again(again: list[np.ndarray], whole: list[np.ndarray], constants: Constants) -> Reading:
    """A second reading: what the caches kept of the first one, or hold all the time."""
    kept = [
        np.maximum(share * retained, always)
        for share, retained, always in zip(again, constants.cache_retained, whole, strict=True)
    ]
    return serve(kept, constants, constants.bandwidth)


def roofline(
    name: str,
    volume: np.ndarray,
    reading: Reading,
    flops: np.ndarray,
    op_seconds: np.ndarray,
    unpack_seconds: np.ndarray | float = 0.0,
) -> Part:
    """The larger of bytes and operations; who wins is what the seconds are charged to."""
    dram = volume * reading.dram_seconds
    cached = volume * reading.cache_seconds
    compute = op_seconds + unpack_seconds
    memory_bound = dram + cached >= compute
    moved = volume * reading.dram_share
    return Part(
        name,
        np.maximum(dram + cached, compute),
        moved,
        volume - moved,
        flops,
        {
            "memory bandwidth": np.where(memory_bound, dram, 0.0),
            "cache bandwidth": np.where(memory_bound, cached, 0.0),
            "compute": np.where(memory_bound, 0.0, op_seconds),
            "unpacking weights": np.where(memory_bound, 0.0, unpack_seconds),
        },
    )


def overhead(name: str, seconds: np.ndarray, resource: str) -> Part:
    """Time that no byte and no operation explains."""
    zero = np.zeros_like(seconds)
    return Part(name, seconds, zero, zero, zero, {resource: seconds})


class Shapes:
    """The products of an architecture's fields that both phases need, as float64 arrays [n]."""

    def __init__(
        self,
        a: ArchitectureBatch,
        c: Constants,
        w: Workload,
        weight_bits: np.ndarray,
        kv_bits: float,
        activation_bits: float,
    ) -> None:
        self.bits = np.broadcast_to(np.asarray(weight_bits, dtype=np.float64), (len(a),))
        self.weight_bytes = c.stored_bits(self.bits) / 8
        self.kv_bytes = kv_bits / 8
        self.activation_bytes = activation_bits / 8
        self.d_model = a.d_model.astype(np.float64)
        self.d_ff = a.d_ff.astype(np.float64)
        self.vocab = a.vocab_size.astype(np.float64)
        self.n_blocks = a.n_blocks.astype(np.float64)
        self.sharing = a.sharing.astype(np.float64)
        self.depth = a.depth.astype(np.float64)
        self.reuse_blocks = np.asarray(a.reuse_blocks, dtype=np.float64)
        self.query_width = a.n_heads.astype(np.float64) * a.head_dim
        self.kv_width = 2.0 * a.n_kv_heads * a.head_dim
        """Keys and values of one token in one layer: key-value heads, never query heads."""
        self.attention = 2.0 * self.d_model * (self.query_width + self.kv_width / 2)
        self.mlp = 3.0 * self.d_model * self.d_ff
        self.block = self.attention + self.mlp + 2 * self.d_model
        self.window = a.window
        self.global_layers = np.asarray(a.n_global_layers, dtype=np.float64)
        self.local_layers = self.depth - self.global_layers
        self.local_context = w.attended(a.window)
        self.peak = c.peak_at(activation_bits)
        self.total_weights = (
            self.n_blocks * self.block
            + self.d_model
            + self.vocab * self.d_model * (2 - 1.0 * a.tied_embeddings)
        )

    @property
    def layer_activations(self) -> np.ndarray:
        """Values one layer writes and reads for one token, the element-wise steps included."""
        return 8 * self.d_model + 2 * (self.query_width + self.kv_width) + 4 * self.d_ff


def decode_parts(s: Shapes, c: Constants, w: Workload) -> list[Part]:
    """One decode step: one token for each of the batch's sequences."""
    batch = float(w.batch)
    context = w.decode_context
    # KV: what attention reads, and the one token it writes.
    seen = s.global_layers * context * w.read_share(context) + s.local_layers * s.local_context
    pages = s.global_layers * w.page_vectors(context) * s.kv_width / 2
    kv_read = batch * (seen * s.kv_width + pages) * s.kv_bytes
    kv_written = batch * s.depth * s.kv_width * s.kv_bytes
    kv_volume = kv_read + kv_written

    block_bytes = s.block * s.weight_bytes
    head_bytes = (s.vocab * s.d_model + s.d_model) * s.weight_bytes
    stack_bytes = s.n_blocks * block_bytes
    whole = resident(stack_bytes + head_bytes + kv_volume, c)
    reading = serve(whole, c, c.bandwidth)
    again = resident(s.reuse_blocks * (block_bytes + kv_volume / s.depth), c)
    rereading = serve_again(again, whole, c)

    rate = s.peak * c.efficiency
    unpack = c.unpack(s.bits)

    def weights(name: str, count: np.ndarray, extra: np.ndarray, how: Reading) -> Part:
        flops = 2 * count * batch
        return roofline(
            name, (count + extra) * s.weight_bytes, how, flops, flops / rate, count * unpack
        )

    scores = 4 * s.query_width * seen * batch
    activations = batch * s.depth * s.layer_activations * s.activation_bytes
    return [
        weights("attention weights", s.n_blocks * s.attention, s.n_blocks * s.d_model, reading),
        weights("MLP weights", s.n_blocks * s.mlp, s.n_blocks * s.d_model, reading),
        weights(
            "cached re-reads",
            (s.depth - s.n_blocks) * (s.attention + s.mlp),
            (s.depth - s.n_blocks) * 2 * s.d_model,
            rereading,
        ),
        weights("LM head", s.vocab * s.d_model, s.d_model, reading),
        roofline(
            "token embedding",
            batch * s.d_model * s.weight_bytes,
            reading,
            np.zeros_like(s.d_model),
            np.zeros_like(s.d_model),
        ),
        roofline(
            "KV cache",
            kv_volume,
            serve(whole, c, c.kv_bandwidth),
            scores,
            scores / (s.peak * c.decode_attention_efficiency),
        ),
        roofline(
            "activations",
            activations,
            _on_chip(s, c),
            np.zeros_like(activations),
            np.zeros_like(activations),
        ),
        overhead(
            "per-layer overhead",
            s.depth * (c.per_layer + c.per_layer_feature * s.d_model),
            "per-layer overhead",
        ),
        overhead(
            "per-token overhead", c.per_token + c.per_vocabulary_row * s.vocab, "per-token overhead"
        ),
    ]


def _on_chip(s: Shapes, c: Constants) -> Reading:
    """One token's activations never leave the innermost level."""
    zero = np.zeros_like(s.d_model)
    return Reading(zero, zero, zero + (1 / c.cache_bandwidth[0] if c.cache_bandwidth else 0.0))


def prefill_parts(s: Shapes, c: Constants, w: Workload) -> list[Part]:
    """The mean turn's prefill of one sequence. The LM head runs for the last token only."""
    tokens = w.prefill_tokens
    chunk = min(tokens, c.prefill_chunk)
    chunks = float(np.ceil(tokens / chunk))
    pairs_global = w.prefill_pairs(np.zeros_like(s.window))
    pairs = s.global_layers * pairs_global + s.local_layers * w.prefill_pairs(s.window)
    # Keys and values are read once for each chunk, not once for each query.
    kv_read = (
        chunks
        * (s.global_layers * w.mean_input + s.local_layers * np.minimum(s.window, w.mean_input))
        * s.kv_width
        * s.kv_bytes
    )
    kv_volume = kv_read + tokens * s.depth * s.kv_width * s.kv_bytes

    block_bytes = s.block * s.weight_bytes
    head_bytes = (s.vocab * s.d_model + s.d_model) * s.weight_bytes
    stack_bytes = s.n_blocks * block_bytes
    layer_bytes = chunk * s.layer_activations / 2 * s.activation_bytes
    whole = resident(stack_bytes + head_bytes + layer_bytes, c)
    reading = serve(whole, c, c.bandwidth)
    repeated = s.reuse_blocks * block_bytes
    again = resident(repeated + layer_bytes, c)
    rereading = serve_again(again, whole, c)

    slowdown = c.prefill_slowdown(s.bits) * (1 + c.half_width / s.d_model)
    rate = s.peak * c.efficiency / slowdown

    def weights(name: str, count: np.ndarray, extra: np.ndarray, how: Reading) -> Part:
        flops = 2 * count * tokens
        seconds = 2 * count * (tokens + chunks * c.half_tokens) / rate
        return roofline(name, chunks * (count + extra) * s.weight_bytes, how, flops, seconds)

    scores = 4 * s.query_width * pairs
    head = s.vocab * s.d_model
    activations = tokens * s.depth * s.layer_activations * s.activation_bytes
    return [
        weights("attention weights", s.n_blocks * s.attention, s.n_blocks * s.d_model, reading),
        weights("MLP weights", s.n_blocks * s.mlp, s.n_blocks * s.d_model, reading),
        weights(
            "cached re-reads",
            (s.depth - s.n_blocks) * (s.attention + s.mlp),
            (s.depth - s.n_blocks) * 2 * s.d_model,
            rereading,
        ),
        roofline(
            "LM head",
            head_bytes,
            reading,
            2 * head,
            2 * head / (s.peak * c.efficiency),
            head * c.unpack(s.bits),
        ),
        roofline(
            "token embedding",
            tokens * s.d_model * s.weight_bytes,
            reading,
            np.zeros_like(s.d_model),
            np.zeros_like(s.d_model),
        ),
        roofline(
            "attention scores",
            kv_volume,
            serve(resident(kv_volume / s.depth, c), c, c.kv_bandwidth),
            scores,
            scores / (s.peak * c.attention_efficiency),
        ),
        roofline(
            "activations",
            activations,
            serve(resident(layer_bytes, c), c, c.bandwidth),
            np.zeros_like(activations),
            np.zeros_like(activations),
        ),
        overhead("per-layer overhead", chunks * s.depth * c.per_prompt_layer, "per-layer overhead"),
        overhead(
            "per-prompt overhead", np.full_like(s.d_model, c.per_prompt), "per-token overhead"
        ),
    ]
