"""The search's costs are the cost model's, whichever columns are asked for."""

import numpy as np
import pytest

from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import PIECE, costs
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.problem import COST_COLUMNS
from shapelaw.search.space.space import load_space
from shapelaw.search.workload import load_workload


@pytest.mark.parametrize("device", ["iphone-13", "h100", "raspberry-pi-5"])
@pytest.mark.parametrize("workload", ["chat", "long-context"])
def test_columns_are_those_of_the_cost_model_to_the_last_bit(device: str, workload: str) -> None:
    batch, _ = next(iter(load_space("phone").enumerate(PIECE + 100)))
    bits = np.where(np.arange(len(batch)) % 3 == 0, 4.0, 8.0)
    profile, work = load_device(device), load_workload(workload)
    expected = costs(batch, profile, work, weight_bits=bits)
    cost = DeviceCost(profile, work)
    everything = cost(batch, bits)
    assert set(everything) == set(COST_COLUMNS)
    for name in COST_COLUMNS:
        alone = cost(batch, bits, (name,))
        assert set(alone) == {name}
        for found in (everything[name], alone[name]):
            assert np.array_equal(found, getattr(expected, name), equal_nan=True)
