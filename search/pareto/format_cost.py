"""The device's costs where weights are stored in one format: bits by the bytes of its mix."""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.scaling.formats.weights import weight_bytes
from shapelaw.search.devices.cost import Costs
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.problem import Columns
from shapelaw.search.workload import Workload


class FormatCost(DeviceCost):
    """Costs of one workload on one device with weights in `mix`; bits that are asked are ignored.

    The cost model takes bits a weight: here those of the shape's own file, so that its bytes are
    the mix's. Unpacking is looked up between the precisions whose stored bits lie on either side.
    """

    def __init__(self, profile: DeviceProfile, workload: Workload, mix: Mix) -> None:
        super().__init__(profile, workload)
        self.mix = mix
        self.constants = dataclasses.replace(
            self.constants,
            weights=tuple(
                (stored, stored, unpack, slowdown)
                for _, stored, unpack, slowdown in self.constants.weights
            ),
        )

    def bits(self, architectures: ArchitectureBatch) -> np.ndarray:
        """Bits a weight [n], scales included, of everything stored."""
        stored = weight_bytes(self.mix, architectures, shares_blocks=True).stored
        return 8 * stored / architectures.total_parameters

    def full(self, architectures: ArchitectureBatch, weight_bits: np.ndarray) -> Costs:
        """Everything the cost model knows, the scarce resource included."""
        return super().full(architectures, self.bits(architectures))

    def _piece(self, architectures: ArchitectureBatch, bits: np.ndarray, *rest: Any) -> Columns:
        return super()._piece(architectures, self.bits(architectures), *rest)
