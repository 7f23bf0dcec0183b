"""Reading llama-bench's output, so that a phone is calibrated from a run on the phone.

JSON, JSONL, CSV and SQL, with log lines around. llama-bench does not write a model's shape: its
type and parameter count tell it among the published ones, the calibration's own, and any
architecture file (`*.json`, `*.toml`) beside the benchmark's. llama.cpp counts RoPE frequencies,
biases and norms, so a count within 1 % of a shape's is that shape's. Rows of different settings
(layers offloaded, threads, flash attention, formats of keys and values) are never mixed: those of
the fastest generation are taken.
"""

import csv
import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import read_text
from shapelaw.search.architectures import known_names, load_architecture
from shapelaw.search.devices.calibration.least_squares import Observation
from shapelaw.search.devices.calibration.timing_shapes import llama_cpp_cases
from shapelaw.search.workload import Workload

SCALE_BITS = 0.5
"""Bits a weight of block scales in llama.cpp's formats below 16 bits."""

SETTINGS = ("n_gpu_layers", "n_threads", "flash_attn", "type_k", "type_v", "n_batch", "n_ubatch",
            "split_mode", "main_gpu", "no_kv_offload")  # fmt: skip
"""What rows must agree in to be taken together."""

NEEDED = ("model_n_params", "model_size", "n_prompt", "n_gen", "avg_ns")
KV_BITS = {"f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q5_1": 6.0, "q5_0": 5.5,
           "q4_1": 5.0, "q4_0": 4.5, "iq4_nl": 4.5}  # fmt: skip
CLOSE = 0.01
"""Relative difference in parameters within which a count is a shape's."""

MOST_STARTS = 64
"""Places looked at for the beginning of an array of objects."""

Row = dict[str, Any]


def read_llama_bench(path: Path) -> list[Observation]:
    """Timings as observations: the best sample of each test of the fastest setting.

    Tests that mix a prompt and generation (`-pg`) are left out.

    Raises:
        BadInput: unreadable, not llama-bench's output, an unknown shape, or nothing to use.
    """
    path = Path(path)
    where = f"llama-bench file {path}"
    rows = [_checked(row, where) for row in _rows(path, where)]
    plain = [row for row in rows if bool(row["n_prompt"]) != bool(row["n_gen"])]
    if not any(row["n_gen"] for row in plain):
        raise BadInput(f"{where}: holds no generation test (n_gen above 0)")
    shapes = _shapes(path.parent)
    return [_observation(row, shapes, where) for row in _of_fastest(plain)]


LEAST_BITS, MOST_BITS = 0.5, 64.0
MOST = 1e18
"""Of any number in a row."""


def settings_taken(path: Path) -> str:
    """The setting whose rows `read_llama_bench` takes, in words."""
    rows = [_checked(row, "llama-bench") for row in _rows(Path(path), "llama-bench")]
    row = next(row for row in _of_fastest(rows) if row["n_gen"])
    return ", ".join(f"{name} = {row[name]}" for name in SETTINGS if name in row)


OLD_GPU_FLAGS = ("cuda", "metal", "vulkan", "opencl", "kompute", "sycl")
"""Columns of llama-bench before it named its backends."""
OF_PROCESSORS = {"", "cpu", "blas", "accelerate", "rpc"}
"""Backends that are no graphics processor's, or do not tell."""


def ran_on_gpu(path: Path) -> bool:
    """Whether the rows that `read_llama_bench` takes ran on a graphics processor: one that
    llama.cpp was built for, with layers given to it."""
    rows = [_checked(row, "llama-bench") for row in _rows(Path(path), "llama-bench")]
    return any(_on_gpu(row) for row in _of_fastest(rows))


def _on_gpu(row: Row) -> bool:
    built_for = {name.strip().lower() for name in str(row.get("backends", "")).split(",")}
    flags = {str(row.get(name, "")).lower() for name in OLD_GPU_FLAGS}
    able = bool(built_for - OF_PROCESSORS) or bool(flags & {"1", "true"})
    return able and str(row.get("n_gpu_layers", "")).strip() != "0"


def _setting(row: Row) -> tuple[str, ...]:
    return tuple(str(row.get(name, "")) for name in SETTINGS)


