"""Modules in the user's folder named like ours or like our dependencies are never imported."""

import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ("results", "scaling", "search", "sweeps", "optax", "jax", "flax", "numpy", "click")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder where each such module leaves a mark when it is imported, and fails."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(
            f"import pathlib; pathlib.Path(__file__).with_suffix('.imported').touch()\n"
            f"raise ImportError('the {name} of the current folder')\n"
        )
    (tmp_path / "runs.csv").write_text(
        "n,d,loss\n"
        + "\n".join(
            f"{n},{d},{1.8 + 400 * n**-0.34 + 2000 * d**-0.37}"
            for n in (1e8, 3e8, 1e9)
            for d in (1e9, 1e10, 1e11)
        )
    )
    return tmp_path


def run(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "shapelaw", *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("*.imported"))


def test_fit_and_query(hostile: Path) -> None:
    run(hostile, "fit", "runs.csv", "--form", "chinchilla", "--bootstrap", "10", "--json")
    run(
        hostile, "query", "--device", "iphone-13", "--memory", "400MB", "--tokens", "1e12", "--json"
    )


@pytest.mark.long
def test_sweep(hostile: Path) -> None:
    """The driver and its workers."""
    run(hostile, "sweep", "smoke", "--out", "sweep")


@pytest.mark.long
def test_calibrate(hostile: Path) -> None:
    """The engine's own process."""
    pytest.importorskip("xllamacpp")
    run(hostile, "calibrate", "--name", "here", "--engine", "llama.cpp", "--quick",
        "--out", "here.toml")  # fmt: skip
