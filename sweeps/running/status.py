"""Watching a sweep: its state, a live table of it, and what `--status` tells from outside."""

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from shapelaw.results.record import RunRecord
from shapelaw.results.store import holder, read_records, runs_path
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.terminal_text import literal, terminal
from shapelaw.scaling.units import show_duration
from shapelaw.scaling.user_files import convert, exists, read_json
from shapelaw.sweeps.running.worker_events import (
    Event,
    Finished,
    GaveUp,
    Lost,
    Stands,
    Started,
    TrunkDone,
    Unit,
)

if TYPE_CHECKING:
    from rich.table import Table

STATE_FILE = "sweep.json"
STATE_SECONDS = 2.0
"""How often the state file is rewritten at most."""
PLAIN_SECONDS = 30.0
"""How often a sweep without a terminal says where it is."""
LAST_SHOWN = 6


@dataclass
class WorkerState:
    """What one worker does."""

    unit: Unit
    since: float
    tokens: int = 0
    total_tokens: int = 0
    loss: float | None = None
    tokens_per_second: float = 0.0

    @property
    def share(self) -> float:
        """Of the unit that is done."""
        return self.tokens / self.total_tokens if self.total_tokens else 0.0


class StateFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep says of itself to those outside, in its folder."""

    design: str
    run_keys: list[str]
    flops: float
    """Of all its runs; `flops_done` of those that are done, those held before included."""
    flops_done: float
    seconds_left: float | None
    tokens_per_second: float
    workers: list[str]
    updated: str


@dataclass
class SweepState:
    """Where a sweep stands; fed with events."""

    design: str
    folder: Path
    run_keys: list[str]
    flops: float
    flops_done: float
    reused: int
    counts: Counter[str] = field(default_factory=Counter)
    workers: dict[int, WorkerState] = field(default_factory=dict)
    last: list[RunRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    flops_before: float = 0.0
    written: float = -1e9

    @classmethod
    def of(
        cls,
        design: str,
        folder: Path,
        run_keys: list[str],
        flops: float,
        units: Sequence[Unit],
        reused: int,
    ) -> "SweepState":
        """Before anything happens."""
        before = max(0.0, flops - sum(unit.flops for unit in units))
        return cls(
            design=design,
            folder=folder,
            flops=flops,
            flops_done=before,
            flops_before=before,
            run_keys=run_keys,
            reused=reused,
        )

    def take(self, event: Event) -> None:
        """Something happened."""
        match event:
            case Started(unit=unit, worker=worker):
                self.workers[worker] = WorkerState(unit, time.monotonic())
            case Stands(worker=worker, standing=standing):
                state = self.workers.get(worker)
                if state is not None:
                    state.tokens, state.total_tokens = standing.tokens, standing.total_tokens
                    state.loss = standing.loss
                    state.tokens_per_second = standing.tokens_per_second
                    if standing.note:
                        note = f"{state.unit.shape}: {standing.note}"
                        self.notes = [*self.notes, note][-LAST_SHOWN:]
            case Finished(record=record):
                self.counts[record.status] += 1
                self.last = [*self.last, record][-LAST_SHOWN:]
            case TrunkDone(unit=unit, worker=worker):
                self.flops_done += unit.flops
                self.workers.pop(worker, None)
            case Lost(unit=unit, worker=worker, reason=reason):
                self.workers.pop(worker, None)
                self.notes = [*self.notes, f"{unit.shape}: {reason}; trying again"][-LAST_SHOWN:]
            case GaveUp(unit=unit, reason=reason):
                self.workers = {n: s for n, s in self.workers.items() if s.unit is not unit}
                self.flops_done += unit.flops
                self.counts["failed"] += unit.runs
                self.notes = [*self.notes, f"{unit.shape}: given up: {reason}"][-LAST_SHOWN:]
        self.write()

    @property
    def done(self) -> int:
        """Runs that need not be done any more."""
        return self.reused + self.counts.total()

    @property
    def share(self) -> float:
        """Of the FLOPs, what is done, runs under way counted as far as they are."""
        under_way = sum(state.share * state.unit.flops for state in self.workers.values())
        return min(1.0, (self.flops_done + under_way) / self.flops) if self.flops else 1.0

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None while there is none."""
        done_now = self.share * self.flops - self.flops_before
        seconds = time.monotonic() - self.began
        if done_now <= 0 or seconds < 1:
            return None
        return seconds * (1 - self.share) * self.flops / done_now

    @property
    def tokens_per_second(self) -> float:
        """Of all workers together."""
        return sum(state.tokens_per_second for state in self.workers.values())

    def write(self, now: bool = False) -> None:
        """Leave the state where `--status` finds it, now and then."""
        if not now and time.monotonic() - self.written < STATE_SECONDS:
            return
        self.written = time.monotonic()
        state = StateFile(
            design=self.design,
            run_keys=self.run_keys,
            flops=self.flops,
            flops_done=self.share * self.flops,
            seconds_left=self.seconds_left,
            tokens_per_second=self.tokens_per_second,
            workers=[_doing(number, worker) for number, worker in sorted(self.workers.items())],
            updated=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        )
        with contextlib.suppress(
            BadInput, NoAnswer
        ):  # a full disk is reported by the store, where it matters
            write_atomically(self.folder / STATE_FILE, msgspec.json.encode(state))

    def close(self) -> None:
        """The sweep is over."""
        self.workers = {}
        self.write(now=True)


