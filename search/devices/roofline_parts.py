"""Where time, bytes, operations and joules go, part by part: the heart of the cost model.

A part takes the larger of the time its bytes need and the time its operations need; parts follow
one another. Bytes come from the cache level that still holds them
(shapelaw.search.devices.cache_residency) and otherwise from DRAM. Every function works on arrays
[n], one entry an architecture.
"""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.devices.cache_residency import resident_share
from shapelaw.search.devices.constants import Constants
from shapelaw.search.devices.demand import Demand
from shapelaw.search.devices.stored_weights import StoredWeights, by_bits, by_format, formats_of
from shapelaw.search.workload import Workload

COMPONENTS = {
    "weights": "memory bandwidth",
    "kv": "memory bandwidth",
    "cache": "cache bandwidth",
    "multiplies": "compute",
    "short multiplies": "compute",
    "attention": "compute",
    "surplus": "unpacking weights",
    "unpacking": "unpacking weights",
    "layers": "per-layer overhead",
    "token": "per-token overhead",
}
"""What time is charged to, and the resource it belongs to. Each component moves with constants of
its own, so that a draw of the constants scales its seconds (shapelaw.search.devices.uncertainty).
`surplus` is unpacking that shows beside the reading, `short multiplies` what prompts lose by being
short."""

RESOURCES = (
    "memory bandwidth",
    "cache bandwidth",
    "compute",
    "unpacking weights",
    "per-layer overhead",
    "per-token overhead",
)
"""What can be scarce, in the order in which ties are broken."""

Seconds = dict[str, np.ndarray]
"""Seconds [n] by component."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One part's share. Arrays [n]; `by_component` splits `seconds` over COMPONENTS."""

    name: str
    seconds: np.ndarray
    bytes_moved: np.ndarray
    """From DRAM."""
    bytes_cached: np.ndarray
    """From a cache level."""
    flops: np.ndarray
    by_component: Seconds

    @property
    def by_resource(self) -> Seconds:
        """The same split over RESOURCES."""
        found = {name: np.zeros_like(self.seconds) for name in RESOURCES}
        for name, seconds in self.by_component.items():
            found[COMPONENTS[name]] = found[COMPONENTS[name]] + seconds
        return found

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


def serve(resident: list[np.ndarray], constants: Constants, bandwidth: Any) -> Reading:
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


def serve_keys(resident: list[np.ndarray], constants: Constants) -> Reading:
    """Keys and values lie in strides that no level serves as fast as it serves weights."""
    slower = constants.bandwidth / constants.kv_bandwidth
    found = serve(resident, constants, constants.bandwidth)
    return Reading(found.dram_share, found.dram_seconds * slower, found.cache_seconds * slower)


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
    op_seconds: Seconds,
    *,
    surplus: np.ndarray | float = 0.0,
    source: str = "weights",
    overlaps: bool = True,
) -> Part:
    """The larger of bytes and operations; who wins is what the seconds are charged to.

    Args:
        volume: bytes.
        op_seconds: seconds of the operations by component; empty where there are none.
        surplus: bytes that unpacking costs as much as, on top of those read.
        source: the component that waits for DRAM.
        overlaps: whether operations go on while bytes are awaited; else the two add up.
    """
    dram = volume * reading.dram_seconds
    cached = volume * reading.cache_seconds
    beside = surplus * (reading.dram_seconds + reading.cache_seconds)
    waiting = dram + cached + beside
    moved = volume * reading.dram_share
    if not op_seconds:
        by = {source: dram, "cache": cached}
        return Part(name, waiting, moved, volume - moved, flops, by)
    compute = np.add.reduce(list(op_seconds.values()))
    if not overlaps:
        by = {source: dram, "cache": cached, "surplus": beside + np.zeros_like(dram), **op_seconds}
        return Part(name, waiting + compute, moved, volume - moved, flops, by)
    memory_bound = waiting >= compute
    by = {
        source: np.where(memory_bound, dram, 0.0),
        "cache": np.where(memory_bound, cached, 0.0),
        **{key: np.where(memory_bound, 0.0, value) for key, value in op_seconds.items()},
    }
    if np.ndim(surplus) or surplus:
        by["surplus"] = np.where(memory_bound, beside, 0.0)
    return Part(name, np.maximum(waiting, compute), moved, volume - moved, flops, by)


