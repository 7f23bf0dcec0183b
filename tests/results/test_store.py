"""The store: what is on the disk stays, once, whoever writes and however that ends."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shapelaw.results.record import RunRecord, decode_record
from shapelaw.results.store import LOCK_FILE, RUNS_FILE, TORN_FILE, RunStore, holder, read_records
from shapelaw.scaling.errors import BadInput, NoAnswer

VERSION_1 = Path(__file__).parents[1] / "data" / "runs-v1.jsonl"


def example(key: str = "0", **changes: object) -> RunRecord:
    record = decode_record(VERSION_1.read_bytes().split(b"\n")[0], "")
    return msgspec.structs.replace(record, run_key=key, **changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with RunStore(tmp_path / "out") as store:
        for key in "abc":
            assert store.append(example(key))
    return tmp_path / "out"


def keys(folder: Path) -> list[str]:
    return [record.run_key for record in read_records(folder)]


def test_a_run_is_kept_once(folder: Path) -> None:
    with RunStore(folder) as store:
        assert store.done("b")
        assert not store.append(example("b", loss=0.5))
        assert store.append(example("d"))
    assert keys(folder) == ["a", "b", "c", "d"]
    assert all(record.loss == example().loss for record in read_records(folder))


def test_a_failed_run_may_be_done_again_and_counts_as_what_it_became(folder: Path) -> None:
    failed = example("z", status="failed", loss=None, reason="its worker died")
    with RunStore(folder) as store:
        assert store.append(failed)
        assert not store.done("z")
    with RunStore(folder) as store:
        assert store.append(example("z"))
        assert store.done("z")
    assert keys(folder) == ["a", "b", "c", "z"]
    assert read_records(folder)[-1].status == "finished"


def test_pandas_reads_it_in_one_call(folder: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_json(folder / RUNS_FILE, lines=True, dtype={"run_key": str})
    assert list(frame["run_key"]) == ["a", "b", "c"]
    assert frame["loss"].iloc[0] == pytest.approx(example().loss)


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(cut=st.integers(min_value=1, max_value=2000))
def test_a_torn_last_line_loses_no_other_line(folder: Path, cut: int) -> None:
    whole = b"".join(msgspec.json.encode(example(key)) + b"\n" for key in "abc")
    torn = msgspec.json.encode(example("d"))[:cut]
    path = folder / RUNS_FILE
    path.write_bytes(whole + torn)
    assert keys(folder) == ["a", "b", "c"]
    with RunStore(folder) as store:
        assert store.append(example("e"))
    assert keys(folder) == ["a", "b", "c", "e"]
    assert path.read_bytes().startswith(whole)
    assert torn in (folder / TORN_FILE).read_bytes()


def test_a_whole_last_line_without_its_newline_is_a_run(folder: Path) -> None:
    path = folder / RUNS_FILE
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert keys(folder) == ["a", "b", "c"]
    with RunStore(folder) as store:
        assert store.done("c")
        store.append(example("d"))
    assert keys(folder) == ["a", "b", "c", "d"]


def test_a_broken_line_in_the_middle_is_named(folder: Path) -> None:
    lines = (folder / RUNS_FILE).read_bytes().split(b"\n")
    (folder / RUNS_FILE).write_bytes(b"\n".join([lines[0], b'{"loss": 1}', *lines[1:]]))
    with pytest.raises(BadInput, match="line 2"):
        read_records(folder)
    with pytest.raises(BadInput, match="line 2"):
        RunStore(folder)


def test_an_empty_folder_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"runs\.jsonl"):
        read_records(tmp_path)
    with RunStore(tmp_path):
        pass
    assert read_records(tmp_path) == []


WRITER = """
import sys, time
from shapelaw.results.store import RunStore
with RunStore(sys.argv[1]) as store:
    print("ready", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def other_writer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), "60"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_a_second_writer_is_told_who_the_first_is(
    folder: Path, other_writer: subprocess.Popen[bytes]
) -> None:
    with pytest.raises(NoAnswer, match=f"process {other_writer.pid} on"):
        RunStore(folder)
    who = holder(folder)
    assert who is not None
    assert who.pid == other_writer.pid
    assert keys(folder) == ["a", "b", "c"], "readers are never kept out"


