"""Public device measurements as observations of the cost model.

The tables lie beside the repository and are not part of it; where they are absent the sections that
need them say so and are skipped.
"""

import csv
import dataclasses
from pathlib import Path

from shapelaw.scaling.architecture import Architecture
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.calibration.least_squares import Observation
from shapelaw.search.workload import Workload

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data" / "devices"

FORMAT_BITS = {"F16": 16.0, "Q8_0": 8.0, "Q4_0": 4.0}
"""llama.cpp's name of a format -> nominal bits; the profile adds the scales."""

SCALE_BITS = 0.5
"""Bits a weight of llama.cpp's block scales: one float16 for each 32 weights."""


def rows(table: str) -> list[dict[str, str]] | None:
    """The rows of one table, or None where it is absent."""
    path = FOLDER / table
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# --- Apple silicon -------------------------------------------------------------------------------

APPLE_DECODE = Workload(name="tg128", prompt=1, generated=128, context=64)
APPLE_PREFILL = Workload(name="pp512", prompt=512, generated=1)


@dataclasses.dataclass(frozen=True)
class AppleChip:
    """One chip's Llama-2-7B timings: seconds of a decode step and of 512 tokens, by bits."""

    name: str
    nominal_bandwidth: float
    decode: dict[float, float]
    prefill: dict[float, float]
    trust: str


def apple_chips() -> list[AppleChip] | None:
    """The Apple table by chip."""
    table = rows("llamacpp_apple_4167.csv")
    if table is None:
        return None
    chips: dict[str, AppleChip] = {}
    for row in table:
        chip = chips.setdefault(
            row["device"],
            AppleChip(row["device"], float(row["mem_bw_GBps_nominal"]) * 1e9, {}, {}, row["trust"]),
        )
        bits = FORMAT_BITS[row["quant"]]
        chip.decode[bits] = 1 / float(row["decode_tok_s"])
        if row["prefill_tok_s"]:
            chip.prefill[bits] = 512 / float(row["prefill_tok_s"])
    return list(chips.values())


def apple_observations(chip: AppleChip) -> list[Observation]:
    """One chip's rows for the fits."""
    model = load_architecture("llama-2-7b")
    return [
        *(Observation(model, APPLE_DECODE, "decode", b, s) for b, s in chip.decode.items()),
        *(Observation(model, APPLE_PREFILL, "prefill", b, s) for b, s in chip.prefill.items()),
    ]


# --- Jetson Orin Nano ----------------------------------------------------------------------------

JETSON_DECODE = Workload(name="jetson", prompt=2048, generated=256)
JETSON_MODES = {"7W": "7w", "15W": "15w", "25W": "25w", "MAXN": "maxn"}


def jetson_architecture(model: str) -> Architecture:
    """The table's models in our words.

    LFM2.5 is a hybrid: 10 of its 16 layers are short convolutions, which keep 3 tokens of state and
    have about the weights of an attention layer; they are written as windows of 3 tokens with every
    third layer (and the last) global, which gives its 6 attention layers.
    """
    known = {
        "SmolLM2-135M": "smollm2-135m",
        "SmolLM2-360M": "smollm2-360m",
        "Qwen3-0.6B": "qwen3-0.6b",
        "Llama3.2-1B": "llama-3.2-1b",
        "Gemma3-1B": "gemma-3-1b",
    }
    if model == "Qwen2.5-0.5B":
        # 469 MiB is the publisher's own file, which stores an LM head beside the embedding; files
        # that tie them have 380 MiB.
        return dataclasses.replace(load_architecture("qwen2.5-0.5b"), tied_embeddings=False)
    if model in known:
        return load_architecture(known[model])
    width, heads, d_ff = {"LFM2.5-350M": (1024, 16, 4608), "LFM2.5-1.2B": (2048, 32, 8192)}[model]
    return Architecture(
        vocab_size=65536,
        d_model=width,
        n_blocks=16,
        n_heads=heads,
        n_kv_heads=8,
        head_dim=64,
        d_ff=d_ff,
        window=3,
        global_every=3,
    )


@dataclasses.dataclass(frozen=True)
class JetsonRow:
    """One model in one power mode. The rail's watts leave out DRAM and the rest of the chip."""

    model: str
    mode: str
    decode: Observation
    prefill: Observation
    file_bytes: float
    joules: float


def jetson_rows() -> list[JetsonRow] | None:
    """The Jetson table. Weight bits are such that stored bytes are the file's."""
    table = rows("jetson_orin_nano_tiny_llms.csv")
    if table is None:
        return None
    found = []
    for row in table:
        shape = jetson_architecture(row["model"])
        # The table's MB are MiB: 369 of them are the 384 MB of SmolLM2-360M at Q8_0's 8.5 bits.
        # Q4_K_M mixes formats, so the file's own mean less the half bit of scales is its precision.
        file_bytes = float(row["weight_bytes"]) / 1e6 * 2**20
        bits = file_bytes * 8 / float(shape.total_parameters) - SCALE_BITS
        found.append(
            JetsonRow(
                row["model"],
                row["device"].split("@")[1],
                Observation(shape, JETSON_DECODE, "decode", bits, float(row["itl_ms"]) / 1e3),
                Observation(shape, JETSON_DECODE, "prefill", bits, float(row["ttft_ms"]) / 1e3),
                file_bytes,
                float(row["j_per_decode_tok"]),
            )
        )
    return found
