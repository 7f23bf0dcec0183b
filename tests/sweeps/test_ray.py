"""The Ray engine on a real local cluster: the same records, and a killed worker loses nothing."""

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import faults, simulated_trainer
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.sweeps.running import ray_engine
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
    # Head and driver do not ask for a token that another cluster left in the home folder.
    own = {
        "PYTHONPATH": paths,
        simulated_trainer.SECONDS: str(seconds),
        "RAY_AUTH_MODE": "disabled",
    }
    return {**os.environ, **own}


def undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sweep in `local`, of which nothing is lost."""
    monkeypatch.setenv(simulated_trainer.SECONDS, "0.01")
    run_sweep(
        faults.design(tmp_path / "text"),
        tmp_path / "local",
        workers=2,
        live=False,
        cache_dir=tmp_path / "cache",
        trainer="benchmarks.simulated_trainer:train",
    )


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
    undisturbed(tmp_path, monkeypatch)
    assert faults.table(tmp_path / "ray") == faults.table(tmp_path / "local")
    lines = (tmp_path / "ray" / "runs.jsonl").read_text().splitlines()
    assert len(lines) == len(faults.table(tmp_path / "local")), "each run once"


HEAD = r"""
import sys
from ray.scripts.scripts import main
sys.argv = ["ray", "start", "--head", "--port", sys.argv[1], "--num-cpus", "2", "--block",
            "--include-dashboard", "false", "--node-ip-address", "127.0.0.1",
            "--temp-dir", sys.argv[2], "--disable-usage-stats"]
main()
"""

SWEEP_AT = r"""
import sys
from pathlib import Path
from benchmarks import faults
from shapelaw.scaling.errors import NoAnswer
from shapelaw.sweeps.running.run_sweep import run_sweep

folder = Path(sys.argv[1])
try:
    result = run_sweep(faults.design(folder.parent / "text"), folder, engine="ray",
                       address=sys.argv[2], workers=2, cache_dir=folder.parent / "cache",
                       trainer="benchmarks.simulated_trainer:train", live=False)
except NoAnswer as error:
    sys.exit(f"NoAnswer: {error}")
print("finished", result.finished, "reused", result.reused, "failed", result.failed, flush=True)
"""


@contextlib.contextmanager
def head_at(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """The head of a cluster; every process of it is gone at the end."""
    # Unix sockets have short names: Ray's folder cannot stand deep below a test's own.
    with tempfile.TemporaryDirectory(prefix="ray") as place:
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD, address.rpartition(":")[2], place],
            env=environment(0.3),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            waited = time.monotonic() + 60
            while not answers(address):
                assert process.poll() is None
                assert time.monotonic() < waited
                time.sleep(0.2)
            time.sleep(3)  # its first node comes after it
            yield process
        finally:
            for pid in [process.pid, *descendants(process.pid)]:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(10)


def answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def descendants(pid: int) -> list[int]:
    found = faults.children(pid)
    return [*found, *(one for child in found for one in descendants(child))]


@needs_ray
@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
def test_a_sweep_whose_head_is_lost_goes_on_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path / "ray"
    command = [sys.executable, "-c", SWEEP_AT, str(folder), address]
    with (
        head_at(address) as head,
        subprocess.Popen(
            command, env=environment(0.3), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as driver,
    ):
        runs, waited = folder / "runs.jsonl", time.monotonic() + 120
        while not (runs.exists() and runs.read_bytes().count(b"\n") >= 4):
            assert driver.poll() is None, driver.communicate()[1]
            assert time.monotonic() < waited
            time.sleep(0.1)
        for pid in descendants(head.pid):
            if b"gcs_server" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                os.kill(pid, signal.SIGKILL)
        said = driver.communicate(timeout=120)[1]
    assert driver.returncode == 1
    assert [line for line in said.splitlines() if line.startswith("NoAnswer")], said
    assert "no longer answers" in said
    before = runs.read_bytes().splitlines()
    with head_at(address):
        done = subprocess.run(
            command, env=environment(0.01), capture_output=True, text=True, timeout=240
        )
    assert done.returncode == 0, done.stderr
    assert f"reused {len(before)} failed 0" in done.stdout
    after = runs.read_bytes().splitlines()
    assert after[: len(before)] == before
    undisturbed(tmp_path, monkeypatch)
    assert faults.table(folder) == faults.table(tmp_path / "local")
    assert len(after) == len(faults.table(folder)), "each run once"


def test_a_lost_head_is_noticed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself ends the process after a minute of trying, without a word of what to do."""
    monkeypatch.setattr(ray_engine, "HEAD_SECONDS", 0.0)
    engine = object.__new__(ray_engine.RayEngine)
    engine.running, engine.looked, engine.silences, engine.lost = {}, 0.0, 0, False
    with socket.create_server(("127.0.0.1", 0)) as head:
        engine.head = f"127.0.0.1:{head.getsockname()[1]}"
        monkeypatch.setattr(socket, "create_connection", with_patience(socket.create_connection))
        for _ in range(2 * ray_engine.HEAD_SILENCES):
            assert list(engine.hear(0.0)) == []
    for _ in range(ray_engine.HEAD_SILENCES - 1):
        assert list(engine.hear(0.0)) == []
    with pytest.raises(NoAnswer, match="no longer answers"):
        list(engine.hear(0.0))
    engine.close()  # asks nothing of a cluster that is gone


def with_patience(connect: Callable[..., socket.socket]) -> Callable[..., socket.socket]:
    """The same with a timeout that a connection on this machine needs."""
    return lambda address, timeout: connect(address, timeout=5.0)


@pytest.fixture
def closed_port() -> str:
    """An address of this machine at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def recorded(folder: Path, head: str) -> None:
    """What `ray start --head` leaves, with RAY_TMPDIR = `folder`."""
    (folder / "ray").mkdir()
    (folder / "ray" / "ray_current_cluster").write_text(f"{head}\n")


def test_the_record_of_a_head_that_was_killed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    ray_engine._check_answers("auto")  # no record: Ray is asked
    recorded(tmp_path, closed_port)
    with pytest.raises(NoAnswer, match=rf"{closed_port}, which .*ray_current_cluster names"):
        ray_engine._check_answers("auto")
    with pytest.raises(NoAnswer, match="address = 'head:port': no Ray cluster answers"):
        ray_engine._check_answers("head:port")
    with socket.create_server(("127.0.0.1", 0)) as head:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{head.getsockname()[1]}")
        ray_engine._check_answers("auto")
    with pytest.raises(NoAnswer, match="which RAY_ADDRESS names"):
        ray_engine._check_answers("auto")
    ray_engine._check_answers("local")


@needs_ray
@pytest.mark.parametrize("stale", [False, True])
def test_no_cluster_is_one_clear_line(tmp_path: Path, stale: bool, closed_port: str) -> None:
    """Ray itself tries for two minutes to reach a head that was killed."""
    if stale:
        recorded(tmp_path, closed_port)
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
        env={**environment(0), "RAY_TMPDIR": str(tmp_path), "RAY_ADDRESS": ""},
        capture_output=True,
        text=True,
        timeout=60,
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
