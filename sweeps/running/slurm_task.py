"""What a SLURM job does: trains one unit, and writes what it says into a file.

Imported by the job itself, and by the engine only where `submitit` is installed.
"""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import submitit

from shapelaw.sweeps.running import messages
from shapelaw.sweeps.running.trainers import PythonTrainer
from shapelaw.sweeps.running.worker import heartbeat, train_order
from shapelaw.sweeps.worker_environment import accelerator_expected, worker_environment

ORDER_FILE, MESSAGES_FILE = "order.json", "messages.jsonl"
WATCH_SECONDS = 1.0


class TrainUnit(submitit.helpers.Checkpointable):
    """Callable that submitit starts on a node; preempted, it asks to be queued again."""

    def __call__(self, folder: str, driver_pid: int = 0) -> None:
        """Train the order in `folder`.

        Args:
            driver_pid: on the driver's own machine, the process without which there is no point.
        """
        place = Path(folder)
        order = messages.decode_order((place / ORDER_FILE).read_bytes())
        if isinstance(order.trainer, PythonTrainer) and not accelerator_expected():
            os.environ.update(worker_environment())
        if driver_pid:
            threading.Thread(target=_end_with, args=(driver_pid,), daemon=True).start()
        speaking = threading.Lock()

        def tell(message: messages.Message) -> None:
            with speaking:
                _append(place, message)

        tell(messages.Ready(os.getpid(), socket.gethostname()))
        with heartbeat(tell):
            train_order(order, tell)

    def checkpoint(self, folder: str, driver_pid: int = 0) -> Any:
        """Preempted or out of time: say so, and be queued again with the same order."""
        _append(Path(folder), messages.Queued())
        return super().checkpoint(folder, driver_pid)


def _append(place: Path, message: messages.Message) -> None:
    """One write of a whole line at the file's end."""
    descriptor = os.open(place / MESSAGES_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, messages.encode(message))
    finally:
        os.close(descriptor)


def _end_with(pid: int) -> None:
    while True:
        with contextlib.suppress(PermissionError):
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                os._exit(1)
        time.sleep(WATCH_SECONDS)
