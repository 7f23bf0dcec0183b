"""How a file stores its weights, where the mean of bits does not say."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class StoredBits:
    """Bits a weight, scales included, by what a decode step does with the weights."""

    blocks: float
    """Read whole each step."""
    head: float
    """Read whole each step; of a tied embedding that stands for it, too."""
    embedding: float | None = None
    """Of an embedding that is stored beside a tied head; one row is read. None: stored once."""
    packed: float | None = None
    """Share of the weights that have to be unpacked; None: all of them below 15 bits."""

    @classmethod
    def alike(cls, bits: float) -> "StoredBits":
        """Every matrix with the file's mean."""
        return cls(bits, bits)
