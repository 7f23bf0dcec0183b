"""A worker process: trains one job after another, told and telling by lines of JSON.

    python -m shapelaw.sweeps.running.worker CORE|accelerator MODULE

Orders come on stdin, messages go to stdout; MODULE is imported before the first. It lives as long
as its stdin: when the driver dies, however it dies, the pipe ends and so does the worker, with
whatever it started. What it or its libraries print goes to stderr.
"""

import contextlib
import importlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shapelaw.results.record import RunRecord
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.running import messages
from shapelaw.sweeps.running.external_trainer import TrainerFailed, train_with_command
from shapelaw.sweeps.running.memory import memory_in_use, memory_needed
from shapelaw.sweeps.running.trainers import BUILT_IN, CommandTrainer
from shapelaw.sweeps.worker_environment import pin_to_core

HEARTBEAT_SECONDS = 5.0
LONGEST_REASON = 300
Tell = Callable[[messages.Message], None]


def train_order(order: messages.Order, tell: Tell) -> None:
    """Train what was ordered, telling each step of the way; the last word is Done or Trouble."""
    number = order.number

    def progress(stand: Any) -> None:
        tell(
            messages.Standing(
                number,
                stand.tokens,
                stand.total_tokens,
                stand.loss,
                stand.tokens_per_second,
                stand.note,
            )
        )

    try:
        for record in _records(order, progress):
            tell(messages.Result(number, record))
    except BadInput as error:
        tell(messages.Trouble(number, str(error), usual=True))
    except TrainerFailed as error:
        tell(messages.Trouble(number, str(error), False, memory_needed(error.last_words)))
    except Exception as error:  # whatever a framework raises becomes a reason in the record
        traceback.print_exc()
        line = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {line}"[:LONGEST_REASON]
        tell(messages.Trouble(number, reason, False, memory_needed(f"{reason} {error}")))
    else:
        tell(messages.Done(number))


def _records(order: messages.Order, progress: Callable[[Any], None]) -> Iterator[RunRecord]:
    cache_dir, trainer = Path(order.cache_dir), order.trainer
    if isinstance(trainer, CommandTrainer):
        for job in order.jobs:
            yield from train_with_command(trainer, job, cache_dir=cache_dir, progress=progress)
        return
    options: dict[str, Any] = {}
    if order.checkpoint_dir is not None:
        options["checkpoint_dir"] = Path(order.checkpoint_dir)
    if trainer.devices > 1:
        options |= {"devices": trainer.devices, "fully_sharded": trainer.fully_sharded}
    elif trainer.function == BUILT_IN and len(order.jobs) > 1:
        from shapelaw.sweeps.training.seed_population import train_population

        yield from train_population(order.jobs, cache_dir=cache_dir, progress=progress)
        return
    # The name comes from the calling program, never from a file.
    train = getattr(importlib.import_module(trainer.module), trainer.function.partition(":")[2])
    for job in order.jobs:
        yield from train(job, cache_dir=cache_dir, progress=progress, **options)


@contextlib.contextmanager
def heartbeat(tell: Tell, seconds: float = HEARTBEAT_SECONDS) -> Iterator[None]:
    """Say every few seconds, from a thread, that this process lives and what it uses."""
    ended = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(OSError):
                tell(messages.Alive(time.process_time(), memory_in_use()))
            if ended.wait(seconds):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()


def _listen(orders: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        orders.put(line)
    # The driver is gone or wants no more; what is half trained is nobody's. SIGKILL reaches the
    # whole group, this process too.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def main(place: str, module: str) -> None:
    """Serve until stdin ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    if place.isdecimal():
        pin_to_core(int(place))
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    importlib.import_module(module)  # the long imports come before the first order
    speaking = threading.Lock()

    def tell(message: messages.Message) -> None:
        line = messages.encode(message)
        with speaking:
            while line:
                line = line[out.write(line) or 0 :]

    tell(messages.Ready(os.getpid()))
    while True:
        order = messages.decode_order(orders.get())
        failed = False

        def relay(message: messages.Message) -> None:
            nonlocal failed
            failed = failed or isinstance(message, messages.Trouble)
            tell(message)

        with heartbeat(tell):
            train_order(order, relay)
        if failed:  # an accelerator's memory may be in any state: a fresh process takes over
            os._exit(3)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BaseException:  # the listening thread holds stdin, so a usual exit would hang on it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
