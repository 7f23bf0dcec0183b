"""Units of the figures in a device profile: no number is bare."""

from shapelaw.scaling.errors import BadInput

UNITS: dict[str, dict[str, float]] = {
    "bytes": {
        "B": 1.0,
        "kB": 1e3,
        "MB": 1e6,
        "GB": 1e9,
        "KiB": 2.0**10,
        "MiB": 2.0**20,
        "GiB": 2.0**30,
    },
    "bandwidth": {"B/s": 1.0, "MB/s": 1e6, "GB/s": 1e9, "TB/s": 1e12},
    "operation rate": {
        "OP/s": 1.0,
        "GOP/s": 1e9,
        "TOP/s": 1e12,
        "FLOP/s": 1.0,
        "GFLOP/s": 1e9,
        "TFLOP/s": 1e12,
    },
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "time per weight": {"s/weight": 1.0, "ns/weight": 1e-9, "ps/weight": 1e-12, "fs/weight": 1e-15},
    "bytes per weight": {"B/weight": 1.0},
    "time per feature": {"s/feature": 1.0, "us/feature": 1e-6, "ns/feature": 1e-9},
    "energy": {"J": 1.0, "kJ": 1e3, "Wh": 3600.0},
    "energy per byte": {"J/B": 1.0, "nJ/B": 1e-9, "pJ/B": 1e-12},
    "energy per operation": {"J/OP": 1.0, "nJ/OP": 1e-9, "pJ/OP": 1e-12},
    "power": {"W": 1.0, "mW": 1e-3},
    "share": {"share": 1.0, "%": 1e-2},
    "bits": {"bits": 1.0},
    "tokens": {"tokens": 1.0},
    "features": {"features": 1.0},
    "price": {"USD/h": 1.0 / 3600.0},
}
"""Dimension -> unit -> factor to the SI unit used inside (bytes, seconds, joules, watts, USD/s)."""


def to_si(value: float, unit: str, dimension: str, where: str) -> float:
    """`value unit` in the SI unit of `dimension`; `where` names the figure in the error.

    Raises:
        BadInput: the unit is missing or is not one of the dimension's.
    """
    accepted = UNITS[dimension]
    if unit not in accepted:
        raise BadInput(
            f"{where}.unit = {unit!r}: a unit of {dimension} is needed: {', '.join(accepted)}"
        )
    return value * accepted[unit]


def from_si(value: float, unit: str, dimension: str) -> float:
    """The number to write beside `unit` for a quantity held in SI."""
    return value / UNITS[dimension][unit]
