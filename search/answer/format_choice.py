"""Weight formats in an answer: which are meant, who reads them, their price, their files."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes
from shapelaw.scaling.formats.mixes import (
    BLOCK_ROLES,
    FAMILIES,
    MIXES,
    USUAL,
    Family,
    Mix,
    mix,
    usual_format,
)
from shapelaw.scaling.formats.price import FormatPrices
from shapelaw.scaling.formats.stored_tensors import stored_tensors
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES
from shapelaw.search.devices.constants import constants
from shapelaw.search.devices.stored_weights import nominal_bits

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile

LEVEL = 0.9
"""Of a price's interval."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatPrice:
    """What storing the weights in a format costs in loss, and who says so."""

    nats: float
    interval: tuple[float, float]
    source: str
    published: bool
    """Whether the format's own types are among the published ones; else its noise speaks, and the
    format is no pick below 8 bits."""
    in_loss: bool
    """Whether the answer's losses contain it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"interval": list(self.interval)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trade:
    """What a format costs and gains beside another one, each with its own best shape.

    Nats per token. The gain is what the shapes that its smaller files leave room for are better by
    before rounding; the cost is what rounding takes more.
    """

    beside: str
    cost: float
    gain: float
    net_interval: tuple[float, float] | None
    """Of gain less cost, by joint draws of law and prices; None where the law has none."""
    probability_better: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {
            "net": self.gain - self.cost,
            "net_interval": None if self.net_interval is None else list(self.net_interval),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatOption:
    """A format that was asked for, and the best that it can do under the budgets."""

    format: str
    family: Family
    engine: str
    """What reads its files on the device."""
    architecture: Architecture | None
    """None where nothing fits."""
    loss: float
    """Expected loss, price included; NaN where nothing fits."""
    decode_tokens_per_s: float
    file_bytes: int
    price: FormatPrice | None
    trade: Trade | None
    """Beside the widest format that fits; None for that one."""
    chosen: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values; null where nothing fits."""
        fits = self.architecture is not None
        return {
            "format": self.format,
            "family": self.family,
            "engine": self.engine,
            "feasible": fits,
            "architecture": None if self.architecture is None else self.architecture.to_dict(),
            "loss": self.loss if fits else None,
            "decode_tokens_per_s": self.decode_tokens_per_s if fits else None,
            "file_bytes": self.file_bytes if fits else None,
            "format_price": None if self.price is None else self.price.to_dict(),
            "trade": None if self.trade is None else self.trade.to_dict(),
            "price_known": self.price is None or self.price.published,
            "chosen": self.chosen,
        }


@dataclasses.dataclass(frozen=True, eq=False)
class ServedFormat:
    """A weight format, and the device with an engine that reads its files."""

    mix: Mix
    device: "DeviceProfile"


def family_of(device: "DeviceProfile") -> Family:
    """Whose files the device's engine reads; llama.cpp's where the profile does not say."""
    named = constants(device).formats
    return next((family for family in FAMILIES if family == named), "gguf")


