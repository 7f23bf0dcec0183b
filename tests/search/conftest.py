"""Devices known exactly, for tests of what the search itself finds."""

from collections.abc import Collection, Iterator

import numpy as np
import pytest

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.problem import COST_COLUMNS, Columns


@pytest.fixture(scope="module")
def exact_devices() -> Iterator[None]:
    """Every device has one draw of its constants: the middle ones.

    Brute force over point costs is then the yardstick of the whole query. Decisions under uncertain
    devices are tested in pareto/test_decision.py and by the draws of another seed.
    """

    def draws(
        self: DeviceCost,
        architectures: ArchitectureBatch,
        weight_bits: np.ndarray,
        wanted: Collection[str] = COST_COLUMNS,
        count: int | None = None,
    ) -> Columns:
        return {
            name: column[None, :]
            for name, column in self(architectures, weight_bits, wanted).items()
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceCost, "draws", draws)
        yield
