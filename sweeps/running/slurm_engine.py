"""The SLURM engine: units as a job array, through `submitit`; messages through files.

The sweep's folder must be on a file system that every node sees. What jobs say lies in
OUT/slurm; a driver that was lost finds there what was trained meanwhile, and the jobs that still
run. A job that is preempted or out of time is queued again by itself.
"""

import contextlib
import itertools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from shapelaw.results.record import content_key
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.units import parse_bytes, parse_seconds
from shapelaw.scaling.user_files import shown
from shapelaw.sweeps.running import messages
from shapelaw.sweeps.running.dispatcher import Gone, Heard
from shapelaw.sweeps.running.external_trainer import kill_tree
from shapelaw.sweeps.running.trainers import Trainer
from shapelaw.sweeps.running.worker_events import Unit
from shapelaw.sweeps.training.trunk import resolve

SLURM_FOLDER = "slurm"
JOB_FILE = "job.json"
MOST_JOBS = 1000
"""At once; SLURM's own limit for an array is 1001 unless a site raises it."""
STATE_SECONDS = 10.0
"""Between two questions to sacct."""
DEFAULT_HOURS = 24
REQUEUES = 100
LAST_SECONDS = 10.0
"""For a job of this machine to end, after its last word."""
_LIVE = {
    "READY", "PENDING", "RUNNING", "UNKNOWN", "REQUEUED", "COMPLETING", "PREEMPTED", "CONFIGURING",
    "SUSPENDED", "REQUEUE_HOLD", "RESIZING",
}  # fmt: skip
_WORD = re.compile(r"[\w.,:@%+/=-]+")
_COUNT = re.compile(r"[1-9][0-9]{0,8}")

WORDS = ("partition", "account", "qos", "constraint", "exclude", "gres")
WHOLE = {"cpus": "cpus_per_task", "gpus": "gpus_per_node", "nodes": "nodes"}


class JobFile(msgspec.Struct, frozen=True):
    """Beside a unit's messages: the job that writes them."""

    job_id: str


@dataclass
class _Job:
    unit: Unit
    folder: Path
    job: Any = None
    position: int = 0
    unread: bytes = b""
    ended: bool = False
    """SLURM says it runs no more; what it wrote last may still be under way."""


@dataclass
class _Pending:
    number: int
    more_memory: bool = field(default=False)


