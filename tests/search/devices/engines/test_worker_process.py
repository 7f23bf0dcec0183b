"""An engine in a process of its own that crashes, hangs or is not there is one line."""

import sys
from pathlib import Path

import pytest

from shapelaw.scaling.errors import NoAnswer
from shapelaw.search.devices.engines.worker_process import run_worker

NOWHERE = Path("/no/such/script")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("import sys; sys.exit('model is broken')", "model is broken"),
        ("print('no json here')", "without an answer"),
        ("pass", "without an answer"),
    ],
)
def test_an_engine_that_crashes_is_one_line(program: str, said: str) -> None:
    with pytest.raises(NoAnswer, match=said) as error:
        run_worker("pretend", NOWHERE, {}, command=[sys.executable, "-c", program])
    assert "\n" not in str(error.value)


def test_an_engine_that_hangs_is_given_up() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(30)"]
    with pytest.raises(NoAnswer, match="did not answer"):
        run_worker("pretend", NOWHERE, {}, patience=0.2, command=sleeper)


def test_an_engine_that_is_not_there_is_one_line() -> None:
    with pytest.raises(NoAnswer, match="did not start"):
        run_worker("pretend", NOWHERE, {}, command=["/no/such/engine"])
