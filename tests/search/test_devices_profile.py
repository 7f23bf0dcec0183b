"""Profiles: strict files, honest figures, one clear line for a bad one."""

import tomllib
from pathlib import Path

import pytest

from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.catalogue import (
    describe,
    describe_all,
    device_names,
    load_device,
    save_device,
    user_folder,
    with_engine,
)
from shapelaw.search.devices.device_tables import device_tables
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.devices.toml import write_toml

GOOD = """
name = "toy"
title = "Toy"
kind = "board"
engine = "none"
[memory]
capacity = { value = 4, unit = "GB", source = "s", status = "datasheet" }
app_share = { value = 50, unit = "%", source = "s", status = "asserted" }
bandwidth = { value = 10, unit = "GB/s", source = "s", status = "fitted" }
[[cache]]
name = "L3"
capacity = { value = 8, unit = "MiB", source = "s", status = "datasheet" }
bandwidth = { value = 40, unit = "GB/s", source = "s", status = "asserted" }
[compute]
efficiency = { value = 0.5, unit = "share", source = "s", status = "asserted" }
[compute.peak]
16 = { value = 1, unit = "TFLOP/s", source = "s", status = "datasheet" }
[overhead]
per_token = { value = 100, unit = "us", source = "s", status = "fitted" }
per_layer = { value = 0.01, unit = "ms", source = "s", status = "fitted" }
"""


def test_figures_are_read_in_their_units() -> None:
    profile = DeviceProfile.from_toml(GOOD, "toy.toml")
    assert profile.si("memory.app_share") == pytest.approx(0.5)
    assert profile.si("cache.0.capacity") == 8 * 2**20
    assert profile.si("overhead.per_layer") == pytest.approx(1e-5)
    assert profile.si("compute.peak.16") == 1e12


def test_a_profile_survives_a_round_trip(tmp_path: Path) -> None:
    for name in ("iphone-13", "jetson-orin-nano-25w", "h200"):
        profile = load_device(name)
        profile.to_file(tmp_path / "p.toml")
        assert DeviceProfile.from_file(tmp_path / "p.toml") == profile


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('value = 10, unit = "GB/s"', 'value = -10, unit = "GB/s"', "memory.bandwidth"),
        ('value = 10, unit = "GB/s"', 'value = 0, unit = "GB/s"', "memory.bandwidth"),
        ('value = 10, unit = "GB/s"', 'value = nan, unit = "GB/s"', "memory.bandwidth"),
        ('value = 10, unit = "GB/s"', 'value = inf, unit = "GB/s"', "memory.bandwidth"),
        ('value = 10, unit = "GB/s"', 'value = 10, unit = "GB"', "memory.bandwidth"),
        ('value = 10, unit = "GB/s"', 'value = 10, unit = ""', "memory.bandwidth"),
        ('{ value = 10, unit = "GB/s", source = "s", status = "fitted" }', "10", "bandwidth"),
        (
            '{ value = 10, unit = "GB/s", source = "s", status = "fitted" }',
            '{ value = 10, source = "s", status = "fitted" }',
            "unit",
        ),
        (
            '{ value = 10, unit = "GB/s", source = "s", status = "fitted" }',
            '{ value = 10, unit = "GB/s", source = " ", status = "fitted" }',
            "source",
        ),
        (
            '{ value = 10, unit = "GB/s", source = "s", status = "fitted" }',
            '{ value = 10, unit = "GB/s", source = "s", status = "guessed" }',
            "guessed",
        ),
        (
            'bandwidth = { value = 10, unit = "GB/s", source = "s", status = "fitted" }',
            "",
            "bandwidth",
        ),
        ('value = 50, unit = "%"', 'value = 150, unit = "%"', "memory.app_share"),
        ('value = 40, unit = "GB/s"', 'value = 4, unit = "GB/s"', "memory.bandwidth"),
        ('engine = "none"', 'engine = "none"\ncolour = "red"', "colour"),
        ('name = "toy"', 'name = "Toy Device"', "name"),
        ("16 = { value = 1", "half = { value = 1", "half"),
        ('name = "toy"', 'name = "toy', "TOML"),
        ('kind = "board"', 'kind = "toaster"', "toaster"),
    ],
)
def test_bad_figures_are_named_in_one_line(old: str, new: str, named: str) -> None:
    assert old in GOOD
    with pytest.raises(BadInput) as error:
        DeviceProfile.from_toml(GOOD.replace(old, new, 1), "toy.toml")
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_every_shipped_profile_holds_and_says_where_its_figures_come_from() -> None:
    names = device_names()
    assert {
        "iphone-13",
        "iphone-15-pro",
        "iphone-16-pro",
        "galaxy-s24-ultra",
        "oneplus-12",
        "pixel-9",
        "raspberry-pi-5",
        "jetson-orin-nano-7w",
        "jetson-orin-nano-15w",
        "jetson-orin-nano-25w",
        "jetson-orin-nano-maxn",
        "m1",
        "m2-pro",
        "m3-max",
        "m4-max",
        "m5",
        "rtx-4090",
        "l40",
        "a100",
        "h100",
        "h200",
        "mobilellm-phone",
    } <= set(names)
    for name in names:
        profile = load_device(name)
        assert profile.name == name
        for dotted, dimension, figure in profile.figures():
            assert dimension, dotted
            assert figure.source.strip(), dotted
        nominal = profile.si("memory.nominal_bandwidth", default=float("inf"))
        assert profile.si("memory.bandwidth") <= nominal