def test_a_second_writer_may_wait(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), "0.5"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with RunStore(folder, wait_seconds=30) as store:
            assert store.append(example("d"))
    assert keys(folder) == ["a", "b", "c", "d"]


def test_a_killed_writer_leaves_no_lock(
    folder: Path, other_writer: subprocess.Popen[bytes]
) -> None:
    other_writer.kill()
    other_writer.wait()
    assert (folder / LOCK_FILE).exists()
    assert holder(folder) is None
    with RunStore(folder, wait_seconds=5):
        pass


FULL_DISK = """
import resource, sys
import msgspec
from pathlib import Path
from shapelaw.results.store import RunStore
from shapelaw.results.record import decode_record
from shapelaw.scaling.errors import NoAnswer
folder, room = Path(sys.argv[1]), int(sys.argv[2])
with RunStore(folder) as store:
    size = (folder / "runs.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    try:
        store.append(msgspec.structs.replace(store.records[0], run_key="d"))
    except NoAnswer as error:
        print(error)
"""


@pytest.mark.parametrize("room", [0, 1, 700])
def test_a_full_disk_is_one_clear_line_and_loses_nothing(folder: Path, room: int) -> None:
    """The kernel refuses the write in its middle, as a full disk does."""
    before = (folder / RUNS_FILE).read_bytes()
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder), str(room)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.count("\n") == 1
    assert str(folder) in said
    assert "intact" in said
    assert (folder / RUNS_FILE).read_bytes() == before


def test_a_device_without_space_is_one_clear_line(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with RunStore(tmp_path) as store:
        os.close(store._file)
        store._file = os.open("/dev/full", os.O_WRONLY)
        with pytest.raises(NoAnswer, match=os.strerror(errno.ENOSPC)):
            store.append(example("a"))
    assert read_records(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_bad_input() -> None:
    with pytest.raises(BadInput, match="out = /proc/shapelaw"):
        RunStore("/proc/shapelaw")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder_is_bad_input(folder: Path) -> None:
    folder.chmod(0o500)
    (folder / RUNS_FILE).chmod(0o400)
    try:
        with pytest.raises(BadInput, match="can be written"):
            RunStore(folder)
        assert keys(folder) == ["a", "b", "c"]
    finally:
        folder.chmod(0o700)


def test_an_append_is_cheap(tmp_path: Path) -> None:
    with RunStore(tmp_path) as store:
        started = time.perf_counter()
        for number in range(50):
            store.append(example(str(number)))
        assert time.perf_counter() - started < 10
    lines = (tmp_path / RUNS_FILE).read_text().splitlines()
    assert [json.loads(line)["run_key"] for line in lines] == [str(n) for n in range(50)]


@pytest.mark.parametrize(
    "tear", [lambda line: line[: len(line) // 2], lambda line: bytes(len(line))]
)
def test_a_line_torn_in_the_middle_is_set_aside_and_the_rest_is_read(
    tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    with RunStore(tmp_path) as store:
        for key in ("a", "b", "c"):
            store.append(example(key))
    path = tmp_path / RUNS_FILE
    first, second, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, tear(second), third]) + b"\n")
    assert keys(tmp_path) == ["a", "c"], "readers go on"
    with RunStore(tmp_path) as store:
        assert store.torn == 1
        assert not store.done("b")
        assert store.append(example("b"))
    assert keys(tmp_path) == ["a", "c", "b"]
    assert (tmp_path / TORN_FILE).read_bytes() == tear(second) + b"\n"
    assert len(path.read_bytes().splitlines()) == 3
