"""Rows as the arrays that the device cost model takes, and what it predicts of each."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from benchmarks.engine_priors import (
    ACTIVATION_BITS_LEAST,
    CHUNKS,
    EFFECTS,
    KV_BITS_LEAST,
    LARGEST_SURPLUS,
    RESERVED,
    SLOTS,
    kind_of,
)
from benchmarks.engine_rows import Row
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.devices.catalogue import chip
from shapelaw.search.devices.chip_and_engine import Chip
from shapelaw.search.devices.constants import Constants
from shapelaw.search.devices.cost import total_memory, total_seconds
from shapelaw.search.devices.demand import Demand
from shapelaw.search.devices.figure_units import to_si
from shapelaw.search.devices.roofline_parts import Shapes, decode_parts, prefill_parts
from shapelaw.search.devices.stored_weights import UNPACKED_BITS, StoredWeights


def nominal_bandwidth(c: Chip) -> float:
    """Bytes a second."""
    return to_si(c.memory.bandwidth.value, c.memory.bandwidth.unit, "bandwidth", c.name)


def peak_rate(c: Chip, engine: str) -> float:
    """Operations a second at 16 bits of the processor the backend runs on."""
    processor = "cpu" if kind_of(engine) == "cpu" else "gpu"
    rates = c.peak.get(processor) or next(iter(c.peak.values()))
    figure = rates.get("16") or next(iter(rates.values()))
    return to_si(figure.value, figure.unit, "operation rate", c.name)


def cache_of(c: Chip) -> tuple[float, float]:
    """Bytes and bytes a second of the last cache level; next to nothing where none is told."""
    if not c.cache:
        return 1.0, 1.0
    level = c.cache[-1]
    return (
        to_si(level.capacity.value, level.capacity.unit, "bytes", c.name),
        to_si(level.bandwidth.value, level.bandwidth.unit, "bandwidth", c.name),
    )


def _packed(row: Row) -> float:
    if row.stored.packed is not None:
        return row.stored.packed
    return float(row.stored.blocks < UNPACKED_BITS)


@dataclasses.dataclass(frozen=True)
class RowInputs:
    """What the cost model needs of some rows (a row may come several times). Arrays [m]."""

    batch: ArchitectureBatch
    demand: Demand
    quantity: np.ndarray
    columns: dict[str, np.ndarray]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "RowInputs":
        """One entry a row."""
        label = [r.engine.split("/")[0] for r in rows]
        chips = [chip(r.device) for r in rows]
        caches = np.array([cache_of(c) for c in chips])
        columns = {
            "nominal": [nominal_bandwidth(c) for c in chips],
            "peak": [peak_rate(c, r.engine) for c, r in zip(chips, rows, strict=True)],
            "cache_capacity": caches[:, 0],
            "cache_bandwidth": caches[:, 1],
            "chunk": [CHUNKS.get(e, 512.0) for e in label],
            "reserved": [RESERVED.get(r.engine, 0.0) for r in rows],
            "kv_least": [KV_BITS_LEAST.get(r.engine, 0.0) for r in rows],
            "activations_least": [ACTIVATION_BITS_LEAST.get(e, 0.0) for e in label],
            "slots_kept": [SLOTS.get(e, 1.0) for e in label],
            "blocks": [r.stored.blocks for r in rows],
            "head": [r.stored.head for r in rows],
            "embedding": [r.stored.embedding or 0.0 for r in rows],
            "packed": [_packed(r) for r in rows],
            "kv_bits": [r.kv_bits for r in rows],
            "activation_bits": [r.activation_bits for r in rows],
            "generated": [float(r.workload.generated) for r in rows],
        }
        return cls(
            ArchitectureBatch.of(r.architecture for r in rows),
            Demand.stack([r.workload for r in rows]),
            np.array([r.quantity for r in rows]),
            {name: np.asarray(values, dtype=float) for name, values in columns.items()},
        )

    def take(self, index: np.ndarray) -> "RowInputs":
        """Some of the rows, each as often as it is named."""
        demand = Demand(
            **{f.name: getattr(self.demand, f.name)[index] for f in dataclasses.fields(Demand)}
        )
        columns = {name: values[index] for name, values in self.columns.items()}
        return RowInputs(self.batch.take(index), demand, self.quantity[index], columns)

    @functools.cached_property
    def stored(self) -> StoredWeights:
        """Each row's weights as its file holds them."""
        r, a = self.columns, self.batch
        table = 1.0 * a.vocab_size * a.d_model
        apart = np.where(r["embedding"] > 0, r["embedding"], r["head"] * (1 - a.tied_embeddings))
        row = np.where(apart > 0, apart, r["head"])
        return StoredWeights(
            nominal_bits=r["blocks"],
            block_bytes=a.block_parameters * r["blocks"] / 8,
            head_bytes=(table + a.d_model) * r["head"] / 8,
            embedding_bytes=table * apart / 8,
            row_bytes=a.d_model * row / 8,
            packed=r["packed"],
        )

    def constants(self, x: dict[str, np.ndarray]) -> Constants:
        """One entry a row, from each constant on its own scale."""
        v = {name: EFFECTS[name].value(values) for name, values in x.items()}
        r = self.columns
        bandwidth = r["nominal"] * v["bandwidth_share"]
        return Constants(
            bandwidth=bandwidth,
            kv_bandwidth=bandwidth * np.minimum(v["kv_share"], 1.0),
            cache_capacity=(r["cache_capacity"],),
            cache_bandwidth=(np.maximum(r["cache_bandwidth"], bandwidth),),
            cache_retained=(1.0,),
            peak=((16.0, r["peak"]),),
            efficiency=v["efficiency"],
            decode_efficiency=v["decode_efficiency"],
            attention_efficiency=np.minimum(v["attention_efficiency"], 1.0),
            decode_attention_efficiency=np.minimum(v["attention_efficiency"], 1.0),
            half_tokens=v["half_tokens"],
            prefill_chunk=r["chunk"],
            per_token=v["per_token"],
            per_layer=v["per_layer"],
            per_sequence=v["per_sequence"],
            per_prompt=v["per_prompt"],
            per_prompt_layer=v["per_prompt_layer"],
            packed_surplus=np.minimum(v["packed_surplus"], LARGEST_SURPLUS),
            packed_slowdown=v["packed_slowdown"],
            runtime=v["runtime"],
            kv_reserved=r["reserved"],
            kv_slots=r["slots_kept"],
            kv_bits_least=r["kv_least"],
            activation_bits_least=r["activations_least"],
        )

    def predict(self, x: dict[str, np.ndarray]) -> np.ndarray:
        """Logarithms of what each row measures, from each constant on its own scale."""
        c, r = self.constants(x), self.columns
        s = Shapes(
            self.batch, c, self.demand, None, r["kv_bits"], r["activation_bits"], stored=self.stored
        )
        decode = total_seconds(decode_parts(s, c))
        alone = total_seconds(prefill_parts(s, c))
        together = total_seconds(prefill_parts(s, c, together=True))
        sequences = self.demand.batch
        speeds = {
            "decode": sequences / decode,
            "e2e": r["generated"] / (together + r["generated"] * decode / sequences),
            "prefill": self.demand.new / alone,
            "ttft": alone,
        }
        found = np.select(
            [self.quantity == name for name in speeds], list(speeds.values()), total_memory(s, c)
        )
        return np.log(found)
