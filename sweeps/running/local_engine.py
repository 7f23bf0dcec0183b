"""The local engine: worker processes on this machine, one per core or accelerator.

Each worker computes with one thread on one core (or on its accelerator), so a loss does not depend
on how many others run beside it; while one compiles, the others train. A worker that dies is
replaced and its job tried again.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path

import msgspec

from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.sweeps.running import messages
from shapelaw.sweeps.running.events import (
    Event,
    Finished,
    GaveUp,
    Idle,
    Lost,
    Stands,
    Started,
    TrunkDone,
    Unit,
    as_planned,
)
from shapelaw.sweeps.running.worker import DEFAULT_TRAINER
from shapelaw.sweeps.worker_environment import (
    accelerators,
    same_packages,
    worker_environment,
)

ATTEMPTS = 5
"""How often a job is begun before it is given up as failed, when its worker dies."""
ATTEMPTS_RAISING = 2
"""The same when the job raises: that rarely goes away by itself."""
FRUITLESS_STARTS = 3
"""Workers in a row that die before they are ready: then the trouble is the machine, not a job."""
KILLED_STARTS = 20
"""The same for workers that something killed: a system short of memory, or somebody's hand."""
UNITS_A_WORKER = 24
"""After so many a worker makes place for a fresh one: compiled programs stay in its memory."""
TICK_SECONDS = 0.25
LAST_GASP_SECONDS = 1.0
"""Between a worker's pipe closing and its end."""


class _Worker:
    """One process and what it is doing."""

    def __init__(self, number: int, trainer: str, logs: Path) -> None:
        self.number = number
        self.unit: Unit | None = None
        self.ready = False
        self.units_taken = 0
        self._unread = b""
        names = accelerators()
        place = "accelerator" if names else str(number)
        environment = worker_environment(names[number % len(names)] if names else None)
        environment |= same_packages()
        self.log = logs / f"worker-{number}.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "shapelaw.sweeps.running.worker", place, trainer],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is the driver's to handle
            )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    @property
    def output(self) -> int:
        """File descriptor of the worker's messages."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def give(self, unit: Unit, cache_dir: Path) -> bool:
        """Send a job; False where the worker is dead."""
        assert self.process.stdin is not None
        order = messages.encode(
            messages.Order(unit.number, unit.jobs, str(cache_dir), unit.checkpoint_dir)
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
        """Kill and bury."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):  # an order that was never read
                    pipe.close()

    @property
    def killed(self) -> bool:
        """Whether it ended by SIGKILL, which it cannot have sent itself."""
        return self.process.returncode == -signal.SIGKILL

    def last_words(self) -> str:
        """Last line of its log."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


def run_local(
    units: Sequence[Unit],
    *,
    workers: int,
    cache_dir: Path,
    logs: Path,
    trainer: str = DEFAULT_TRAINER,
    attempts: int = ATTEMPTS,
) -> Generator[Event]:
    """Train every unit; yields what happens as it happens, and Idle at least each TICK_SECONDS.

    Close the generator to stop: the workers are killed.

    Raises:
        BadInput: a job that no worker can make sense of.
        NoAnswer: workers cannot be started.
    """
    waiting = deque(units)
    tried: dict[int, int] = {}
    fruitless = 0.0
    selector = selectors.DefaultSelector()
    crew: dict[int, _Worker] = {}

    def hire(number: int) -> None:
        crew[number] = _Worker(number, trainer, logs)
        selector.register(crew[number].output, selectors.EVENT_READ, number)

    def bury(worker: _Worker) -> None:
        selector.unregister(worker.output)
        worker.stop()
        del crew[worker.number]

    try:
        logs.mkdir(parents=True, exist_ok=True)
        for number in range(min(workers, len(waiting))):
            hire(number)
        while crew:
            for key, _ in selector.select(TICK_SECONDS):
                worker = crew[key.data]
                heard, gone = worker.read()
                reason, most = "its worker died", attempts
                for message in heard:
                    match message:
                        case messages.Ready():
                            worker.ready, fruitless = True, 0.0
                        case messages.Standing():
                            yield Stands(worker.number, message)
                        case messages.Result(record=record):
                            yield Finished(as_planned(worker.unit, record))
                        case messages.Done():
                            assert worker.unit is not None
                            unit, worker.unit = worker.unit, None
                            yield TrunkDone(unit, worker.number)
                        case messages.Trouble():
                            if message.usual:
                                raise BadInput(message.reason)
                            reason, gone = message.reason, True
                            most = min(attempts, ATTEMPTS_RAISING)
                if gone:
                    unit_lost = worker.unit
                    bury(worker)
                    if not worker.ready:
                        fruitless += 1 / KILLED_STARTS if worker.killed else 1 / FRUITLESS_STARTS
                        if fruitless >= 1 - 1e-9:
                            raise NoAnswer(
                                "workers die before they are ready: "
                                f"{worker.last_words()} ({worker.log})"
                            )
                    if unit_lost is not None:
                        count = tried.get(unit_lost.number, 0)
                        if count >= most:
                            yield GaveUp(unit_lost, f"{reason} ({count} attempts)")
                        else:
                            waiting.appendleft(unit_lost)
                            yield Lost(unit_lost, worker.number, reason)
                    if waiting or any(other.unit for other in crew.values()):
                        hire(worker.number)
            for worker in list(crew.values()):
                if worker.unit is None and waiting and worker.units_taken >= UNITS_A_WORKER:
                    bury(worker)
                    hire(worker.number)
                elif worker.unit is None and worker.ready and waiting:
                    unit = waiting.popleft()
                    tried[unit.number] = tried.get(unit.number, 0) + 1
                    if worker.give(unit, cache_dir):
                        yield Started(unit, worker.number)
                    else:
                        tried[unit.number] -= 1
                        waiting.appendleft(unit)
                elif not waiting and not any(other.unit for other in crew.values()):
                    bury(worker)
            yield Idle(time.monotonic())
    except OSError as error:
        raise NoAnswer(f"{logs}: {error.strerror}; workers cannot be started") from None
    finally:
        for worker in list(crew.values()):
            bury(worker)
        selector.close()
