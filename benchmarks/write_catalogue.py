"""Writes search/devices/profiles/engines/*.toml from the regression over all rows at hand.

Run `python -m benchmarks.devices --fit-catalogue`. Devices' files (profiles/chips) are datasheets
and are kept by hand; what an engine can do is in TRAITS below, what it makes of each device is
fitted.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.devices_public import models_of
from benchmarks.engine_priors import (
    ACTIVATION_BITS_LEAST,
    CHUNKS,
    EFFECTS,
    KV_BITS_LEAST,
    LARGEST_SURPLUS,
    RESERVED,
    SLOTS,
)
from benchmarks.engine_regression import PairConstants, Posterior, Regression
from benchmarks.engine_rows import all_rows
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import NoAnswer
from shapelaw.search.devices.catalogue import chip, device_names
from shapelaw.search.devices.profile_sources import shared_sources
from shapelaw.search.devices.toml import write_toml

ENGINES = Path(__file__).resolve().parents[1] / "search" / "devices" / "profiles" / "engines"

UNITS = {
    "per_layer": ("us", 1e6),
    "per_token": ("us", 1e6),
    "per_sequence": ("us", 1e6),
    "per_prompt": ("us", 1e6),
    "per_prompt_layer": ("us", 1e6),
    "runtime": ("MB", 1e-6),
    "packed_surplus": ("B/weight", 1.0),
    "half_tokens": ("tokens", 1.0),
}
"""Unit and factor from SI; shares otherwise."""

DRAWN = {name: "bandwidth" if name == "bandwidth_share" else name for name in EFFECTS}
"""Names in a profile's uncertainty."""

TRAITS: dict[str, dict[str, Any]] = {
    "llama.cpp": {
        "formats": "gguf",
        "shares_blocks": False,
        "kv_formats": ["f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"],
        "activation_bits_least": ACTIVATION_BITS_LEAST["llama.cpp"],
    },
    "ollama": {
        "formats": "gguf",
        "shares_blocks": False,
        "kv_formats": ["f16", "q8_0", "q4_0"],
        "activation_bits_least": ACTIVATION_BITS_LEAST["ollama"],
    },
    "mlx": {"formats": "mlx", "shares_blocks": True, "kv_formats": ["f16", "q8_0"]},
    "executorch": {"formats": "executorch", "shares_blocks": True},
    "litert-lm": {"formats": "executorch", "shares_blocks": True},
    "mnn": {"formats": "mlx", "shares_blocks": False},
    "mlc": {"formats": "mlx", "shares_blocks": False},
    "vllm": {"formats": "safetensors", "shares_blocks": False, "kv_formats": ["f16", "fp8"]},
    "sglang": {"formats": "safetensors", "shares_blocks": False, "kv_formats": ["f16", "fp8"]},
    "tensorrt-llm": {
        "formats": "safetensors",
        "shares_blocks": False,
        "kv_formats": ["f16", "fp8"],
    },
    "lmdeploy": {"formats": "safetensors", "shares_blocks": False, "kv_formats": ["f16", "q8_0"]},
    "gpt-fast": {"formats": "safetensors", "shares_blocks": False},
    "transformers": {"formats": "safetensors", "shares_blocks": True},
}
"""What an engine can do. Families of formats stand for an engine's own where they weigh the same:
groups of 64 with 16-bit scale and offset for MNN and MLC. Blocks are shared where a graph may name
one weight twice (ExecuTorch, MLX, LiteRT) or the model's code is ours (transformers)."""

COPIES_BLOCKS_ON = {"executorch/cpu": ["board", "laptop", "gpu", "cpu"]}
"""Kinds of device on which a shared block is held once an application, by backend: where XNNPACK's
cache of packed weights is off (shapelaw.search.devices.shared_blocks)."""
NOTES = {
    "executorch/cpu": [
        "XNNPACK holds a shared block once where its cache of packed weights is on: in builds for "
        "Android and iOS since ExecuTorch 1.0 (pytorch/executorch, pull 13738), not in the Python "
        "package."
    ]
}

TITLES = {
    "mlx": "MLX",
    "executorch": "ExecuTorch",
    "litert-lm": "LiteRT-LM",
    "mnn": "MNN",
    "mlc": "MLC",
    "vllm": "vLLM",
    "sglang": "SGLang",
    "tensorrt-llm": "TensorRT-LLM",
    "lmdeploy": "LMDeploy",
    "transformers": "Hugging Face transformers",
}
BACKENDS = {
    "metal": "Metal",
    "metal-2023": "Metal of 2023",
    "metal-2024": "Metal of 2024",
    "cpu": "CPU",
    "gpu": "GPU",
    "cuda": "CUDA",
    "cuda-board": "CUDA",
    "rocm": "ROCm",
    "mps": "MPS",
}

FIT = (
    "hierarchical regression over public measurements of engines and devices (llama.cpp "
    "discussion 4167, mac-llm-bench, GPU-Benchmarks-on-LLM-Inference, Qwen2.5 speed benchmark, "
    "LMDeploy, TensorRT-LLM, gpt-fast, ExecuTorch, MNN, LiteRT-LM, T-MAC, smolhub, MobileLLM), "
    "python -m benchmarks.devices --fit-catalogue; measured on this device"
)
TYPICAL = (
    "the same regression; not measured on this device: what is typical of the engine, and of the "
    "device where other engines were measured on it"
)
RUNTIMES = {
    "executorch/mps": (
        60e6,
        0.6,
        "asserted: applications with ExecuTorch on iOS hold 64 to 90 MB in all with models of 20 "
        "to 90 MB (react-native-executorch, docs/benchmarks/memory-usage.md, commit 0e60098); the "
        "figures of language models come from Android's CPU backend",
    )
}
"""Bytes an engine holds beside the model, their spread and source, where no language model's memory
was measured with it and something else is known."""
DETERMINED = 0.8
"""Posterior over prior spread, above which the rows say little of a constant."""
WIDEST_FITTED = 0.5


