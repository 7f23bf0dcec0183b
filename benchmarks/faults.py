"""The fault drill: random kill -9 of a sweep's driver and workers; then count what is left.

    python -m benchmarks.faults [--kills 100] [--seed 0]

A small sweep is begun again and again until it is done, while its processes are killed at random.
Afterwards every run must stand in the file exactly once, and the table must equal that of a sweep
nobody disturbed. `benchmarks.simulated_trainer` trains nothing, so that kills fall on the
machinery: starting, giving, recording, resuming.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import simulated_trainer
from shapelaw.results.store import RUNS_FILE, read_records
from shapelaw.sweeps.design.design import Design, read_design

BUDGET_SECONDS = 0.15
WORKERS = 2
SHORTEST, LONGEST = 0.05, 0.9
"""Seconds between kills, drawn evenly in the logarithm: some fall into the start, some later."""
KILLED_WHILE_STARTING, KILLED_DRIVERS = 0.2, 0.4
"""Chance that a driver without workers yet is killed, and one with them rather than they."""
PATIENCE_SECONDS = 600.0


def design(corpus: Path) -> Design:
    """Eight trunks of two budgets over a text of a few kilobytes."""
    words = ("alpha", "beta", "gamma", "delta")
    corpus.mkdir(parents=True, exist_ok=True)
    for number in range(120):
        generator = random.Random(number)
        text = " ".join(generator.choice(words) for _ in range(300))
        (corpus / f"{number:03d}.txt").write_text(text)
    return read_design(f"""
        name = "drill"
        text = ['{corpus}/*.txt']
        validation_tokens = 1024
        tokens_per_parameter = [5, 10]
        seeds = [0, 1]
        [base]
        non_embedding = [4_000, 8_000]
        [vary]
        mlp_attention_ratio = [1.0]
        sharing = [2]
    """)


def drive(folder: Path) -> None:
    """One try at the sweep, in this process."""
    from shapelaw.sweeps.running.run_sweep import run_sweep

    run_sweep(
        design(folder.parent / "text"),
        folder,
        workers=WORKERS,
        cache_dir=folder.parent / "cache",
        trainer="benchmarks.simulated_trainer:train",
        wait_seconds=10,
        attempts=1000,
    )


def table(folder: Path) -> list[dict[str, Any]]:
    """What a sweep found, without what differs from time to time."""
    rows = []
    for record in read_records(folder):
        row = json.loads(json.dumps(record, default=_plain))
        for name in ("finished_at", "wall_seconds", "device_seconds", "tokens_per_second"):
            row.pop(name)
        rows.append(row)
    return sorted(rows, key=lambda row: str(row["run_key"]))


def _plain(value: Any) -> Any:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def children(pid: int) -> list[int]:
    """Process ids of a process's children (Linux)."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rpartition(")")[2].split()[1]
        except OSError:  # it ended while it was being looked at
            continue
        if int(parent) == pid:
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def disturbed(folder: Path, kills: int, generator: random.Random) -> collections.Counter[str]:
    """Do the sweep to the end, killing up to `kills` processes; counts who was killed."""
    environment = {
        **os.environ,
        simulated_trainer.SECONDS: str(BUDGET_SECONDS),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    killed: collections.Counter[str] = collections.Counter()
    deadline = time.monotonic() + PATIENCE_SECONDS
    orphans: set[int] = set()
    while time.monotonic() < deadline:
        driver = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults", "--drive", str(folder)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        while driver.poll() is None:
            pause = SHORTEST * (LONGEST / SHORTEST) ** generator.random()
            try:
                driver.wait(pause)
            except subprocess.TimeoutExpired:
                if killed.total() >= kills:
                    continue
                workers = children(driver.pid)
                chance = generator.random()
                if not workers and chance > KILLED_WHILE_STARTING:
                    continue
                at_worker = workers and chance > KILLED_DRIVERS
                victim = generator.choice(workers) if at_worker else driver.pid
                if victim == driver.pid:
                    orphans.update(workers)
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed["driver" if victim == driver.pid else "worker"] += 1
        assert driver.stderr is not None
        with driver.stderr as stream:
            words = stream.read().decode()
        if driver.returncode == 0:
            time.sleep(0.5)
            left = [pid for pid in orphans if alive(pid)]
            if left:
                raise RuntimeError(f"workers outlived their driver: {left}")
            return killed
        if driver.returncode != -signal.SIGKILL:
            raise RuntimeError(f"a sweep ended by itself with {driver.returncode}: {words}")
    raise RuntimeError(f"the sweep was not done after {PATIENCE_SECONDS:.0f} s")


def drill(kills: int, seed: int, folder: Path) -> dict[str, Any]:
    """Rounds of disturbed sweeps until `kills` processes have been killed.

    Returns the counts; `lost`, `twice` and `different` are what must be zero.
    """
    generator = random.Random(seed)
    calm = folder / "calm"
    disturbed(calm, 0, generator)
    expected = table(calm)
    killed: collections.Counter[str] = collections.Counter()
    rounds = lost = twice = different = 0
    started = time.monotonic()
    while killed.total() < kills:
        rounds += 1
        here = folder / f"round-{rounds}"
        killed += disturbed(here, kills - killed.total(), generator)
        lines = [
            json.loads(line)["run_key"] for line in (here / RUNS_FILE).read_text().splitlines()
        ]
        twice += len(lines) - len(set(lines))
        lost += len({row["run_key"] for row in expected} - set(lines))
        different += table(here) != expected
    return {
        "kills": killed.total(),
        "of_drivers": killed["driver"],
        "of_workers": killed["worker"],
        "sweeps": rounds,
        "runs_each": len(expected),
        "lost": lost,
        "twice": twice,
        "different": different,
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    """Print the drill's counts; exit 1 where anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.drive is not None:
        drive(chosen.drive)
        return
    with tempfile.TemporaryDirectory() as folder:
        counts = drill(chosen.kills, chosen.seed, Path(folder))
    print(json.dumps(counts))
    sys.exit(1 if counts["lost"] or counts["twice"] or counts["different"] else 0)


if __name__ == "__main__":
    main()
