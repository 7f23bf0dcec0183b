"""Designs of sweeps nobody can run, and stores and states that something has spoilt."""

import json
import os
import re
from pathlib import Path

import pytest

from shapelaw.results.store import RunStore, read_records
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.sweeps.running.slurm_engine import slurm_resources
from tests.borders.command_line import CASES, Run, refused

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("design-huge-size.toml", ["non_embedding", "9223372036854775807"]),
        ("lat.toml", ["latin", "runs", "1000000000"]),
    ],
)
def test_designs(run: Run, file: str, named: list[str]) -> None:
    refused(run("sweep", CASES / file, "--plan"), file, *named)


def test_runs_without_a_budget(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "given.toml"
    path.write_text(
        'name = "given"\ntoken_budgets = ["1M"]\n[[part]]\n[[part.runs]]\nlabel = "x"\n'
        "tokens = []\n[part.runs.architecture]\nvocab_size = 256\nd_model = 32\nn_blocks = 2\n"
        "sharing = 1\nn_heads = 2\nn_kv_heads = 1\nhead_dim = 16\nd_ff = 64\n"
    )
    refused(run("sweep", path, "--plan"), "given.toml", "run x", "tokens = []")


@pytest.mark.parametrize("source", ['text = ["/nowhere/*.txt"]', 'tokens = "/nowhere/x.bin"'])
def test_a_corpus_that_has_vanished(run: Run, tmp_path: Path, source: str) -> None:
    design, kind = tmp_path / "own.toml", source.split()[0]
    design.write_text(f'name = "own"\n{source}\ntokens_per_parameter = [1]\n'
                      "[base]\nnon_embedding = 4_000\n")  # fmt: skip
    refused(run("sweep", design, "--out", tmp_path / "out"), "own.toml", kind, "/nowhere/")
    assert not list((tmp_path / "out").glob("runs.jsonl"))


def test_a_design_wider_than_anything(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "wide.toml"
    path.write_text('name = "x"\n[base]\nnon_embedding = 8_000\naspect_ratio = 1e20\n')
    refused(run("sweep", path, "--plan"), "aspect_ratio = 1e+20")


def test_a_store_with_a_byte_that_is_not_utf8(run: Run, tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_bytes((CASES / "runs-not-utf8.jsonl").read_bytes())
    for command in (("fit", tmp_path), ("sweep", "--status", tmp_path)):
        refused(run(*command), "runs.jsonl", "line ", "UTF-8")


def test_records(run: Run, tmp_path: Path) -> None:
    line = (DATA / "runs-v2.jsonl").read_bytes().split(b"\n")[0]
    store = tmp_path / "runs.jsonl"
    for old, new, named in (
        (b'"seed":', b'"seed":1,"seed":', "'seed' stands twice"),
        (b'"design":"', b'"design":"\\u001b[31m', "design"),
        (b'"flops":', b'"flops":1e300,"x":', "flops"),
    ):
        store.write_bytes(line.replace(old, new, 1) + b"\n")
        refused(run("sweep", "--status", tmp_path), "line 1", *([] if "x" in str(new) else [named]))


def test_a_count_that_no_float_holds(run: Run, tmp_path: Path) -> None:
    line = (DATA / "runs-v2.jsonl").read_bytes().split(b"\n")[0]
    changed = re.sub(rb'"total":\d+', b'"total":' + b"9" * 400, line)
    assert changed != line
    (tmp_path / "runs.jsonl").write_bytes(changed + b"\n")
    refused(run("sweep", "--status", tmp_path), "line 1", "n_parameters.total", "at most")


def test_records_nested_too_deep_are_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text("[" * 100_000 + "\n{}\n")
    with pytest.raises(BadInput):
        read_records(tmp_path)


def test_state_of_a_sweep(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"design": "a", "design": "b"}')
    refused(run("sweep", "--status", tmp_path), "sweep.json", "stands twice")
    state = {"design": "[/]x", "run_keys": ["a"], "flops": 1.0, "flops_done": 0.5, "updated": "now"}
    (tmp_path / "sweep.json").write_text(
        json.dumps(state | {"seconds_left": 3.0, "tokens_per_second": 1.0, "workers": ["[/b]"]})
    )
    code, out, _ = run("sweep", "--status", tmp_path)
    assert code == 0
    assert "sweep [/]x in" in out
    (tmp_path / "sweep.json").unlink()
    os.mkfifo(tmp_path / "sweep.json")
    refused(run("sweep", "--status", tmp_path), "a pipe")


@pytest.mark.parametrize("name", [".lock", "runs.torn"])
def test_a_sweep_s_own_files_are_files_and_nobody_else_s(
    run: Run, tmp_path: Path, name: str
) -> None:
    """A folder from a stranger: no pipe is waited for, and no file behind a link is written."""
    line = (DATA / "runs-v2.jsonl").read_bytes().split(b"\n")[0]
    held = line + b"\n" + line[:100]  # a torn line, to be set aside
    (tmp_path / "runs.jsonl").write_bytes(held)
    other = tmp_path / "precious"
    other.write_text("mine")
    for put in (os.mkfifo, lambda path: Path(path).symlink_to("precious")):
        put(tmp_path / name)
        assert run("sweep", "--status", tmp_path)[0] == 0
        with pytest.raises((BadInput, NoAnswer)), RunStore(tmp_path):
            pass
        (tmp_path / name).unlink()
    assert other.read_text() == "mine"
    assert (tmp_path / "runs.jsonl").read_bytes() == held


@pytest.mark.parametrize("value", ["9" * 5000, "0", "-1", "٣", "1.5", ""])
def test_counts_of_a_job_are_plain_ones(value: str) -> None:
    with pytest.raises(BadInput, match="resource cpus"):
        slurm_resources({"cpus": value})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--engine", "slurm", "--address", "x"), "address = 'x'"),
        (("--engine", "slurm", "--address", "local", "--resource", "cpus=0"), "resource cpus"),
        (("--trainer", "{out}"), "'{out}' cannot be started"),
        (("--trainer", "/ {out}"), "'/' cannot be started"),
        (("--trainer", "true {out}", "--silence", "0s"), "silence"),
        (("--trainer", "true {out}", "--devices-per-run", "2"), "devices_per_run"),
    ],
)
def test_what_cannot_be_begun_is_refused_before_a_word_of_the_sweep(
    run: Run, tmp_path: Path, options: tuple[str, ...], named: str
) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"one two three {number}\n" * 400)
    design = tmp_path / "own.toml"
    design.write_text(
        f'name = "own"\ntext = ["{tmp_path}/*.txt"]\nvalidation_tokens = 1024\n'
        "tokens_per_parameter = [20]\n[base]\nnon_embedding = 4_000\n"
    )
    refused(run("sweep", design, "--out", tmp_path / "out", *options), named)
