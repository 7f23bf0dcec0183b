"""The device's cost model as the search uses it: only the columns asked for, from the same parts.

A search over millions of shapes that bounds memory and speed has no need of prefill, which costs as
much to compute as decode; `DeviceCost` leaves out what nobody asked for. The numbers are those of
`search.devices.cost.costs` to the last bit (tests/test_search_costing.py).
"""

import dataclasses
from collections.abc import Collection

import numpy as np

from shapelaw.scaling.architecture import FIELDS, ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.devices.constants import constants
from shapelaw.search.devices.cost import (
    PIECE,
    Costs,
    cost_draws_from_constants,
    costs_from_constants,
    total_joules,
    total_memory,
    total_seconds,
)
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.devices.roofline_parts import Shapes, decode_parts, prefill_parts
from shapelaw.search.devices.uncertainty import DRAWS, Draws, draws
from shapelaw.search.pareto.problem import COST_COLUMNS, Columns
from shapelaw.search.workload import Workload

ACTIVATION_BITS = 16.0


class DeviceCost:
    """Costs of one workload on one device."""

    def __init__(
        self,
        profile: DeviceProfile,
        workload: Workload,
        weight_format: Mix | None = None,
        kv_bits: float = 16.0,
    ) -> None:
        self.profile = profile
        self.workload = workload
        self.constants = constants(profile)
        self.weight_format = weight_format
        """Of every shape, in place of the engine's usual format at the bits asked for."""
        self.kv_bits = kv_bits
        """Bits a key or value, scales included."""
        if weight_format is not None:
            self.constants = dataclasses.replace(self.constants, formats=weight_format.family)
        self._drawn: dict[int, Draws] = {}
        """Of the constants, by how many were asked for."""

    def __call__(
        self,
        architectures: ArchitectureBatch,
        weight_bits: np.ndarray,
        wanted: Collection[str] = COST_COLUMNS,
    ) -> Columns:
        """The columns `wanted` [n] of shapes [n] at weight precisions [n]."""
        n = len(architectures)
        pieces = (
            [
                self._piece(
                    _rows(architectures, slice(start, start + PIECE)),
                    weight_bits[start : start + PIECE],
                    wanted,
                )
                for start in range(0, max(n, 1), PIECE)
            ]
            if n > PIECE
            else [self._piece(architectures, weight_bits, wanted)]
        )
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}

    def draws(
        self,
        architectures: ArchitectureBatch,
        weight_bits: np.ndarray,
        wanted: Collection[str] = COST_COLUMNS,
        count: int = DRAWS,
    ) -> Columns:
        """The columns `wanted` [k, n] by each of `count` joint draws of the constants."""
        if count not in self._drawn:
            self._drawn[count] = draws(self.profile, count)
        drawn = cost_draws_from_constants(
            architectures,
            self.constants,
            self._drawn[count],
            self.workload,
            weight_bits=weight_bits,
            formats=self._formats(len(architectures)),
            kv_bits=self.kv_bits,
            activation_bits=ACTIVATION_BITS,
        )
        return {name: np.asarray(getattr(drawn, name)).T for name in wanted}

    def full(self, architectures: ArchitectureBatch, weight_bits: np.ndarray) -> Costs:
        """Everything the cost model knows, the scarce resource included."""
        return costs_from_constants(
            architectures,
            self.constants,
            self.workload,
            weight_bits=weight_bits,
            formats=self._formats(len(architectures)),
            kv_bits=self.kv_bits,
            activation_bits=ACTIVATION_BITS,
        )

    def shapes(self, architectures: ArchitectureBatch, weight_bits: np.ndarray) -> Shapes:
        """What the parts of time and memory are computed from."""
        return Shapes(
            architectures,
            self.constants,
            self.workload,
            weight_bits,
            self.kv_bits,
            ACTIVATION_BITS,
            formats=self._formats(len(architectures)),
        )

    def _formats(self, n: int) -> tuple[list[Mix], np.ndarray] | None:
        """The one format and each row's place in the list of it."""
        chosen = self.weight_format
        return None if chosen is None else ([chosen], np.zeros(n, dtype=np.int64))

    def _piece(
        self,
        architectures: ArchitectureBatch,
        bits: np.ndarray,
        wanted: Collection[str],
    ) -> Columns:
        c, w = self.constants, self.workload
        shapes = self.shapes(architectures, bits)
        found: Columns = {}
        if "memory_bytes" in wanted:
            found["memory_bytes"] = total_memory(shapes, c)
        if {"decode_s", "decode_tokens_per_s", "energy_per_token_j"} & set(wanted):
            decode = decode_parts(shapes, c)
            found["decode_s"] = total_seconds(decode)
            found["decode_tokens_per_s"] = w.batch / found["decode_s"]
            if "energy_per_token_j" in wanted:
                found["energy_per_token_j"] = total_joules(decode, c) / w.batch
        if {"prefill_s", "ttft_s"} & set(wanted):
            found["prefill_s"] = total_seconds(prefill_parts(shapes, c))
            found["ttft_s"] = found["prefill_s"]
        return {name: found[name] for name in wanted}


def _rows(architectures: ArchitectureBatch, rows: slice) -> ArchitectureBatch:
    return ArchitectureBatch(**{name: getattr(architectures, name)[rows] for name in FIELDS})