def overhead(name: str, seconds: np.ndarray, component: str) -> Part:
    """Time that no byte and no operation explains."""
    zero = np.zeros_like(seconds)
    return Part(name, seconds, zero, zero, zero, {component: seconds})


def capped(part: Part, most: np.ndarray) -> Part:
    """The part, no longer than `most` seconds."""
    share = np.minimum(1.0, most / np.maximum(part.seconds, 1e-300))
    return dataclasses.replace(
        part,
        seconds=part.seconds * share,
        by_component={name: value * share for name, value in part.by_component.items()},
    )


class Shapes:
    """The products of an architecture's fields that both phases need, as float64 arrays [n].

    On an engine that holds a shared block once an application, a shape stands for its distinct
    twin: as many stored blocks as are applied.
    """

    def __init__(
        self,
        a: ArchitectureBatch,
        c: Constants,
        w: Workload | Demand,
        weight_bits: np.ndarray | None,
        kv_bits: Any,
        activation_bits: Any,
        *,
        formats: tuple[list[Mix], np.ndarray] | None = None,
        stored: StoredWeights | None = None,
    ) -> None:
        """`stored`: the weights as they lie, where neither bits nor a format says."""
        self.demand = w if isinstance(w, Demand) else Demand.of(w)
        self.kv_bytes = np.maximum(kv_bits, c.kv_bits_least) / 8
        self.activation_bytes = np.maximum(activation_bits, c.activation_bits_least) / 8
        self.d_model = a.d_model.astype(np.float64)
        self.d_ff = a.d_ff.astype(np.float64)
        self.vocab = a.vocab_size.astype(np.float64)
        self.depth = np.asarray(a.depth, dtype=np.float64)
        self.reuse_blocks = np.asarray(a.reuse_blocks, dtype=np.float64)
        """Blocks that lie between two readings of the same one."""
        self.n_blocks = a.n_blocks.astype(np.float64) if c.shares_blocks else self.depth
        self.query_width = 1.0 * a.query_width
        self.kv_width = 2.0 * a.key_width
        """Keys and values of one token in one layer: key-value heads, never query heads."""
        self.attention = 1.0 * a.attention_parameters
        self.mlp = 1.0 * a.mlp_parameters
        self.block = self.attention + self.mlp + 2 * self.d_model
        self.window = a.window
        self.global_layers = np.asarray(a.n_global_layers, dtype=np.float64)
        self.local_layers = self.depth - self.global_layers
        self.peak = c.peak_at(activation_bits)
        self.stored = stored or self._stored(a, c, weight_bits, formats)
        self.bits = self.stored.nominal_bits

    def _stored(
        self,
        a: ArchitectureBatch,
        c: Constants,
        weight_bits: np.ndarray | None,
        formats: tuple[list[Mix], np.ndarray] | None,
    ) -> StoredWeights:
        if formats is None and weight_bits is not None and c.formats is not None:
            formats = formats_of(np.asarray(weight_bits, dtype=np.float64), c.formats)
        if formats is not None:
            return by_format(formats[0], formats[1], a, shares_blocks=c.shares_blocks)
        bits = np.broadcast_to(np.asarray(weight_bits, dtype=np.float64), (len(a),))
        return by_bits(
            bits, c.stored_bits(bits), self.block, self.vocab, self.d_model, 1.0 * a.tied_embeddings
        )

    @property
    def stack_bytes(self) -> np.ndarray:
        """All stored blocks."""
        return self.n_blocks * self.stored.block_bytes

    @property
    def weight_bytes(self) -> np.ndarray:
        """Everything in the file but its vocabulary."""
        return self.stack_bytes + self.stored.head_bytes + self.stored.embedding_bytes

    @property
    def layer_activations(self) -> np.ndarray:
        """Values one layer writes and reads for one token, the element-wise steps included."""
        return 8 * self.d_model + 2 * (self.query_width + self.kv_width) + 4 * self.d_ff


@dataclasses.dataclass(frozen=True)
class _Matrices:
    """Weights that are read together: how many, their bytes with gains, how they are served."""

    name: str
    count: np.ndarray
    volume: np.ndarray
    reading: Reading


