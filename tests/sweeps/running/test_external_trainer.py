"""Runs trained by a command: what it is given, what it leaves, and every way it can fail."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import faults
from shapelaw.results.record import RunRecord
from shapelaw.results.store import RunStore, read_records
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.design.design import Design, read_design
from shapelaw.sweeps.running.run_sweep import SweepResult, run_sweep
from shapelaw.sweeps.running.trainers import command_trainer, filled

GOOD = """
    loss = 1 + 20 * n ** -0.35 + 60 * tokens ** -0.37
    print(json.dumps({"tokens": tokens // 2, "loss": loss + 1}), flush=True)
    with open(run["trunk_folder"] + "/began", "a") as began:
        began.write(run["run_key"] + "\\n")
    leave(loss=loss, tokens=tokens, curve=[[tokens, loss]], loss_by_format={"q8_0": loss + 0.001})
"""
TRAINER = """
import json, os, sys, time
run_file, out, tokens, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
run = json.load(open(run_file))
config = json.load(open(os.path.join(out, "config.json")))
n = run["n_parameters"]["non_embedding"]
assert run["tokens"] == tokens and run["seed"] == seed
assert config["hidden_size"] == run["architecture"]["d_model"]
def leave(**what):
    json.dump(what, open(os.path.join(out, "result.json"), "w"))
if True:
    {body}
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("external")


@pytest.fixture(scope="module")
def design(shared: Path) -> Design:
    faults.design(shared / "text")
    return read_design(f"""
        name = "own"
        text = ['{shared}/text/*.txt']
        validation_tokens = 1024
        tokens_per_parameter = [5, 10]
        [base]
        non_embedding = [4_000, 8_000]
    """)


def trainer(folder: Path, body: str = GOOD) -> str:
    """A command line that runs `body`, in a place whose name needs quoting."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "my trainer.py"
    script.write_text(TRAINER.replace("{body}", body.strip()))
    return shlex.join([sys.executable, str(script), "{run}", "{out}", "{tokens}", "{seed}"])


def sweep(design: Design, shared: Path, out: Path, command: str, **options: object) -> SweepResult:
    options = {"workers": 2, "live": False, **options}
    return run_sweep(design, out, cache_dir=shared / "cache", command=command, **options)  # type: ignore[arg-type]


def facts(records: list[RunRecord]) -> list[tuple[str, str, int, float | None]]:
    return sorted((r.run_key, r.status, r.tokens, r.loss) for r in records)


def test_a_command_trains_every_budget_once_and_is_told_all_it_needs(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    command = trainer(tmp_path / "it's here")
    result = sweep(design, shared, tmp_path / "out", command)
    assert (result.finished, result.failed) == (4, 0)
    for record in result.records:
        n = record.n_parameters.non_embedding
        assert record.loss == pytest.approx(1 + 20 * n**-0.35 + 60 * record.tokens**-0.37)
        assert record.trainer == command
        assert record.loss_by_format["q8_0"].difference == pytest.approx(0.001)
        run = json.loads((tmp_path / "out/trained" / record.run_key / "run.json").read_text())
        assert len(run["branches"]) == 2
        assert Path(run["corpus"]["train"]).stat().st_size == 2 * run["corpus"]["train_tokens"]
    again = sweep(design, shared, tmp_path / "out", command)
    assert (again.finished, again.reused) == (0, 4)


def test_runs_of_another_trainer_are_other_runs(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    first = sweep(design, shared, tmp_path / "out", trainer(tmp_path / "a"), trainer_name="mine")
    moved = sweep(design, shared, tmp_path / "out", trainer(tmp_path / "b"), trainer_name="mine")
    assert (first.finished, moved.finished, moved.reused) == (4, 0, 4)
    other = sweep(design, shared, tmp_path / "out", trainer(tmp_path / "b"), trainer_name="yours")
    assert other.finished == 4
    assert {r.run_key for r in first.records}.isdisjoint({r.run_key for r in other.records})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("print('no GPU here'); sys.exit(3)", ["exit code 3", "no GPU here", "2 attempts"]),
        ("print('almost', flush=True); os.kill(os.getpid(), 9)", ["signal 9", "almost"]),
        ("print('waiting', flush=True); time.sleep(600)", ["it hung", "waiting"]),
        ("print({'loss': float('nan')}, flush=True); time.sleep(600)", ["loss': nan"]),
        (
            "[print(f'\\r{i}% loss=nan]', end='', flush=True) for i in '123']; time.sleep(600)",
            ["loss=nan"],
        ),
        (
            "print('loss: tensor(nan, device=0)', end=''); leave(loss=3.0, tokens=tokens)",
            ["loss: tensor(nan"],
        ),
        ("print('gone well')", ["no result.json", "gone well"]),
        ("leave(loss=float('nan'), tokens=tokens)", ["loss = nan"]),
        ("leave(loss=3.0, tokens=tokens // 2)", ["were asked for"]),
        ("open(out + '/result.json', 'w').write('{')", ["result.json"]),
        ("print('\\x1b[31mred', flush=True); sys.exit(1)", ["[31mred"]),
        (
            "print('CUDA out of memory. Tried to allocate 12.5 GiB'); sys.exit(1)",
            ["out of memory: 12.5 GiB asked for", "alone too", "2 attempts"],
        ),
    ],
)
def test_a_trainer_that_fails_is_recorded_with_its_last_lines(
    design: Design, shared: Path, tmp_path: Path, body: str, said: list[str]
) -> None:
    small = read_design(
        f"""
        name = "one"
        text = ['{shared}/text/*.txt']
        validation_tokens = 1024
        tokens_per_parameter = [5]
        [base]
        non_embedding = [4_000]
    """
    )
    result = sweep(small, shared, tmp_path / "out", trainer(tmp_path, body), silence_seconds=1.5)
    assert (result.finished, result.failed) == (0, 1)
    reason = result.records[0].reason or ""
    for words in said:
        assert words in reason
    assert reason.isprintable()
    mended = sweep(small, shared, tmp_path / "out", trainer(tmp_path))
    assert (mended.finished, mended.failed) == (1, 0), "the same command tries it again"


NANOGPT = """
import sys
import numpy as np
told = dict(argument[2:].split("=", 1) for argument in sys.argv[1:])
held = np.memmap(f"data/{told['dataset']}/val.bin", dtype="<u2", mode="r")
text = np.memmap(f"data/{told['dataset']}/train.bin", dtype="<u2", mode="r")
assert len(text) > len(held) > int(told["block_size"]) and text.max() < 256
steps = int(told["max_iters"])
assert int(told["warmup_iters"]) < steps and float(told["learning_rate"]) > 0
print("step 0: train loss 5.0, val loss 5.1")
print(f"step {steps}: train loss 3.0, val loss {2 + 100 / steps / int(told['n_embd']):.4f}")
"""
"""What nanoGPT's train.py reads and prints, without the training."""


def test_the_example_with_nanogpt_s_arguments(design: Design, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "nanoGPT").mkdir()
    (tmp_path / "nanoGPT" / "train.py").write_text(NANOGPT)
    example = Path(__file__).parents[3] / "examples" / "nanogpt_arguments.py"
    command = shlex.join([sys.executable, str(example), "--nanogpt", str(tmp_path / "nanoGPT")])
    result = sweep(design, shared, tmp_path / "out", f"{command} --run {{run}} --out {{out}}")
    assert (result.finished, result.failed) == (4, 0), [r.reason for r in result.records]
    for record in result.records:
        steps = record.recipe.total_steps
        expected = 2 + 100 / steps / record.architecture.d_model
        assert record.loss == pytest.approx(expected, abs=6e-5)


def test_one_failing_budget_spares_the_others(design: Design, shared: Path, tmp_path: Path) -> None:
    body = "leave(loss=3.0, tokens=tokens) if tokens < 60_000 else sys.exit(5)"
    result = sweep(design, shared, tmp_path / "out", trainer(tmp_path, body))
    assert result.failed == sum(r.tokens >= 60_000 for r in result.records) > 0
    assert result.finished == 4 - result.failed > 0


def test_no_shell_looks_at_the_command_or_its_values(tmp_path: Path) -> None:
    made = command_trainer(
        """run 'a b' --out={out} '{"lr": 1}' $HOME ; rm *""",
        folder=tmp_path,
        working_directory=tmp_path,
    )
    values = {"out": "/x y/$(touch z);'{seed}'", "seed": "1"}
    assert filled(made.arguments, values) == [
        "run",
        "a b",
        "--out=/x y/$(touch z);'{seed}'",
        '{"lr": 1}',
        "$HOME",
        ";",
        "rm",
        "*",
    ]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "a command is needed"),
        ("python 'train.py", "No closing quotation"),
        ("python train.py {output}", "{output} is none of"),
        ("python train.py --seed {seed}", "must name {out}"),
    ],
)
def test_a_template_that_makes_no_sense_is_named(template: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        command_trainer(template, folder=tmp_path, working_directory=tmp_path)


def test_a_program_that_is_not_there_is_the_users_input(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="'no-such-program' cannot be started"):
        sweep(design, shared, tmp_path / "out", "no-such-program {out}")


DRIVE = """
import sys
from pathlib import Path
from shapelaw.sweeps.design.design import load_design
from shapelaw.sweeps.running.run_sweep import run_sweep
shared, out, command = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
run_sweep(load_design(shared / "own.toml"), out, cache_dir=shared / "cache", command=command,
          workers=2, live=False)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_trainers_go_with_a_killed_driver_and_the_rest_is_done_later(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    (shared / "own.toml").write_text(
        f"""
        name = "own"
        text = ['{shared}/text/*.txt']
        validation_tokens = 1024
        tokens_per_parameter = [5, 10]
        [base]
        non_embedding = [4_000, 8_000]
    """
    )
    slow = "open(out + '/pid', 'w').write(str(os.getpid())); time.sleep(1.2)\n" + GOOD
    command = trainer(tmp_path, slow)
    paths = os.pathsep.join(path for path in sys.path if path)
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVE, str(shared), str(tmp_path / "out"), command],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    store = tmp_path / "out" / "runs.jsonl"
    while not (store.exists() and store.read_bytes().count(b"\n")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    pids = [int(path.read_text()) for path in (tmp_path / "out").glob("trained/*/pid")]
    deadline = time.monotonic() + 10
    while any(faults.alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a trainer outlived its driver"
        time.sleep(0.05)
    held = len(read_records(tmp_path / "out"))
    result = sweep(design, shared, tmp_path / "out", command)
    assert (result.reused, result.failed) == (held, 0)
    assert len(result.records) == 4


def test_a_result_found_in_a_run_s_folder_is_taken_in(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    command = trainer(tmp_path)
    first = sweep(design, shared, tmp_path / "out", command)
    (tmp_path / "out" / "runs.jsonl").unlink()
    began = sum(p.read_text().count("\n") for p in tmp_path.glob("out/trained/trunks/*/began"))
    again = sweep(design, shared, tmp_path / "out", command)
    assert facts(again.records) == facts(first.records)
    after = sum(p.read_text().count("\n") for p in tmp_path.glob("out/trained/trunks/*/began"))
    assert after == began == 4, "nothing was trained twice"
    with RunStore(tmp_path / "out") as store:
        assert len(store.records) == 4


@pytest.mark.long
# What Ray leaves open in this process is collected during whichever test comes next.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("engine", ["ray", "slurm"])
def test_clusters_give_the_same_runs_as_this_machine(
    design: Design, shared: Path, tmp_path: Path, engine: str
) -> None:
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}[engine])
    command = trainer(tmp_path)
    here = sweep(design, shared, tmp_path / "here", command)
    there = sweep(design, shared, tmp_path / engine, command, engine=engine, address="local")
    assert there.finished == 4
    assert facts(there.records) == facts(here.records)