def _doing(number: int, worker: WorkerState) -> str:
    what = f"{number}: {worker.unit.shape} ({worker.unit.label})"
    if worker.loss is None:
        return f"{what}: compiling"
    return (
        f"{what}: {worker.share:.0%}, loss {worker.loss:.3f}, "
        f"{worker.tokens_per_second:,.0f} tokens/s"
    )


# --- from inside ---------------------------------------------------------------------------------


class Display(Protocol):
    """Shows a state again and again."""

    def update(self) -> None:
        """The state may have changed."""


@contextlib.contextmanager
def display(state: SweepState, live: bool | None) -> Iterator[Display]:
    """A live table on a terminal, plain lines elsewhere; both on stderr."""
    if live if live is not None else sys.stderr.isatty():
        from rich.live import Live

        with Live(
            console=terminal(stderr=True),
            refresh_per_second=4,
            get_renderable=lambda: live_table(state),
        ):
            yield _Still()
            state.workers = {}
    else:
        plain = _Plain(state)
        yield plain
        plain.say(final=True)


class _Still:
    """The live table draws itself."""

    def update(self) -> None:
        """Nothing to do."""


class _Plain:
    """A line for each run, and now and then one for the whole."""

    def __init__(self, state: SweepState) -> None:
        self.state = state
        self.told: set[str] = set()
        self.notes = 0
        self.spoke = time.monotonic()
        self._print(
            f"sweep {state.design}: {len(state.run_keys)} runs, {state.reused} held "
            f"already, {state.flops - state.flops_done:.3g} FLOPs to do"
        )

    def update(self) -> None:
        """Say what is new."""
        for record in self.state.last:
            if record.run_key not in self.told:
                self.told.add(record.run_key)
                self._print(f"[{self.state.done}/{len(self.state.run_keys)}] {run_line(record)}")
        for note in self.state.notes[-1:]:
            if note not in self.told:
                self.told.add(note)
                self._print(note)
        if time.monotonic() - self.spoke > PLAIN_SECONDS:
            self.say()

    def say(self, final: bool = False) -> None:
        """One line for the whole."""
        self.spoke = time.monotonic()
        state = self.state
        if final:
            took = time.monotonic() - state.began
            self._print(
                f"sweep {state.design}: {state.done} of {len(state.run_keys)} runs done, "
                f"{show_duration(took)} spent now"
            )
            return
        self._print(
            f"sweep {state.design}: {state.share:.0%}, "
            f"{show_duration(state.seconds_left)} left, {state.tokens_per_second:,.0f} tokens/s"
        )

    @staticmethod
    def _print(line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def run_line(record: RunRecord) -> str:
    """One run in one line."""
    shape = record.architecture
    sharing = f" shared ×{shape.sharing}" if shape.sharing > 1 else ""
    group = f" GQA {shape.n_heads // shape.n_kv_heads}" if shape.n_heads != shape.n_kv_heads else ""
    what = (
        f"{shape.d_model}×{shape.n_blocks}{sharing}{group} d_ff {shape.d_ff}, "
        f"{record.n_parameters.non_embedding:,} parameters, {record.tokens:,} tokens, "
        f"seed {record.seed}"
    )
    if record.loss is None:
        return f"{what}: {record.status}: {record.reason}"
    return f"{what}: loss {record.loss:.4f} ± {record.loss_standard_error or 0:.4f}"


def live_table(state: SweepState) -> "Table":
    """The whole sweep on a dozen lines."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(expand=True)
    head = Table.grid(padding=(0, 2))
    head.add_row(
        literal(state.design, "bold"),
        f"{state.done} of {len(state.run_keys)} runs",
        ProgressBar(total=1.0, completed=state.share, width=30),
        f"{state.share:.0%}",
        f"{show_duration(state.seconds_left)} left",
        f"{state.tokens_per_second:,.0f} tokens/s",
    )
    grid.add_row(head)
    workers = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("worker", "shape", "what", "done", "loss", "tokens/s"):
        workers.add_column(title, justify="right" if title in ("loss", "tokens/s") else "left")
    for number, worker in sorted(state.workers.items()):
        compiling = worker.loss is None
        workers.add_row(
            str(number),
            worker.unit.shape,
            literal(worker.unit.label),
            "compiling" if compiling else f"{worker.share:.0%}",
            "" if worker.loss is None else f"{worker.loss:.3f}",
            "" if compiling else f"{worker.tokens_per_second:,.0f}",
        )
    grid.add_row(workers)
    for record in state.last:
        style = "" if record.status == "finished" else "red"
        grid.add_row(literal(f"  {run_line(record)}", style, most=400))
    for note in state.notes[-2:]:
        grid.add_row(literal(f"  {note}", "yellow", most=400))
    return grid


# --- from outside --------------------------------------------------------------------------------


def sweep_status(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """How far the sweep in a folder is: counts, FLOPs, who works on it now and on what.

    Raises:
        BadInput: no such folder, or nothing of a sweep in it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise BadInput(f"status = {folder}: no such folder")
    state = None
    if exists(path / STATE_FILE):
        document = read_json(path / STATE_FILE, "status")
        state = convert(document, StateFile, "status", path / STATE_FILE)
    if state is None and not runs_path(path).is_file():
        raise BadInput(f"status = {folder}: holds no sweep (no {STATE_FILE}, no runs.jsonl)")
    records = read_records(path) if runs_path(path).is_file() else []
    who = holder(path)
    wanted = set(state.run_keys) if state else {record.run_key for record in records}
    mine = [record for record in records if record.run_key in wanted]
    counts = Counter(record.status for record in mine)
    running = who is not None
    return {
        "out": str(path),
        "design": state.design if state else None,
        "runs": len(wanted),
        "finished": counts["finished"],
        "diverged": counts["diverged"],
        "failed": counts["failed"],
        "missing": len(wanted) - len(mine),
        "runs_of_other_designs": len(records) - len(mine),
        "share_of_flops": state.flops_done / state.flops if state and state.flops else None,
        "running": running,
        "process": who.pid if who else None,
        "seconds_left": state.seconds_left if state and running else None,
        "tokens_per_second": state.tokens_per_second if state and running else None,
        "workers": state.workers if state and running else [],
        "last": [run_line(record) for record in mine[-LAST_SHOWN:]],
        "updated": state.updated if state else None,
    }


def status_table(report: dict[str, Any]) -> "Table":
    """The report of `sweep_status`, for people."""
    from rich.table import Table

    table = Table(
        title=literal(f"sweep {report['design'] or ''} in {report['out']}", most=300),
        show_header=False,
        title_justify="left",
    )
    running = f"yes, process {report['process']}" if report["running"] else "no"
    table.add_row("running", running)
    table.add_row(
        "runs",
        f"{report['finished']} finished, {report['diverged']} diverged, "
        f"{report['failed']} failed, {report['missing']} missing "
        f"of {report['runs']}",
    )
    if report["share_of_flops"] is not None:
        table.add_row("FLOPs", f"{report['share_of_flops']:.0%} done")
    if report["running"]:
        table.add_row("time left", show_duration(report["seconds_left"]))
        table.add_row("tokens/s", f"{report['tokens_per_second'] or 0:,.0f}")
        for worker in report["workers"]:
            table.add_row("worker", literal(worker))
    for line in report["last"]:
        table.add_row("run", literal(line, most=400))
    return table