def test_an_unmeasured_device_does_not_pretend() -> None:
    assert load_device("pixel-9").memory.bandwidth.status == "asserted"
    assert load_device("iphone-13").memory.bandwidth.status == "fitted"
    energies = load_device("mobilellm-phone").energy
    assert energies is not None
    assert energies.per_dram_byte.status == "asserted"


ISSUED = [
    "iphone-15-pro",
    "iphone-17-pro",
    "galaxy-s25",
    "galaxy-s25-ultra",
    "pixel-10",
    "oneplus-13",
    "snapdragon-x-elite",
    "ryzen-ai-max-395",
    "jetson-agx-orin",
    "jetson-agx-thor",
    "dgx-spark",
    "rtx-3060",
    "rtx-3090",
    "rtx-5090",
    "b200",
    "mi300x",
    "arc-b580",
    "a100",
]
ENGINES = {
    "iphone-15-pro": {"llama.cpp", "executorch", "mlx"},
    "a100": {"vllm", "sglang", "tensorrt-llm", "gpt-fast"},
    "h100": {"vllm", "sglang", "tensorrt-llm"},
    "b200": {"vllm", "sglang", "tensorrt-llm"},
    "m4-max": {"llama.cpp", "mlx"},
}


def test_devices_and_their_engines() -> None:
    listed = {d["name"]: d["engines"] for d in describe_all()["devices"]}
    assert set(ISSUED) <= set(listed)
    for name, engines in ENGINES.items():
        assert engines <= {each.split("/")[0] for each in listed[name]}
    for name in listed:
        if name.startswith(("m1", "m2", "m3", "m4", "m5")):
            assert {"llama.cpp/metal", "mlx/metal"} <= set(listed[name])


def test_an_engine_is_chosen_apart_from_the_device() -> None:
    assert with_engine("m2-max", "mlx") == "m2-max@mlx/metal"
    assert load_device("m2-max").engine == load_device("m2-max@llama.cpp/metal").engine
    assert load_device("m2-max").engine == "llama.cpp Metal"
    assert load_device("m2-max@mlx/metal").engine == "MLX Metal"
    for name, engine, said in (
        ("m2-max", "mxl", "did you mean mlx"),
        ("m2-max", "vllm", "m2-max runs llama.cpp/metal"),
        ("m2-max@mlx", "llama.cpp", "name says 'mlx'"),
        ("toy.toml", "mlx", "no shipped device"),
    ):
        with pytest.raises(BadInput, match=said):
            with_engine(name, engine)


def test_an_engine_not_measured_on_a_device_is_wide_and_says_so() -> None:
    measured, typical = load_device("a100@vllm"), load_device("b200@vllm")
    assert measured.uncertainty is not None
    assert typical.uncertainty is not None
    assert any("was not measured on it" in note for note in typical.notes)
    assert not any("was not measured on it" in note for note in measured.notes)
    for name in ("bandwidth", "per_layer"):
        assert typical.uncertainty.spread[name] > measured.uncertainty.spread[name]


def test_descriptions_hold_every_figure() -> None:
    description = describe("iphone-13")
    assert {f["name"] for f in description["figures"]} == {
        dotted for dotted, _, _ in load_device("iphone-13").figures()
    }
    assert {d["name"] for d in describe_all()["devices"]} == set(device_names())
    assert device_tables(description)
    assert device_tables(describe_all())


def test_a_calibrated_device_lives_with_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPELAW_HOME", str(tmp_path / "home"))
    with pytest.raises(BadInput, match="calibrate"):
        load_device("this-machine")
    profile = DeviceProfile.from_toml(GOOD.replace('"toy"', '"this-machine"'), "x")
    path = save_device(profile)
    assert path == user_folder() / "this-machine.toml"
    assert load_device("this-machine") == profile
    assert "this-machine" in device_names()
    assert [p.name for p in path.parent.iterdir()] == ["this-machine.toml"]


def test_an_unknown_or_unreadable_device_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("iphone-99", "", "no/such/file.toml", str(tmp_path), str(tmp_path / "bytes.toml")):
        with pytest.raises(BadInput) as error:
            load_device(name)
        assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BadInput) as error:
        write_atomically(tmp_path / "file" / "p.toml", "x = 1\n")
    assert "\n" not in str(error.value)
    (tmp_path / "taken.toml").mkdir()
    with pytest.raises(BadInput):
        write_atomically(tmp_path / "taken.toml", "x = 1\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken.toml"]


def test_written_toml_reads_back() -> None:
    document = {
        "a": 1.5,
        "b": 'say "so" \\ and\nmore',
        "c": [1, 2],
        "d": {"8": {"value": 2.0}},
        "e": [{"name": "x", "f": {"value": 1}}, {"name": "y"}],
        "g": True,
    }
    assert tomllib.loads(write_toml(document)) == document
