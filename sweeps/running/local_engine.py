"""The local engine: worker processes on this machine, one per core or accelerator.

Each worker computes with one thread on one core (or on its accelerator), so a loss does not depend
on how many others run beside it; while one compiles, the others train. A worker that dies is
replaced.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from shapelaw.scaling.atomic_files import own_file
from shapelaw.scaling.errors import NoAnswer
from shapelaw.sweeps.running import messages
from shapelaw.sweeps.running.dispatcher import Gone, Heard
from shapelaw.sweeps.running.memory import kernel_kills, memory_needed
from shapelaw.sweeps.running.trainers import PythonTrainer, Trainer
from shapelaw.sweeps.running.worker_events import Unit
from shapelaw.sweeps.worker_environment import (
    accelerators,
    nvidia_gpus,
    same_packages,
    trainer_environment,
    worker_environment,
)

FRUITLESS_STARTS = 3
"""Workers in a row that die before they are ready: then the trouble is the machine, not a job."""
KILLED_STARTS = 20
"""The same for workers that something killed: a system short of memory, or somebody's hand."""
START_SECONDS = 300.0
"""A worker that has not begun to listen by then is replaced: it hangs in an import."""
UNITS_A_WORKER = 24
"""After so many a worker makes place for a fresh one: compiled programs stay in its memory."""
LAST_GASP_SECONDS = 1.0
"""Between a worker's pipe closing and its end."""
LOG_TAIL_BYTES = 4096
COMMAND_MODULE = "shapelaw.sweeps.running.external_trainer"


