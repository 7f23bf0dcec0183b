"""What a search can prove of the front it returns."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Certificate:
    """What the answer can prove of itself."""

    space_size: int
    exact: bool
    """Every point was looked at: nothing in the space is better."""
    hypervolume_ratio: float
    """Of the front over the best known: 1 where exact; otherwise what each of two independent
    searches found of what they found together (the smaller of the two)."""
    evaluated: int
    front_size: int
    """Points on the front that was found; `front` shows them all where exact."""
    feasible: int
    """Points, among those looked at, that meet every budget."""
    locally_optimal: bool = True
    """No neighbour of a front point improves the front."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)
