"""The runner: every run once, however the sweep is interrupted, whoever else is running one.

Most tests use a trainer that trains nothing (`benchmarks.simulated_trainer`): they look at the
machinery around training.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks import faults, simulated_trainer
from shapelaw.results.store import RUNS_FILE, RunStore, read_records
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.design.design import Design, load_design
from shapelaw.sweeps.design.layout import trunk_jobs
from shapelaw.sweeps.running.dispatcher import Patience
from shapelaw.sweeps.running.run_sweep import SweepResult, run_sweep
from shapelaw.sweeps.running.status import status_table, sweep_status
from shapelaw.sweeps.training.trunk import job_keys

PRETEND = "benchmarks.simulated_trainer:train"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(simulated_trainer.SECONDS, "0.01")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def design(shared: Path) -> Design:
    return faults.design(shared / "text")


def sweep(design: Design, shared: Path, out: Path, **options: object) -> SweepResult:
    options = {"trainer": PRETEND, "workers": 2, "live": False, **options}
    return run_sweep(design, out, cache_dir=shared / "cache", **options)  # type: ignore[arg-type]


def test_every_run_of_the_design_is_done_once_and_reused(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    keys = [key for job in trunk_jobs(design) for key in job_keys(job)]
    first = sweep(design, shared, tmp_path / "out")
    assert (first.finished, first.reused, first.failed) == (len(keys), 0, 0)
    assert [record.run_key for record in first.records] == keys
    before = (tmp_path / "out" / RUNS_FILE).read_bytes()
    second = sweep(design, shared, tmp_path / "out")
    assert (second.finished, second.reused) == (0, len(keys))
    assert second.records == first.records
    assert (tmp_path / "out" / RUNS_FILE).read_bytes() == before


def test_runs_of_another_batch_are_pointed_out(
    design: Design, shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = sweep(design, shared, tmp_path / "out")
    assert "batch_sequences" not in capfd.readouterr().err
    batch = first.records[0].recipe.batch_sequences
    again = sweep(
        msgspec.structs.replace(design, batch_sequences=batch // 2), shared, tmp_path / "out"
    )
    assert again.reused == 0
    said = capfd.readouterr().err
    assert f"{first.finished} runs of {design.name} held here were done with {batch}," in said
    assert f"batch_sequences = {batch}" in said


def test_only_missing_budgets_are_trained_and_the_trunk_stays_the_same(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    whole = sweep(design, shared, tmp_path / "whole")
    with RunStore(tmp_path / "part") as store:
        for record in whole.records[1::3]:
            store.append(record)
    result = sweep(design, shared, tmp_path / "part")
    assert result.finished == len(whole.records) - len(whole.records[1::3])
    assert faults.table(tmp_path / "part") == faults.table(tmp_path / "whole")


def test_losses_do_not_depend_on_the_number_of_workers(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    for workers in (1, 3):
        sweep(design, shared, tmp_path / str(workers), workers=workers)
    assert faults.table(tmp_path / "1") == faults.table(tmp_path / "3")


def test_a_job_that_raises_is_tried_again_then_recorded_as_failed(
    design: Design, shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = sweep(design, shared, tmp_path / "out", trainer="benchmarks.simulated_trainer:fail")
    runs = len(trunk_jobs(design)) * 2
    assert (result.finished, result.failed) == (0, runs)
    assert all(
        "pretending that drill cannot be trained (2 attempts)" in (record.reason or "")
        for record in result.records
    )
    assert "given up" in capfd.readouterr().err
    log = (tmp_path / "out" / "logs" / "worker-0.log").read_text()
    assert "RuntimeError" in log, "the whole story is in the worker's log"
    again = sweep(design, shared, tmp_path / "out")
    assert (again.finished, again.failed) == (runs, 0), "a failed run is tried again"
    assert {record.status for record in read_records(tmp_path / "out")} == {"finished"}


def test_a_worker_that_dies_is_replaced_and_its_job_given_up_in_the_end(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    result = sweep(
        design, shared, tmp_path / "out", trainer="benchmarks.simulated_trainer:die", attempts=2
    )
    assert result.failed == len(trunk_jobs(design)) * 2
    assert all("its worker died" in (record.reason or "") for record in result.records)


def test_workers_that_cannot_start_are_one_clear_line(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    with pytest.raises(NoAnswer, match="no_such_trainer") as caught:
        sweep(design, shared, tmp_path / "out", trainer="benchmarks.no_such_trainer:train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"workers": 0}, "workers = 0"),
        ({"engine": "cloud"}, "engine = 'cloud'"),
        ({"track": "clipboard"}, "track = 'clipboard'"),
        ({"track": "wandb"}, "not installed"),
    ],
)
def test_bad_options_are_named(
    design: Design, shared: Path, tmp_path: Path, options: dict[str, object], named: str
) -> None:
    with pytest.raises(BadInput, match=named):
        sweep(design, shared, tmp_path / "out", **options)


def test_a_second_sweep_on_a_folder_says_who_has_it(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    with RunStore(tmp_path / "out"), pytest.raises(NoAnswer, match=f"process {os.getpid()} on"):
        sweep(design, shared, tmp_path / "out")


def test_a_full_disk_stops_the_sweep_with_one_line_and_a_later_one_goes_on(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    """The kernel refuses to let the file grow beyond three records, as a full disk would."""
    load_corpus(design.corpus_spec(), shared / "cache")
    script = (
        "import resource\n"
        "from pathlib import Path\n"
        "from benchmarks.faults import drive\n"
        "from shapelaw.scaling.errors import NoAnswer\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))\n"
        "try:\n"
        f"    drive(Path({str(shared / 'full')!r}))\n"
        "except NoAnswer as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "File too large" in said
    assert said.count("\n") == 1
    kept = read_records(shared / "full")
    assert 0 < len(kept) < len(trunk_jobs(design)) * 2
    result = sweep(design, shared, shared / "full")
    assert result.reused == len(kept)
    assert result.failed == 0


def test_a_worker_without_the_memory_it_needs_is_tried_alone_and_the_rest_goes_on(
    design: Design, shared: Path, tmp_path: Path
) -> None:
    """Under `ulimit -v`, which the workers inherit."""
    trainer = "benchmarks.simulated_trainer:train_in_memory"
    load_corpus(design.corpus_spec(), shared / "cache")
    script = f"""
