"""The driver: which unit is given next, what is tried again, what is given up. For every engine.

An engine (local processes, Ray, SLURM) gives units a place and passes on what their workers say.
All that is decided, is decided here: how often a unit is begun, that a worker which says nothing
is replaced, that a unit which ran out of memory is tried once more with the machine to itself.
Time is the monotonic clock's: a wall clock that jumps changes nothing.
"""

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.units import show_duration
from shapelaw.sweeps.running import messages
from shapelaw.sweeps.running.worker_events import (
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

ATTEMPTS = 5
"""How often a unit is begun before it is given up as failed, when its worker dies."""
ATTEMPTS_RAISING = 2
"""The same when the job raises: that rarely goes away by itself."""
TICK_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a worker may say nothing before it is replaced."""

    silent_seconds: float = 60.0
    """Not even its heartbeat: stopped, or on a machine that is gone or swaps."""
    stalled_seconds: float | None = 900.0
    """A heartbeat and nothing else, while it computes next to nothing: hung. None: the worker
    watches what it waits for itself."""
    least_cpu_share: float = 0.01
    """Of that time; compiling takes long too, but computes."""


@dataclass(frozen=True, kw_only=True)
class Gone:
    """A worker is no more."""

    reason: str = "its worker died"
    memory_needed: str | None = None
    """As in `messages.Trouble`."""


Heard = tuple[int, messages.Message | Gone]
"""A worker's number and what it said. `Ready` from a worker that holds a unit: it begins."""


class Engine(Protocol):
    """Where units are trained."""

    @property
    def shares_memory(self) -> bool:
        """Whether units that train at once take memory from each other."""
        ...

    def prepare(self, units_left: int) -> None:
        """Called often, with the number of units that wait or run: hire or let go; submit."""

    def room(self) -> bool:
        """Whether a unit can be given now."""
        ...

    def give(self, unit: Unit, more_memory: bool) -> int | None:
        """Begin a unit; the number of its worker, or None where that could not be."""
        ...

    def hear(self, seconds: float) -> Iterable[Heard]:
        """What was said; waits at most so long for it."""
        ...

    def kill(self, worker: int) -> None:
        """End a worker, whatever state it is in; nothing is heard of it afterwards."""

    def close(self) -> None:
        """End all of them."""


@dataclass
class _Running:
    unit: Unit
    alone: bool
    begun: bool = False
    heard: float = field(default_factory=time.monotonic)
    """When anything was last heard of it."""
    progressed: float = field(default_factory=time.monotonic)
    """When it last said more than that it is alive."""
    cpu_then: float | None = None
    """Its CPU seconds then."""
    cpu_seconds: float = 0.0
    memory_bytes: int = 0

    def hear(self, message: messages.Message) -> None:
        """Take note that the worker lives, and whether it moves."""
        self.heard = time.monotonic()
        if isinstance(message, messages.Alive):
            self.cpu_seconds, self.memory_bytes = message.cpu_seconds, message.memory_bytes
            if self.cpu_then is None:
                self.cpu_then = message.cpu_seconds
        else:
            self.progressed, self.cpu_then = self.heard, None

    def trouble(self, patience: Patience) -> str | None:
        """Why it should be replaced, if it should."""
        now = time.monotonic()
        if not self.begun:
            return None
        if now - self.heard > patience.silent_seconds:
            silence = show_duration(now - self.heard)
            return f"its worker was stopped or hung: nothing heard for {silence}"
        if patience.stalled_seconds is None or self.cpu_then is None:
            return None
        idle = now - self.progressed
        if idle <= patience.stalled_seconds:
            return None
        if self.cpu_seconds - self.cpu_then > patience.least_cpu_share * idle:
            return None
        return f"its worker hung: alive for {show_duration(idle)} without computing"


def drive(
    units: Sequence[Unit],
    engine: Engine,
    *,
    attempts: int = ATTEMPTS,
    patience: Patience | None = None,
) -> Generator[Event]:
    """Train every unit; yields what happens as it happens, and Idle about each TICK_SECONDS.

    Close the generator to stop: the workers are ended.

    Raises:
        BadInput: a job that no worker can make sense of.
        NoAnswer: the engine has no workers to offer.
    """
    driver = _Driver(units, engine, attempts, patience or Patience())
    try:
        yield from driver.run()
    finally:
        engine.close()


class _Driver:
    def __init__(
        self, units: Sequence[Unit], engine: Engine, attempts: int, patience: Patience
    ) -> None:
        self.engine, self.attempts, self.patience = engine, attempts, patience
        self.waiting = deque(units)
        self.hungry: deque[Unit] = deque()
        """Ran out of memory once: each is begun again when nothing else runs."""
        self.running: dict[int, _Running] = {}
        self.tried: dict[int, int] = {}

    def run(self) -> Iterator[Event]:
        """Until nothing waits and nothing runs."""
        while left := len(self.waiting) + len(self.hungry) + len(self.running):
            self.engine.prepare(left)
            self.give()
            for worker, said in self.engine.hear(TICK_SECONDS):
                yield from self.take(worker, said)
            for worker, state in list(self.running.items()):
                if reason := state.trouble(self.patience):
                    self.engine.kill(worker)
                    yield from self.lost(worker, reason, self.attempts, None)
            yield Idle(time.monotonic())

    def give(self) -> None:
        """Hand out what can be begun now."""
        together = self.engine.shares_memory
        while (self.waiting or self.hungry) and self.engine.room():
            if together and any(state.alone for state in self.running.values()):
                return
            if self.hungry and not (together and self.running):
                source, alone = self.hungry, True
            elif self.waiting and not (self.hungry and together):
                source, alone = self.waiting, False
            else:
                return
            unit = source.popleft()
            worker = self.engine.give(unit, alone)
            if worker is None:
                source.appendleft(unit)
                return
            self.tried[unit.number] = self.tried.get(unit.number, 0) + 1
            self.running[worker] = _Running(unit, alone)

    def take(self, worker: int, said: messages.Message | Gone) -> Iterator[Event]:
        """One thing that was heard."""
        state = self.running.get(worker)
        if state is None:  # a worker that holds no unit: the engine's own affair
            return
        if not isinstance(said, Gone):
            state.hear(said)
        match said:
            case messages.Ready():
                state.begun = True
                yield Started(state.unit, worker)
            case messages.Queued():
                state.begun = False
            case messages.Standing():
                yield Stands(worker, said)
            case messages.Result(record=record):
                yield Finished(as_planned(state.unit, record))
            case messages.Done():
                del self.running[worker]
                yield TrunkDone(state.unit, worker)
            case messages.Trouble():
                if said.usual:
                    raise BadInput(said.reason)
                self.engine.kill(worker)
                most = min(self.attempts, ATTEMPTS_RAISING)
                yield from self.lost(worker, said.reason, most, said.memory_needed)
            case Gone():
                yield from self.lost(worker, said.reason, self.attempts, said.memory_needed)

    def lost(
        self, worker: int, reason: str, most: int, memory_needed: str | None
    ) -> Iterator[Event]:
        """A worker is gone with its unit: try that again, or give it up."""
        state = self.running.pop(worker)
        unit, count = state.unit, self.tried[state.unit.number]
        if memory_needed is not None:
            reason = out_of_memory(reason, memory_needed, state.memory_bytes)
            if not state.alone:
                self.hungry.append(unit)
                yield Lost(unit, worker, f"{reason}; to be tried once more, alone")
                return
            alone = "alone" if self.engine.shares_memory else "on a node of its own"
            yield GaveUp(unit, f"{reason}, {alone} too ({count} attempts)")
        elif count >= most:
            yield GaveUp(unit, f"{reason} ({count} attempts)")
        else:
            (self.hungry if state.alone else self.waiting).appendleft(unit)
            yield Lost(unit, worker, reason)


def out_of_memory(reason: str, needed: str, held: int) -> str:
    """`out of memory: 12.5GiB asked for, 3.1 GB held (RuntimeError: ...)`."""
    parts = [f"{needed} asked for"] if needed else []
    parts += [f"{held / 1e9:.2f} GB held"] if held else []
    return f"out of memory: {', '.join(parts) or 'nothing says how much'} ({reason})"
