"""A trainer for `shapelaw sweep --trainer`, by Hugging Face's Trainer; runs on a CPU.

    shapelaw sweep DESIGN --trainer \\
      "python examples/train_with_hugging_face.py --config {config} --run {run} --out {out}"

It trains the configuration it is given from new weights, on the tokens the sweep has prepared, by
the recipe the sweep suggests, and leaves the validation loss in result.json.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments, set_seed


class Sequences(torch.utils.data.Dataset):
    """Consecutive sequences of the training tokens, in an order that follows from the seed."""

    def __init__(self, tokens: np.ndarray, count: int, length: int, seed: int) -> None:
        whole = (len(tokens) - 1) // length
        rng = np.random.default_rng(seed)
        rounds = [rng.permutation(whole) for _ in range(-(-count // whole))]
        self.tokens, self.order, self.length = tokens, np.concatenate(rounds)[:count], length

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        start = int(self.order[index]) * self.length
        window = torch.from_numpy(self.tokens[start : start + self.length + 1].astype(np.int64))
        # The model shifts labels itself: position t is scored on token t + 1.
        return {"input_ids": window, "labels": window}


def warmup_stable_decay(recipe: dict[str, Any]) -> Any:
    """Multiple of the peak learning rate at each step: the schedule of the built-in trainer."""

    def factor(step: int) -> float:
        if step < recipe["warmup_steps"]:
            return float((step + 1) / recipe["warmup_steps"])
        into = step - (recipe["total_steps"] - recipe["decay_steps"])
        return 1.0 if into < 0 else 1 - math.sqrt((into + 1) / (recipe["decay_steps"] + 1))

    return factor


def validation_loss(model: Any, run: dict[str, Any]) -> tuple[float, float]:
    """Mean loss on the sweep's own validation windows and its standard error, nats a token."""
    corpus, length = run["corpus"], run["sequence_length"]
    held_out = np.memmap(corpus["held_out"], dtype=corpus["dtype"], mode="r")
    starts = np.array(corpus["validation_starts"])
    means = []
    model.eval()
    with torch.no_grad():
        for chunk in np.array_split(starts, -(-len(starts) // 64)):
            windows = held_out[chunk[:, None] + np.arange(length + 1)].astype(np.int64)
            ids = torch.from_numpy(windows).to(model.device)
            logits = model(ids[:, :-1]).logits.float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), ids[:, 1:], reduction="none"
            )
            means += losses.mean(1).tolist()
    return float(np.mean(means)), float(np.std(means, ddof=1) / math.sqrt(len(means)))


def main() -> None:
    """Train one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    run = json.loads(Path(chosen.run).read_text())
    recipe, corpus = run["recipe"], run["corpus"]
    set_seed(run["seed"])
    config = AutoConfig.from_pretrained(chosen.config)
    if config.num_hidden_layers != run["architecture"]["n_blocks"]:
        raise SystemExit("this example does not keep shared blocks shared")
    config.initializer_range = config.hidden_size**-0.5
    model = AutoModelForCausalLM.from_config(config)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe["learning_rate"],
        betas=(recipe["beta1"], recipe["beta2"]),
        weight_decay=recipe["weight_decay"],
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_stable_decay(recipe))
    tokens = np.memmap(corpus["train"], dtype=corpus["dtype"], mode="r")
    train = tokens[: corpus["train_tokens"]]
    steps, batch = recipe["total_steps"], recipe["batch_sequences"]
    data = Sequences(train, steps * batch, run["sequence_length"], run["seed"])
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(chosen.out / "checkpoints"),
            max_steps=steps,
            per_device_train_batch_size=batch,
            max_grad_norm=recipe["gradient_clip"],
            logging_steps=max(1, steps // 30),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=run["seed"],
            dataloader_pin_memory=False,
        ),
        train_dataset=data,
        optimizers=(optimizer, scheduler),
    )
    trainer.train()
    loss, error = validation_loss(model, run)
    per_step = batch * run["sequence_length"]
    result = {
        "loss": loss,
        "loss_standard_error": error,
        "tokens": steps * per_step,
        "curve": [
            [entry["step"] * per_step, float(entry["loss"])]
            for entry in trainer.state.log_history
            if "loss" in entry
        ],
        "recipe": {"precision": "float32"},
        "software": {"torch": torch.__version__},
    }
    (chosen.out / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
