"""Public measurements of many devices and engines, one row each, for the fits and their scores.

The tables lie beside the repository and are not part of it. A row says which engine, backend and
build it was measured with: `llama.cpp/metal-2023` is the build of November 2023.
"""

import dataclasses
import math
import re
from typing import Literal

import msgspec

from benchmarks import device_rows, executorch_files
from benchmarks.stored_bits import StoredBits
from shapelaw.scaling.architecture import Architecture
from shapelaw.search.architectures import load_architecture
from shapelaw.search.workload import Workload

Quantity = Literal["decode", "e2e", "prefill", "ttft", "memory", "energy"]

MODELS: dict[str, Architecture] = {}
"""Shapes of the tables that are no known architectures; filled as they are read."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement: tokens a second, seconds of a first token, bytes, or joules a token."""

    device: str
    engine: str
    """`engine/backend`."""
    model: str
    quantity: Quantity
    stored: StoredBits
    workload: Workload
    kv_bits: float
    activation_bits: float
    measured: float
    noise: float | None = None
    """Standard deviation of the logarithm where the source tells it apart; else by quantity."""
    rounding: float = 0.0
    """What the printed figure's last digit leaves open, likewise."""
    public: bool = False
    """Of the table of public rows, which the scores are about."""

    @property
    def architecture(self) -> Architecture:
        """The model's shape."""
        return MODELS.get(self.model) or load_architecture(self.model)


ENGINES = {
    "MLX": "mlx/metal",
    "MLC": "mlc/cuda",
    "gpt-fast": "gpt-fast/cuda",
    "vLLM": "vllm/cuda",
    "SGLang": "sglang/cuda",
    "HF transformers": "transformers/cuda",
    "lmdeploy": "lmdeploy/cuda",
    "TensorRT-LLM": "tensorrt-llm/cuda",
    "LiteRT-LM": "litert-lm/cpu",
    "MNN-LLM": "mnn/cpu",
}


APP = re.compile(r"react-native|\(app\b")
"""Rows timed inside an application."""


def executorch_backend(model: str, precision: str, source: str) -> str:
    """Which ExecuTorch on the processor. Meta publishes its files of Llama 3.2, which run alike in
    an application; of other models an application's makers export their own, with other kernels.
    XNNPACK takes no bfloat16: such a model runs on ExecuTorch's own kernels, not one matrix of it
    delegated (pytorch/executorch issues 10188 and 9004, pull 8381)."""
    build = "app" if APP.search(source) and not model.startswith("llama-3.2") else "cpu"
    return f"executorch/{build}-bf16" if precision == "BF16" else f"executorch/{build}"


def engine_of(device: str, engine: str, source: str) -> str:
    """`engine/backend` by a public row's own words; of ExecuTorch see `executorch_backend`."""
    if engine in ENGINES:
        return ENGINES[engine]
    if engine.startswith("ollama"):
        return "ollama/cpu"
    if "Metal" in engine:
        return "llama.cpp/metal"
    if "CPU" in engine or device == "raspberry-pi-5":
        return "llama.cpp/cpu"
    if "May 2024" in source and device.startswith(("m1", "m2", "m3", "m4")):
        return "llama.cpp/metal-2024"
    return "llama.cpp/gpu"


def public_rows() -> list[Row] | None:
    """The table of public rows, or None where it is absent."""
    table = device_rows.rows("public_rows.csv")
    if table is None:
        return None
    found = []
    for row in table:
        context = int(row["context"]) if row["context"] else None
        work = Workload(
            name="row",
            prompt=int(row["prompt"]),
            generated=int(row["generated"]),
            batch=int(row["batch"]),
            context=context,
        )
        engine = engine_of(row["device"], row["engine"], row["source"])
        if row["engine"].startswith("ExecuTorch"):
            engine = executorch_backend(row["model"], row["precision"], row["source"])
        quantity = msgspec.convert(row["kind"], Quantity)
        found.append(
            Row(
                row["device"],
                engine,
                row["model"],
                quantity,
                _stored(engine, row["model"], row["precision"], float(row["stored_bpw"])),
                work,
                float(row["kv_bits"]),
                float(row["act_bits"]),
                float(row["measured"]),
                rounding=rounding(row["measured"]),
                public=True,
            )
        )
    return found