def _matrices(s: Shapes, reading: Reading, rereading: Reading) -> list[_Matrices]:
    """The blocks' attention and MLP, and further applications of shared blocks."""
    each = s.stored.block_bytes / s.block
    again = s.depth - s.n_blocks
    attention, mlp = s.attention + s.d_model, s.mlp + s.d_model
    return [
        _Matrices(
            "attention weights", s.n_blocks * s.attention, s.n_blocks * attention * each, reading
        ),
        _Matrices("MLP weights", s.n_blocks * s.mlp, s.n_blocks * mlp * each, reading),
        _Matrices(
            "cached re-reads",
            again * (s.attention + s.mlp),
            again * s.stored.block_bytes,
            rereading,
        ),
    ]


def decode_parts(s: Shapes, c: Constants) -> list[Part]:
    """One decode step: one token for each of the batch's sequences."""
    d = s.demand
    batch = d.batch
    # KV: what attention reads, and the one token it writes.
    seen = s.global_layers * d.context * d.read_share
    if np.any(s.local_layers > 0):
        seen = seen + s.local_layers * d.attended(s.window, d.context)
    pages = s.global_layers * d.page_vectors * s.kv_width / 2
    kv_volume = batch * (seen * s.kv_width + pages + s.depth * s.kv_width) * s.kv_bytes

    block_bytes, head_bytes = s.stored.block_bytes, s.stored.head_bytes
    whole = resident(s.stack_bytes + head_bytes + kv_volume, c)
    reading = serve(whole, c, c.bandwidth)
    again = resident(s.reuse_blocks * (block_bytes + kv_volume / s.depth), c)
    rereading = serve_again(again, whole, c)
    scores = 4 * s.query_width * seen * batch
    activations = batch * s.depth * s.layer_activations * s.activation_bytes
    none = np.zeros_like(s.d_model)
    head = _Matrices("LM head", s.vocab * s.d_model, head_bytes, reading)
    return [
        *(_decode_multiply(s, c, m) for m in (*_matrices(s, reading, rereading), head)),
        roofline("token embedding", batch * s.stored.row_bytes, reading, none, {}),
        roofline(
            "KV cache",
            kv_volume,
            serve_keys(whole, c),
            scores,
            {"attention": scores / (s.peak * c.decode_attention_efficiency)},
            source="kv",
            overlaps=c.overlaps,
        ),
        roofline("activations", activations, _on_chip(s, c), none, {}),
        overhead(
            "per-layer overhead",
            s.depth * (c.per_layer + c.per_layer_feature * s.d_model),
            "layers",
        ),
        overhead(
            "per-token overhead",
            c.per_token + c.per_vocabulary_row * s.vocab + c.per_sequence * (batch - 1) + none,
            "token",
        ),
    ]


def _decode_multiply(s: Shapes, c: Constants, m: _Matrices, batch: Any = None) -> Part:
    rows = s.demand.batch if batch is None else batch
    flops = 2 * m.count * rows
    # Where the times add up, a format's figure is of unpacking and of the first row's multiplies.
    timed = flops if c.overlaps else flops - 2 * m.count * np.minimum(rows, 1.0)
    return roofline(
        m.name,
        m.volume,
        m.reading,
        flops,
        {
            "multiplies": timed / (s.peak * c.decode_efficiency),
            "unpacking": m.count * c.unpack(s.bits),
        },
        surplus=c.packed_surplus * m.count * s.stored.packed,
        overlaps=c.overlaps,
    )


def _on_chip(s: Shapes, c: Constants) -> Reading:
    """One token's activations never leave the innermost level."""
    zero = np.zeros_like(s.d_model)
    return Reading(zero, zero, zero + (1 / c.cache_bandwidth[0] if c.cache_bandwidth else 0.0))


