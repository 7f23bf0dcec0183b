"""Fits of single phones and boards to the few public timings there are."""

from benchmarks.fit_catalogue import (
    Document,
    decode_row,
    fit_prefill,
    fit_rows,
    prefill_row,
    weighted_unpack,
    with_bandwidth,
)
from shapelaw.search.devices.calibration.least_squares import field

EXECUTORCH = (
    "fitted to Llama-3.2-1B and 3B, bfloat16 and 4 bits, pytorch/executorch "
    "examples/models/llama/README.md (commit 0074856)"
)
MNN = "fitted to Qwen2 0.5B and 1.5B at 4 bits, alibaba/MNN ios README (commit 4d40bdb)"
LITERT = (
    "fitted to Gemma3-1B at 4 bits, google-ai-edge/LiteRT-LM README (commit 767d74f); "
    "one row: overheads are typical"
)
TMAC = (
    "fitted to Llama-2-7B Q4_0 on two threads, llama.cpp b2794, microsoft/T-MAC "
    "docs/profiling_data.md (commit 7042f8f)"
)


def fit_phone(name: str, document: Document) -> None:
    """Replace what the public timings of this device determine; leave others as they are."""
    if name == "oneplus-12":
        fit_rows(
            document,
            [
                decode_row("llama-3.2-1b", 16, 19.2),
                decode_row("llama-3.2-3b", 16, 7.6),
                decode_row("llama-3.2-1b", 4, 50.2),
                decode_row("llama-3.2-3b", 4, 19.7),
            ],
            [
                with_bandwidth(2e10, 7.68e10, 5e10),
                weighted_unpack(4, 1e-12, 1e-10, 1.5e-11),
                field("per_layer", 1e-6, 3e-4, 3e-5),
            ],
            EXECUTORCH,
        )
        fit_prefill(
            document,
            [
                prefill_row("llama-3.2-1b", 64, 4, 260.5),
                prefill_row("llama-3.2-3b", 64, 4, 89.7),
            ],
            EXECUTORCH,
        )
    elif name == "iphone-15-pro":
        fit_rows(
            document,
            [
                decode_row("qwen2.5-0.5b", 4, 51.36),
                decode_row("qwen2.5-1.5b", 4, 25.57),
            ],
            [with_bandwidth(1e10, 5.12e10, 3e10), field("per_layer", 1e-6, 1e-3, 1e-4)],
            MNN,
        )
        fit_prefill(
            document,
            [
                prefill_row("qwen2.5-0.5b", 128, 4, 234.51),
                prefill_row("qwen2.5-1.5b", 128, 4, 107.64),
            ],
            MNN + "; prompt length not stated, taken as 128",
        )
    elif name == "galaxy-s24-ultra":
        fit_rows(
            document,
            [decode_row("gemma-3-1b", 4, 43.56)],
            [with_bandwidth(1e10, 7.68e10, 4e10)],
            LITERT,
        )
        fit_prefill(document, [prefill_row("gemma-3-1b", 1024, 4, 243.24)], LITERT)
    elif name == "raspberry-pi-5":
        fit_rows(
            document,
            [decode_row("llama-2-7b", 4, 1.63)],
            [weighted_unpack(4, 1e-12, 5e-10, 9e-11)],
            TMAC,
        )
