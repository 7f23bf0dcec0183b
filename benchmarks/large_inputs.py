"""Inputs larger than anyone's: what a table of a million rows and a sweep of 10,000 runs cost.

    python -m benchmarks.large_inputs [--rows 1000000] [--runs 10000] [--json]

Both are made here, the table from a known law with shapes and twenty checkpoints a run, the sweep
by repeating the records of the reference study with other keys and seeds and noisy losses. Each
command runs in a process of its own; its processor time and its largest memory are what the system
says of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.fit import large_table
from shapelaw.results.store import RUNS_FILE

NOISE = 0.003
"""Of ln loss, between repeated records."""
ROWS_A_RUN = 20


class Cost(NamedTuple):
    """What one command took."""

    command: str
    cpu_seconds: float
    peak_gib: float
    exit_code: int
    said: str
    """Its last line on stderr."""


def write_table(path: Path, rows: int) -> None:
    """A CSV of checkpoints with run, N, D, loss, width and depth."""
    table = large_table(rows, rows // ROWS_A_RUN)
    width, depth = table.shape["d_model"], table.shape["n_layers"]
    with path.open("w", encoding="utf-8") as file:
        file.write("run,n,d,loss,d_model,n_layers\n")
        for row in zip(table.run, table.n, table.d, table.loss, width, depth, strict=True):
            file.write("{},{:.0f},{:.0f},{:.5f},{:.2f},{:.3f}\n".format(*row))


def write_sweep(folder: Path, runs: int) -> None:
    """A sweep's folder with so many finished runs."""
    generator = np.random.default_rng(0)
    shipped = resources.files("shapelaw.results.reference") / RUNS_FILE
    records = [json.loads(line) for line in shipped.read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if record["status"] == "finished"]
    folder.mkdir()
    with (folder / RUNS_FILE).open("w", encoding="utf-8") as file:
        for number in range(runs):
            copy, which = divmod(number, len(records))
            record = dict(records[which])
            record["run_key"] = f"{number:016x}"
            record["trunk_key"] = f"{copy:04x}{record['trunk_key'][4:]}"
            record["seed"] += 1000 * copy
            record["loss"] *= float(np.exp(NOISE * generator.standard_normal()))
            file.write(json.dumps(record) + "\n")


def cost(*arguments: str | Path) -> Cost:
    """Run a command line of shapelaw to its end."""
    words = [str(argument) for argument in arguments]
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "shapelaw", *words], stdout=subprocess.DEVNULL, stderr=err
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        err.seek(0)
        said = err.read().decode(errors="replace").strip().splitlines()
    return Cost(
        " ".join([words[0], *(word for word in words[1:] if word.startswith("--"))]),
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 2**20,
        process.returncode,
        said[-1] if said else "",
    )


def measured(rows: int, runs: int, place: Path) -> dict[str, Any]:
    """Both inputs, made in `place`, and what each command on them took."""
    table, sweep = place / "runs.csv", place / "sweep"
    write_table(table, rows)
    write_sweep(sweep, runs)
    return {
        "table": {
            "rows": rows,
            "bytes": table.stat().st_size,
            "commands": [cost("fit", table, "--json")._asdict()],
        },
        "sweep": {
            "runs": runs,
            "bytes": (sweep / RUNS_FILE).stat().st_size,
            "commands": [
                cost("sweep", "--status", sweep, "--json")._asdict(),
                cost("fit", sweep, "--json")._asdict(),
            ],
        },
    }


def main() -> None:
    """Print what each took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measured(asked.rows, asked.runs, Path(place))
    if asked.json:
        print(json.dumps(found))
        return
    for name, one in found.items():
        size = one["rows"] if name == "table" else one["runs"]
        print(f"{name} of {size:,}, {one['bytes'] / 1e6:.0f} MB")
        for each in one["commands"]:
            took = f"{each['cpu_seconds']:6.1f} s of CPU, {each['peak_gib']:.2f} GiB"
            print(
                f"  {each['command']:22s} {took}, exit {each['exit_code']} {each['said']}".rstrip()
            )


if __name__ == "__main__":
    main()
