"""A device as the cost model sees it: a strict TOML file whose every figure has unit and source.

A figure reads `{ value = 16.6, unit = "GB/s", source = "...", status = "fitted" }`. `status` says
how far to trust it: `measured` (read off an instrument or a clock), `fitted` (solved for from
measurements), `datasheet` (the maker's or a reviewer's number), `asserted` (someone says so, or a
typical value taken for want of a measurement).
"""

import functools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.notebook_display import Displayed
from shapelaw.scaling.user_files import LARGEST_TOML, convert, parse_toml, read_text, refuse, shown
from shapelaw.search.devices.figure_units import to_si
from shapelaw.search.devices.profile_sources import shared_sources, with_sources
from shapelaw.search.devices.shared_blocks import file_keeps_once, memory_keeps_once

Status = Literal["measured", "fitted", "datasheet", "asserted", "not determined"]
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


LEAST = {"bytes": 1.0, "bandwidth": 1e3, "operation rate": 1e3, "bits": 0.5, "share": 1e-6}
MOST = {
    "bytes": 1e18,
    "bandwidth": 1e18,
    "time": 1e6,
    "time per weight": 1.0,
    "time per feature": 1.0,
    "energy": 1e15,
    "energy per byte": 1.0,
    "energy per operation": 1.0,
    "power": 1e9,
    "share": 1e4,
    "bits": 64.0,
    "tokens": 1e12,
    "features": 1e9,
}
"""By dimension, in SI units: what no device goes below (but for 0) or beyond."""
LARGEST_SPREAD = 20.0
"""Of a logarithm: a factor of half a billion."""


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number with what it is measured in, where it comes from and how it was come by."""

    value: float
    unit: str
    source: str
    status: Status


# The dimension is written into each field's type, so that one loop checks and converts all.
Bytes = Annotated[Figure, msgspec.Meta(extra={"dimension": "bytes"})]
Bandwidth = Annotated[Figure, msgspec.Meta(extra={"dimension": "bandwidth"})]
Rate = Annotated[Figure, msgspec.Meta(extra={"dimension": "operation rate"})]
Time = Annotated[Figure, msgspec.Meta(extra={"dimension": "time"})]
TimePerWeight = Annotated[Figure, msgspec.Meta(extra={"dimension": "time per weight"})]
BytesPerWeight = Annotated[Figure, msgspec.Meta(extra={"dimension": "bytes per weight"})]
TimePerFeature = Annotated[Figure, msgspec.Meta(extra={"dimension": "time per feature"})]
Energy_ = Annotated[Figure, msgspec.Meta(extra={"dimension": "energy"})]
EnergyPerByte = Annotated[Figure, msgspec.Meta(extra={"dimension": "energy per byte"})]
EnergyPerOperation = Annotated[Figure, msgspec.Meta(extra={"dimension": "energy per operation"})]
Power = Annotated[Figure, msgspec.Meta(extra={"dimension": "power"})]
Share = Annotated[Figure, msgspec.Meta(extra={"dimension": "share"})]
Bits = Annotated[Figure, msgspec.Meta(extra={"dimension": "bits"})]
Tokens = Annotated[Figure, msgspec.Meta(extra={"dimension": "tokens"})]
Features = Annotated[Figure, msgspec.Meta(extra={"dimension": "features"})]
Price = Annotated[Figure, msgspec.Meta(extra={"dimension": "price"})]


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Main memory: where weights and KV cache live."""

    capacity: Bytes
    """All of the device's DRAM."""
    app_share: Share
    """The share of it one application may use."""
    bandwidth: Bandwidth
    """Sustained rate of reading weights in decode, not the nominal peak."""
    nominal_bandwidth: Bandwidth | None = None
    """The datasheet's peak; only reported, and used by the plain roofline for comparison."""
    kv_bandwidth: Bandwidth | None = None
    """Sustained rate of reading the KV cache, where measurements tell it apart from weights."""
    packed_surplus: BytesPerWeight | None = None
    """Bytes more that reading one packed weight takes as long as: what unpacking costs where it is
    not hidden behind the reading. Under one byte, so that fewer bits are never slower to read."""
    runtime: Bytes | None = None
    """What the engine itself holds beside weights, KV cache and activations."""
    kv_reserved: Tokens | None = None
    """Tokens a sequence is reserved keys and values for from the start."""


