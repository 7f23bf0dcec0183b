"""The fuzzer finds no fault here, and would find one."""

import pytest

import shapelaw.cli
from benchmarks.fuzz import fuzz, run


def test_a_short_run_finds_no_fault() -> None:
    assert fuzz(32, seed=0)["kinds"] == {}


def test_a_traceback_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise KeyError("n")

    monkeypatch.setattr(shapelaw.cli, "main", broken)
    assert "KeyError" in run(["fit", "x"])
