"""One run over several devices: the batch split among them, and the parameters too where asked.

The compiler places the communication (`jax.sharding`); what is computed stays what it was, up to
the order of sums.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from shapelaw.scaling.errors import BadInput

DATA = "data"
"""The one axis of the mesh: devices that each take a part of the batch."""


def data_mesh(devices: int) -> Mesh:
    """The first `devices` devices in a row. Raises BadInput where there are not so many."""
    there = jax.devices()
    if devices > len(there):
        raise BadInput(f"devices = {devices}: this machine has {len(there)}")
    return Mesh(np.array(there[:devices]), (DATA,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Of batches [S, B, T+1]: split along B."""
    return NamedSharding(mesh, PartitionSpec(None, DATA))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def state_shardings(mesh: Mesh, state: Any, fully_sharded: bool) -> Any:
    """For each leaf of a state, where it lives.

    Data parallel: whole on every device. Fully sharded: each leaf, moments included, is split
    along its longest axis that divides evenly, and gathered where it is used.
    """
    devices = mesh.devices.size

    def place(leaf: Any) -> NamedSharding:
        divisible = [axis for axis, size in enumerate(leaf.shape) if size % devices == 0]
        if not fully_sharded or not divisible:
            return replicated(mesh)
        longest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, DATA))

    return jax.tree.map(place, state)
