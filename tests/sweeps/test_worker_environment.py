"""Which accelerators there are, and what a worker on one is given."""

import importlib.util
from pathlib import Path

import pytest

from shapelaw.sweeps import worker_environment as worker


@pytest.fixture
def nvidia(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine shown NVIDIA's devices 2 and 3, with JAX's plugin for them."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: find("json") if name == "jax_cuda12_plugin" else find(name),
    )
    monkeypatch.setattr(
        worker, "nvidia_nodes", lambda: [Path("/dev/nvidia2"), Path("/dev/nvidia3")]
    )

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def test_accelerators_are_numbered_as_cuda_does(nvidia: pytest.MonkeyPatch) -> None:
    assert worker.accelerator_expected()
    assert worker.accelerators() == ["0", "1"], "CUDA counts from 0, whatever the nodes are called"
    assert worker.default_workers() == 4


@pytest.mark.parametrize(
    ("setting", "names"),
    [
        ("1", ["1"]),
        ("3, 0", ["3", "0"]),
        ("0,-1,1", ["0"]),
        ("", []),
        ("-1", []),
        ("MIG-0a1b,GPU-2c3d", ["MIG-0a1b", "GPU-2c3d"]),
    ],
)
def test_what_cuda_is_told_to_hide_is_not_used(
    nvidia: pytest.MonkeyPatch, setting: str, names: list[str]
) -> None:
    nvidia.setenv("CUDA_VISIBLE_DEVICES", setting)
    assert worker.accelerators() == names
    assert worker.accelerator_expected() is bool(names), "else runs would count as bfloat16"


def test_jax_told_to_use_the_cpu_finds_no_accelerator(nvidia: pytest.MonkeyPatch) -> None:
    nvidia.setenv("JAX_PLATFORMS", "cpu")
    assert not worker.accelerator_expected()
    assert worker.accelerators() == []


def test_a_worker_leaves_memory_of_its_accelerator_to_others() -> None:
    environment = worker.worker_environment("MIG-0a1b", {"XLA_FLAGS": "--x"})
    assert environment == {
        "XLA_FLAGS": "--x",
        "CUDA_VISIBLE_DEVICES": "MIG-0a1b",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


def test_a_worker_on_the_cpu_computes_with_one_thread() -> None:
    environment = worker.worker_environment(None, {})
    assert environment["JAX_PLATFORMS"] == "cpu"
    assert worker.ONE_THREAD_FLAGS in environment["XLA_FLAGS"]
    assert worker.worker_environment(None, environment) == environment, "said once, not twice"
