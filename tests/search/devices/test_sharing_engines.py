"""Which engines keep a shared block once: their files say it, and every sentence asks them."""

from importlib import resources

import pytest

from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import (
    device_names,
    engine,
    engines_of,
    load_device,
    sharing_engines,
)
from shapelaw.search.devices.explain import explain
from shapelaw.search.devices.shared_blocks import file_keeps_once, memory_keeps_once
from shapelaw.search.export.exchange_weights import SHARING_ENGINES
from shapelaw.search.workload import load_workload

SHIPPED = sorted(
    entry.name.removesuffix(".toml")
    for entry in (resources.files("shapelaw.search") / "devices" / "profiles" / "engines").iterdir()
    if entry.name.endswith(".toml")
)


@pytest.mark.parametrize("name", SHIPPED)
def test_names_and_files_say_the_same(name: str) -> None:
    """A profile file without traits is judged by its engine's name: as the engine's own file."""
    found = engine(name)
    assert file_keeps_once(found.title) is found.traits.shares_blocks
    for label in device_names():
        for each in engines_of(label):
            if each.split("/")[0] == name:
                device = load_device(label, each)
                does = device.engine_traits()
                assert does.shares_blocks is memory_keeps_once(device.engine, device.kind), each
                assert does.file_shares_blocks is file_keeps_once(device.engine), each


def test_the_sentence_names_those_that_can_and_no_other() -> None:
    said = sharing_engines()
    assert "jax" in said
    for name in SHIPPED:
        found = engine(name)
        able = bool(found.traits.shares_blocks) and name != "asserted"
        assert (found.title in said) is able, name
    assert "ExecuTorch on a phone" in said


@pytest.mark.parametrize("name", ["snapdragon-x-elite@executorch", "m2@executorch"])
def test_where_xnnpack_packs_each_application_only_the_file_is_shared(name: str) -> None:
    """Measured here: 30 blocks of 118 MB hold 214 MB when they are applied twice, as 60 distinct
    ones do; the file does not grow."""
    shape = load_architecture("mobilellm-ls-125m")
    device, work = load_device(name), load_workload("chat")
    shared, distinct = (explain(a, device, work, weight_bits=16) for a in (shape, shape.unshared()))
    assert shared["memory_bytes"] == pytest.approx(distinct["memory_bytes"], rel=1e-12)
    assert shared["decode_s"] == pytest.approx(distinct["decode_s"], rel=1e-12)
    once = explain(load_architecture("mobilellm-125m"), device, work, weight_bits=16)
    assert shared["file_bytes"] == pytest.approx(once["file_bytes"], rel=1e-12)
    assert shared["file_bytes"] < 0.6 * distinct["file_bytes"]
    (said,) = [line for line in shared["warnings"] if "once an application" in line]
    assert "its file stores it once" in said
    assert sharing_engines() in said


@pytest.mark.parametrize("name", ["iphone-13@executorch/mps", "galaxy-s24-ultra@executorch"])
def test_on_phones_executorch_keeps_a_shared_block_once(name: str) -> None:
    shape = load_architecture("mobilellm-ls-125m")
    device, work = load_device(name), load_workload("chat")
    shared, distinct = (explain(a, device, work, weight_bits=16) for a in (shape, shape.unshared()))
    assert shared["memory"]["weights"] < 0.6 * distinct["memory"]["weights"]
    assert shared["decode_s"] < distinct["decode_s"]
    assert not [line for line in shared["warnings"] if "once an application" in line]


def test_the_exports_sentence_is_the_engines_own() -> None:
    assert sharing_engines() == SHARING_ENGINES
