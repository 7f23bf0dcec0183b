"""What training costs, in hours and money, on an accelerator named."""

import dataclasses
import math
from typing import Any

from shapelaw.scaling.errors import BadInput

UTILISATION = 0.4
"""Share of an accelerator's peak that training reaches: 38 to 43 % for Llama 3 on H100 in bfloat16
(arXiv 2407.21783), and less for small models."""

DEFAULT_ACCELERATOR = "h100"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingCost:
    """One kind of accelerator."""

    accelerator: str
    peak: float
    """FLOP/s with 16-bit operands."""
    utilisation: float = UTILISATION
    usd_per_hour: float = math.nan
    """NaN where nobody said."""

    def hours(self, flops: float) -> float:
        """Hours of one accelerator."""
        return flops / (self.peak * self.utilisation) / 3600

    def price(self, flops: float) -> float:
        """USD."""
        return self.hours(flops) * self.usd_per_hour

    def of(self, flops: float) -> dict[str, Any]:
        """As in the answer."""
        return {
            "flops": flops,
            "accelerator": self.accelerator,
            "utilisation": self.utilisation,
            "gpu_hours": self.hours(flops),
            "usd": self.price(flops) if math.isfinite(self.usd_per_hour) else None,
            "usd_per_gpu_hour": self.usd_per_hour if math.isfinite(self.usd_per_hour) else None,
        }


def training_cost(
    name: str = DEFAULT_ACCELERATOR, utilisation: float = UTILISATION
) -> TrainingCost:
    """The accelerator of a catalogued device that has a 16-bit rate.

    Raises:
        BadInput: no such device, or a utilisation that is no share.
    """
    from shapelaw.search.devices.catalogue import load_device

    if not 0 < utilisation <= 1:
        raise BadInput(f"utilisation = {utilisation}: a share above 0 and up to 1 is needed")
    profile = load_device(name)
    figures = profile.si_values()
    peak = figures.get("compute.peak.16")
    if peak is None:
        raise BadInput(f"accelerator = {name!r}: its profile has no 16-bit rate")
    return TrainingCost(
        accelerator=name,
        peak=peak,
        utilisation=utilisation,
        usd_per_hour=figures.get("price", math.nan) * 3600,  # SI holds a second
    )