def slurm_resources(given: Mapping[str, str]) -> dict[str, Any]:
    """`--resource NAME=VALUE` as submitit's parameters.

    Names: partition, account, qos, constraint, exclude, gres; cpus, gpus and nodes of a job;
    memory and time, with units.

    Raises:
        BadInput: an unknown name or a value that makes no sense.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name in WORDS and _WORD.fullmatch(value):
            found[f"slurm_{name}"] = value
        elif name in WHOLE and _COUNT.fullmatch(value):
            found[WHOLE[name]] = int(value)
        elif name == "memory":
            found["mem_gb"] = parse_bytes(value, "resource memory") / 2**30
        elif name == "time":
            found["timeout_min"] = max(1, round(parse_seconds(value, "resource time") / 60))
        else:
            names = ", ".join([*WORDS, *WHOLE, "memory", "time"])
            raise BadInput(
                f"resource {shown(name, 40)} = {shown(value)!r}: one of {names}, with a plain value"
            )
    return found


class SlurmEngine:
    """As `driver.Engine`.

    Args:
        address: `auto` for the cluster whose `sbatch` is here; `local` runs the same jobs as
            processes of this machine, to try a sweep out.

    Raises:
        BadInput: `submitit` is not installed, or there is no SLURM here.
    """

    shares_memory = False

    def __init__(
        self,
        *,
        workers: int | None,
        address: str,
        cache_dir: Path,
        folder: Path,
        trainer: Trainer,
        resources: Mapping[str, str],
    ) -> None:
        self.submitit = _submitit()
        if address not in ("auto", "local"):
            raise BadInput(f"address = {address!r}: auto or local with --engine slurm")
        if address == "auto" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
            raise BadInput(
                "engine = 'slurm': no sbatch and srun on this machine; --address local tries the "
                "sweep out without SLURM"
            )
        self.local = address == "local"
        self.cache_dir, self.trainer = cache_dir, trainer
        self.folder = folder.resolve() / SLURM_FOLDER
        self.most = workers or (os.cpu_count() or 1 if self.local else MOST_JOBS)
        self.parameters: dict[str, Any] = {
            "timeout_min": DEFAULT_HOURS * 60,
            "name": "shapelaw",
            **slurm_resources(resources),
        }
        if workers is not None and not self.local:
            self.parameters["slurm_array_parallelism"] = workers
        self.jobs: dict[int, _Job] = {}
        self.pending: list[_Pending] = []
        self.told: list[Heard] = []
        self.numbers = itertools.count()
        self.asked = float("-inf")
        self.over: list[_Job] = []
        """Jobs that have said all they had to say."""

    def prepare(self, units_left: int) -> None:
        """Submit what was given since the last time, as one array."""
        for more in (False, True):
            chosen = [one.number for one in self.pending if one.more_memory is more]
            if chosen:
                self._submit(chosen, more)
        self.pending = []

    def room(self) -> bool:
        """Whether fewer jobs are out than there may be."""
        return len(self.jobs) < self.most

    def give(self, unit: Unit, more_memory: bool) -> int | None:
        """Take note of a unit to submit; or of its job, where an earlier driver submitted it."""
        number = next(self.numbers)
        keys = [branch.run_key for job in unit.jobs for branch in resolve(job).branches]
        one = _Job(unit, self.folder / content_key(keys))
        self.jobs[number] = one
        from shapelaw.sweeps.running.slurm_task import MESSAGES_FILE, ORDER_FILE

        one.folder.mkdir(parents=True, exist_ok=True)
        one.job = None if more_memory else self._adopted(one)
        if one.job is not None:
            return number
        results = [
            message
            for message in _messages(one.folder / MESSAGES_FILE)
            if isinstance(message, messages.Result) and message.record.run_key in keys
        ]
        (one.folder / MESSAGES_FILE).unlink(missing_ok=True)
        if {result.record.run_key for result in results} == set(keys):
            self.told += [(number, result) for result in results]
            self.told.append((number, messages.Done(unit.number)))
            return number
        order = messages.Order(
            unit.number, unit.jobs, self.trainer, str(self.cache_dir), unit.checkpoint_dir
        )
        write_atomically(one.folder / ORDER_FILE, messages.encode(order))
        self.pending.append(_Pending(number, more_memory))
        return number

    def _adopted(self, one: _Job) -> Any:
        """The job an earlier driver submitted for this unit, where SLURM still has it."""
        if self.local:
            return None  # such jobs end with their driver
        try:
            job_id = msgspec.json.decode((one.folder / JOB_FILE).read_bytes(), type=JobFile).job_id
        except (OSError, msgspec.MsgspecError):
            return None
        job = self.submitit.SlurmJob(folder=self.folder / "jobs", job_id=job_id)
        state = _word(job.watcher.get_state(job_id, mode="force"))
        return job if state in _LIVE - {"UNKNOWN"} else None

    def _submit(self, numbers: list[int], more_memory: bool) -> None:
        from shapelaw.sweeps.running.slurm_task import TrainUnit

        executor = self.submitit.AutoExecutor(
            folder=self.folder / "jobs",
            cluster="local" if self.local else "slurm",
            slurm_max_num_timeout=REQUEUES,
        )
        parameters = dict(self.parameters)
        if more_memory and not self.local:
            parameters.pop("mem_gb", None)
            parameters |= {"slurm_exclusive": True, "slurm_mem": "0"}
        if self.local:
            parameters = {k: v for k, v in parameters.items() if not k.startswith("slurm_")}
            parameters.pop("mem_gb", None)
        executor.update_parameters(**parameters)
        pid = os.getpid() if self.local else 0
        try:
            with executor.batch():
                submitted = [
                    executor.submit(TrainUnit(), str(self.jobs[number].folder), pid)
                    for number in numbers
                ]
        except Exception as error:  # submitit's own kinds, whatever sbatch said among them
            line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise NoAnswer(f"engine = 'slurm': the jobs were refused: {line[:200]}") from None
        for number, job in zip(numbers, submitted, strict=True):
            one = self.jobs[number]
            one.job = job
            write_atomically(one.folder / JOB_FILE, msgspec.json.encode(JobFile(job.job_id)))

    def hear(self, seconds: float) -> Iterator[Heard]:
        """What the jobs wrote, and which SLURM says have ended."""
        from shapelaw.sweeps.running.slurm_task import MESSAGES_FILE

        if not self.told:
            time.sleep(seconds)
        self._ask()
        told, self.told = self.told, []
        for number, said in told:
            yield number, said
            if isinstance(said, messages.Done):
                self.jobs.pop(number, None)
        for number, one in list(self.jobs.items()):
            if one.job is None:
                continue
            ended = one.ended
            for message in self._read(one, one.folder / MESSAGES_FILE):
                if number not in self.jobs:
                    break
                yield number, message
                if isinstance(message, messages.Done | messages.Trouble):
                    self.over.append(one)
                    self.jobs.pop(number, None)
            if ended and number in self.jobs:
                del self.jobs[number]
                yield number, self._obituary(one)

    def _ask(self) -> None:
        """Now and then, which jobs are over."""
        if time.monotonic() - self.asked < (1.0 if self.local else STATE_SECONDS):
            return
        self.asked = time.monotonic()
        mode = "force"
        for one in self.jobs.values():
            if one.job is None:
                continue
            if self.local:
                one.ended = one.job.done()
            else:
                state = one.job.watcher.get_state(one.job.job_id, mode=mode)
                one.ended = _word(state) not in _LIVE
                mode = "cache"  # one call tells of all

    def _read(self, one: _Job, path: Path) -> Iterator[messages.Message]:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            file.seek(one.position)
            new = file.read()
            one.position += len(new)
            *lines, one.unread = (one.unread + new).split(b"\n")
            for line in lines:
                with contextlib.suppress(msgspec.MsgspecError):
                    yield messages.decode(line)

    def _obituary(self, one: _Job) -> Gone:
        state = "FAILED"
        if not self.local:
            state = _word(one.job.watcher.get_state(one.job.job_id, mode="cache"))
        needed = "" if state == "OUT_OF_MEMORY" else None
        words = _last_line(Path(one.job.paths.stderr))
        return Gone(reason=f"its job {one.job.job_id} ended: {state}{words}", memory_needed=needed)

    def kill(self, worker: int) -> None:
        """Cancel a job."""
        one = self.jobs.pop(worker, None)
        if one is not None:
            self._cancel(one)

    def close(self) -> None:
        """Cancel all of them."""
        for one in self.jobs.values():
            self._cancel(one)
        self.jobs = {}
        for one in self.over if self.local else ():
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.job._process.wait(LAST_SECONDS)

    def _cancel(self, one: _Job) -> None:
        if one.job is None:
            return
        with contextlib.suppress(Exception):  # a cluster that does not answer has its own ways
            if self.local:
                kill_tree(one.job._process)
            else:
                one.job.cancel(check=False)
        (one.folder / JOB_FILE).unlink(missing_ok=True)


def _messages(path: Path) -> Iterator[messages.Message]:
    with contextlib.suppress(OSError):
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(msgspec.MsgspecError):
                yield messages.decode(line)


def _word(state: str) -> str:
    return (state.upper().split() or ["UNKNOWN"])[0].rstrip("+")


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    line = "".join(c for c in lines[-1] if c.isprintable())[:160] if lines else ""
    return f" ({line})" if line else ""


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise BadInput(
            "engine = 'slurm': submitit is not installed; pip install 'shapelaw[slurm]'"
        ) from None
    return submitit