def _of_fastest(rows: list[Row]) -> list[Row]:
    """Of each model, the rows of the setting that generates fastest without a filled context."""
    kept = []
    for model in dict.fromkeys((row["model_n_params"], row["model_size"]) for row in rows):
        mine = [row for row in rows if (row["model_n_params"], row["model_size"]) == model]
        speeds: dict[tuple[str, ...], float] = {}
        for row in mine:
            if row["n_gen"]:
                speed = row["n_gen"] / _nanoseconds(row)
                speeds[_setting(row)] = max(speeds.get(_setting(row), 0.0), speed)
        if speeds:
            best = max(speeds, key=lambda setting: speeds[setting])
            kept += [row for row in mine if _setting(row) == best]
    return kept


# --- the file's own form ------------------------------------------------------------------------


def _rows(path: Path, where: str) -> list[Row]:
    text = read_text(path, "llama-bench")
    found = _json(text) or _lines(text) or _csv(text) or _sql(text)
    if not found:
        raise BadInput(f"{where}: no llama-bench output (JSON, JSONL, CSV or SQL) was found in it")
    return found


def _json(text: str) -> list[Row]:
    """The first array of objects, whatever stands around it."""
    decoder = json.JSONDecoder()
    for match in itertools.islice(re.finditer(r"\[\s*\{", text), MOST_STARTS):
        try:
            found, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        return [row for row in found if isinstance(row, dict)]
    return []


