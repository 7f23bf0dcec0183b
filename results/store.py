"""The store of results: one folder, one append-only `runs.jsonl`, one writer at a time.

A record is on the disk before `append` returns. Whatever kills the writer, the lines already
written stay as they are; a last line torn in the middle is ignored by readers, and set aside in
`runs.torn` when the next writer opens the folder. `pandas.read_json(path, lines=True)` reads the
file in one call.
"""

import contextlib
import errno
import fcntl
import io
import os
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from shapelaw.results.record import RunRecord, decode_record
from shapelaw.scaling.atomic_files import own_file, write_atomically
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.user_files import open_regular, read_bytes

RUNS_FILE = "runs.jsonl"
TORN_FILE = "runs.torn"
LOCK_FILE = ".lock"
LARGEST_STORE = 4_000_000_000
"""Bytes of runs.jsonl that a writer opens: a million runs."""
LONGEST_RECORD = 16_000_000
"""Bytes of a line."""
_POLL_SECONDS = 0.1
_OF_THE_PLACE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ELOOP, errno.ENXIO,
}  # fmt: skip
"""Errors that no room on the disk would mend."""


class Holder(msgspec.Struct, frozen=True):
    """Who writes to a folder."""

    pid: int
    host: str
    since: str


def runs_path(folder: str | os.PathLike[str]) -> Path:
    """The `runs.jsonl` of a sweep's folder; a path to a file stands for itself."""
    path = Path(folder)
    return path if path.is_file() else path / RUNS_FILE


def read_records(folder: str | os.PathLike[str]) -> list[RunRecord]:
    """Every run of a sweep's folder, once, in the order they finished.

    A run that failed and was done again counts as what it became. An empty or absent last line is
    no error, nor is a torn one; a broken line before it is.

    Raises:
        BadInput: there is no such folder or file, or a line is not a run record.
    """
    path = runs_path(folder)
    with open_regular(path, "runs") as file:
        return list(_latest(_decode_lines(file, path)))


