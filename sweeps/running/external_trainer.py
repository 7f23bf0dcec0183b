"""Training by a command of the user's: start it, watch it, take in what it leaves.

The command runs once for each budget, in a folder of the run's own (`run_folder`). It counts as
failed where it ends with an error, prints a loss that is not a number, neither prints nor writes
for long, or leaves no usable result.json; its last lines are then the reason.
"""

import contextlib
import ctypes
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapelaw.results.record import RunRecord
from shapelaw.scaling.atomic_files import own_file
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.units import show_duration
from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.running.run_folder import (
    LOG_FILE,
    RESULT_FILE,
    BranchFile,
    UnusableResult,
    read_result,
    record_of_result,
    write_run_folder,
)
from shapelaw.sweeps.running.trainers import CommandTrainer, filled
from shapelaw.sweeps.training.trunk import TrunkJob, resolve

POLL_SECONDS = 0.2
LAST_LINES = 3
LONGEST_LINE = 160
TAIL_BYTES = 8192
PIECE_BYTES = 1 << 20
WATCHED_ENTRIES = 1000
"""Files of the run's folder whose change counts as a sign of life."""
TRUNKS_FOLDER = "trunks"

_LOSS_NOT_FINITE = re.compile(
    rb"loss[\"']?[\s:=]++[\"']?(?:tensor\()?[-+]?(?:nan|inf(?:inity)?)\b", re.IGNORECASE
)
_LINE_END = re.compile(rb"[\r\n]")
"""Progress bars begin their line again instead of ending it."""
_KILL_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


class TrainerFailed(Exception):
    """A command that trained nothing usable; `last_words` is the end of its log."""

    def __init__(self, what: str, last_words: str = "") -> None:
        lines = [_printable(line) for line in last_words.splitlines() if line.strip()]
        said = " | ".join(line[:LONGEST_LINE] for line in lines[-LAST_LINES:])
        super().__init__(f"{what}; its last lines: {said}" if said else f"{what}; it said nothing")
        self.last_words = last_words


@dataclass(frozen=True)
class _Stand:
    """As `sweeps.training.trainer.Progress`."""

    tokens: int
    total_tokens: int
    loss: float
    tokens_per_second: float
    note: str = ""


def train_with_command(
    trainer: CommandTrainer,
    job: TrunkJob,
    *,
    cache_dir: Path,
    progress: Callable[[Any], None] | None = None,
) -> Iterator[RunRecord]:
    """Train each budget of the job by the command; yields a record as each is done.

    A run whose folder holds a usable result already is not trained again.

    Raises:
        TrainerFailed: the command came to no usable result.
        BadInput: there is no such program, or no corpus.
    """
    corpus = load_corpus(job.corpus, cache_dir)
    plan = resolve(job)
    for branch in plan.branches:
        one = _alone(job, branch.tokens)
        folder = Path(trainer.folder) / branch.run_key
        trunk_folder = Path(trainer.folder) / TRUNKS_FOLDER / plan.trunk_key
        branches = [
            BranchFile(
                run_key=other.run_key,
                tokens=other.tokens,
                decay_tokens=other.decay_steps * plan.batch_sequences * plan.sequence_length,
            )
            for other in _all_branches(job)
        ]
        write_run_folder(folder, one, corpus, branches, trunk_folder)
        try:
            yield record_of_result(one, read_result(folder, one), corpus, trainer.name, 0.0)
            continue
        except UnusableResult:
            (folder / RESULT_FILE).unlink(missing_ok=True)
        started = time.monotonic()
        try:
            _run(trainer, one, folder, progress)
        except TrainerFailed:  # what it left is not to be taken in by the next attempt
            (folder / RESULT_FILE).unlink(missing_ok=True)
            raise
        seconds = time.monotonic() - started
        try:
            yield record_of_result(one, read_result(folder, one), corpus, trainer.name, seconds)
        except UnusableResult as error:
            raise TrainerFailed(str(error), _tail(folder / LOG_FILE)) from None


def values_for(job: TrunkJob, folder: Path) -> dict[str, str]:
    """Placeholder → value, for a job of one budget."""
    plan = resolve(job)
    (branch,) = plan.branches
    return {
        "config": str(folder / "config.json"),
        "run": str(folder / "run.json"),
        "out": str(folder),
        "tokens": str(branch.tokens),
        "seed": str(job.seed),
        "learning_rate": f"{plan.learning_rate:.6g}",
        "batch": str(plan.batch_sequences),
        "sequence_length": str(plan.sequence_length),
        "steps": str(branch.total_steps),
    }


def _alone(job: TrunkJob, tokens: int) -> TrunkJob:
    """The job with one budget, its trunk unchanged."""
    import msgspec

    plan = resolve(job)
    return msgspec.structs.replace(
        job,
        tokens=(tokens,),
        batch_sequences=plan.batch_sequences,
        warmup_steps=plan.warmup_steps,
    )


