"""Profiles and bench files of devices that cannot be, and those of the user beside the shipped."""

import json
import time
from pathlib import Path

import pytest

from shapelaw.search.devices.catalogue import load_device
from tests.borders.command_line import CASES, SPACE, Run, refused


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("device-deep.toml", ["nested 5000 deep"]),
        ("device-zero-bandwidth.toml", ["bandwidth", "0"]),
        ("device-unknown-field.toml", ["zzz"]),
        ("device-escape.toml", ["title", "control characters"]),
    ],
)
def test_devices(run: Run, file: str, named: list[str]) -> None:
    refused(run("explain", "smollm2-135m", "--device", CASES / file), file, *named)


def test_markup_in_a_device_is_shown(run: Run) -> None:
    code, out, _ = run("devices", CASES / "device-markup.toml")
    assert code == 0
    assert "Apple [/] iPhone 13" in " ".join(out.split()) or "[/]" in out
    code, out, _ = run(
        "explain", "smollm2-135m", "--device", CASES / "device-markup.toml",
        "--workload", CASES / "workload-markup.toml",
    )  # fmt: skip
    assert code == 0
    assert "ch[/]at" in out


def test_markup_in_every_name_of_a_question_is_shown(run: Run, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SPACE.replace('"x"', '"[/]sp:fire:ace"'))
    code, out, _ = run(
        "query", "--device", CASES / "device-markup.toml", "--tokens", "1B", "--space", space,
        "--workload", CASES / "workload-markup.toml",
    )  # fmt: skip
    assert code == 0
    for name in ("[/] iPhone 13", "workload ch[/]at", "[/]sp:fire:ace"):
        assert name in " ".join(out.split())


