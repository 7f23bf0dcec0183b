"""The Jetson Orin Nano in its power modes: one set of constants a mode, energy included."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from benchmarks.device_rows import JetsonRow
from benchmarks.published_timings import with_bandwidth
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.devices.calibration.least_squares import (
    Free,
    Observation,
    Solution,
    field,
    solve,
    weight_field,
)
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.roofline_parts import Shapes, decode_parts

K_BITS = 4.85
"""Q4_K_M where every width is a multiple of 256, less its half bit of scales. Where widths are not,
llama.cpp falls back to the plain block formats (Q5_0, Q8_0): 5.7 bits and more in these files."""

HUBER = 0.005
"""So small that the fit minimises absolute relative errors: two of the eight models are outliers in
every mode (more norms a block, a slower MAXN than 25 W), and no constant should bend to them."""


def free_constants() -> list[Free]:
    """What a mode's decode timings are asked for."""

    def put_unpack(c: Constants, value: float) -> Constants:
        for bits in (4.0, K_BITS):
            c = weight_field(bits, "unpack", 1e-13, 1e-9, 1e-11).put(c, value)
        return c

    return [
        with_bandwidth(8e9, 1.02e11, 3e10),
        field("per_token", 1e-6, 5e-2, 2e-3),
        Free("unpack of K-quants", 5e-12, 1e-10, 2e-11, put_unpack),
    ]


def template_of(name: str) -> Constants:
    """A mode's shipped profile as the start of a fit: its fitted figures are solved for anew."""
    c = constants(load_device(f"jetson-orin-nano-{name}"))
    return dataclasses.replace(
        c, per_layer=1e-6, weights=tuple((row[0], row[1], 0.0, 1.0) for row in c.weights)
    )


def fit_mode(rows: Sequence[Observation], template: Constants) -> Solution:
    """One mode's decode constants."""
    return solve(rows, template, free_constants(), starts=8, huber=HUBER)


# --- energy --------------------------------------------------------------------------------------


def energy_features(row: JetsonRow, c: Constants) -> np.ndarray:
    """DRAM bytes, operations and seconds of one token, as the model has them."""
    o = row.decode
    shapes = Shapes(
        ArchitectureBatch.of([o.architecture]),
        c,
        o.workload,
        np.array([o.weight_bits]),
        o.kv_bits,
        o.activation_bits,
    )
    parts = decode_parts(shapes, c)
    return np.array(
        [
            sum(float(part.bytes_moved[0]) for part in parts),
            sum(float(part.flops[0]) for part in parts),
            sum(float(part.seconds[0]) for part in parts),
        ]
    )


def fit_energy(rows: Sequence[JetsonRow], c: Constants) -> np.ndarray:
    """Joules a byte, joules an operation, static watts: none negative, relative errors least."""
    from scipy.optimize import nnls

    features = np.stack([energy_features(row, c) for row in rows])
    joules = np.array([row.joules for row in rows])
    solution, _ = nnls(features / joules[:, None] / SCALES_INVERSE, np.ones(len(rows)))
    return np.asarray(solution / SCALES_INVERSE)


SCALES_INVERSE = np.array([1e10, 1e11, 1.0])
"""Bring the three features to like size for the solver."""


def energy_held_out(rows: Sequence[JetsonRow], template: Constants) -> np.ndarray:
    """Error of each row's joules from constants, times included, fitted to the other rows."""
    errors = []
    for held in rows:
        rest = [row for row in rows if row is not held]
        c = fit_mode([row.decode for row in rest], template).constants
        prices = fit_energy(rest, c)
        errors.append(float(energy_features(held, c) @ prices) / held.joules - 1)
    return np.array(errors)
