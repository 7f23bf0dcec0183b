"""What an engine keeps keys and values in: bytes, and what that costs in loss."""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.kv_cache import SOURCE, UNROUNDED, kv_bits, kv_price_draws
from shapelaw.search.devices.profile import DeviceProfile

LEVEL = 0.9
"""Of the price's interval."""

DRAWS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class KvCache:
    """What keys and values are kept in, and what that costs in loss."""

    format: str
    bits: float
    """A value, scales included."""
    nats: float
    interval: tuple[float, float]
    source: str | None
    """None where nothing is rounded."""

    def to_dict(self) -> dict[str, Any]:
        """The keys of an answer's pick, and of an explanation."""
        price = {"nats": self.nats, "interval": list(self.interval), "source": self.source}
        return {"kv_format": self.format, "kv_bits": self.bits, "kv_format_price": price}


def kv_cache(name: str | None, device: DeviceProfile, head_dim: int | np.ndarray) -> KvCache:
    """The KV format asked for, or the engine's usual one.

    Raises:
        BadInput: no such format, the engine does not keep it, or its blocks do not divide a head.
    """
    kept = device.engine_traits().kv_formats
    found = kept[0] if name is None else name.strip().lower()
    bits = kv_bits(found, head_dim)
    if found not in kept:
        raise BadInput(f"kv_format = {found}: {device.engine} keeps {', '.join(kept)}")
    drawn = kv_price_draws(found, DRAWS)
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return KvCache(
        format=found,
        bits=max(bits, device.engine_traits().kv_bits_least),
        nats=float(drawn.mean()),
        interval=(float(low), float(high)),
        source=None if found in UNROUNDED else SOURCE,
    )
