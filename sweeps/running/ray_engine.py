"""The Ray engine: the same jobs and the same records, on a cluster.

Each unit is one task that declares what it needs: a core, or its share of a GPU. Tasks stream
their messages back. The package must be installed on every node, and text must be readable there
under the same path.
"""

import contextlib
import itertools
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.user_files import shown
from shapelaw.sweeps.running import messages
from shapelaw.sweeps.running.dispatcher import Gone, Heard
from shapelaw.sweeps.running.trainers import PythonTrainer, Trainer
from shapelaw.sweeps.running.worker import heartbeat, train_order
from shapelaw.sweeps.running.worker_events import Unit
from shapelaw.sweeps.worker_environment import (
    ONE_THREAD,
    SHARED_ACCELERATOR,
    WORKERS_PER_ACCELERATOR,
    same_packages,
    worker_environment,
)

QUEUED_PER_CORE = 2
"""Tasks handed to Ray beyond those running, so that a core never waits for the driver."""
MESSAGES_A_LOOK = 100
LOOPBACK = "127.0.0.1"
HEAD_SECONDS = 5.0
"""Between two looks at whether the head of the cluster still answers, while nothing is heard."""
HEAD_SILENCES = 3
"""Looks in a row without an answer after which it is lost. Ray itself ends the process after a
minute, without a word of what to do."""
ANSWER_SECONDS = 3.0
"""For the head of a cluster to accept a connection. Ray itself tries for minutes."""


def work(order_line: bytes, on_accelerator: bool) -> Iterator[bytes]:
    """The task: trains one job and yields messages as they come. Runs on a worker of the cluster.

    The job trains in a thread of its own, so that how far it is can be told while it trains.
    """
    order = messages.decode_order(order_line)
    # Ray itself shows a task its own GPUs and no others.
    if isinstance(order.trainer, PythonTrainer):
        os.environ.update(SHARED_ACCELERATOR if on_accelerator else worker_environment())
    elif not on_accelerator:
        os.environ.update(ONE_THREAD)
    told: queue.SimpleQueue[messages.Message] = queue.SimpleQueue()
    yield messages.encode(messages.Ready(os.getpid(), socket.gethostname()))

    def train() -> None:
        try:
            train_order(order, told.put)
        except BaseException as error:  # an import that fails must not leave the task waiting
            told.put(messages.Trouble(order.number, repr(error)[:300], usual=False))

    threading.Thread(target=train, daemon=True).start()
    with heartbeat(told.put):
        while True:
            message = told.get()
            yield messages.encode(message)
            if isinstance(message, messages.Done | messages.Trouble):
                return