class LocalEngine:
    """As `driver.Engine`.

    Raises:
        NoAnswer: workers cannot be started.
    """

    shares_memory = True

    def __init__(self, *, workers: int, cache_dir: Path, logs: Path, trainer: Trainer) -> None:
        self.workers, self.cache_dir, self.logs, self.trainer = workers, cache_dir, logs, trainer
        self.selector = selectors.DefaultSelector()
        self.crew: dict[int, _Worker] = {}
        self.begun: list[int] = []
        """Given a unit and not yet told of."""
        self.fruitless = 0.0

    def prepare(self, units_left: int) -> None:
        """As many workers as there are units for, and no more."""
        wanted = min(self.workers, units_left)
        idle = [worker for worker in self.crew.values() if worker.unit is None]
        for worker in idle[: max(0, len(self.crew) - wanted)]:
            self._bury(worker)
        for worker in idle:
            if worker.units_taken >= UNITS_A_WORKER and worker.number in self.crew:
                self._bury(worker)
        free = (number for number in range(self.workers) if number not in self.crew)
        for _ in range(wanted - len(self.crew)):
            self._hire(next(free))

    def room(self) -> bool:
        """Whether a worker is ready and has nothing to do."""
        return self._idle() is not None

    def give(self, unit: Unit, more_memory: bool) -> int | None:
        """To an idle worker; more memory it has by being alone."""
        worker = self._idle()
        if worker is None or not worker.give(unit, self.trainer, self.cache_dir):
            return None
        self.begun.append(worker.number)
        return worker.number

    def hear(self, seconds: float) -> Iterator[Heard]:
        """What workers said, and which of them died."""
        while self.begun:
            yield self.begun.pop(0), messages.Ready()
        for key, _ in self.selector.select(seconds):
            worker = self.crew.get(key.data)
            if worker is None or worker.output != key.fd:
                continue
            heard, gone = worker.read()
            for message in heard:
                if isinstance(message, messages.Ready):
                    worker.ready, self.fruitless = True, 0.0
                elif worker.number in self.crew and self.crew[worker.number] is worker:
                    yield worker.number, message
                    if isinstance(message, messages.Done):
                        worker.unit = None
            if gone and self.crew.get(worker.number) is worker:
                self._bury(worker)
                if not worker.ready:
                    self._count_fruitless(worker)
                yield worker.number, worker.obituary()
        for worker in list(self.crew.values()):
            if not worker.ready and time.monotonic() - worker.hired > START_SECONDS:
                self._bury(worker)
                self._count_fruitless(worker)

    def kill(self, worker: int) -> None:
        """End it and what it started."""
        if worker in self.crew:
            self._bury(self.crew[worker])

    def close(self) -> None:
        """End all of them."""
        for worker in list(self.crew.values()):
            self._bury(worker)
        self.selector.close()

    def _idle(self) -> "_Worker | None":
        ready = (worker for worker in self.crew.values() if worker.ready and worker.unit is None)
        return next(ready, None)

    def _hire(self, number: int) -> None:
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            worker = _Worker(number, self.trainer, self.logs, *self._place(number))
        except OSError as error:
            raise NoAnswer(f"{self.logs}: {error.strerror}; workers cannot be started") from None
        self.crew[number] = worker
        self.selector.register(worker.output, selectors.EVENT_READ, number)

    def _place(self, number: int) -> tuple[str, dict[str, str]]:
        """The core a worker keeps to, or `accelerator`; and its environment."""
        if isinstance(self.trainer, PythonTrainer):
            names = accelerators()
            each = min(self.trainer.devices, len(names))
            first = number * each % (len(names) // each * each) if names else 0
            environment = worker_environment(",".join(names[first : first + each]) or None)
        else:
            names = nvidia_gpus()
            environment = trainer_environment(names[number :: self.workers] or names)
        return ("accelerator" if names else str(number)), environment

    def _bury(self, worker: "_Worker") -> None:
        self.selector.unregister(worker.output)
        worker.stop()
        del self.crew[worker.number]

    def _count_fruitless(self, worker: "_Worker") -> None:
        killed = worker.process.returncode == -signal.SIGKILL
        self.fruitless += 1 / KILLED_STARTS if killed else 1 / FRUITLESS_STARTS
        if self.fruitless >= 1 - 1e-9:
            words = worker.last_words().strip().splitlines() or [""]
            raise NoAnswer(f"workers die before they are ready: {words[-1][:200]} ({worker.log})")


class _Worker:
    """One process and what it is doing."""

    def __init__(
        self,
        number: int,
        trainer: Trainer,
        logs: Path,
        place: str,
        environment: Mapping[str, str],
    ) -> None:
        self.number = number
        self.unit: Unit | None = None
        self.ready = False
        self.hired = time.monotonic()
        self.units_taken = 0
        self._unread = b""
        self._kills_before = kernel_kills()
        first = trainer.module if isinstance(trainer, PythonTrainer) else COMMAND_MODULE
        self.log = logs / f"worker-{number}.log"
        with os.fdopen(own_file(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shapelaw.sweeps.running.worker", place, first],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**environment, **same_packages()},
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    @property
    def output(self) -> int:
        """File descriptor of the worker's messages."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def give(self, unit: Unit, trainer: Trainer, cache_dir: Path) -> bool:
        """Send a job; False where the worker is dead."""
        assert self.process.stdin is not None
        order = messages.encode(
            messages.Order(unit.number, unit.jobs, trainer, str(cache_dir), unit.checkpoint_dir)
        )
        try:
            self.process.stdin.write(order)
            self.process.stdin.flush()
        except OSError:
            return False
        self.unit = unit
        self.units_taken += 1
        return True

    def read(self) -> tuple[list[messages.Message], bool]:
        """Messages that have come, and whether the worker is gone."""
        gone = False
        while True:
            try:
                chunk = os.read(self.output, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                gone = True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(LAST_GASP_SECONDS)
                break
            self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        try:
            return [messages.decode(line) for line in lines], gone
        except msgspec.MsgspecError:  # a worker that speaks nonsense is as good as dead
            self.process.kill()
            return [], True

    def stop(self) -> None:
        """Kill it with all it started, and bury it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an order that was never read
                    pipe.close()

    def obituary(self) -> Gone:
        """Of what it died, as far as its log and the kernel tell."""
        needed = memory_needed(self.last_words())
        code = self.process.returncode
        if needed is None and code == -signal.SIGKILL and kernel_kills() > self._kills_before:
            needed = ""
        how = f"killed by signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return Gone(reason=f"its worker died ({how})", memory_needed=needed)

    def last_words(self) -> str:
        """The end of what it left in its log."""
        try:
            with open(self.log, "rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                return log.read().decode(errors="replace")
        except OSError:
            return ""
