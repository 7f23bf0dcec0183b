"""Draws of a profile's constants, and what they do to costs."""

import numpy as np
import pytest

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import device_names, engines_of, load_device
from shapelaw.search.devices.cost import cost_draws, cost_intervals, costs, costs_from_constants
from shapelaw.search.devices.explain import explain
from shapelaw.search.devices.uncertainty import constant_draws
from shapelaw.search.workload import Workload, load_workload

CHAT = load_workload("chat")
NAMES = ("mobilellm-125m", "mobilellm-ls-350m", "llama-3.2-1b", "qwen3-4b")
BATCH = ArchitectureBatch.of(load_architecture(name) for name in NAMES)


@pytest.mark.parametrize("device", ["iphone-13", "m2-max@mlx", "a100@tensorrt-llm", "galaxy-s25"])
def test_the_point_costs_lie_in_the_middle_of_their_draws(device: str) -> None:
    profile = load_device(device)
    point = costs(BATCH, profile, CHAT)
    drawn = cost_draws(BATCH, profile, CHAT, count=400)
    for name in ("decode_s", "ttft_s", "memory_bytes", "energy_per_token_j"):
        low, high = drawn.interval(name)
        middle = getattr(point, name)
        assert np.all((low < middle) & (middle < high))
        assert np.median(getattr(drawn, name), axis=1) == pytest.approx(middle, rel=0.3)


def test_scaling_components_is_close_to_costing_each_set_of_constants_anew() -> None:
    profile = load_device("m2-max")
    quick = cost_draws(BATCH, profile, CHAT, count=64).decode_s
    exact = np.stack(
        [costs_from_constants(BATCH, c, CHAT).decode_s for c in constant_draws(profile, 64)], axis=1
    )
    assert np.abs(np.log(quick / exact)).max() < 0.02


def test_a_device_nobody_measured_is_less_sure_than_one_that_was() -> None:
    def width(device: str) -> float:
        low, high = cost_intervals(BATCH, load_device(device), CHAT).decode_s
        return float(np.log(high / low).mean())

    assert width("h100@vllm") > width("a100@vllm")
    assert width("m3-ultra@mlx") > width("m5@mlx")


def test_every_device_combines_with_each_of_its_engines() -> None:
    for name in device_names():
        for engine in engines_of(name):
            profile = load_device(name, engine)
            nominal = profile.si("memory.nominal_bandwidth")
            assert 0.05 * nominal < profile.si("memory.bandwidth") <= nominal


def test_an_engine_that_stores_every_application_is_costed_as_the_distinct_twin() -> None:
    shared = load_architecture("mobilellm-ls-125m")
    found = explain(shared, load_device("iphone-15-pro", "llama.cpp"), CHAT)
    twin = explain(shared.unshared(), load_device("iphone-15-pro", "llama.cpp"), CHAT)
    for key in ("decode_s", "memory_bytes", "file_bytes", "ttft_s"):
        assert found[key] == pytest.approx(twin[key])
    assert any("distinct blocks" in warning for warning in found["warnings"])
    sharing = explain(shared, load_device("iphone-13"), CHAT)
    assert not any("distinct blocks" in warning for warning in sharing["warnings"])


def test_what_does_not_fit_is_said() -> None:
    found = explain(load_architecture("llama-3.1-8b"), load_device("iphone-13"), CHAT)
    assert found["fits"] is False
    assert any("does not fit" in warning for warning in found["warnings"])
    assert explain(load_architecture("mobilellm-125m"), load_device("iphone-13"), CHAT)["fits"]


@pytest.mark.parametrize("device", ["iphone-13", "raspberry-pi-5", "m2-max", "h100", "oneplus-12"])
def test_more_costs_more(device: str) -> None:
    """Bits, context and batch never make a step cheaper; one token of prompt costs one step."""
    profile = load_device(device)
    aligned = BATCH.take([2, 3])  # other widths fall back to more bits in some formats
    four, eight, sixteen = (
        costs(aligned, profile, CHAT, weight_bits=b).decode_s for b in (4, 8, 16)
    )
    assert np.all(four <= eight)
    assert np.all(eight <= sixteen)
    less = Workload(name="less", prompt=64, generated=64, context=512)
    longer = Workload(name="longer", prompt=64, generated=64, context=4096)
    busier = Workload(name="busier", prompt=64, generated=64, context=512, batch=8)
    base = costs(BATCH, profile, less).decode_s
    for more in (longer, busier):
        assert np.all(costs(BATCH, profile, more).decode_s >= base)
    one = costs(BATCH, profile, Workload(name="one", prompt=1, generated=1, context=1))
    assert np.all(one.ttft_s <= 1.2 * one.decode_s)