def _stored(engine: str, model: str, precision: str, mean_bits: float) -> StoredBits:
    found = None
    if engine.startswith("executorch/"):
        found = executorch_files.published(model, load_architecture(model), precision)
    return found or StoredBits.alike(mean_bits)


def rounding(printed: str) -> float:
    """Standard deviation of the logarithm that a figure's last digit leaves open."""
    mantissa, _, exponent = printed.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    unit = 10.0 ** (int(exponent or 0) - decimals)
    return unit / math.sqrt(12) / float(printed)


APPLE_STORED = {
    nominal: StoredBits.alike(bits) for nominal, bits in ((16.0, 16.0), (8.0, 8.5), (4.0, 4.54))
}
APPLE_LARGEST = (
    "7-8c",
    "10c",
    "16c",
    "18c",
    "19c",
    "20c",
    "32c",
    "38c",
    "40c",
    "64c",
    "76c",
    "80c",
)
"""Of each chip, the variant with the most GPU cores."""


def apple_rows() -> list[Row]:
    """Llama-2-7B on Apple chips, llama.cpp of November 2023."""
    best: dict[str, device_rows.AppleChip] = {}
    for chip in device_rows.apple_chips() or []:
        *words, cores = chip.name.removeprefix("Apple ").lower().split()
        name = "-".join(words)
        if cores in APPLE_LARGEST:
            best[name] = chip  # the table goes by rising cores
    found = []
    for name, chip in best.items():
        # The M5 rows came with newer builds than the rest of the table.
        engine = "llama.cpp/metal" if name.startswith("m5") else "llama.cpp/metal-2023"
        for bits, seconds in chip.decode.items():
            found.append(
                Row(name, engine, "llama-2-7b", "decode", APPLE_STORED[bits],
                    device_rows.APPLE_DECODE, 16, 16, 1 / seconds)
            )  # fmt: skip
        # M5's prefill there stays below its shaders' rate: builds before Metal's tensor operations.
        for bits, seconds in () if name.startswith("m5") else chip.prefill.items():
            found.append(
                Row(name, engine, "llama-2-7b", "prefill", APPLE_STORED[bits],
                    device_rows.APPLE_PREFILL, 16, 16, 512 / seconds)
            )  # fmt: skip
    return found


def jetson_rows() -> list[Row]:
    """Eight small models in four power modes."""
    found = []
    for row in device_rows.jetson_rows() or []:
        device = f"jetson-orin-nano-{device_rows.JETSON_MODES[row.mode]}"
        model = f"jetson {row.model}"
        MODELS[model] = row.decode.architecture
        stored = StoredBits.alike(row.decode.weight_bits + device_rows.SCALE_BITS)
        work = row.decode.workload
        found.append(Row(device, "llama.cpp/cuda-board", model, "decode", stored, work, 16, 16,
                         1 / row.decode.seconds))  # fmt: skip
        found.append(Row(device, "llama.cpp/cuda-board", model, "ttft", stored, work, 16, 16,
                         row.prefill.seconds))  # fmt: skip
    return found


PHONES = {
    "OnePlus 12": "oneplus-12",
    "Galaxy S22": "galaxy-s22",
    "Galaxy S24": "galaxy-s24-ultra",
    "Samsung S24 Ultra": "galaxy-s24-ultra",
    "iPhone 11": "iphone-11",
    "iPhone 14 Pro": "iphone-14-pro",
    "iPhone 15 Pro": "iphone-15-pro",
    "iPad Pro 11 M5": "m5",
}
PHONE_MODELS = {
    "Llama-3.2-1B": "llama-3.2-1b",
    "Llama-3.2-3B": "llama-3.2-3b",
    "Llama-3-8B": "llama-3.1-8b",
    "Gemma3-1B": "gemma-3-1b",
    "Qwen-1.8B-Chat": "qwen-1.8b",
    "Qwen1.5-0.5B-Chat": "qwen1.5-0.5b",
    "Qwen2-0.5B-Instruct": "qwen2.5-0.5b",
    "Qwen2-1.5B-Instruct": "qwen2.5-1.5b",
    "Qwen3-0.6B": "qwen3-0.6b",
    "Qwen3-4B": "qwen3-4b",
}


