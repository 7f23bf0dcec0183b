"""Calibration tests run against the known machine."""

import numpy as np
import pytest

from shapelaw.search.devices.calibration import constants_fit, timing
from tests.search.devices.calibration.known_machine import TRUE, Pretend


@pytest.fixture
def known_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit looks for the cache around this machine's own: here, around the made-up one."""
    near = 1.5 * TRUE.cache_capacity[0]
    monkeypatch.setattr(constants_fit, "last_level_cache", lambda: (near, True))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    monkeypatch.setattr(
        timing, "_prepare", lambda engine, case, folder: Pretend(case, 0.02, generator)
    )