def write_catalogue(folder: Path = ENGINES) -> list[str]:
    """Fit and write every engine's file. Returns lines of report.

    Raises:
        NoAnswer: the tables are not here.
    """
    rows = all_rows()
    if rows is None:
        raise NoAnswer("the public table is not beside the repository")
    regression = Regression(rows)
    fitted = regression.fit(np.arange(len(rows)))
    posterior = fitted.with_noise(fitted.widened(np.array(models_of(rows))))
    lines = []
    for name, traits in TRAITS.items():
        document = engine_document(name, traits, posterior)
        write_atomically(folder / f"{name}.toml", write_toml(shared_sources(document)))
        pairs = sum(len(b.get("measured", {})) for b in document["backends"].values())
        lines.append(f"{name}: {', '.join(document['backends'])}; {pairs} devices")
    return lines


def engine_document(name: str, traits: dict[str, Any], posterior: Posterior) -> dict[str, Any]:
    """One engine's file."""
    pairs = [
        (engine.split("/")[1], device)
        for device in device_names()
        for engine in chip(device).engines
        if engine.split("/")[0] == name
    ]
    seen = posterior.regression.names["device"]
    backends: dict[str, Any] = {}
    for backend, device in pairs:
        label = f"{name}/{backend}"
        if backend not in backends:
            backends[backend] = backend_document(name, backend, posterior)
        if device in seen:
            # Of an engine that was not measured there, what the device showed with others counts.
            found = posterior.constants_of(label, device)
            backends[backend].setdefault("measured", {})[device] = measured_document(
                found, posterior.noise_of(label), label, with_correlation=found.rows > 0
            )
    own: dict[str, Any] = dict(traits)
    if name in SLOTS:
        own["kv_slots"] = int(SLOTS[name])
    return {"name": name, "title": TITLES.get(name, name), "traits": own, "backends": backends}


def backend_document(name: str, backend: str, posterior: Posterior) -> dict[str, Any]:
    """A backend with what is typical of it."""
    label = f"{name}/{backend}"
    found: dict[str, Any] = {
        "title": BACKENDS[backend],
        "processor": "cpu" if backend == "cpu" else "gpu",
    }
    chunk = CHUNKS.get(name, 512.0)
    if math.isfinite(chunk):
        why = f"{name}'s default"
        found["prefill_chunk"] = figure(chunk, "tokens", why, "asserted")
    if label in RESERVED:
        why = f"the usual export of a llama to {name}"
        found["kv_reserved"] = figure(RESERVED[label], "tokens", why, "asserted")
    if label in KV_BITS_LEAST:
        found["kv_bits_least"] = KV_BITS_LEAST[label]
    if label in COPIES_BLOCKS_ON:
        found["copies_blocks_on"] = COPIES_BLOCKS_ON[label]
    if label in NOTES:
        found["notes"] = NOTES[label]
    typical = posterior.constants_of(label, "no device")
    found["typical"] = measured_document(
        typical, posterior.noise_of(label), label, with_correlation=False
    )
    return found


def measured_document(
    found: PairConstants, noise: dict[str, float], label: str, *, with_correlation: bool
) -> dict[str, Any]:
    """Figures, spreads, and their correlation where the pair was measured."""
    spread = np.sqrt(np.diag(found.covariance))
    figures = {}
    for (name, effect), wide in zip(EFFECTS.items(), spread, strict=True):
        prior = math.hypot(effect.engine, effect.pair, effect.device)
        slope = wide / prior
        status, source = "asserted", TYPICAL
        if found.rows:
            loose = slope > DETERMINED or wide > WIDEST_FITTED
            status, source = ("not determined" if loose else "fitted"), FIT
        unit, factor = UNITS.get(name, ("share", 1.0))
        value = found.values[name]
        if unit == "share" and not name.endswith("slowdown"):
            value = min(value, 1.0)
        if name == "packed_surplus":
            value = min(value, LARGEST_SURPLUS)
        figures[name] = figure(value * factor, unit, source, status)
    if label in RUNTIMES:
        value, wide, source = RUNTIMES[label]
        figures["runtime"] = figure(value / 1e6, "MB", source, "asserted")
        spread[list(EFFECTS).index("runtime")] = wide
    document: dict[str, Any] = {
        "figures": figures,
        "spread": {DRAWN[n]: round(float(w), 3) for n, w in zip(EFFECTS, spread, strict=True)},
        "errors": {name: round(value, 3) for name, value in noise.items()},
        "rows": found.rows,
    }
    if with_correlation:
        own = np.sqrt(np.diag(found.covariance))
        scaled = found.covariance / np.outer(own, own)
        document["correlation"] = [[round(float(v), 2) for v in row] for row in scaled]
    return document


def figure(value: float, unit: str, source: str, status: str) -> dict[str, Any]:
    """One figure, to four digits: no more is known of any of them."""
    return {"value": float(f"{value:.4g}"), "unit": unit, "source": source, "status": status}