def _all_branches(job: TrunkJob) -> Any:
    import msgspec

    if not job.trunk_tokens:
        return resolve(job).branches
    return resolve(msgspec.structs.replace(job, tokens=job.trunk_tokens)).branches


def _run(
    trainer: CommandTrainer,
    job: TrunkJob,
    folder: Path,
    progress: Callable[[Any], None] | None,
) -> None:
    """One attempt. Raises TrainerFailed unless it ends with 0."""
    arguments = filled(trainer.arguments, values_for(job, folder))
    log_path = folder / LOG_FILE
    with os.fdopen(own_file(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as log:
        start = log.seek(0, os.SEEK_END)
        try:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=trainer.working_directory,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        except OSError as error:
            raise BadInput(
                f"trainer: {arguments[0]!r} cannot be started: {error.strerror}"
            ) from None
    watch = _Watch(folder, log_path, start, resolve(job).branches[0].tokens, progress)
    try:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            watch.look()
            if watch.not_finite is not None:
                raise TrainerFailed(f"it printed {watch.not_finite!r}", _tail(log_path, start))
            if watch.silent_for > trainer.silence_seconds:
                raise TrainerFailed(
                    f"it hung: nothing printed or written for {show_duration(watch.silent_for)}",
                    _tail(log_path, start),
                )
    finally:
        if process.poll() is None:
            kill_tree(process)
    watch.look_to_the_end()
    code = process.returncode
    if code != 0:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise TrainerFailed(f"the trainer {how}", _tail(log_path, start))
    if watch.not_finite is not None:
        raise TrainerFailed(f"it printed {watch.not_finite!r}", _tail(log_path, start))


class _Watch:
    """What a running command shows: its log, and files that change."""

    def __init__(
        self,
        folder: Path,
        log: Path,
        start: int,
        total_tokens: int,
        progress: Callable[[Any], None] | None,
    ) -> None:
        self.folder, self.log, self.position = folder, log, start
        self.total_tokens, self.progress = total_tokens, progress
        self.began = self.changed = time.monotonic()
        self.seen: object = None
        self.unread = b""
        self.not_finite: str | None = None

    @property
    def silent_for(self) -> float:
        """Seconds since anything changed."""
        return time.monotonic() - self.changed

    def look(self) -> None:
        """Read on in the log; note whether anything moved."""
        new = self._more()
        signs = self._signs()
        if new or signs != self.seen:
            self.changed, self.seen = time.monotonic(), signs
        self._take(new)

    def look_to_the_end(self) -> None:
        """Read the rest of the log, its last line among it, whether or not that was ended."""
        while new := self._more():
            self._take(new)
        self._read(self.unread)

    def _more(self) -> bytes:
        """The next piece of the log."""
        new = b""
        with contextlib.suppress(OSError), open(self.log, "rb") as log:
            log.seek(self.position)
            new = log.read(PIECE_BYTES)
        self.position += len(new)
        return new

    def _take(self, new: bytes) -> None:
        *lines, self.unread = _LINE_END.split(self.unread + new)
        self.unread = self.unread[-TAIL_BYTES:]
        for line in lines:
            self._read(line[:TAIL_BYTES])

    def _signs(self) -> object:
        """Sizes and times of files in the run's folder, two levels deep; its clock is nobody's."""
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.glob("*"):
                for each in (path, *(path.glob("*") if path.is_dir() else ())):
                    with contextlib.suppress(OSError):
                        stat = each.lstat()
                        found.append((str(each), stat.st_size, stat.st_mtime_ns))
                    if len(found) >= WATCHED_ENTRIES:
                        return found
        return found

    def _read(self, line: bytes) -> None:
        bad = _LOSS_NOT_FINITE.search(line)
        if bad:
            self.not_finite = _printable(bad[0].decode(errors="replace"))
        if self.progress is None or not line.lstrip().startswith(b"{"):
            return
        try:  # {"tokens": ..., "loss": ...} on a line of its own is shown as progress
            said = json.loads(line)
            tokens, loss = int(said["tokens"]), float(said["loss"])
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return
        if math.isfinite(loss) and tokens >= 0:
            seconds = max(time.monotonic() - self.began, 1e-9)
            self.progress(_Stand(tokens, self.total_tokens, loss, tokens / seconds))


def _die_with_parent() -> None:
    """In the child, before the command: be killed when the process that started it ends."""
    ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)


def kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process this one started and, where /proc tells of them, all that came from it."""
    doomed = [process.pid]
    for pid in doomed:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                doomed += [int(child) for child in task.read_text().split()]
    for pid in reversed(doomed[1:]):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _tail(path: Path, start: int = 0) -> str:
    try:
        with open(path, "rb") as log:
            log.seek(max(start, log.seek(0, os.SEEK_END) - TAIL_BYTES))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text).strip()
