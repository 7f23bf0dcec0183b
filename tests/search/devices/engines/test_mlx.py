"""The MLX engine times shapes of random weights, shared blocks kept once."""

from typing import Any

import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.calibration.timing_shapes import shape
from shapelaw.search.devices.engines import mlx


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx, "available", lambda: False)
    with pytest.raises(BadInput, match="extra `mlx`"):
        mlx.prepare(shape(1, 64, 1, 64))


@pytest.mark.parametrize(
    ("request_", "said"),
    [((shape(1, 64, 1, 64), 3), "times 16, 8, 4"), ((shape(1, 64, 1, 80), 4), "d_ff = 80")],
)
def test_what_mlx_does_not_time_is_refused(request_: tuple[Any, float], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        mlx.prepare(request_[0], weight_bits=request_[1])


@pytest.mark.long
@pytest.mark.parametrize("bits", [16.0, 4.0])
def test_mlx_times_a_shape_that_shares_blocks(bits: float) -> None:
    pytest.importorskip("mlx.core")
    runner = mlx.prepare(shape(2, 64, 1, 128, sharing=2, vocabulary=256), weight_bits=bits)
    prefill, decode = runner.run(8, 4)
    assert min(prefill, decode) > 0
    assert runner.peak_bytes is not None
    assert runner.peak_bytes > 1e6


@pytest.mark.parametrize("bits", [16, 4])
def test_mlx_decodes_the_token_that_it_would_prefill(bits: int) -> None:
    mx = pytest.importorskip("mlx.core")
    from shapelaw.search.devices.engines.mlx_process import _Decoder

    a = shape(2, 128, 1, 128, sharing=2, vocabulary=256)
    model = _Decoder(a.to_dict(), list(a.applied_blocks()), bits)
    tokens = mx.array([3, 1, 4, 1, 5])
    together, _ = model.step(tokens, model.empty(5), 0)
    cache = model.empty(5)
    for at in range(5):
        one, cache = model.step(tokens[at : at + 1], cache, at)
    scale = float(mx.abs(together).max())
    assert float(mx.abs(together - one).max()) < 0.02 * scale
    assert len(cache) == 2 * a.depth
