"""A run split among several devices, asked for by an option: the same run, the same losses."""

from pathlib import Path

import numpy as np
import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.design.design import Design, read_design
from shapelaw.sweeps.running.run_sweep import run_sweep
from shapelaw.sweeps.worker_environment import default_workers, jax_devices


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU as two devices, as XLA shows it where it is told to."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Design:
    corpus = tmp_path_factory.mktemp("text")
    for number in range(40):
        (corpus / f"{number:02d}.txt").write_text("alpha beta gamma delta " * 100)
    return read_design(f"""
        name = "split"
        text = ['{corpus}/*.txt']
        validation_tokens = 1024
        tokens_per_parameter = [5]
        seeds = [0]
        [base]
        non_embedding = 4_000
        [vary]
        mlp_attention_ratio = [1.0]
    """)


def test_a_split_run_is_the_same_run(design: Design, two_devices: None, tmp_path: Path) -> None:
    whole = run_sweep(design, tmp_path / "whole", cache_dir=tmp_path / "cache", live=False)
    split = run_sweep(
        design,
        tmp_path / "split",
        cache_dir=tmp_path / "cache",
        live=False,
        devices_per_run=2,
        fully_sharded=True,
    )
    assert split.failed == 0
    assert [r.run_key for r in split.records] == [r.run_key for r in whole.records]
    np.testing.assert_allclose(
        [r.loss or np.nan for r in split.records],
        [r.loss or np.nan for r in whole.records],
        atol=1e-5,
    )


def test_devices_are_shared_out_among_workers(two_devices: None) -> None:
    assert jax_devices() == 2
    assert default_workers(2) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices_per_run": 64}, "devices_per_run = 64: JAX finds 2 on this machine"),
        ({"fully_sharded": True}, "needs devices_per_run of two or more"),
        ({"devices_per_run": 2, "command": "train {out}"}, "a command sees to its own"),
    ],
)
def test_what_cannot_be_split_is_said_before_anything_is_trained(
    design: Design, two_devices: None, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        run_sweep(design, tmp_path, cache_dir=tmp_path, **options)  # type: ignore[arg-type]
