"""The border itself: which files are read, which documents are parsed, how long a message is."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import parse_json, parse_toml, read_bytes, read_json
from tests.borders.command_line import Run, refused


def test_only_regular_files_are_read(tmp_path: Path, run: Run) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(run("fit", pipe), "a pipe")
    refused(run("query", "--device", "m2", "--law", pipe), "a pipe")
    refused(run("explain", "smollm2-135m", "--device", pipe), "a pipe")
    refused(run("explain", "/dev/zero", "--device", "m2"), "/dev/zero")
    refused(run("fit", "/dev/zero"), "device")
    refused(run("sweep", tmp_path / "x.toml"), "No such file")
    refused(run("sweep", tmp_path), "folder")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": ' + "9" * 500 + "}", "500 digits"),
        ("[" * 10_000 + "]" * 10_000, "nested 10000 deep"),
        ('{"a": "' + "[" * 300 + '"', "not JSON"),
        ('{"a": 1', "line 1"),
        ('"\\' * 50_000, "not JSON"),
    ],
)
def test_json_documents(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why.replace("[", r"\[")) as caught:
        parse_json(text, "law", "x.json")
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    "text",
    ["a = 1\na = 2\n", "a = nan", "a = inf", "a = " + "[" * 999, "a = " + "1" * 9999, "a.b" * 500],
)
def test_toml_documents(text: str) -> None:
    with pytest.raises(BadInput, match=r"device = x\.toml"):
        parse_toml(text, "device", "x.toml")


def test_large_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(BadInput, match="2,000,000,000 bytes"):
        read_json(path, "law")
    with pytest.raises(BadInput, match="not the name of a file"):
        read_bytes("a\0b", "law")


def test_a_long_message_is_cut_and_keeps_its_head(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_bytes("x" * 3000, "law")
    assert len(str(caught.value)) <= 300
    assert str(caught.value).startswith("law = xxx")


def test_options_of_thousands_of_characters(run: Run) -> None:
    for arguments in (
        ("export", "smollm2-135m", "--to", "1" * 5000, "out"),
        ("explain", "smollm2-135m", "--device", "m2", "--bits", "4=" * 3000),
        ("explain", "smollm2-135m", "--device", "m2", "--format", "a" * 5000),
        ("sweep", "--status", "x\x1b]0;y\x07"),
    ):
        refused(run(*arguments))


def test_a_key_that_stands_twice_among_many_is_found_at_once() -> None:
    text = "{" + ", ".join(f'"k{number}": 1' for number in range(60_000)) + ', "z": 1, "z": 2}'
    began = time.process_time()
    with pytest.raises(BadInput, match="'z' stands twice"):
        parse_json(text, "law", "x.json")
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "text",
    [
        "a." * 100_000 + "b = 1",
        "[" + "a." * 100_000 + "b]",
        '"a" . ' * 100_000 + "b = 1",
        "[" + "a." * 60 + "a]\n" + "b." * 60 + "b = 1",
        "a = " + ("{" + "a." * 60 + "a = ") * 60 + "1" + "}" * 60,
    ],
)
def test_names_of_many_parts_nest_as_brackets_do(text: str) -> None:
    began = time.process_time()
    with pytest.raises(BadInput, match="at most 64"):
        parse_toml(text, "device", "x.toml")
    assert time.process_time() - began < 5


def test_what_comments_and_texts_say_is_neither_number_nor_bracket() -> None:
    document = parse_toml(
        f"# {'-' * 97}\n# it's {'[' * 99}\na = 1  # {'9' * 99}\nb = '''{'9' * 99}'\"#'''\n"
        f'c = """{"9" * 99}"\'#[[\\""""\nd = "#"\n',
        "device",
        "x.toml",
    )
    assert document["a"] == 1
    assert document["b"] == "9" * 99 + "'\"#"
    assert document["d"] == "#"
    with pytest.raises(BadInput, match="too long for a number"):
        parse_toml(f'# don"t\na = {"1" * 70}', "device", "x.toml")


def test_a_text_of_many_escapes_takes_little_memory() -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000,) * 2)\n"
        "from shapelaw.scaling.user_files import parse_json\n"
        "parse_json('[' * 65 + '\"' + chr(92) * 30_000_000 + '\"', 'law', 'x.json')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert "BadInput: law = x.json: nested 65 deep; at most 64" in done.stderr
