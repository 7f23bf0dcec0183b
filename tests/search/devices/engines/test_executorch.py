"""The ExecuTorch engine."""

import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.calibration.timing_shapes import shape
from shapelaw.search.devices.engines import executorch


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executorch, "available", lambda: False)
    with pytest.raises(BadInput, match="extra `executorch`"):
        executorch.prepare(shape(1, 64, 1, 64))