class RayEngine:
    """As `driver.Engine`, on a Ray cluster.

    Args:
        workers: the most tasks at once; as many as the cluster takes where None.
        address: of the cluster; `auto` for the one this machine belongs to, `local` to start one
            here for the length of the sweep, which listens to this machine alone.

    Raises:
        BadInput: Ray is not installed.
        NoAnswer: there is no cluster at the address.
    """

    shares_memory = True

    def __init__(
        self, *, workers: int | None, address: str, cache_dir: Path, trainer: Trainer
    ) -> None:
        self.ray = ray = _ray()
        self.cache_dir, self.trainer = cache_dir, trainer
        self.ours = not ray.is_initialized()
        self.running: dict[int, Any] = {}
        """Worker → stream of its messages."""
        self.processes: dict[int, messages.Ready] = {}
        self.numbers = itertools.count()
        self.looked, self.silences = time.monotonic(), 0
        self.lost = False
        """The head of the cluster is gone: nothing more can be asked of it."""
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the answer
            if self.ours:
                _connect(ray, address, workers)
            resources = ray.cluster_resources()
            self.head = ray.get_runtime_context().gcs_address
        self.on_accelerator = bool(resources.get("GPU"))
        gpus = 1.0  # of each task
        if isinstance(trainer, PythonTrainer):
            gpus = trainer.devices if trainer.devices > 1 else 1 / WORKERS_PER_ACCELERATOR
        places = int(resources["GPU"] / gpus if self.on_accelerator else resources.get("CPU", 1))
        self.most = workers or max(1, places) * QUEUED_PER_CORE
        # Retries are the driver's, so that they are seen and counted.
        self.task = ray.remote(
            max_retries=0,
            num_returns="streaming",
            num_cpus=1,
            num_gpus=gpus if self.on_accelerator else 0,
        )(work)

    def prepare(self, units_left: int) -> None:
        """Ray looks after its workers."""

    def room(self) -> bool:
        """Whether fewer tasks are out than there may be."""
        return len(self.running) < self.most

    def give(self, unit: Unit, more_memory: bool) -> int | None:
        """Hand a task to Ray."""
        order = messages.Order(unit.number, unit.jobs, self.trainer, str(self.cache_dir))
        number = next(self.numbers)
        self.running[number] = self.task.remote(messages.encode(order), self.on_accelerator)
        return number

    def hear(self, seconds: float) -> Iterator[Heard]:
        """What tasks said, and which were lost. Raises NoAnswer where the cluster is gone."""
        self._look_at_head()
        for _ in range(MESSAGES_A_LOOK):
            by_stream = {stream: number for number, stream in self.running.items()}
            if not by_stream:
                return
            ready, _ = self.ray.wait(
                list(by_stream), num_returns=1, timeout=seconds, fetch_local=False
            )
            if not ready:
                return
            seconds = 0.0
            for stream in ready:
                yield by_stream[stream], self._next(by_stream[stream], stream)

    def _look_at_head(self) -> None:
        if time.monotonic() - self.looked < HEAD_SECONDS:
            return
        host, _, port = self.head.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_SECONDS).close()
            self.silences = 0
        except OSError:
            self.silences += 1
        self.looked = time.monotonic()
        if self.silences >= HEAD_SILENCES:
            self.lost = True
            raise NoAnswer(
                f"the head of the Ray cluster at {self.head} no longer answers; finished runs are "
                "kept, and the same command goes on once a cluster is there"
            )

    def _next(self, number: int, stream: Any) -> messages.Message | Gone:
        try:
            message = messages.decode(self.ray.get(next(stream)))
        except StopIteration:
            del self.running[number]
            return Gone(reason="its task ended early")
        except self.ray.exceptions.OutOfMemoryError:
            del self.running[number]
            return Gone(reason="Ray killed its worker", memory_needed="")
        except self.ray.exceptions.RayError as error:
            del self.running[number]
            return Gone(reason=f"its worker was lost ({type(error).__name__})")
        if isinstance(message, messages.Ready):
            self.processes[number] = message
        if isinstance(message, messages.Done | messages.Trouble):
            self.running.pop(number, None)
        return message

    def kill(self, worker: int) -> None:
        """End a task; a worker process here that is stopped would not hear Ray ask for that."""
        stream = self.running.pop(worker, None)
        if stream is None:
            return
        self.ray.cancel(stream, force=True)
        process = self.processes.get(worker)
        if process is not None and process.host == socket.gethostname():
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End all tasks, and the cluster where it was started here."""
        if self.lost:  # asking would wait for a minute, and then Ray ends the process
            self.running = {}
            return
        for stream in self.running.values():
            self.ray.cancel(stream, force=True)
        self.running = {}
        if self.ours:
            with contextlib.redirect_stdout(sys.stderr):
                self.ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BadInput(
            "engine = 'ray': Ray is not installed; pip install 'shapelaw[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str, workers: int | None) -> None:
    _check_answers(address)
    environment = {"env_vars": same_packages()}
    # A node whose address is the loopback's has every service listen there alone.
    local = {"num_cpus": workers, "include_dashboard": False, "_node_ip_address": LOOPBACK}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="error",
            runtime_env=environment,
            configure_logging=False,
            **(local if address == "local" else {}),
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NoAnswer(
            f"address = {address!r}: no Ray cluster answers ({line}); start one with "
            "'ray start --head', or use --address local"
        ) from None


def _check_answers(address: str) -> None:
    """Raises NoAnswer where nothing listens at the address that Ray would go to."""
    head, named_by = _head_of(address)
    if head is None:  # Ray looks for a cluster itself, and is quick to say that there is none
        return
    host, _, port = head.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError):
        raise NoAnswer(
            f"address = {address!r}: no Ray cluster answers at {shown(head, 60)}{named_by}; start "
            "one with 'ray start --head', or use --address local"
        ) from None


def _head_of(address: str) -> tuple[str | None, str]:
    """Where Ray looks for the head, and in words what says so; None where nothing does."""
    if address == "local":
        return None, ""
    if address != "auto":
        return address, ""
    if (said := os.environ.get("RAY_ADDRESS")) not in (None, "", "auto", "local"):
        return said, ", which RAY_ADDRESS names"
    # Left by `ray start --head`, and taken away by `ray stop`: a head that was killed leaves it.
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    record = Path(folder, "ray", "ray_current_cluster")
    try:
        head = record.read_text(errors="replace").strip()
    except OSError:
        return None, ""
    return head or None, f", which {record} names ('ray stop' removes it)"
