"""How a run of a sweep becomes nanoGPT's own arguments, and its last validation loss a result.

    shapelaw sweep DESIGN --trainer \\
      "python examples/nanogpt_arguments.py --nanogpt /path/to/nanoGPT --run {run} --out {out}"

nanoGPT's block is GPT-2's: LayerNorm, learned positions, GELU of four times the width, all heads
with keys of their own. Only depth, width and heads of a shape reach it: keep `gqa_group = 1`,
`sharing = 1` and the MLP ratio fixed in the design, and expect parameters to differ from
`n_parameters`; a law of such runs is a law of GPT-2 shapes.
"""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

LAST_LOSS = re.compile(r"step \d+: train loss [\d.]+, val loss ([\d.]+)")
EVALUATIONS = 10


def arguments_of(run: dict[str, Any], data: str, out: Path) -> list[str]:
    """What nanoGPT's train.py is told of a run."""
    shape, recipe = run["architecture"], run["recipe"]
    told = {
        "dataset": data,
        "out_dir": str(out / "nanogpt"),
        "n_layer": shape["n_blocks"],
        "n_head": shape["n_heads"],
        "n_embd": shape["d_model"],
        "block_size": run["sequence_length"],
        "batch_size": recipe["batch_sequences"],
        "gradient_accumulation_steps": 1,
        "max_iters": recipe["total_steps"],
        "lr_decay_iters": recipe["total_steps"],
        "warmup_iters": recipe["warmup_steps"],
        "learning_rate": recipe["learning_rate"],
        "min_lr": 0.0,
        "weight_decay": recipe["weight_decay"],
        "beta1": recipe["beta1"],
        "beta2": recipe["beta2"],
        "grad_clip": recipe["gradient_clip"],
        "eval_interval": max(1, recipe["total_steps"] // EVALUATIONS),
        "always_save_checkpoint": False,
        "compile": False,
    }
    return [f"--{name}={value}" for name, value in told.items()]


def main() -> None:
    """Give nanoGPT the sweep's tokens, train, and leave its last validation loss."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nanogpt", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    run = json.loads(chosen.run.read_text())
    corpus = run["corpus"]
    data = f"shapelaw-{corpus['record']['corpus_fingerprint']}"
    folder = chosen.nanogpt / "data" / data
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in (("train.bin", corpus["train"]), ("val.bin", corpus["held_out"])):
        np.fromfile(source, corpus["dtype"]).astype("<u2").tofile(folder / name)
    command = [sys.executable, "train.py", *arguments_of(run, data, chosen.out)]
    losses = []
    with subprocess.Popen(
        command, cwd=chosen.nanogpt, stdout=subprocess.PIPE, text=True
    ) as training:
        assert training.stdout is not None
        for line in training.stdout:
            print(line, end="", flush=True)
            losses += LAST_LOSS.findall(line)
    if training.returncode or not losses:
        raise SystemExit(training.returncode or "nanoGPT printed no validation loss")
    result = {"loss": float(losses[-1]), "tokens": run["tokens"]}
    (chosen.out / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
