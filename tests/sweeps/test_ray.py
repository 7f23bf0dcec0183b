"""The Ray engine on a real local cluster: the same records, and a killed worker loses nothing."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import faults, simulated_trainer
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.running.run_sweep import run_sweep

HAVE_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAVE_RAY, reason="Ray is an optional extra")

SWEEP = r"""
import os, signal, sys, threading, time
from pathlib import Path
from benchmarks import faults
from shapelaw.sweeps.running.run_sweep import run_sweep

folder, kills = Path(sys.argv[1]), int(sys.argv[2])

def descendants(pid):
    for child in faults.children(pid):
        yield child
        yield from descendants(child)

def title(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""

def kill_workers():
    killed = 0
    while killed < kills:
        time.sleep(1.0)
        for pid in list(descendants(os.getpid())):
            if title(pid).startswith(b"ray::work"):
                os.kill(pid, signal.SIGKILL)
                killed += 1
                os.write(1, b"killed\n")
                break

threading.Thread(target=kill_workers, daemon=True).start()
result = run_sweep(faults.design(folder.parent / "text"), folder, engine="ray", address="local",
                   workers=2, cache_dir=folder.parent / "cache",
                   trainer="benchmarks.simulated_trainer:train")
print("finished", result.finished, "failed", result.failed, flush=True)
"""


def environment(seconds: float) -> dict[str, str]:
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths, simulated_trainer.SECONDS: str(seconds)}


@needs_ray
@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_killed_ray_workers_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SWEEP, str(tmp_path / "ray"), "3"],
        env=environment(0.4),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    # Ray may tell of each killed worker there too.
    said = [line for line in done.stdout.splitlines() if line.startswith(("killed", "finished"))]
    assert said == ["killed"] * 3 + ["finished 20 failed 0"]
    assert "its worker was lost" in done.stderr
    monkeypatch.setenv(simulated_trainer.SECONDS, "0.01")
    run_sweep(
        faults.design(tmp_path / "text"),
        tmp_path / "local",
        workers=2,
        live=False,
        cache_dir=tmp_path / "cache",
        trainer="benchmarks.simulated_trainer:train",
    )
    assert faults.table(tmp_path / "ray") == faults.table(tmp_path / "local")
    lines = (tmp_path / "ray" / "runs.jsonl").read_text().splitlines()
    assert len(lines) == len(faults.table(tmp_path / "local")), "each run once"


HEAD_LOST = r"""
import sys
from pathlib import Path
from benchmarks import faults
from shapelaw.scaling.errors import NoAnswer
from shapelaw.sweeps.running.run_sweep import run_sweep

folder, address = Path(sys.argv[1]), sys.argv[2]
try:
    run_sweep(faults.design(folder.parent / "text"), folder, engine="ray", address=address,
              workers=2, live=False, cache_dir=folder.parent / "cache",
              trainer="benchmarks.simulated_trainer:train")
except NoAnswer as error:
    print("said:", error, flush=True)
    sys.exit(1)
"""


def below(pid: int) -> Iterator[int]:
    for child in faults.children(pid):
        yield child
        yield from below(child)


@needs_ray
@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_lost_head_ends_the_sweep_and_another_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
             f"--port={address.partition(':')[2]}", "--node-ip-address=127.0.0.1", "--num-cpus=2",
             "--include-dashboard=false", "--disable-usage-stats"]  # fmt: skip
    store = tmp_path / "out" / "runs.jsonl"
    with subprocess.Popen(start, env=environment(0.5), stdout=subprocess.DEVNULL) as head:
        try:
            time.sleep(15)
            with subprocess.Popen(
                [sys.executable, "-c", HEAD_LOST, str(tmp_path / "out"), address],
                env=environment(0.5), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            ) as driver:  # fmt: skip
                until = time.monotonic() + 120
                while not store.exists() or store.read_bytes().count(b"\n") < 3:
                    assert time.monotonic() < until
                    time.sleep(0.1)
                for pid in list(below(head.pid)):
                    if b"gcs_server" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGKILL)
                said, _ = driver.communicate(timeout=120)
        finally:
            for pid in [*below(head.pid), head.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert driver.returncode == 1
    assert said.startswith("said: the head of the Ray cluster")
    assert said.count("\n") == 1
    held = store.read_bytes()
    monkeypatch.setenv(simulated_trainer.SECONDS, "0.01")
    for folder in (tmp_path / "out", tmp_path / "undisturbed"):
        run_sweep(
            faults.design(tmp_path / "text"),
            folder,
            workers=2,
            live=False,
            cache_dir=tmp_path / "cache",
            trainer="benchmarks.simulated_trainer:train",
        )
    assert store.read_bytes().startswith(held), "nothing finished is lost or done again"
    assert faults.table(tmp_path / "out") == faults.table(tmp_path / "undisturbed")
    assert len(store.read_text().splitlines()) == len(faults.table(tmp_path / "out"))


@needs_ray
def test_no_cluster_is_one_clear_line(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom benchmarks import faults\n"
        "from shapelaw.scaling.errors import NoAnswer\n"
        "from shapelaw.sweeps.running.run_sweep import run_sweep\n"
        "folder = Path(sys.argv[1])\n"
        "try:\n"
        "    run_sweep(faults.design(folder / 'text'), folder / 'out', engine='ray',\n"
        "              address='auto', cache_dir=folder / 'cache')\n"
        "except NoAnswer as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment(0),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.count("\n") == 1
    assert "ray start --head" in done.stdout


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"shapelaw\[ray\]"):
        run_sweep(
            faults.design(tmp_path / "text"),
            tmp_path / "out",
            engine="ray",
            cache_dir=tmp_path / "cache",
            live=False,
        )
