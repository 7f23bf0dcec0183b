"""The shipped evidence of what weight formats cost in loss."""

import functools
from importlib import resources

import msgspec

from shapelaw.scaling.formats.price import FormatPrices


@functools.cache
def public_format_prices() -> FormatPrices:
    """Draws fitted to published perplexities by format (`benchmarks.format_prices`)."""
    folder = resources.files("shapelaw.results") / "evidence"
    return msgspec.json.decode((folder / "format_prices.json").read_bytes(), type=FormatPrices)