def test_nothing_is_recommended_that_a_device_cannot_hold(run: Run, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    device = CASES / "device-small-capacity.toml"
    code, out, err = run("query", "--device", device, "--tokens", "1B", "--space", space, "--json")
    assert code == 1
    assert "memory <= 100 B" in err
    assert "best" not in out


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("kv_share = ", "kv_share = 1e12, spare = ", "uncertainty.spread.kv_share"),
        ("capacity = {value = ", "capacity = {value = 1e30, unit = \"GB\", source = \"x\", "
         "status = \"fitted\"} #", "memory.capacity"),
        ("[compute.peak]\n", "[compute.peak]\n\"\u0663\" = {value = 1.0, unit = \"TFLOP/s\", "
         "source = \"x\", status = \"fitted\"}\n", "precision"),
        ("prefill_chunk = {value = ", "prefill_chunk = {value = 0, unit = \"tokens\", source = "
         "\"x\", status = \"fitted\"} #", "compute.prefill_chunk"),
    ],
)  # fmt: skip
def test_profiles(run: Run, tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "device.toml"
    load_device("m2").to_file(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused(run("explain", "smollm2-135m", "--device", path), "device.toml", named)


@pytest.mark.parametrize(
    ("file", "named"),
    [("bench-zero.json", ["samples_ns[1] = 5e-324"]), ("bench-not-finite.json", ["n_gen = -64"])],
)
def test_benches(run: Run, tmp_path: Path, file: str, named: list[str]) -> None:
    refused(
        run("calibrate", "--name", "x", "--llama-bench", CASES / file, "--out", tmp_path / "x"),
        file, *named,
    )  # fmt: skip


def test_a_bench_with_a_time_that_no_float_holds(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(
        '[{"model_filename": "a", "model_type": "llama 7B Q4_0", "model_size": 3791728640, '
        '"model_n_params": 6738415616, "n_prompt": 0, "n_gen": 128, "avg_ns": 2000000000, '
        f'"samples_ns": [2000000000, 1{"0" * 400}]}}]'
    )
    refused(
        run("calibrate", "--name", "x", "--llama-bench", path, "--out", tmp_path / "x"),
        "bench.json", "samples_ns: numbers are needed",
    )  # fmt: skip


def test_a_bench_of_a_model_of_five_bytes(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_text(
        "model_filename,model_type,model_size,model_n_params,n_prompt,n_gen,avg_ns\n"
        "a,llama 7B Q4_0,5.3,6738415616,512,0,216142857\n"
        "a,llama 7B Q4_0,5.3,6738415616,0,128,2000000000\n"
    )
    refused(
        run("calibrate", "--name", "x", "--llama-bench", path, "--out", tmp_path / "x"),
        "model_size = 5.3", "bits a weight",
    )  # fmt: skip


@pytest.fixture
def own_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's calibrated devices, empty."""
    monkeypatch.setenv("SHAPELAW_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "devices"
    folder.mkdir(parents=True)
    return folder


def test_an_own_profile_that_takes_a_shipped_name_is_named_in_every_answer(
    run: Run, tmp_path: Path, own_devices: Path
) -> None:
    space, said = tmp_path / "space.toml", str(own_devices / "m2.toml")
    space.write_text(SPACE)
    load_device("m2").to_file(own_devices / "m2.toml")
    load_device("h100").to_file(own_devices / "h100.toml")
    asked = ("--space", space, "--tokens", "1B", "--json")
    answers: dict[str, tuple[tuple[object, ...], ...]] = {
        "notes": (("devices", "m2", "--json"), ("devices", "--json")),
        "warnings": (
            ("explain", "smollm2-135m", "--device", "m2", "--json"),
            ("query", "--device", "m2", *asked),
            ("query", "--device", "m2", *asked, "--formats", "q8_0"),
        ),
    }
    for field, commands in answers.items():
        for command in commands:
            code, out, err = run(*command)
            assert code == 0, err
            assert any(said in line for line in json.loads(out)[field]), command
    code, out, _ = run("query", "--device", "m1", *asked)
    assert code == 0
    assert any("h100.toml" in line for line in json.loads(out)["warnings"])
    code, _, err = run("sweep", "smoke", "--plan", "--accelerator", "h100")
    assert code == 0
    assert "h100.toml" in "".join(err.split())
    others: tuple[tuple[object, ...], ...] = (
        ("explain", "smollm2-135m", "--device", "m2@llama.cpp", "--json"),
        ("explain", "smollm2-135m", "--device", "m2", "--engine", "llama.cpp", "--json"),
        ("explain", "smollm2-135m", "--device", own_devices / "m2.toml", "--json"),
    )
    for command in others:
        code, out, _ = run(*command)
        assert code == 0
        assert said not in json.dumps(json.loads(out)["warnings"])


def test_one_broken_profile_spoils_only_itself(run: Run, own_devices: Path) -> None:
    load_device("m2").to_file(own_devices / "mine.toml")
    (own_devices / "broken.toml").write_text("name = [")
    (own_devices / "zero.toml").write_bytes(b"\0" * 40)
    (own_devices / "folder.toml").mkdir()
    code, out, _ = run("devices", "--json")
    assert code == 0
    listed = json.loads(out)
    assert {"m2", "mine", "h100"} <= {device["name"] for device in listed["devices"]}
    assert [device["name"] for device in listed["unusable"]] == ["broken", "folder", "zero"]
    assert all(device["name"] in device["why"] for device in listed["unusable"])
    code, out, _ = run("devices")
    assert code == 0
    assert "broken" in out
    for device in ("mine", "m2"):
        assert run("explain", "smollm2-135m", "--device", device, "--json")[0] == 0
    refused(run("explain", "smollm2-135m", "--device", "broken"), "broken.toml", "not TOML")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.sql", "INSERT INTO t (a) VALUES (1)" + " " * 200_000 + "x\n"),
        ("b.sql", "INSERT INTO " + "(" * 200_000 + "\n"),
        ("b.csv", "model_n_params,n_gen\n" + "9" * 200_000 + ",1\n"),
        ("b.sql", f"INSERT INTO t (a) VALUES ('{'9' * 200_000}');\n"),
        ("b.json", '[{"a": ' * 900 + "[" + "1," * 200_000),
    ],
    ids=["spaces", "brackets", "long-cell", "long-value", "deep"],
)
def test_benches_that_take_a_reader_s_time(run: Run, tmp_path: Path, name: str, text: str) -> None:
    """Each took a reader longer than anybody waits, or raised what nobody expected."""
    (tmp_path / name).write_text(text)
    (tmp_path / "nowhere.json").symlink_to("absent")
    began = time.process_time()
    refused(run("calibrate", "--name", "x", "--llama-bench", tmp_path / name), "llama-bench")
    assert time.process_time() - began < 5
