"""Architectures, workloads and spaces beyond what any model has."""

from pathlib import Path

import pytest

from tests.borders.command_line import CASES, SPACE, Run, refused


def test_architectures(run: Run, tmp_path: Path) -> None:
    refused(run("explain", CASES / "int64.json", "--device", "m2"), "int64.json", "sharing")
    refused(
        run("export", CASES / "blocks.json", "--to", "hf", tmp_path / "out"),
        "blocks.json", "n_blocks", "100000000",
    )  # fmt: skip
    refused(
        run("export", CASES / "answer-not-utf8.json", "--to", "hf", tmp_path / "out"),
        "answer-not-utf8.json", "UTF-8",
    )  # fmt: skip


def test_workloads(run: Run) -> None:
    refused(
        run("explain", "smollm2-135m", "--device", "m2", "--workload", CASES / "wl.toml"),
        "wl.toml", "generated = 9223372036854775807",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("sharing = 2147483647", "sharing"),
        ("gqa_group = [1e-300]", "gqa_group"),
        ("attention_width = { from = 5e-324, to = 1e308, factor = 1.0001 }", "attention_width"),
        ("attention_width = { from = 1, to = 2, step = 5e-324 }", "attention_width"),
        ("d_ff_multiple_of = 9223372036854775807", "d_ff_multiple_of"),
        ('attention = [{ window = 4, global_every = 0 }]', "global_every = 0"),
        ("gqa_group = { from = 1, to = 9999, step = 1 }\nattention_width = "
         "{ from = 1, to = 9999, step = 1 }", "combinations"),
    ],
)  # fmt: skip
def test_spaces(run: Run, tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(SPACE + line)
    refused(run("query", "--device", "m2", "--tokens", "1B", "--space", path), "space.toml", named)


def test_a_vocabulary_of_one_leaves_nothing_to_predict(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(SPACE.replace("vocab_size = 1000", "vocab_size = [1, 32000]"))
    asked = run("query", "--device", "m2", "--tokens", "1B", "--space", path)
    refused(asked, "vocab_size = 1: at least 2")


@pytest.mark.parametrize("target", ["hf", "gguf"])
def test_what_cannot_be_exported_is_refused_before_a_word_of_its_cost(
    run: Run, tmp_path: Path, target: str
) -> None:
    shape = tmp_path / "shared.json"
    shape.write_text(
        '{"vocab_size": 256, "d_model": 32, "n_blocks": 2, "sharing": 3, "n_heads": 2, '
        '"n_kv_heads": 1, "head_dim": 16, "d_ff": 64}'
    )
    held = tmp_path / "held"
    held.mkdir()
    (held / "a").touch()
    export = ("export", shape, "--expand", "--to", target)
    refused(run(*export, held), "held", "it exists")
    spoilt = tmp_path / "w.safetensors"
    spoilt.write_bytes(b"\xff" * 100)
    for options in (("--format", "q3"), ("--weights", spoilt)):
        refused(run(*export, tmp_path / "new", *options), options[0].strip("-"))
    assert not (tmp_path / "new").exists()
