"""What the device gives an application bounds every query's memory."""

import dataclasses

from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.pareto.budget import Budget


def within_device(budget: Budget, profile: DeviceProfile) -> Budget:
    """The budget, with the application's memory where none was given.

    Raises:
        BadInput: more memory is asked for than the device gives an application.
    """
    most = profile.app_memory
    if budget.memory_bytes is None:
        return dataclasses.replace(budget, memory_bytes=most)
    if float(budget.memory_bytes) > most:
        raise BadInput(
            f"memory = {float(budget.memory_bytes) / 1e9:.4g} GB: {profile.name} gives an "
            f"application {most / 1e9:.4g} GB"
        )
    return budget