def asked_formats(
    formats: str | Sequence[str] | None,
    bits: Sequence[float] | None,
    devices: Sequence["DeviceProfile"],
) -> list[ServedFormat]:
    """The formats to search: those named, or the usual ones at the bits named; else none.

    Args:
        devices: the device with each engine it may run, the usual one first: a format is costed
            with the first that reads its files.

    Raises:
        BadInput: a name of no format, or of none that the engines read; formats and bits both.
    """
    usual = devices[0]
    if formats is not None:
        if bits is not None:
            raise BadInput("formats and bits: name one of them")
        names = formats.split(",") if isinstance(formats, str) else list(formats)
        words = list(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
        if not words:
            raise BadInput("formats: one or more are needed, such as q8_0,q4_k_m")
        return [_named(word, devices) for word in words]
    family = family_of(usual)
    if bits is None or any(each not in USUAL[family] for each in bits):
        return []
    return [ServedFormat(usual_format(each, family), usual) for each in bits]


def eight_bits_beside(served: ServedFormat) -> ServedFormat:
    """The usual 8-bit format of the same engine."""
    return ServedFormat(usual_format(8, served.mix.family), served.device)


def usual_for(bits: float, device: "DeviceProfile") -> Mix | None:
    """The engine's usual format at so many bits, where it has one."""
    family = family_of(device)
    return usual_format(bits, family) if bits in USUAL[family] else None


def _named(name: str, devices: Sequence["DeviceProfile"]) -> ServedFormat:
    """By the first engine whose files know the name; an engine of plain bits takes any."""
    for device in devices:
        family = device.engine_traits().formats
        if family is None:
            return ServedFormat(mix(name), device)
        if name in MIXES[family_of(device)]:
            return ServedFormat(MIXES[family_of(device)][name], device)
    mix(name)
    known = {family_of(device): device.engine for device in reversed(devices)}
    reads = "; ".join(
        f"{engine} reads {', '.join(n for n in MIXES[family] if n not in _PLAIN)}"
        for family, engine in known.items()
    )
    raise BadInput(f"formats = {name}: no file of it runs on {devices[0].name}: {reads}"[:300])


_PLAIN = ("f32", "f16", "bf16")


def other_engines(served: Sequence[ServedFormat], usual: "DeviceProfile") -> list[str]:
    """What to say where a format is costed with another engine than the device's usual one."""
    found: dict[str, list[Mix]] = {}
    for each in served:
        if each.device.engine != usual.engine:
            found.setdefault(each.device.engine, []).append(each.mix)
    return [
        f"{', '.join(mix.name for mix in mixes)}: {usual.engine}, the usual engine of "
        f"{usual.name}, does not read {mixes[0].family} files; costed with {engine}"
        for engine, mixes in found.items()
    ]


def price_of(
    found: Mix, architecture: Architecture, tokens: float, *, in_loss: bool,
    prices: FormatPrices | None = None,
) -> FormatPrice:  # fmt: skip
    """The format's price for one shape trained on so many tokens."""
    prices = prices or public_format_prices()
    drawn = prices.draws(found, ArchitectureBatch.of([architecture]), tokens)[:, 0]
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    published = {tensor.type.name for tensor in stored_tensors(found, architecture)} <= {
        *prices.deviations, "f32", "f16", "bf16",
    }  # fmt: skip
    how = "post-training rounding; " + prices.source
    return FormatPrice(
        nats=float(drawn.mean()),
        interval=(float(low), float(high)),
        source=how if published else f"by the format's rounding noise alone; {how}",
        published=published,
        in_loss=in_loss,
    )


LEAST_BITS_UNPRICED = 8.0
"""From so many bits on a format costs so little that its rounding noise says enough."""

MOST_FALLBACK = 1.5
"""Bits a block weight takes over those of the format's own type, beyond which a file is of the
format by name only: a q2_k whose rows are no whole blocks is stored in 4.5 bits."""


def fallback(found: Mix, architecture: Architecture) -> float | None:
    """Bits a block weight where llama.cpp's fallbacks leave the format's name alone; else None."""
    blocks = [t for t in stored_tensors(found, architecture) if t.role in BLOCK_ROLES]
    bits = 8 * sum(t.bytes for t in blocks) / sum(t.weights for t in blocks)
    return bits if bits > MOST_FALLBACK * TENSOR_TYPES[found.base].bits else None


def priced(found: Mix, price: FormatPrice) -> bool:
    """Whether the price was measured, or the format has bits enough to do without."""
    return price.published or nominal_bits(found) >= LEAST_BITS_UNPRICED


def file_bytes_of(found: Mix, architecture: Architecture, device: "DeviceProfile") -> int:
    """What the engine's file weighs; a shared block is in it once where the engine keeps it so."""
    shares = constants(device).file_shares_blocks
    if found.family == "gguf" and not shares:
        return gguf_file_bytes(found, architecture)
    return sum(t.bytes for t in stored_tensors(found, architecture, shares_blocks=shares))