def _lines(text: str) -> list[Row]:
    found = []
    for line in text.splitlines():
        if line.lstrip().startswith("{"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and "model_n_params" in row:
                found.append(row)
    return found


def _csv(text: str) -> list[Row]:
    lines = text.splitlines()
    for start, line in enumerate(lines):
        if "model_n_params" in line and "n_gen" in line and "INSERT" not in line:
            table = _table(lines[start:])
            header = table[0]
            return [
                dict(zip(header, row, strict=True)) for row in table[1:] if len(row) == len(header)
            ]
    return []


def _sql(text: str) -> list[Row]:
    """Lines such as `INSERT INTO test (n_gen, avg_ns) VALUES ('128', '2000');`."""
    found = []
    for line in text.splitlines():
        head, _, rest = line.strip().rstrip("; ").partition("(")
        columns, _, rest = rest.partition(")")
        word, _, values = rest.partition("(")
        if head.upper().split()[:2] != ["INSERT", "INTO"] or word.strip().upper() != "VALUES":
            continue
        if not values.endswith(")"):
            continue
        names = [name.strip() for name in columns.split(",")]
        cells = _table([values[:-1]], quotechar="'", skipinitialspace=True)[0]
        if len(names) == len(cells):
            found.append(dict(zip(names, cells, strict=True)))
    return found


def _table(lines: list[str], **form: Any) -> list[list[str]]:
    """Rows of cells; Raises BadInput where a cell is longer than any that llama-bench writes."""
    try:
        return list(csv.reader(lines, **form))
    except csv.Error as error:
        raise BadInput(f"llama-bench file: not a CSV table ({error})") from None


# --- one row ------------------------------------------------------------------------------------


def _checked(row: Row, where: str) -> Row:
    """The row with its numbers as numbers."""
    found = dict(row)
    for name in (*NEEDED, "n_depth"):
        if name not in row and name == "n_depth":
            found[name] = 0.0
            continue
        try:
            number = float(row[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise BadInput(f"{where}: {name} = {str(row.get(name))[:40]!r}: a number is needed") \
                from None  # fmt: skip
        if not math.isfinite(number) or number < 0:
            raise BadInput(f"{where}: {name} = {number:g}: finite and not negative is needed")
        if name.startswith("n_") and number != math.floor(number):
            raise BadInput(f"{where}: {name} = {number:g}: a whole number is needed")
        found[name] = number
    samples = row.get("samples_ns") or []
    try:
        found["samples_ns"] = [float(s) for s in samples] if isinstance(samples, list) else []
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{where}: samples_ns: numbers are needed") from None
    times = {f"samples_ns[{at}]": sample for at, sample in enumerate(found["samples_ns"])}
    times["avg_ns"] = found["avg_ns"]
    # A token takes a nanosecond nowhere.
    tokens = max(found["n_prompt"], found["n_gen"], 1.0)
    for name, time in times.items():
        if not (math.isfinite(time) and time >= tokens):
            raise BadInput(
                f"{where}: {name} = {time!r}: {tokens:g} tokens take {tokens:g} ns or more, "
                "a finite time"
            )
    if found["model_n_params"] <= 0 or found["model_size"] <= 0:
        raise BadInput(f"{where}: model_n_params and model_size must be above zero")
    for name in (*NEEDED, "n_depth"):
        if found[name] > MOST:
            raise BadInput(f"{where}: {name} = {found[name]:g}: at most {MOST:g} is needed")
    bits = found["model_size"] * 8 / found["model_n_params"]
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise BadInput(
            f"{where}: model_size = {found['model_size']:g} for model_n_params = "
            f"{found['model_n_params']:g}: {bits:.3g} bits a weight; {LEAST_BITS:g} to "
            f"{MOST_BITS:g} is needed"
        )
    return found


def _nanoseconds(row: Row) -> float:
    return float(min(row["samples_ns"], default=row["avg_ns"]))


def _observation(row: Row, shapes: dict[str, Architecture], where: str) -> Observation:
    shape = _shape_of(row, shapes, where)
    stored = row["model_size"] * 8 / row["model_n_params"]
    bits = stored if stored > 15 else stored - SCALE_BITS
    kv = max(KV_BITS.get(str(row.get(name, "f16")).lower(), 16.0) for name in ("type_k", "type_v"))
    seconds = _nanoseconds(row) / 1e9
    depth = int(row["n_depth"])
    if row["n_gen"]:
        generated = int(row["n_gen"])
        work = Workload(
            name="llama-bench", prompt=1, generated=generated, context=depth + generated // 2 + 1
        )
        return Observation(shape, work, "decode", bits, seconds / generated, kv_bits=kv)
    prompt = int(row["n_prompt"])
    # The depth is attended to and not computed: a cached prefix.
    work = Workload(
        name="llama-bench",
        prompt=prompt + depth,
        generated=1,
        cached_share=depth / (prompt + depth),
    )
    return Observation(shape, work, "prefill", bits, seconds, kv_bits=kv)


def _words(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?[bm]\b|[a-z]+|\d+(?:\.\d+)?", text.lower()))


def _shape_of(row: Row, shapes: dict[str, Architecture], where: str) -> Architecture:
    """The shape whose parameters are closest; among equals, whose name the row's has most of."""
    count = row["model_n_params"]
    said = _words(f"{row.get('model_type', '')} {row.get('model_filename', '')}")
    near = []
    for name, shape in shapes.items():
        for total in (float(shape.total_parameters), _untied(shape)):
            away = abs(total / count - 1)
            if away <= CLOSE:
                near.append((-len(said & _words(name)), away, name))
    if not near:
        told = str(row.get("model_filename") or "a model")[:60]
        raise BadInput(
            f"{where}: no known shape has {count:.0f} parameters ({told!r}): put its architecture "
            "file beside this one"
        )
    exact = [entry for entry in near if entry[1] < 1e-9]
    return shapes[min(exact or near)[2]]


def _untied(shape: Architecture) -> float:
    """Parameters where the file stores the tied embedding twice."""
    extra = shape.vocab_size * shape.d_model if shape.tied_embeddings else 0
    return float(shape.total_parameters + extra)


def _shapes(folder: Path) -> dict[str, Architecture]:
    """Shapes by name; files beside the benchmark's win over published ones."""
    shapes = {
        f"calibration case {i}": case.architecture for i, case in enumerate(llama_cpp_cases())
    }
    for name in known_names():
        known = load_architecture(name)
        if known.sharing == 1:  # GGUF has no shared form
            shapes[name] = known
    for file in _architecture_files(folder):
        try:
            shapes[file.stem] = load_architecture(file)
        except BadInput:
            continue  # the benchmark itself, or another file
    return shapes


def _architecture_files(folder: Path) -> Iterator[Path]:
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.toml")]):
        if file.is_file() and file.stat().st_size < 1 << 20:
            yield file