import resource
from benchmarks import faults
from pathlib import Path
from shapelaw.sweeps.running.run_sweep import run_sweep
resource.setrlimit(resource.RLIMIT_AS, ({simulated_trainer.HUNGER - 2**29},) * 2)
design = faults.design(Path({str(shared / "text")!r}))
run_sweep(design, {str(tmp_path / "out")!r}, cache_dir={str(shared / "cache")!r}, workers=2,
          trainer={trainer!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    records = read_records(tmp_path / "out")
    assert len(records) == len({record.run_key for record in records}) == len(
        [key for job in trunk_jobs(design) for key in job_keys(job)]
    )  # fmt: skip
    failed = [record for record in records if record.status == "failed"]
    hungry = [record for record in records if record.architecture.sharing > 1]
    assert 0 < len(hungry) < len(records)
    assert {record.run_key for record in failed} == {record.run_key for record in hungry}
    for record in failed:
        assert record.reason is not None
        assert "out of memory: 4.00 GiB asked for" in record.reason
        assert "alone too (2 attempts)" in record.reason
    assert "to be tried once more, alone" in done.stderr
    again = sweep(design, shared, tmp_path / "out", trainer=trainer)
    assert (again.finished, again.reused) == (len(hungry), len(records) - len(hungry))


def environment() -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths}


@pytest.fixture
def folder(shared: Path, request: pytest.FixtureRequest) -> Path:
    return shared / f"running-{request.node.callspec.id}"


@pytest.fixture
def running(folder: Path, design: Design) -> Iterator[subprocess.Popen[bytes]]:
    """A driver in the middle of a sweep whose budgets take a while."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.faults", "--drive", str(folder)],
        env={**environment(), simulated_trainer.SECONDS: "0.5"},
        stderr=subprocess.DEVNULL,
    ) as process:
        deadline = time.monotonic() + 60
        path = folder / RUNS_FILE
        while not path.exists() or not path.read_bytes().count(b"\n"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
        process.kill()


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(faults.alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_workers_go_with_their_driver_and_the_lock_too(
    running: subprocess.Popen[bytes], folder: Path, blow: signal.Signals
) -> None:
    workers = faults.children(running.pid)
    assert len(workers) == faults.WORKERS
    status = sweep_status(folder)
    assert status["running"]
    assert status["process"] == running.pid
    running.send_signal(blow)
    running.wait(20)
    assert gone(workers)
    after = sweep_status(folder)
    assert not after["running"]
    assert after["finished"] >= 1
    assert after["finished"] + after["missing"] == after["runs"]


def test_a_clock_that_is_set_back_does_not_matter(
    design: Design, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour back and forth, under the driver and under its workers, while they wait."""
    monkeypatch.setenv(simulated_trainer.SECONDS, "0.1")
    sweep(design, shared, tmp_path / "steady")
    monkeypatch.setattr(time, "time", time.time)  # put back afterwards
    simulated_trainer.jump_clock()
    result = sweep(
        design,
        shared,
        tmp_path / "jumping",
        trainer="benchmarks.simulated_trainer:train_while_the_clock_jumps",
        attempts=1,
    )
    assert (result.finished, result.failed) == (len(trunk_jobs(design)) * 2, 0)
    assert faults.table(tmp_path / "jumping") == faults.table(tmp_path / "steady")
    status = sweep_status(tmp_path / "jumping")
    assert (status["running"], status["missing"]) == (False, 0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_ten_random_kills_lose_nothing(tmp_path: Path) -> None:
    counts = faults.drill(10, seed=5, folder=tmp_path)
    assert counts["kills"] == 10
    assert (counts["lost"], counts["twice"], counts["different"]) == (0, 0, 0)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_hundred_random_kills_lose_nothing(tmp_path: Path) -> None:
    counts = faults.drill(100, seed=0, folder=tmp_path)
    assert counts["kills"] == 100
    assert min(counts["of_drivers"], counts["of_workers"]) > 20
    assert (counts["lost"], counts["twice"], counts["different"]) == (0, 0, 0)


# --- watching --------------------------------------------------------------------------------


def test_status_tells_what_is_done(design: Design, shared: Path, tmp_path: Path) -> None:
    from rich.console import Console

    out = tmp_path / "out"
    with pytest.raises(BadInput, match="no such folder"):
        sweep_status(out)
    sweep(design, shared, out)
    report = sweep_status(out)
    runs = len(trunk_jobs(design)) * 2
    assert (report["finished"], report["missing"], report["runs"]) == (runs, 0, runs)
    assert report["share_of_flops"] == pytest.approx(1)
    assert not report["running"]
    json.dumps(report)
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(status_table(report))
    console.file.close()
    assert f"{runs} finished" in console.export_text()


def test_without_a_terminal_each_run_is_a_line(
    design: Design, shared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep(design, shared, tmp_path / "out")
    said = capfd.readouterr()
    assert said.out == ""
    runs = len(trunk_jobs(design)) * 2
    assert f"[{runs}/{runs}]" in said.err
    assert said.err.count("loss") == runs


def test_a_live_table_shows_progress_and_losses(
    design: Design,
    shared: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    sweep(design, shared, tmp_path / "out", live=True)
    said = capfd.readouterr()
    assert said.out == ""
    runs = len(trunk_jobs(design)) * 2
    assert f"{runs} of {runs} runs" in said.err
    assert "loss 3." in said.err or "loss 2." in said.err


def test_a_tracker_gets_every_run(
    design: Design, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trackio.py").write_text(
        "said = []\n"
        "def init(**what): said.append(what)\n"
        "def log(what): said.append(what)\n"
        "def finish(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    result = sweep(design, shared, tmp_path / "out", track="trackio")
    said = sys.modules["trackio"].said
    names = [what["name"] for what in said if "name" in what]
    assert sorted(names) == sorted(record.run_key for record in result.records)
    losses = {what["loss"] for what in said if "loss" in what}
    assert losses == {record.loss for record in result.records}
    monkeypatch.delitem(sys.modules, "trackio")


# --- the real trainer ------------------------------------------------------------------------


@pytest.mark.long
def test_smoke_gives_the_same_losses_to_the_last_digit_with_one_worker_and_with_two(
    tmp_path: Path,
) -> None:
    results = [
        run_sweep(
            load_design("smoke"),
            tmp_path / str(workers),
            workers=workers,
            live=False,
            cache_dir=tmp_path / "cache",
        )
        for workers in (2, 1)
    ]
    two, one = ([record.loss for record in result.records] for result in results)
    assert one == two
    assert len(one) == 12
    assert all(loss is not None and 1 < loss < 4 for loss in one)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_worker_that_is_stopped_is_noticed_and_replaced(
    design: Design, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(simulated_trainer.SECONDS, "0.3")
    before = set(faults.children(os.getpid()))
    stopped: list[int] = []

    def stop_one() -> None:
        while not (tmp_path / "out" / RUNS_FILE).exists() or not read_records(tmp_path / "out"):
            time.sleep(0.05)
        stopped.append((set(faults.children(os.getpid())) - before).pop())
        os.kill(stopped[0], signal.SIGSTOP)

    thread = threading.Thread(target=stop_one, daemon=True)
    thread.start()
    result = sweep(design, shared, tmp_path / "out", patience=Patience(silent_seconds=8))
    thread.join()
    assert (result.finished, result.failed) == (len(trunk_jobs(design)) * 2, 0)
    assert not faults.alive(stopped[0]), "it was killed, not left behind"