def _phone_stored(row: dict[str, str], model: str) -> StoredBits:
    shape = load_architecture(model)
    if row["framework"] == "ExecuTorch":
        found = executorch_files.published(model, shape, row["quant"])
        if found is not None:
            return found
    if row["weight_bytes"]:
        return StoredBits.alike(float(row["weight_bytes"]) * 8 / float(shape.total_parameters))
    return StoredBits.alike(
        16.0 if "BF16" in row["quant"] else 8.5 if "8bit" in row["quant"] else 4.5
    )


def phone_rows() -> list[Row]:
    """ExecuTorch, LiteRT-LM and MNN on phones; resident memory where it is told."""
    found = []
    for row in device_rows.rows("phones_tablets.csv") or []:
        device, model = PHONES.get(row["device"]), PHONE_MODELS.get(row["model"])
        if device is None or model is None:
            continue
        stored = _phone_stored(row, model)
        gpu = row["backend"] in ("GPU", "Metal")
        engine = {
            "ExecuTorch": executorch_backend(model, row["quant"], row["source"]),
            "MNN-LLM": "mnn/metal" if gpu else "mnn/cpu",
            "LiteRT-LM": "litert-lm/gpu" if gpu else "litert-lm/cpu",
        }[row["framework"]]
        work = Workload(
            name="phone", prompt=int(row["prompt_len"] or 64), generated=int(row["gen_len"] or 128)
        )
        quantities: list[tuple[Quantity, float]] = []
        if row["decode_tok_s"]:
            quantities.append(("decode", float(row["decode_tok_s"])))
        if row["prefill_tok_s"] and row["prompt_len"]:
            quantities.append(("prefill", float(row["prefill_tok_s"])))
        if "RSS" in row["memory_note"]:
            mebibytes = row["memory_note"].split("RSS")[1].split("MiB")[0]
            quantities.append(("memory", float(mebibytes) * 2**20))
        found += [
            Row(device, engine, model, quantity, stored, work, 16, 16, value)
            for quantity, value in quantities
        ]
    return found


IPHONE_TOKEN = Workload(name="one token", prompt=1, generated=1, context=1)
IPHONE_NOISE = 0.02
"""One phone, one source, three digits."""
IPHONE_MS = ((30, 1, 15.6), (30, 2, 16.0), (60, 1, 29.0))


def iphone_rows() -> list[Row]:
    """MobileLLM-125M on iPhone 13 (arXiv 2402.14905, table 7), float16: as it is, each block twice,
    and with twice the blocks."""
    base = load_architecture("mobilellm-125m")
    found = []
    for blocks, sharing, ms in IPHONE_MS:
        model = f"mobilellm-125m {blocks}x{sharing}"
        MODELS[model] = dataclasses.replace(base, n_blocks=blocks, sharing=sharing)
        found.append(
            Row("iphone-13", "executorch/mps", model, "decode", StoredBits.alike(16.0),
                IPHONE_TOKEN, 16, 16, 1e3 / ms, noise=IPHONE_NOISE)
        )  # fmt: skip
    return found


TMAC = {("Raspberry Pi 5", "CPU 2 threads"): "raspberry-pi-5",
        ("AGX Orin", "CPU 12 threads"): "jetson-agx-orin"}  # fmt: skip


def cpu_rows() -> list[Row]:
    """Llama-2-7B with llama.cpp on boards' processors."""
    found = []
    work = Workload(name="cpu", prompt=64, generated=128)
    for row in device_rows.rows("tmac_cpu.csv") or []:
        device = TMAC.get((row["device"], row["backend"]))
        if device is None or device == "raspberry-pi-5" or row["model"] != "Llama-2-7B":
            continue
        if row["framework"].startswith("llama.cpp b"):
            stored = StoredBits.alike(4.54 if "Q4_0" in row["quant"] else 3.35)
            found.append(Row(device, "llama.cpp/cpu", "llama-2-7b", "decode", stored, work, 16, 16,
                             float(row["decode_tok_s"])))  # fmt: skip
    return found


def all_rows() -> list[Row] | None:
    """Every row the fits may see, energy left out; None where the public table is absent."""
    public = public_rows()
    if public is None:
        return None
    others = [*apple_rows(), *jetson_rows(), *phone_rows(), *iphone_rows(), *cpu_rows()]
    return [row for row in [*public, *others] if row.quantity != "energy"]
