"""Reading `llama-bench -o json`, so that a phone is calibrated from a run on the phone.

llama-bench does not write a model's shape. It writes its exact parameter count, and that tells the
shape: among the published ones, the calibration's own, and any architecture file (`*.json`,
`*.toml`) lying beside the benchmark's.
"""

from pathlib import Path
from typing import Annotated

import msgspec

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import convert, read_json
from shapelaw.search.architectures import known_names, load_architecture
from shapelaw.search.devices.calibration.cases import llama_cpp_cases
from shapelaw.search.devices.calibration.least_squares import Observation
from shapelaw.search.workload import Workload

SCALE_BITS = 0.5
"""Bits a weight of block scales in llama.cpp's formats below 16 bits."""


Size = Annotated[int, msgspec.Meta(ge=1, le=10**16)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**9)]
Nanoseconds = Annotated[float, msgspec.Meta(ge=1, le=1e15)]


class Row(msgspec.Struct):
    """What is needed of one test; llama-bench writes more and adds fields from build to build."""

    model_n_params: Size
    model_size: Size
    n_prompt: Tokens
    n_gen: Tokens
    avg_ns: Nanoseconds
    samples_ns: list[Nanoseconds] = []
    n_depth: Tokens = 0
    model_filename: str = ""


def read_llama_bench(path: Path) -> list[Observation]:
    """Timings as observations: the best sample of each test.

    Tests that mix a prompt and generation (`-pg`) are left out.

    Raises:
        BadInput: unreadable, not llama-bench's JSON, an unknown shape, or nothing to use.
    """
    rows = convert(read_json(path, "llama-bench"), list[Row], "llama-bench", path)
    shapes = _shapes(Path(path).parent)
    found = [
        _observation(row, shapes, path) for row in rows if bool(row.n_prompt) != bool(row.n_gen)
    ]
    if not any(o.phase == "decode" for o in found):
        raise BadInput(f"llama-bench file {path}: holds no generation test (n_gen above 0)")
    return found


def _observation(row: Row, shapes: dict[int, Architecture], path: Path) -> Observation:
    nanoseconds = min(row.samples_ns, default=row.avg_ns)
    shape = shapes.get(row.model_n_params)
    if shape is None:
        raise BadInput(
            f"llama-bench file {path}: no known shape has {row.model_n_params} parameters "
            f"({row.model_filename or 'a model'}): put its architecture file beside this one"
        )
    stored = row.model_size * 8 / row.model_n_params
    bits = stored if stored > 15 else stored - SCALE_BITS
    if row.n_gen:
        work = Workload(name="llama-bench", prompt=max(1, row.n_depth), generated=row.n_gen)
        return Observation(shape, work, "decode", bits, nanoseconds / 1e9 / row.n_gen)
    work = Workload(name="llama-bench", prompt=row.n_prompt, generated=1)
    return Observation(shape, work, "prefill", bits, nanoseconds / 1e9)


def _shapes(folder: Path) -> dict[int, Architecture]:
    """Shapes by parameter count; files beside the benchmark's win over published ones."""
    shapes = {c.architecture.total_parameters: c.architecture for c in llama_cpp_cases()}
    for name in known_names():
        known = load_architecture(name)
        if known.sharing == 1:  # GGUF has no shared form
            shapes[known.total_parameters] = known
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.toml")]):
        try:
            own = load_architecture(file)
        except BadInput:
            continue  # the benchmark itself, or another file
        shapes[own.total_parameters] = own
    return shapes
