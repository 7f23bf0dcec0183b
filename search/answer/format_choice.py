"""Formats in an answer: each searched with its own bytes and price, the best of the bests taken.

A format divides the space of (shape, format) into parts that share no point; the joint optimum is
the best of the parts' optima.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes
from shapelaw.scaling.formats.mixes import USUAL, Family, Mix, mix, usual_format
from shapelaw.scaling.formats.price import FormatPrices
from shapelaw.scaling.formats.weights import stored_tensors

if TYPE_CHECKING:
    from shapelaw.search.answer.answer import Answer
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
    """Whose files the device's engine reads."""
    engine = device.engine.lower()
    words: dict[str, Family] = {
        "executorch": "executorch",
        "mlx": "mlx",
        "vllm": "safetensors",
        "sglang": "safetensors",
        "tensorrt": "safetensors",
    }
    return next((family for word, family in words.items() if word in engine), "gguf")


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


def file_bytes_of(found: Mix, architecture: Architecture) -> int:
    """What the engine's file weighs."""
    if found.family == "gguf":
        return gguf_file_bytes(found, architecture)
    return sum(tensor.bytes for tensor in stored_tensors(found, architecture))


def best_over_formats(formats: Sequence[Mix], ask: Callable[[Mix], "Answer"]) -> "Answer":
    """The best of the formats' answers, with a line for each of them.

    Raises:
        NoAnswer: no format has a feasible shape; the error of the last is raised.
    """
    answers: list[tuple[Mix, Answer | None]] = []
    failure: NoAnswer | None = None
    for each in formats:
        try:
            answers.append((each, ask(each)))
        except NoAnswer as error:
            failure = error
            answers.append((each, None))
    found = [(each, answer) for each, answer in answers if answer is not None]
    if not found:
        assert failure is not None
        raise failure
    best = found[0][1].problem

    def order(pair: "tuple[Mix, Answer]") -> float:
        candidate = pair[1].best
        return candidate.loss if best.target_loss is None else -candidate.decode_tokens_per_s

    chosen, answer = min(found, key=order)
    options = []
    for each, other in answers:
        shape = None if other is None else other.best.architecture
        options.append(
            FormatOption(
                format=each.name,
                family=each.family,
                architecture=shape,
                loss=np.nan if other is None else other.best.loss,
                decode_tokens_per_s=np.nan if other is None else other.best.decode_tokens_per_s,
                file_bytes=0 if shape is None else file_bytes_of(each, shape),
                price=None
                if other is None or shape is None
                else price_of(each, shape, other.best.training_tokens, in_loss=True),
                chosen=each is chosen,
            )
        )
    family = family_of(answer.device)
    warnings = [*answer.warnings]
    if chosen.family != family:
        warnings.append(
            f"{chosen.name} is a {chosen.family} format and {answer.device.name}'s engine reads "
            f"{family} files: bytes are the format's, speed is the engine's at so many bits"
        )
    return dataclasses.replace(answer, formats=options, warnings=warnings)
