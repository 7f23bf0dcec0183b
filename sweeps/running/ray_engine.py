"""The Ray engine: the same jobs and the same records, on a cluster.

Each trunk is one task that declares what it needs: a core, or its share of a GPU. Tasks stream
their records back; the driver alone writes. A task whose worker or node is lost is begun again.
The package must be installed on every node, and text must be readable there under the same path.
"""

import contextlib
import itertools
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

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
from shapelaw.sweeps.running.local_engine import ATTEMPTS, ATTEMPTS_RAISING, TICK_SECONDS
from shapelaw.sweeps.running.worker import DEFAULT_TRAINER, train_order
from shapelaw.sweeps.worker_environment import (
    SHARED_ACCELERATOR,
    WORKERS_PER_ACCELERATOR,
    same_packages,
    worker_environment,
)

QUEUED_PER_CORE = 2
"""Tasks handed to Ray beyond those running, so that a core never waits for the driver."""


def work(order_line: bytes, trainer_name: str, on_accelerator: bool) -> Iterator[bytes]:
    """The task: trains one job and yields messages as they come. Runs on a worker of the cluster.

    The job trains in a thread of its own, so that how far it is can be told while it trains.
    """
    # Ray itself shows a task its own GPUs and no others.
    os.environ.update(SHARED_ACCELERATOR if on_accelerator else worker_environment())
    order = messages.decode_order(order_line)
    told: queue.SimpleQueue[messages.Message] = queue.SimpleQueue()
    yield messages.encode(messages.Ready())

    def train() -> None:
        try:
            train_order(order, trainer_name, told.put)
        except BaseException as error:  # an import that fails must not leave the task waiting
            told.put(messages.Trouble(order.number, repr(error)[:300], usual=False))

    threading.Thread(target=train, daemon=True).start()
    while True:
        message = told.get()
        yield messages.encode(message)
        if isinstance(message, messages.Done | messages.Trouble):
            return


def run_ray(
    units: Sequence[Unit],
    *,
    workers: int | None,
    address: str,
    cache_dir: Path,
    trainer: str = DEFAULT_TRAINER,
    attempts: int = ATTEMPTS,
) -> Generator[Event]:
    """Train every unit on a Ray cluster; yields what happens, as `local.run_local` does.

    Args:
        workers: the most tasks at once; as many as the cluster takes where None.
        address: of the cluster; `auto` for the one this machine belongs to, `local` to start one
            here for the length of the sweep.

    Raises:
        BadInput: Ray is not installed, or a job no worker can make sense of.
        NoAnswer: there is no cluster at the address.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the answer
        if ours:
            _connect(ray, address, workers)
        try:
            yield from _run(ray, units, workers, cache_dir, trainer, attempts)
        finally:
            if ours:
                ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BadInput(
            "engine = 'ray': Ray is not installed; pip install 'shapelaw[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str, workers: int | None) -> None:
    environment = {"env_vars": same_packages()}
    local = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="error",
            runtime_env=environment,
            configure_logging=False,
            **local,
        )
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NoAnswer(
            f"address = {address!r}: no Ray cluster answers ({line}); start one with "
            "'ray start --head', or use --address local"
        ) from None


def _run(
    ray: Any,
    units: Sequence[Unit],
    workers: int | None,
    cache_dir: Path,
    trainer: str,
    attempts: int,
) -> Generator[Event]:
    resources = ray.cluster_resources()
    on_accelerator = bool(resources.get("GPU"))
    needs = {"num_cpus": 1, "num_gpus": 1 / WORKERS_PER_ACCELERATOR if on_accelerator else 0}
    places = int(
        resources["GPU"] * WORKERS_PER_ACCELERATOR if on_accelerator else resources.get("CPU", 1)
    )
    most = workers or max(1, places) * QUEUED_PER_CORE
    # Retries are this driver's, so that they are seen and counted.
    task = ray.remote(max_retries=0, num_returns="streaming", **needs)(work)
    waiting = deque(units)
    tried: dict[int, int] = {}
    running: dict[Any, tuple[Unit, int]] = {}
    numbers = itertools.count()
    lost = (ray.exceptions.RayError,)
    try:
        while waiting or running:
            while waiting and len(running) < most:
                unit = waiting.popleft()
                tried[unit.number] = tried.get(unit.number, 0) + 1
                order = messages.encode(messages.Order(unit.number, unit.jobs, str(cache_dir)))
                running[task.remote(order, trainer, on_accelerator)] = (unit, next(numbers))
            ready, _ = ray.wait(
                list(running), num_returns=1, timeout=TICK_SECONDS, fetch_local=False
            )
            for stream in ready:
                unit, number = running[stream]
                reason, limit = None, attempts
                try:
                    message = messages.decode(ray.get(next(stream)))
                except StopIteration:
                    reason = "its task ended early"
                except lost as error:
                    reason = f"its worker was lost ({type(error).__name__})"
                else:
                    match message:
                        case messages.Ready():
                            yield Started(unit, number)
                        case messages.Standing():
                            yield Stands(number, message)
                        case messages.Result(record=record):
                            yield Finished(as_planned(unit, record))
                        case messages.Done():
                            del running[stream]
                            yield TrunkDone(unit, number)
                        case messages.Trouble():
                            if message.usual:
                                raise BadInput(message.reason)
                            reason = message.reason
                            limit = min(attempts, ATTEMPTS_RAISING)
                if reason is not None:
                    del running[stream]
                    if tried[unit.number] >= limit:
                        yield GaveUp(unit, f"{reason} ({tried[unit.number]} attempts)")
                    else:
                        waiting.appendleft(unit)
                        yield Lost(unit, number, reason)
            yield Idle(time.monotonic())
    finally:
        for stream in running:
            ray.cancel(stream, force=True)
