"""Weight formats in an answer: which are meant, what they cost in loss, what their files weigh."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes
from shapelaw.scaling.formats.mixes import FAMILIES, USUAL, Family, Mix, mix, usual_format
from shapelaw.scaling.formats.price import FormatPrices
from shapelaw.scaling.formats.stored_tensors import stored_tensors
from shapelaw.search.devices.constants import constants

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
    """Whether the format's own types are among the published ones; else its noise speaks."""
    in_loss: bool
    """Whether the answer's losses contain it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self) | {"interval": list(self.interval)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FormatOption:
    """A format that was asked for, and the best that it can do under the budgets."""

    format: str
    family: Family
    architecture: Architecture | None
    """None where nothing fits."""
    loss: float
    """Expected loss, price included; NaN where nothing fits."""
    decode_tokens_per_s: float
    file_bytes: int
    price: FormatPrice | None
    chosen: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values; null where nothing fits."""
        fits = self.architecture is not None
        return {
            "format": self.format,
            "family": self.family,
            "feasible": fits,
            "architecture": None if self.architecture is None else self.architecture.to_dict(),
            "loss": self.loss if fits else None,
            "decode_tokens_per_s": self.decode_tokens_per_s if fits else None,
            "file_bytes": self.file_bytes if fits else None,
            "format_price": None if self.price is None else self.price.to_dict(),
            "chosen": self.chosen,
        }


def family_of(device: "DeviceProfile") -> Family:
    """Whose files the device's engine reads; llama.cpp's where the profile does not say."""
    named = constants(device).formats
    return next((family for family in FAMILIES if family == named), "gguf")


def asked_formats(
    formats: str | Sequence[str] | None, bits: Sequence[float] | None, device: "DeviceProfile"
) -> list[Mix]:
    """The formats to search: those named, or the usual ones at the bits named; else none.

    Raises:
        BadInput: a name of no format; formats and bits both.
    """
    family = family_of(device)
    if formats is not None:
        if bits is not None:
            raise BadInput("formats and bits: name one of them")
        names = formats.split(",") if isinstance(formats, str) else list(formats)
        found = [_named(name.strip(), family) for name in names if name.strip()]
        if not found:
            raise BadInput("formats: one or more are needed, such as q8_0,q4_k_m")
        return list(dict.fromkeys(found))
    if bits is None or any(each not in USUAL[family] for each in bits):
        return []
    return [usual_format(each, family) for each in bits]


def usual_for(bits: float, device: "DeviceProfile") -> Mix | None:
    """The engine's usual format at so many bits, where it has one."""
    family = family_of(device)
    return usual_format(bits, family) if bits in USUAL[family] else None


def _named(name: str, family: Family) -> Mix:
    """Of the engine's own family where it has the name, else of the first that does."""
    try:
        return mix(name, family)
    except BadInput:
        return mix(name)


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


def file_bytes_of(found: Mix, architecture: Architecture, device: "DeviceProfile") -> int:
    """What the engine's file weighs; a shared block is in it once where the engine keeps it so."""
    shares = constants(device).shares_blocks
    if found.family == "gguf" and not shares:
        return gguf_file_bytes(found, architecture)
    return sum(t.bytes for t in stored_tensors(found, architecture, shares_blocks=shares))
