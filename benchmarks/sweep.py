"""What sweeping costs, beside the obvious way: wall time, lost work, FLOPs to an answer.

    python -m benchmarks.sweep [wall] [faults] [adaptive] [--repeats 3] [--shapes 24] [--budgets 1]

    wall      24 different small shapes, compilation included, caches cold and warm, against one
              torch.compile model after another in one process; interleaved, medians. With
              --budgets 2 each shape is trained to half its tokens too, as a scaling law asks for:
              ours branches off one trunk, the peer trains another model
    faults    100 random kill -9 of driver and workers: what was lost
    adaptive  chosen runs against a grid, in simulation

All three where none is named. Prints one JSON object.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from shapelaw.sweeps.corpus.token_corpus import load_corpus
from shapelaw.sweeps.design.design import Design, read_design
from shapelaw.sweeps.design.layout import trunk_jobs
from shapelaw.sweeps.running.run_sweep import run_sweep
from shapelaw.sweeps.training.trunk import TrunkJob, resolve

SHAPES = """
name = "wall"
tokens_per_parameter = {budgets}
[base]
non_embedding = [16_000, 32_000, 64_000]
[vary]
d_model = [0.7, 1.4]
mlp_attention_ratio = [1.0, 3.0, 4.0]
gqa_group = [2]
sharing = [2, 3]
"""
"""Nine shapes at each of three sizes, 128,000 to 512,000 tokens each; not each can be built."""


def design_of(shapes: int, budgets: int = 1) -> Design:
    """The last (smallest) `shapes` trunks of SHAPES, as a design of its own.

    Each has 8 tokens a parameter, and with more budgets 4, 2, ... too.
    """
    wanted = [8 / 2**number for number in range(budgets)]
    jobs = trunk_jobs(read_design(SHAPES.replace("{budgets}", json.dumps(wanted))))[-shapes:]
    runs = "".join(
        f"\n[[part.runs]]\ntokens = {list(job.tokens)}\n[part.runs.architecture]\n"
        + "".join(
            f"{name} = {json.dumps(value)}\n"
            for name, value in msgspec.structs.asdict(job.architecture).items()
            if value is not None
        )
        for job in jobs
    )
    return read_design(f'name = "wall"\n[[part]]\n{runs}')


Timing = tuple[float, float]
"""Seconds by the clock, and of processor time, children included."""


def timed(command: Sequence[str], environment: dict[str, str]) -> tuple[Timing, str]:
    """Run a process from start to end; its timing and what it printed."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=True,
        text=True,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (seconds, processor), done.stdout


def ours(design: Design, folder: Path, cache: Path) -> tuple[Timing, list[float]]:
    """The sweep in a process of its own; losses by job."""
    folder.mkdir(parents=True)
    jobs = folder / "design.json"
    jobs.write_bytes(msgspec.json.encode(design))
    timing, _ = timed(["benchmarks.sweep", "--do", str(jobs), str(cache)], environment())
    return timing, json.loads((folder / "losses.json").read_text())


def do(jobs: Path, cache: Path) -> None:
    """What `ours` times."""
    design = msgspec.json.decode(jobs.read_bytes(), type=Design)
    result = run_sweep(design, jobs.parent / "out", cache_dir=cache, live=False)
    (jobs.parent / "losses.json").write_text(json.dumps([r.loss for r in result.records]))


def peer(jobs: Sequence[TrunkJob], folder: Path, cache: Path) -> tuple[Timing, list[float]]:
    """One torch.compile model after another; losses by job."""
    folder.mkdir(parents=True)
    file = folder / "jobs.json"
    file.write_bytes(msgspec.json.encode(list(jobs)))
    kept = {
        **environment(),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
    timing, said = timed(["benchmarks.torch_loop", str(file), str(cache)], kept)
    return timing, [json.loads(line) for line in said.splitlines()]


def environment() -> dict[str, str]:
    """This process's, with the modules it was started with."""
    paths = os.pathsep.join(path for path in [os.getcwd(), *sys.path] if path)
    return {**os.environ, "PYTHONPATH": paths}


def wall(shapes: int, repeats: int, budgets: int) -> dict[str, Any]:
    """Cold and warm, ours and the peer's, in turn."""
    design = design_of(shapes, budgets)
    jobs = trunk_jobs(design)
    timings: dict[str, list[Timing]] = {
        f"{who}_{state}": [] for state in ("cold", "warm") for who in ("ours", "peer")
    }
    losses: dict[str, list[float]] = {}
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as place:
            caches = {who: Path(place) / f"cache-{who}" for who in ("ours", "peer")}
            for cache in caches.values():  # text is tokenised once for both: it is not the question
                load_corpus(design.corpus_spec(), cache)
            for state in ("cold", "warm"):
                folder = Path(place) / state
                for who in ("ours", "peer"):
                    if who == "ours":
                        timing, losses[who] = ours(design, folder / who, caches[who])
                    else:
                        timing, losses[who] = peer(jobs, folder / who, caches[who])
                    timings[f"{who}_{state}"].append(timing)
                    print(
                        f"repeat {repeat + 1} {state} {who}: {timing[0]:.1f} s, "
                        f"{timing[1]:.1f} s of processor",
                        file=sys.stderr,
                        flush=True,
                    )
    clock = {name: statistics.median(t[0] for t in all_of) for name, all_of in timings.items()}
    processor = {name: statistics.median(t[1] for t in all_of) for name, all_of in timings.items()}
    return {
        "shapes": len(jobs),
        "budgets": budgets,
        "flops": sum(resolve(job).flops for job in jobs),
        "seconds": clock,
        "processor_seconds": processor,
        "repeats": timings,
        "cold_times_faster": clock["peer_cold"] / clock["ours_cold"],
        "warm_times_faster": clock["peer_warm"] / clock["ours_warm"],
        "mean_loss": {who: statistics.fmean(values) for who, values in losses.items()},
    }


def main() -> None:
    """Run what is named and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[[], "wall", "faults", "adaptive"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shapes", type=int, default=24)
    parser.add_argument("--budgets", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--do", nargs=2, type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.do is not None:
        do(*chosen.do)
        return
    parts = chosen.parts or ["wall", "faults", "adaptive"]
    found: dict[str, Any] = {}
    if "wall" in parts:
        found["wall"] = wall(chosen.shapes, chosen.repeats, chosen.budgets)
    if "faults" in parts:
        from benchmarks.faults import drill

        with tempfile.TemporaryDirectory() as place:
            found["faults"] = drill(chosen.kills, seed=0, folder=Path(place))
    if "adaptive" in parts:
        from benchmarks.adaptive import repeated, simulate

        found["adaptive"] = {
            name: repeated(partial(simulate, share=1 / 3, bend=bend), range(chosen.trials))
            for name, bend in (("on a known law", 0.0), ("on a law that bends", 1.0))
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