def prefill_parts(s: Shapes, c: Constants, *, together: bool = False) -> list[Part]:
    """The mean turn's prefill of one sequence. The LM head runs for the last token only.

    Args:
        together: with the other sequences of the batch: their prompts share chunks, and what a
            chunk costs once is divided among them.

    A prompt costs no more than its tokens would cost decoded one by one.
    """
    d = s.demand
    tokens = d.new
    others = d.batch if together else 1.0
    chunk = np.minimum(others * tokens, c.prefill_chunk)
    chunks = np.ceil(others * tokens / chunk - 1e-9) / others
    pairs = s.global_layers * d.pairs(np.zeros_like(s.window))
    input_tokens = d.new + d.prefix
    kept = s.global_layers * input_tokens
    if np.any(s.local_layers > 0):
        pairs = pairs + s.local_layers * d.pairs(s.window)
        kept = kept + s.local_layers * np.minimum(s.window, input_tokens)
    # Keys and values are read once for each chunk of the prompt, not once for each query.
    kv_read = np.maximum(1.0, np.ceil(tokens / chunk - 1e-9)) * kept * s.kv_width * s.kv_bytes
    kv_volume = kv_read + tokens * s.depth * s.kv_width * s.kv_bytes

    head_bytes = s.stored.head_bytes
    layer_bytes = chunk * s.layer_activations / 2 * s.activation_bytes
    whole = resident(s.stack_bytes + head_bytes + layer_bytes, c)
    reading = serve(whole, c, c.bandwidth)
    repeated = s.reuse_blocks * s.stored.block_bytes
    rereading = serve_again(resident(repeated + layer_bytes, c), whole, c)

    slowdown = np.where(s.stored.packed > 0, c.prefill_slowdown(s.bits), 1.0)
    rate = s.peak * c.efficiency / (slowdown * (1 + c.half_width / s.d_model))

    def multiply(m: _Matrices) -> Part:
        flops = 2 * m.count * tokens
        found = roofline(
            m.name,
            chunks * m.volume,
            m.reading,
            flops,
            {
                "multiplies": flops / rate,
                "short multiplies": 2 * m.count * chunks * c.half_tokens / rate,
            },
            surplus=c.packed_surplus * m.count * s.stored.packed * chunks,
        )
        return capped(found, tokens * _decode_multiply(s, c, m, 1.0).seconds)

    scores = 4 * s.query_width * pairs
    activations = tokens * s.depth * s.layer_activations * s.activation_bytes
    none = np.zeros_like(s.d_model)
    once = np.minimum(np.maximum(c.per_prompt, c.per_token), tokens * c.per_token)
    head = _Matrices("LM head", s.vocab * s.d_model, head_bytes, reading)
    return [
        *(multiply(m) for m in _matrices(s, reading, rereading)),
        _decode_multiply(s, c, head, 1.0),
        roofline("token embedding", tokens * s.stored.row_bytes, reading, none, {}),
        roofline(
            "attention scores",
            kv_volume,
            serve_keys(resident(kv_volume / s.depth, c), c),
            scores,
            {"attention": scores / (s.peak * c.attention_efficiency)},
            source="kv",
        ),
        roofline(
            "activations", activations, serve(resident(layer_bytes, c), c, c.bandwidth), none, {}
        ),
        overhead(
            "per-layer overhead",
            s.depth
            * np.minimum(
                chunks * c.per_prompt_layer,
                tokens * (c.per_layer + c.per_layer_feature * s.d_model),
            ),
            "layers",
        ),
        overhead(
            "per-prompt overhead", once / others + c.per_vocabulary_row * s.vocab + none, "token"
        ),
    ]


def memory_parts(s: Shapes, c: Constants) -> dict[str, np.ndarray]:
    """Peak bytes by what holds them. Each application of a shared block has keys of its own."""
    d = s.demand
    context = np.maximum(d.final_context, c.kv_reserved)
    tokens = s.global_layers * context * d.kept_share
    if np.any(s.local_layers > 0):
        tokens = tokens + s.local_layers * d.attended(s.window, context)
    pages = s.global_layers * d.final_page_vectors / 2
    sequences = np.maximum(d.batch, c.kv_slots)
    chunk = np.minimum(d.new, c.prefill_chunk)
    live = chunk * (4 * s.d_model + s.query_width + s.kv_width + 2 * s.d_ff)
    held = {
        "weights": s.weight_bytes,
        "repacked weights": s.stack_bytes * c.repacked_share(s.bits),
        "KV cache": sequences * (tokens + pages) * s.kv_width * s.kv_bytes,
        "activations": live * s.activation_bytes + d.batch * s.vocab * 4,
        "runtime": c.runtime + np.zeros_like(s.d_model),
    }
    if np.ndim(c.memory_factor) or c.memory_factor != 1.0:
        held = {name: value * c.memory_factor for name, value in held.items()}
    return held
