"""The fuzzer finds no fault here, and would find one."""

import functools
import sys
import time
import warnings

import pytest

from benchmarks.fuzz import forked_server
from benchmarks.fuzz.__main__ import fuzz
from benchmarks.fuzz.forked_server import judged, serve


def test_a_short_run_finds_no_fault() -> None:
    assert fuzz(40, seed=0)["kinds"] == {}


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


def test_each_kind_of_fault_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked_server, "PATIENCE_SECONDS", 1.0)
    runs = (_broken, _warned, _talkative, _coloured, _endless, _well)
    said = list(serve([functools.partial(judged, run) for run in runs]))
    words = ("KeyError", "RuntimeWarning", "410 characters", "control characters", "longer", "")
    for word, what in zip(words, said, strict=True):
        assert word in what
    assert said[-1] == ""