class Cache(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A level between compute and DRAM."""

    name: str
    capacity: Bytes
    """Effective size: what one process can keep in it."""
    bandwidth: Bandwidth
    """Sustained rate of reading weights from it."""
    retained: Share | None = None
    """Share of a block that fits which is found here when it is read a second time at once; 1 where
    not given. Caches that guard against streams take in only a part of what they see once."""


class Compute(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Peaks by activation precision, and how much of them matrix multiplies reach."""

    peak: dict[str, Rate]
    """Keyed by bits of the activations: "8", "16", "32"."""
    efficiency: Share
    """Share of the peak that long, wide prefill multiplies reach."""
    decode_efficiency: Share | None = None
    """The same of a decode step's multiplies, where a batch makes them count."""
    packed_slowdown: Share | None = None
    """Prefill time with packed weights over that with the peak's precision."""
    half_tokens: Tokens | None = None
    """Prompt length at which prefill multiplies reach half of that."""
    half_width: Features | None = None
    """d_model at which prefill multiplies reach half of that."""
    attention_efficiency: Share | None = None
    """Share of the peak that attention's scores and weighted values reach in prefill."""
    decode_attention_efficiency: Share | None = None
    """The same in decode, one query at a time."""
    prefill_chunk: Tokens | None = None
    """Tokens an engine prefills at a time; weights are read once for each chunk."""


class Overhead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Time that neither bytes nor operations explain: launches, barriers, sampling."""

    per_token: Time
    per_layer: Time
    """For each application of a block in decode."""
    per_prompt: Time | None = None
    """Once for a prefill; per_token where not given."""
    per_prompt_layer: Time | None = None
    """For each application of a block and each chunk in prefill; per_layer where not given."""
    per_vocabulary_row: TimePerFeature | None = None
    """For each token and each row of the vocabulary: sampling over the logits."""
    per_layer_feature: TimePerFeature | None = None
    """For each application of a block and each feature of d_model: element-wise work."""
    per_sequence: Time | None = None
    """For each further sequence of a batch and each token: scheduling and sampling."""


class WeightFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How weights of one nominal precision are stored, and what unpacking one costs."""

    stored_bits: Bits
    """With the scales of its blocks: llama.cpp's Q8_0 stores 8.5 bits a weight, Q4_0 4.5."""
    unpack: TimePerWeight | None = None
    """Time to unpack and multiply one weight in decode; overlaps with reading it."""
    prefill_slowdown: Share | None = None
    """Prefill time at this precision over that at the peak's; 1 where not given."""
    repacked_share: Share | None = None
    """Share of the block matrices that the engine holds a second time, rearranged."""


class EnergyCosts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Joules at the rail or the battery, as the sources say."""

    per_dram_byte: EnergyPerByte
    per_cache_byte: EnergyPerByte
    per_operation: EnergyPerOperation
    static_power: Power


class EngineTraits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the engine can do, and how it lays out memory."""

    formats: str | None = None
    """Family of files it reads: gguf, executorch, mlx or safetensors."""
    shares_blocks: bool | None = None
    """Whether a shared block is kept once in memory; by the engine's name where not given."""
    file_shares_blocks: bool | None = None
    """The same of the engine's file."""
    windows: bool = True
    """Whether local layers keep their window alone."""
    kv_formats: tuple[str, ...] = ("f16",)
    """What keys and values may be stored as; the first is what it does by default."""
    kv_slots: int = 1
    """Sequences that KV cache is reserved for at least."""
    kv_bits_least: float = 0.0
    """Bits that keys and values take whatever is asked for; 0: as asked for."""
    activation_bits_least: float = 0.0
    """The same of activations."""
    overlaps: bool = True
    """Whether a decode step computes while it waits for weights, keys and values; else the two
    times add up, as in a processor core's loop over the blocks of a row."""


class Uncertainty(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Joint uncertainty of the constants, in their logarithms, and what they leave unexplained."""

    source: str
    spread: dict[str, float] = {}
    """Standard deviation of the logarithm of a constant, by its name in `Constants`."""
    correlation: list[list[float]] = []
    """Of those constants, in their order; independent where not given."""
    errors: dict[str, float] = {}
    """Standard deviation of log predicted - log measured that a device's own constants leave:
    `decode`, `prefill`, `memory`, `energy`."""


class DeviceProfile(
    msgspec.Struct,
    Displayed,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    repr_omit_defaults=True,
):
    """One device with one engine. See the module's head for what a figure looks like."""

    """One device with one engine. See the module's head for what a figure looks like.

    In a file, `[sources]` holds texts by key; a figure with `source = "@key"` takes it from there.
    """

    name: str
    """Lower case with hyphens."""
    title: str
    """The device and the engine, as a person would say them."""
    kind: Literal["phone", "board", "laptop", "gpu", "cpu"]
    engine: str
    """The engine whose behaviour the figures describe."""
    memory: Memory
    compute: Compute
    overhead: Overhead
    cache: list[Cache] = []
    """Fastest and smallest first."""
    weights: dict[str, WeightFormat] = {}
    """Keyed by nominal bits. Precisions not listed are stored without overhead."""
    energy: EnergyCosts | None = None
    battery: Energy_ | None = None
    sustained_share: Share | None = None
    """Speed when hot over speed when cool."""
    price: Price | None = None
    traits: EngineTraits | None = None
    uncertainty: Uncertainty | None = None
    notes: list[str] = []

    def __repr__(self) -> str:
        return f"<DeviceProfile {self.name}: {self.title}, engine {self.engine}>"

    def to_rows(self) -> list[dict[str, Any]]:
        """Each figure with its unit, status and source."""
        return [
            {
                "figure": name,
                "value": figure.value,
                "unit": figure.unit,
                "status": figure.status,
                "source": figure.source,
            }
            for name, _, figure in self.figures()
        ]

    def engine_traits(self) -> EngineTraits:
        """What the engine can do; for a file that does not say, by the engine's name."""
        found = self.traits or EngineTraits()
        once, in_file = found.shares_blocks, found.file_shares_blocks
        if once is None:
            once = memory_keeps_once(self.engine, self.kind)
        if in_file is None:
            in_file = once or file_keeps_once(self.engine)
        return msgspec.structs.replace(found, shares_blocks=once, file_shares_blocks=in_file)

    @property
    def app_memory(self) -> float:
        """Bytes that the device gives one application."""
        return self.si("memory.capacity") * self.si("memory.app_share")

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """Every figure as (dotted name, dimension, figure), in the file's order."""
        yield from _walk(self, "")

    def si(self, dotted: str, default: float | None = None) -> float:
        """A figure in SI units by its dotted name, `default` where the profile has none.

        Raises:
            BadInput: absent, and no default.
        """
        found = self.si_values().get(dotted)
        if found is not None:
            return found
        if default is None:
            raise BadInput(f"device {self.name}: {dotted} is missing: a figure is needed")
        return default

    def si_values(self) -> dict[str, float]:
        """Every figure in SI units by its dotted name."""
        return {
            name: to_si(figure.value, figure.unit, dimension, f"device {self.name}: {name}")
            for name, dimension, figure in self.figures()
        }

    def validate(self) -> "DeviceProfile":
        """Check what the types cannot: units, signs, order of the levels. Returns itself.

        Raises:
            BadInput: one line naming the figure.
        """
        where = f"device {self.name}"
        if not NAME.fullmatch(self.name):
            raise BadInput(f"device name = {self.name!r}: lower case words joined by hyphens")
        for dotted, dimension, figure in self.figures():
            value = to_si(figure.value, figure.unit, dimension, f"{where}: {dotted}")
            _check_value(f"{where}: {dotted}", dotted, dimension, figure, value)
            if not figure.source.strip():
                raise BadInput(f"{where}: {dotted}.source = '': say where the figure comes from")
        if not self.compute.peak:
            raise BadInput(f'{where}: compute.peak is empty: give one rate at least, e.g. "16"')
        for key in [*self.compute.peak, *self.weights]:
            if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,4})?", key) or not 1 <= float(key) <= 64:
                raise BadInput(
                    f'{where}: precision {shown(key, 40)!r}: a number of bits is needed, like "8"'
                )
        self._check_levels(where)
        self._check_uncertainty(where)
        traits = self.traits or EngineTraits()
        if not 1 <= traits.kv_slots <= 1_000_000:
            raise BadInput(f"{where}: traits.kv_slots = {traits.kv_slots}: 1 or more is needed")
        if not 0 <= traits.kv_bits_least <= 64:
            raise BadInput(f"{where}: traits.kv_bits_least = {traits.kv_bits_least:g}: 0 to 64")
        return self

    def _check_uncertainty(self, where: str) -> None:
        """Spreads of logarithms that a factor can have, and correlations that are some."""
        found = self.uncertainty
        if found is None:
            return
        for part, values in (("spread", found.spread), ("errors", found.errors)):
            for name, value in values.items():
                if not 0 <= value <= LARGEST_SPREAD:
                    raise BadInput(
                        f"{where}: uncertainty.{part}.{shown(name, 30)} = {value:g}: 0 to "
                        f"{LARGEST_SPREAD:g} is needed"
                    )
        rows, count = found.correlation, len(found.spread)
        if not rows:
            return
        if len(rows) != count or any(len(row) != count for row in rows):
            raise BadInput(
                f"{where}: uncertainty.correlation: {count} rows of {count} numbers are needed, "
                "one for each spread"
            )
        if not all(-1.01 <= value <= 1.01 for row in rows for value in row):
            raise BadInput(f"{where}: uncertainty.correlation: numbers from -1 to 1 are needed")

    def _check_levels(self, where: str) -> None:
        """Each level further out is larger and no faster, or 'served by the cache' has no sense."""
        capacity, bandwidth = 0.0, math.inf
        for index, level in enumerate(self.cache):
            name = f"cache.{index}"
            if self.si(f"{name}.capacity") <= capacity:
                raise BadInput(f"{where}: cache {level.name!r}: capacity must grow outwards")
            if self.si(f"{name}.bandwidth") > bandwidth:
                raise BadInput(f"{where}: cache {level.name!r}: bandwidth must fall outwards")
            capacity, bandwidth = self.si(f"{name}.capacity"), self.si(f"{name}.bandwidth")
        if self.si("memory.bandwidth") > bandwidth:
            raise BadInput(f"{where}: memory.bandwidth: must not exceed the last cache's bandwidth")

    @classmethod
    def from_toml(cls, text: str, where: str) -> "DeviceProfile":
        """Parse and check. `where` names the file in errors.

        Raises:
            BadInput: not TOML, an unknown or missing field, a figure without unit, ...
        """
        document = parse_toml(text, "device", where)
        sources = document.pop("sources", {})
        profile = convert(with_sources(document, sources, where), cls, "device", where)
        try:
            return profile.validate()
        except BadInput as error:
            refuse("device", where, str(error))

    @classmethod
    def from_file(cls, path: Path | str) -> "DeviceProfile":
        """Read a profile. Raises BadInput in one line where it cannot be used."""
        return cls.from_toml(read_text(path, "device", LARGEST_TOML), str(path))

    def to_file(self, path: Path | str) -> None:
        """Write the profile as TOML, whole or not at all."""
        from shapelaw.search.devices.toml import write_toml

        self.validate()
        write_atomically(Path(path), write_toml(shared_sources(msgspec.to_builtins(self))))