def _latest(records: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """One record a run: the first that did not fail, else the last failure."""
    kept: dict[str, RunRecord] = {}
    for record in records:
        earlier = kept.get(record.run_key)
        if earlier is None or earlier.status == "failed":
            kept.pop(record.run_key, None)  # a run done again takes its place in the new order
            kept[record.run_key] = record
    yield from kept.values()


def _decode_lines(file: BinaryIO, path: Path) -> Iterator[RunRecord]:
    """The records of a file of lines, read one by one: a large file is never held whole."""
    lines = iter(lambda: file.readline(LONGEST_RECORD + 1), b"")
    for number, line in enumerate(lines, start=1):
        where = f"{path} line {number}"
        if len(line) > LONGEST_RECORD:
            raise BadInput(f"{where}: at most {LONGEST_RECORD:,} bytes are read of a line")
        if not line.strip() or _is_torn(line):
            continue
        if line.endswith(b"\n") or _is_record(line):
            yield decode_record(line, where)


def _is_torn(line: bytes) -> bool:
    """Whether a line is no JSON at all: a write that a machine's fall cut, or holes in its place.

    A whole document that is no record, or holds bytes that are not UTF-8, is another's doing.
    """
    try:
        msgspec.json.decode(line)
    except msgspec.ValidationError:
        return False
    except (UnicodeDecodeError, RecursionError):
        return False
    except msgspec.DecodeError as error:
        return "utf-8" not in str(error).lower()
    return False


def _is_record(line: bytes) -> bool:
    """Whether a last line without its newline is nevertheless whole."""
    try:
        decode_record(line, "")
    except BadInput:
        return False
    return True


def holder(folder: str | os.PathLike[str]) -> Holder | None:
    """Who is writing to the folder now, or None."""
    try:
        descriptor = own_file(Path(folder) / LOCK_FILE, os.O_RDONLY)
    except (OSError, BadInput):  # none, or something else of that name
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        try:
            return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
        except msgspec.MsgspecError:  # taken this instant, its name not yet written
            return Holder(pid=0, host="unknown", since="just now")
    finally:
        os.close(descriptor)
    return None


class RunStore:
    """The one writer of a folder. Use as a context manager.

    The lock is the kernel's (`flock`): it goes with the process that holds it, however that ends.

    Args:
        folder: made where it does not exist.
        wait_seconds: how long to wait for another writer to finish before giving up.

    Raises:
        BadInput: the folder cannot be made or written, or holds a broken line.
        NoAnswer: another process is writing to it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, wait_seconds: float = 0.0) -> None:
        self.folder = Path(folder)
        self.path = self.folder / RUNS_FILE
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = own_file(self.folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise BadInput(
                f"out = {self.folder}: {error.strerror}; a folder that can be written is needed"
            ) from None
        self._file = -1
        try:
            self._take_lock(wait_seconds)
            self._open_file()
        except BaseException:
            self.close()
            raise

    def _take_lock(self, wait_seconds: float) -> None:
        # A reader asking who holds the lock holds it for an instant: never give up at once.
        deadline = time.monotonic() + max(wait_seconds, 3 * _POLL_SECONDS)
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise BadInput(
                        f"out = {self.folder}: cannot be locked ({error.strerror}); "
                        "choose a folder on a local disk"
                    ) from None
            if time.monotonic() >= deadline:
                who = holder(self.folder)
                name = f"process {who.pid} on {who.host}, since {who.since}" if who else "another"
                raise NoAnswer(
                    f"{self.folder} is being written by {name}; "
                    "wait for it, stop it, or choose another folder"
                )
            time.sleep(_POLL_SECONDS)
        me = Holder(
            pid=os.getpid(),
            host=socket.gethostname(),
            since=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        )
        with _clear_errors(self.folder):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, msgspec.json.encode(me), 0)

    def _open_file(self) -> None:
        with _clear_errors(self.folder):
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            _sync_folder(self.folder)
            content = read_bytes(self.path, "runs", LARGEST_STORE)
        content = self._quarantine(self._heal(content))
        self._size = len(content)
        self._records = {
            record.run_key: record
            for record in _latest(_decode_lines(io.BytesIO(content), self.path))
        }

    def _quarantine(self, content: bytes) -> bytes:
        """Move lines torn in the middle of the file to TORN_FILE, and go on with the rest."""
        lines = content.split(b"\n")
        torn = [line for line in lines if line.strip() and _is_torn(line)]
        self.torn = len(torn)
        if not torn:
            return content
        whole = b"\n".join(line for line in lines if not line.strip() or not _is_torn(line))
        with _clear_errors(self.folder):
            self._set_aside(b"\n".join(torn))
            write_atomically(self.path, whole)
            os.close(self._file)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND)
        return whole

    def _heal(self, content: bytes) -> bytes:
        """Give a whole last line its newline; set a torn one aside."""
        *_, tail = content.split(b"\n")
        if not tail:
            return content
        with _clear_errors(self.folder):
            if _is_record(tail):
                os.write(self._file, b"\n")
                os.fsync(self._file)
                return content + b"\n"
            self._set_aside(tail)
            os.ftruncate(self._file, len(content) - len(tail))
            os.fsync(self._file)
        return content[: len(content) - len(tail)]

    def _set_aside(self, torn: bytes) -> None:
        path = self.folder / TORN_FILE
        with os.fdopen(own_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as aside:
            aside.write(torn + b"\n")
            aside.flush()
            os.fsync(aside.fileno())

    @property
    def records(self) -> list[RunRecord]:
        """Every run held, once."""
        return list(self._records.values())

    def done(self, run_key: str) -> bool:
        """Whether a run finished or diverged. A failed one may be tried again."""
        record = self._records.get(run_key)
        return record is not None and record.status != "failed"

    def append(self, record: RunRecord) -> bool:
        """Put one record on the disk. False where the run was already there and nothing is written.

        Raises:
            NoAnswer: the disk is full or gone; the file then ends where it did before.
        """
        if self.done(record.run_key):
            return False
        line = msgspec.json.encode(record) + b"\n"
        with _clear_errors(self.folder):
            try:
                written = 0
                while written < len(line):
                    written += os.write(self._file, line[written:])
                os.fsync(self._file)
            except OSError:
                self._cut_back()
                raise
        self._size += len(line)
        self._records.pop(record.run_key, None)
        self._records[record.run_key] = record
        return True

    def _cut_back(self) -> None:
        try:
            os.ftruncate(self._file, self._size)
        except OSError:  # the torn line stays, and the next writer heals it
            return

    def close(self) -> None:
        """Let the next writer in."""
        for name in ("_file", "_lock"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    """Turn the operating system's errors while writing into one line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_THE_PLACE:
            raise BadInput(
                f"out = {folder}: {error.strerror}; a folder that can be written is needed"
            ) from None
        raise NoAnswer(
            f"{folder}: {error.strerror}; the runs recorded before are intact, "
            "and the same command goes on from them once there is room"
        ) from None


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable, where the system lets folders be synced."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
