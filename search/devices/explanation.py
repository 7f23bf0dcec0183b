"""What `explain` returns: the contract of `explain --json`, and how a notebook shows it."""

from typing import Any

from shapelaw.scaling.notebook_display import Displayed


class Explanation(dict[str, Any], Displayed):
    """Keys as in `explain --json`; seconds, bytes and joules in SI units."""

    def __repr__(self) -> str:
        return (
            f"<Explanation on {self['device']}: {self['decode_tokens_per_s']:.3g} tokens/s, "
            f"{self['memory_bytes'] / 1e6:.3g} MB, scarce: {self['scarce']}>"
        )

    def to_rows(self) -> list[dict[str, Any]]:
        """The parts of one decode step: seconds, bytes, operations and joules of each."""
        return [dict(part) for part in self["parts"]]
