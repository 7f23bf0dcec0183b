"""Six runs by the Hugging Face example on every engine, its driver killed in the middle.

    python -m benchmarks.external_trainers [--engines local ray slurm] [--json]     minutes

On each engine a sweep is begun, its driver is killed (SIGKILL) when two runs are recorded, and the
same sweep is started again. Told are how many runs the second start trained, reused and lost,
whether any trainer outlived its driver, whether every run is recorded once with the loss that the
first engine gave it, and the law fitted to the records. SLURM is submitit's local executor.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shapelaw.results.store import RUNS_FILE, read_records
from shapelaw.results.tables.reader import read_tables
from shapelaw.scaling.fit import fit_law
from shapelaw.sweeps.design.design import read_design
from shapelaw.sweeps.running.run_sweep import ENGINES, EngineName, run_sweep

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "train_with_hugging_face.py"
COMMAND = shlex.join([sys.executable, str(EXAMPLE)]) + " --config {config} --run {run} --out {out}"
DESIGN = """
    name = "hugging-face"
    validation_tokens = 8_192
    sequence_length = 64
    token_budgets = [60_000, 120_000]
    [base]
    non_embedding = [8_000, 16_000, 32_000]
"""
RUNS = 6
KILLED_AFTER = 2
"""Runs on record when the driver is killed."""
PATIENCE_SECONDS = 900.0
OUTLIVES_SECONDS = 10.0
"""How long a trainer may still be there after its driver was killed."""


def drive(folder: Path, engine: EngineName) -> dict[str, int]:
    """One start of the sweep, in this process."""
    result = run_sweep(
        read_design(DESIGN),
        folder,
        command=COMMAND,
        trainer_name="hugging-face",
        engine=engine,
        address="auto" if engine == "local" else "local",
        workers=2,
        live=False,
    )
    return {"trained": result.finished, "reused": result.reused, "failed": result.failed}


def start(folder: Path, engine: EngineName) -> subprocess.Popen[str]:
    """The same in a process of its own, which prints what came of it."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.external_trainers", "--drive", str(folder), engine],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def recorded(folder: Path) -> int:
    """Lines of the store."""
    path = folder / RUNS_FILE
    return path.read_bytes().count(b"\n") if path.exists() else 0


def trainers_of(folder: Path) -> list[int]:
    """Processes that train a run of the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if str(EXAMPLE) in words and any(word.startswith(str(folder)) for word in words):
                found.append(int(entry.name))
    return found


def killed_and_resumed(folder: Path, engine: EngineName) -> dict[str, Any]:
    """What a killed and a second driver leave in the folder."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    first = start(folder, engine)
    while recorded(folder) < KILLED_AFTER:
        if first.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{engine}: the first driver ended before it could be killed")
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    held = recorded(folder)
    gone_by = time.monotonic() + OUTLIVES_SECONDS
    while (outlived := len(trainers_of(folder))) and time.monotonic() < gone_by:
        time.sleep(0.2)
    said, _ = start(folder, engine).communicate(timeout=PATIENCE_SECONDS)
    lines = [json.loads(line) for line in (folder / RUNS_FILE).read_text().splitlines()]
    records = read_records(folder)
    table, _ = read_tables([str(folder)], None)
    law = fit_law(table, form="chinchilla", bootstrap=0, holdout=False).law
    return {
        "on_record_when_killed": held,
        "trainers_that_outlived_it": outlived,
        **json.loads(said.splitlines()[-1]),
        "lines": len(lines),
        "runs": len({line["run_key"] for line in lines}),
        "losses": {record.run_key: record.loss for record in records},
        "law": law.parameters,
    }


def compared(by_engine: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures, with the largest difference in loss from the first engine's."""
    first = next(iter(by_engine.values()))["losses"]
    for one in by_engine.values():
        losses = one.pop("losses")
        one["same_keys"] = losses.keys() == first.keys()
        one["largest_difference_nats"] = max(abs(losses[key] - first[key]) for key in first)
        one["holds"] = (
            one["trained"] + one["reused"] == one["lines"] == one["runs"] == RUNS
            and one["reused"] >= one["on_record_when_killed"]
            and not one["failed"]
            and not one["trainers_that_outlived_it"]
            and one["same_keys"]
        )
    return by_engine


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--drive", nargs=2, metavar=("FOLDER", "ENGINE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        print(json.dumps(drive(Path(options.drive[0]), options.drive[1])))
        sys.stdout.flush()
        os._exit(0)
    found = {}
    with tempfile.TemporaryDirectory() as place:
        for engine in options.engines:
            found[engine] = killed_and_resumed(Path(place).resolve() / engine, engine)
            print(f"{engine}: {found[engine]}", file=sys.stderr)
    compared(found)
    if options.json:
        print(json.dumps(found))
        return
    for engine, one in found.items():
        print(
            f"{engine:6} killed with {one['on_record_when_killed']} on record; then "
            f"{one['trained']} trained, {one['reused']} reused, {one['failed']} failed; "
            f"{one['runs']} runs once each; losses within "
            f"{one['largest_difference_nats']:.1e} nats; "
            f"{'holds' if one['holds'] else 'DOES NOT HOLD'}"
        )


if __name__ == "__main__":
    main()
