"""The process that holds llama.cpp: one JSON job on stdin, one JSON line on stdout.

Run as a script, so that it imports the engine and nothing else of the project.
"""

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

FIRST_TOKEN = 300
"""Random prompts start here, above special tokens."""


def main() -> None:
    """Load the model, run the completions, print their timings."""
    job = json.loads(sys.stdin.read())
    # The engine logs to stdout and stderr; keep the answer's channel clean.
    answer = os.fdopen(os.dup(1), "w")
    kept = os.dup(2)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        found = _run(job)
    except Exception as error:
        os.write(kept, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n".encode())
        os._exit(1)
    json.dump(found, answer)
    answer.write("\n")
    answer.flush()
    os._exit(0)  # the engine's threads take their time to end, and there is nothing left to do


def _run(job: dict[str, Any]) -> dict[str, Any]:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = job["model"]
    parameters.n_ctx = max(512, job["prompt"] + job["decode"] + 8)
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = job["threads"]
    parameters.cpuparams_batch.n_threads = job["threads"]
    server = xllamacpp.Server(parameters)
    runs = [_complete(server, job, seed) for seed in range(job["repeats"])]
    return {"runs": runs, "peak_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    """The most memory this process ever held: resident pages, the file's own among them."""
    with contextlib.suppress(OSError):
        # Unlike getrusage, not what the parent held when it started this process.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _complete(server: Any, job: dict[str, Any], seed: int) -> tuple[float, float]:
    """(prefill, decode) seconds of one completion with a prompt of its own."""
    prompt = [FIRST_TOKEN + (7919 * (seed + 1) * i) % 200 for i in range(job["prompt"])]
    reply = server.handle_completions(
        {
            "prompt": prompt,
            "n_predict": job["decode"],
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_prompt": False,
            "samplers": ["temperature"],
        }
    )
    found = json.loads(reply) if isinstance(reply, str | bytes) else reply
    if "timings" not in found:
        raise RuntimeError(str(found.get("error", found)))
    timings = found["timings"]
    # The first token comes from the prompt's logits, so n tokens are n − 1 decode steps.
    steps = timings["predicted_n"] - 1
    return timings["prompt_ms"] / 1e3, timings["predicted_ms"] / 1e3 / steps


if __name__ == "__main__":
    main()
