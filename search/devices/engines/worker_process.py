"""One job in a process of its own: what crashes, hangs or holds memory there is not here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from shapelaw.scaling.errors import NoAnswer

PATIENCE = 600.0
"""Seconds after which a process that has not answered is given up."""


def run_worker(
    engine: str,
    script: Path,
    job: dict[str, Any],
    *,
    patience: float | None = None,
    spin_count: str = "",
    command: list[str] | None = None,
) -> dict[str, Any]:
    """Send a script one JSON job, return its JSON answer.

    Args:
        engine: its name, for errors.
        patience: seconds to wait, `PATIENCE` by default.
        spin_count: of OpenMP's waiting threads, where the environment says nothing.
        command: instead of this Python and the script.

    Raises:
        NoAnswer: it crashed, failed, or took too long; one line says how.
    """
    worker = command or [sys.executable, "-P", str(script)]
    environment = dict(os.environ)
    if spin_count:
        environment.setdefault("GOMP_SPINCOUNT", spin_count)
    limit = PATIENCE if patience is None else patience
    try:
        done = subprocess.run(
            worker,
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=limit,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"the {engine} engine did not answer within {limit:g} s") from None
    except OSError as error:
        raise NoAnswer(f"the {engine} engine did not start: {error}") from None
    if done.returncode:
        how = (
            f"was ended by signal {-done.returncode}"
            if done.returncode < 0
            else f"ended with code {done.returncode}"
        )
        said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise NoAnswer(f"the {engine} engine {how}: {said[:200]}")
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise NoAnswer(f"the {engine} engine ended without an answer") from None
    return dict(answer)