def _check_value(where: str, dotted: str, dimension: str, figure: Figure, value: float) -> None:
    """Numbers are finite and not negative; sizes and rates are not zero; shares are at most 1."""
    if not math.isfinite(value) or value < 0:
        raise BadInput(f"{where}.value = {figure.value}: a finite number, not negative, is needed")
    least, most = LEAST.get(dimension, 1e-30), MOST.get(dimension, 1e24)
    if value and not least <= value <= most:
        raise BadInput(
            f"{where}.value = {figure.value:g} {shown(figure.unit, 20)}: {least:g} to {most:g} is "
            "needed, in SI units"
        )
    if dimension == "bytes per weight" and value >= 1:
        raise BadInput(f"{where}.value = {figure.value}: less than 1 byte a weight is needed")
    may_be_zero = dimension not in ("bytes", "bandwidth", "operation rate", "bits", "share")
    if dotted == "compute.prefill_chunk" and value < 1:
        raise BadInput(f"{where}.value = {figure.value:g}: 1 token or more is needed")
    named = dotted == "memory.runtime" or dotted.endswith(".repacked_share")
    if value == 0 and not (may_be_zero or named):
        raise BadInput(f"{where}.value = 0: must be above zero")
    # Cached or fused prefill can only be slower than the peak's precision by a factor above 1.
    if dimension == "share" and value > 1 and not dotted.endswith("_slowdown"):
        raise BadInput(f"{where}.value = {figure.value} {figure.unit}: a share is at most 1")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, str, Figure]]:
    """Depth first over sections, lists and dictionaries down to the figures."""
    if isinstance(node, msgspec.Struct):
        for name, dimension in _dimensions(type(node)):
            value = getattr(node, name)
            dotted = f"{prefix}{name}"
            if isinstance(value, Figure):
                yield dotted, dimension, value
            elif isinstance(value, dict) and value:
                for key, item in value.items():
                    if isinstance(item, Figure):
                        yield f"{dotted}.{key}", dimension, item
                    else:
                        yield from _walk(item, f"{dotted}.{key}.")
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    yield from _walk(item, f"{dotted}.{index}.")
            else:
                yield from _walk(value, f"{dotted}.")


@functools.cache
def _dimensions(section: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """Each field of a section with its dimension: reading annotations takes long."""
    return tuple((each.name, _dimension(each.type)) for each in msgspec.structs.fields(section))


def _dimension(annotation: Any) -> str:
    """The dimension noted in a field's type, looking inside `| None` and `dict[str, ...]`."""
    for meta in getattr(annotation, "__metadata__", ()):
        return str(meta.extra["dimension"])
    for inner in getattr(annotation, "__args__", ()):
        found = _dimension(inner)
        if found:
            return found
    return ""
