"""A worker process: trains one job after another, told and telling by lines of JSON.

    python -m sweeps.process CORE|accelerator TRAINER       orders on stdin, messages on stdout

It lives as long as its stdin: when the driver dies, however it dies, the pipe ends and so does
the worker. What it or its libraries print goes to stderr.
"""

import importlib
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shapelaw.results.record import RunRecord
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.running import messages
from shapelaw.sweeps.worker_environment import pin_to_core

Trainer = Callable[..., Iterator[RunRecord]]
"""As `sweeps.train.train_trunk`."""

DEFAULT_TRAINER = "shapelaw.sweeps.training.trainer:train_trunk"


def find_trainer(name: str) -> Trainer:
    """`module:function`, imported. The name comes from the calling program, never from a file."""
    module, _, function = name.partition(":")
    found: Trainer = getattr(importlib.import_module(module), function)
    return found


def train_order(
    order: messages.Order, trainer: str, tell: Callable[[messages.Message], None]
) -> None:
    """Train what was ordered, telling each step of the way; the last word is Done or Trouble."""
    number = order.number

    def progress(stand: Any) -> None:
        tell(
            messages.Standing(
                number, stand.tokens, stand.total_tokens, stand.loss, stand.tokens_per_second
            )
        )

    try:
        for record in _records(order, trainer, progress):
            tell(messages.Result(number, record))
    except BadInput as error:
        tell(messages.Trouble(number, str(error), usual=True))
    except Exception as error:  # whatever a framework raises becomes a reason in the record
        traceback.print_exc()
        line = (str(error).strip().splitlines() or [""])[0]
        tell(messages.Trouble(number, f"{type(error).__name__}: {line}"[:300], usual=False))
    else:
        tell(messages.Done(number))


def _records(
    order: messages.Order, trainer: str, progress: Callable[[Any], None]
) -> Iterator[RunRecord]:
    cache_dir = Path(order.cache_dir)
    options: dict[str, Any] = {}
    if order.checkpoint_dir is not None:
        options["checkpoint_dir"] = Path(order.checkpoint_dir)
    if trainer == DEFAULT_TRAINER and len(order.jobs) > 1:
        from shapelaw.sweeps.training.population import train_population

        yield from train_population(order.jobs, cache_dir=cache_dir, progress=progress)
        return
    train = find_trainer(trainer)
    for job in order.jobs:
        yield from train(job, cache_dir=cache_dir, progress=progress, **options)


def _listen(orders: "queue.SimpleQueue[bytes]") -> None:
    for line in sys.stdin.buffer:
        orders.put(line)
    os._exit(0)  # the driver is gone or wants no more; what is half trained is nobody's


def main(place: str, trainer_name: str) -> None:
    """Serve until stdin ends."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    if place.isdecimal():
        pin_to_core(int(place))
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    find_trainer(trainer_name)  # the long imports come before the first order

    def tell(message: messages.Message) -> None:
        line = messages.encode(message)
        while line:
            line = line[out.write(line) or 0 :]

    tell(messages.Ready())
    while True:
        order = messages.decode_order(orders.get())
        failed = False

        def relay(message: messages.Message) -> None:
            nonlocal failed
            failed = failed or isinstance(message, messages.Trouble)
            tell(message)

        train_order(order, trainer_name, relay)
        if failed:  # an accelerator's memory may be in any state: a fresh process takes over
            os._exit(3)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BaseException:  # the listening thread holds stdin, so a usual exit would hang on it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
