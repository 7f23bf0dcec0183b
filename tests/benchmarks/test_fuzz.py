"""The fuzzer finds no fault here, and would find one.

The fuzzer forks, which JAX warns of once it has started its threads: each test is a new process.
"""

import functools
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from benchmarks.fuzz import forked_server
from benchmarks.fuzz.__main__ import fuzz
from benchmarks.fuzz.forked_server import judged, serve

T = TypeVar("T")


def _in_new_process(run: Callable[[], T]) -> T:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run).result()


def _short_run() -> object:
    return fuzz(40, seed=0)["kinds"]


def test_a_short_run_finds_no_fault() -> None:
    assert _in_new_process(_short_run) == {}


def _broken() -> None:
    raise KeyError("n")


def _warned() -> None:
    warnings.warn("overflow", RuntimeWarning, stacklevel=1)


def _talkative() -> None:
    print("shapelaw: " + "x" * 400, file=sys.stderr)
    raise SystemExit(2)


def _coloured() -> None:
    print("\x1b[31mred")


def _endless() -> None:
    while True:
        time.sleep(0.01)


def _well() -> None:
    print("well")


RUNS = (_broken, _warned, _talkative, _coloured, _endless, _well)


def _each_kind() -> list[str]:
    forked_server.PATIENCE_SECONDS = 1.0
    return list(serve([functools.partial(judged, run) for run in RUNS]))


def test_each_kind_of_fault_is_one() -> None:
    said = _in_new_process(_each_kind)
    words = ("KeyError", "RuntimeWarning", "410 characters", "control characters", "longer", "")
    for word, what in zip(words, said, strict=True):
        assert word in what
    assert said[-1] == ""
