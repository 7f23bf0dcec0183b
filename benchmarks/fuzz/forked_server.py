"""Inputs run one after another in a forked child, which is replaced when one of them breaks it.

A fork for each input would cost more than most inputs do: a child runs many, and says after each
how it ended.
"""

import contextlib
import io
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LONGEST_SECONDS = 20.0
PATIENCE_SECONDS = 90.0
"""By the wall: a busy machine gives a process less than a second a second."""
MOST_BYTES = 1_500_000_000
MOST_ADDRESS_SPACE = 8_000_000_000
"""So that one input cannot take the machine down before it is judged."""
LONGEST_LINE = 300
PROGRAM = "shapelaw: "
INPUTS_A_CHILD = 400

CLOSED, UNREAD = "closed", "unread"
"""Instead of an encoding: there is no stdout, or nobody reads it any more."""

Run = Callable[[], None]


def judged(run: Run, stdout: str = "utf-8") -> str:
    """Run a command with everything it prints caught: "" where it ended as it should.

    Args:
        stdout: its encoding, or CLOSED, or UNREAD.
    """
    out, err = _caught(1), _caught(2)
    _reset_peak()
    began = time.process_time()
    code: Any = 0
    fault = ""
    sys.stdout = _opened(stdout)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", line_buffering=True
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = _on_the_terminal
            run()
            sys.stdout.flush()
    except SystemExit as ended:
        code = ended.code or 0
        with contextlib.suppress(UnicodeError):
            sys.stdout.flush()  # as the interpreter does at its end
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if not any(p in f.filename for p in ("site-packages", "/lib/"))]
        place = (ours or frames)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        fault = f"{type(error).__name__} at {where} {str(error)[:200]}"
    seconds = time.process_time() - began
    said, answer = _taken(err), _taken(out)
    if fault:
        return fault
    if "Traceback" in said:
        return f"a traceback on the terminal: {said.strip()[-200:]}"
    if "Warning" in said or "panicked" in said:
        return f"a warning: {said.strip()[-200:]}"
    if code not in (0, 1, 2):
        return f"exit {code}"
    lone = code == 2 or (code and stdout != UNREAD)  # where nobody reads, without a word
    if lone and (said.count("\n") != 1 or not said.startswith(PROGRAM)):
        return f"exit {code} in {said.count(chr(10))} lines: {said[:150]!r}"
    if lone and len(said.rstrip("\n")) > LONGEST_LINE:
        return f"a rejection of {len(said) - 1} characters: {said[:120]}"
    strange = [
        c
        for c in said + answer
        if c != "\n" and not c.isprintable() and c not in "\u200b\u202e\ufeff"
    ]
    if strange:
        return f"control characters {sorted(set(strange))[:5]} reach the terminal"
    if "--json" in sys.argv and "--help" not in sys.argv and code == 0 and stdout == "utf-8":
        try:
            json.loads(answer, parse_constant=_no_constant)
        except ValueError as error:
            return f"stdout is no JSON: {error}: {answer[:80]!r}"
    if seconds > LONGEST_SECONDS:
        return f"{seconds:.0f} s"
    peak = _peak()
    return f"{peak / 1e9:.2f} GB" if peak > MOST_BYTES else ""


def _opened(stdout: str) -> Any:
    """Stdout as an interpreter opens it in a locale of that encoding."""
    if stdout == CLOSED:
        return None
    if stdout == UNREAD:
        read, write = os.pipe()
        os.close(read)
        return io.TextIOWrapper(io.FileIO(write, "w"), "utf-8", "strict")
    return io.TextIOWrapper(io.FileIO(1, "w", closefd=False), stdout, "strict")


def _on_the_terminal(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """As an interpreter shows a warning, whatever a test runner has put in its place."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _caught(descriptor: int) -> int:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _taken(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, min(size, 4_000_000), 0).decode("utf-8", "backslashreplace")


def _reset_peak() -> None:
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _peak() -> int:
    """Most bytes in memory since the last reset (Linux), else since the start."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(tasks: Sequence[Callable[[], str]]) -> Iterator[str]:
    """What each task returns, in order; a task that kills or stalls its child is named for it.

    Args:
        tasks: each called in a child; what one leaves behind there the next ones find.
    """
    at = 0
    while at < len(tasks):
        last = min(at + INPUTS_A_CHILD, len(tasks))
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            _work(tasks, at, last, write)
        os.close(write)
        with os.fdopen(read, "rb", buffering=0) as pipe:
            for said in _listen(pipe, child):
                yield said
                at += 1
        status = _ended(child)
        if at < last:
            yield f"killed: {status}"
            at += 1


def _work(tasks: Sequence[Callable[[], str]], first: int, last: int, write: int) -> None:
    """In the child: each task's word on the pipe, then the end."""
    import tempfile

    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for descriptor in (1, 2):
        with tempfile.TemporaryFile() as file:
            os.dup2(file.fileno(), descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    try:
        for task in tasks[first:last]:
            said = task().replace("\n", " ")[:1000]
            os.write(write, said.encode("utf-8", "backslashreplace") + b"\n")
    finally:
        os._exit(0)


def _listen(pipe: Any, child: int) -> Iterator[str]:
    """Lines from a child until it ends, is stopped for one that takes too long, or is done."""
    unread = b""
    began, spent = time.monotonic(), _cpu_seconds(child)
    while True:
        ready, _, _ = select.select([pipe], [], [], 1.0)
        if ready:
            new = pipe.read(65536)
            if not new:
                return
            *lines, unread = (unread + new).split(b"\n")
            for line in lines:
                yield line.decode()
            began, spent = time.monotonic(), _cpu_seconds(child)
            continue
        waited = time.monotonic() - began
        if _cpu_seconds(child) - spent > LONGEST_SECONDS or waited > PATIENCE_SECONDS:
            os.kill(child, signal.SIGKILL)
            return


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _ended(child: int) -> str:
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        slow = number == signal.SIGKILL
        return f"longer than {LONGEST_SECONDS:.0f} s" if slow else signal.Signals(number).name
    return f"exit {os.WEXITSTATUS(status)}"
