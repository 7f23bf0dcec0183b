"""What driver and worker say to each other, one JSON line each. Nothing is pickled."""

import msgspec

from shapelaw.results.record import RunRecord
from shapelaw.sweeps.running.trainers import Trainer
from shapelaw.sweeps.training.trunk import TrunkJob


class Order(msgspec.Struct, frozen=True, tag=True):
    """Driver to worker: train this."""

    number: int
    jobs: tuple[TrunkJob, ...]
    trainer: Trainer
    cache_dir: str
    checkpoint_dir: str | None = None


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Worker to driver: imported and waiting, or about to take up its one order."""

    pid: int = 0
    host: str = ""


class Alive(msgspec.Struct, frozen=True, tag=True):
    """Worker to driver, every few seconds from a thread of its own."""

    cpu_seconds: float
    """Of the process so far: a hung one gains none."""
    memory_bytes: int


class Queued(msgspec.Struct, frozen=True, tag=True):
    """Worker to driver: preempted, waiting to be begun again; nothing is heard until `Ready`."""


class Standing(msgspec.Struct, frozen=True, tag=True):
    """Worker to driver: where the job stands."""

    number: int
    tokens: int
    total_tokens: int
    loss: float
    tokens_per_second: float
    note: str = ""


class Result(msgspec.Struct, frozen=True, tag=True):
    """Worker to driver: one budget is done."""

    number: int
    record: RunRecord


class Done(msgspec.Struct, frozen=True, tag=True):
    """Worker to driver: all budgets of the job are done."""

    number: int


class Trouble(msgspec.Struct, frozen=True, tag=True):
    """Worker to driver: the job raised. The worker ends itself after saying so."""

    number: int
    reason: str
    usual: bool
    """Whether it is the user's input: no use trying again."""
    memory_needed: str | None = None
    """Where memory ran out: what was asked for, in words ("" where nothing says how much)."""


Message = Ready | Alive | Queued | Standing | Result | Done | Trouble

_ENCODER = msgspec.json.Encoder()
_MESSAGES = msgspec.json.Decoder(Message)
_ORDERS = msgspec.json.Decoder(Order)


def encode(message: Message | Order) -> bytes:
    """One line."""
    return _ENCODER.encode(message) + b"\n"


def decode(line: bytes) -> Message:
    """A worker's line. Raises msgspec.MsgspecError where it is none."""
    return _MESSAGES.decode(line)


def decode_order(line: bytes) -> Order:
    """A driver's line."""
    return _ORDERS.decode(line)
