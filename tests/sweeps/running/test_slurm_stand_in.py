"""The SLURM engine against a stand-in for the cluster, whose jobs outlive the driver."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import faults
from shapelaw.results.store import read_records
from shapelaw.scaling.errors import NoAnswer
from shapelaw.sweeps.design.design import read_design
from shapelaw.sweeps.running.run_sweep import run_sweep

STAND_IN = Path(__file__).with_name("slurm_stand_in.py")
DESIGN = """
    name = "own"
    text = ['{folder}/text/*.txt']
    validation_tokens = 1024
    tokens_per_parameter = [5, 10]
    [base]
    non_embedding = [4_000, 8_000]
"""
TRAINER = """
import json, os, sys, time
out, tokens = sys.argv[1], int(sys.argv[2])
open(out + "/began", "a").write("x")
time.sleep(float(os.environ["TRAINER_SECONDS"]))
json.dump({"loss": 1 + 60 * tokens ** -0.37, "tokens": tokens}, open(out + "/result.json", "w"))
"""
DRIVE = """
import sys
from pathlib import Path
from tests.sweeps.running.test_slurm_stand_in import sweep
sweep(Path(sys.argv[1]))
"""


def sweep(folder: Path) -> tuple[int, int, int]:
    """Finished, reused, failed."""
    result = run_sweep(
        read_design(DESIGN.replace("{folder}", str(folder))),
        folder / "out",
        cache_dir=folder / "cache",
        command=f"{sys.executable} {folder}/trainer.py {{out}} {{tokens}}",
        engine="slurm",
        live=False,
        resources={"partition": "short", "memory": "2GiB", "time": "10min", "cpus": "1"},
    )
    return result.finished, result.reused, result.failed


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of SLURM's names first on the path; the folder they keep their jobs in."""
    pytest.importorskip("submitit")
    programs, jobs = tmp_path / "bin", tmp_path / "jobs"
    programs.mkdir()
    jobs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        program = programs / name
        program.write_text(
            f"#!{sys.executable}\n{STAND_IN.read_text().replace('__file__', repr(str(STAND_IN)))}"
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(jobs))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    monkeypatch.setattr("shapelaw.sweeps.running.slurm_engine.STATE_SECONDS", 0.5)
    faults.design(tmp_path / "text")
    (tmp_path / "trainer.py").write_text(TRAINER)
    return jobs


@pytest.mark.long
@pytest.mark.skipif(shutil.which("bash") is None, reason="runs the scripts of jobs")
def test_jobs_of_a_killed_driver_are_adopted(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One array of four jobs; its driver is killed; the next one waits for the same jobs."""
    monkeypatch.setenv("TRAINER_SECONDS", "8")
    driver = subprocess.Popen([sys.executable, "-c", DRIVE, str(tmp_path)], cwd=Path.cwd())
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("out/trained/*/began"))) < 4:
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert sweep(tmp_path) == (4, 0, 0)
    began = [path.read_text() for path in tmp_path.glob("out/trained/*/began")]
    assert began == ["x"] * 4, "nothing was trained twice"
    (script,) = cluster.glob("*.submitted")
    text = script.read_text()
    for line in ("--array=0-3", "--partition=short", "--mem=2GB", "--time=10", "--cpus-per-task=1"):
        assert f"#SBATCH {line}" in text
    lines = (tmp_path / "out" / "runs.jsonl").read_text().splitlines()
    keys = [json.loads(line)["run_key"] for line in lines]
    assert len(set(keys)) == len(keys) == len(read_records(tmp_path / "out")) == 4
    assert sweep(tmp_path) == (0, 4, 0)


PREEMPTED = """
import json, os, sys, time
out, tokens = sys.argv[1], int(sys.argv[2])
open(out + "/began", "a").write("x")
if not os.path.exists(out + "/checkpoint"):
    open(out + "/checkpoint", "w").write("half")
    time.sleep(float(os.environ["TRAINER_SECONDS"]))
json.dump({"loss": 1 + 60 * tokens ** -0.37, "tokens": tokens}, open(out + "/result.json", "w"))
"""


def pid_of_a_job(folder: Path) -> int:
    """The process that watches a trainer: its first word says so."""
    first, *_ = folder.glob("out/slurm/*/messages.jsonl")
    return int(json.loads(first.read_text().splitlines()[0])["pid"])


@pytest.mark.long
@pytest.mark.skipif(shutil.which("bash") is None, reason="runs the scripts of jobs")
def test_a_preempted_job_is_queued_again_and_goes_on(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM warns a job by a signal; its trainer finds its checkpoint when it begins anew."""
    monkeypatch.setenv("TRAINER_SECONDS", "12")
    (tmp_path / "trainer.py").write_text(PREEMPTED)
    driver = subprocess.Popen([sys.executable, "-c", DRIVE, str(tmp_path)], cwd=Path.cwd())
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("out/trained/*/began"))) < 4:
        assert time.monotonic() < deadline
        assert driver.poll() is None
        time.sleep(0.1)
    os.kill(pid_of_a_job(tmp_path), signal.SIGUSR2)
    assert driver.wait(timeout=120) == 0
    began = [path.read_text() for path in tmp_path.glob("out/trained/*/began")]
    assert sorted(began) == ["x", "x", "x", "xx"]
    records = read_records(tmp_path / "out")
    assert [record.status for record in records] == ["finished"] * 4


@pytest.mark.long
def test_what_sbatch_refuses_is_said(cluster: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition specified: short' >&2\nexit 1\n"
    )
    with pytest.raises(NoAnswer, match="invalid partition specified: short"):
        sweep(tmp_path)
