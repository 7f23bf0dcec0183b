"""Which engines keep a block that is applied several times once, by their names.

An engine's own file says it (shapelaw.search.devices.chip_and_engine); a profile file of somebody
else's may name its engine alone.
"""

STORE_EVERY_APPLICATION = (
    "llama.cpp",
    "ollama",
    "vllm",
    "sglang",
    "tensorrt",
    "lmdeploy",
    "mlc",
    "mnn",
    "gpt-fast",
)
"""Engines, by the beginning of their names, that hold a shared block once an application, in the
file as in memory."""

KEEP_ONCE_ON_PHONES = ("executorch",)
"""Engines whose files store a shared block once and whose memory holds it once on phones alone.

XNNPACK rearranges a matrix for each place that multiplies by it, unless its cache of packed weights
is on: it is in ExecuTorch's builds for Android and iOS since 1.0 (pytorch/executorch, pull 13738),
and off in the Python package. Measured there: 30 blocks hold 118 MB, the same applied twice 214 MB
and with the cache switched on 126 MB, 60 distinct ones 214 MB; files 106, 106 and 194 MB."""


def file_keeps_once(engine: str) -> bool:
    """Whether the engine's file stores a shared block once."""
    return not engine.lower().startswith(STORE_EVERY_APPLICATION)


def memory_keeps_once(engine: str, kind: str) -> bool:
    """Whether the engine holds a shared block once on this kind of device."""
    on_phones_alone = engine.lower().startswith(KEEP_ONCE_ON_PHONES)
    return file_keeps_once(engine) and (kind == "phone" or not on_phones_alone)
