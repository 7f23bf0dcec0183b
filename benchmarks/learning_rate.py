"""Does one rule give the best learning rate of every shape?

    python -m benchmarks.learning_rate [--json]     from the committed records
    python -m benchmarks.learning_rate --run OUT    trains them again, half an hour of one core

Each shape is trained at half, once and twice the rule's rate (and further where the best of these
is at an end) on the same 4e5 tokens of one seed; the vertex of the parabola through the best three
is its best rate. The base of the rule is the middle of the shapes marked as tuned on; the others
were not looked at.
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from shapelaw.results.record import ArchitectureFields, RunRecord
from shapelaw.results.store import read_records
from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.design.design import Design, Part, Run
from shapelaw.sweeps.running.run_sweep import run_sweep
from shapelaw.sweeps.training import schedule
from shapelaw.sweeps.training.model import Decoder, normal_weights, token_losses
from shapelaw.sweeps.training.step import learning_rate_factors

RECORDS = Path(__file__).resolve().parents[1] / "results" / "reference" / "learning_rate"
TOKENS = 409_600
BATCH_SEQUENCES = 16
MULTIPLES = (0.5, 1.0, 2.0)
FURTHER = 0.25
"""Tried where half the rule's rate is the best of three."""
LIMIT = math.sqrt(2)
STEP_WIDTHS = (32, 64, 128, 256, 512, 1024)


class Shape(NamedTuple):
    """A shape tried."""

    width: int
    blocks: int
    topology: dict[str, Any]
    tuned_on: bool
    """Whether the base of the rule was chosen with it in sight."""

    def architecture(self) -> Architecture:
        """Heads of 16, as many as fill the width; an MLP ratio of two."""
        return Architecture(
            vocab_size=256,
            d_model=self.width,
            n_blocks=self.blocks,
            n_heads=self.width // 16,
            n_kv_heads=self.width // 16,
            head_dim=16,
            d_ff=round(self.width / 3) * 8,
            **self.topology,
        )


LOOPED = {
    "sharing": 4,
    "n_prelude": 1,
    "n_coda": 1,
    "sharing_order": "cycle",
    "input_injection": True,
}
SHAPES = {
    "32 wide": Shape(32, 4, {}, True),
    "2 layers": Shape(64, 2, {}, True),
    "base": Shape(64, 4, {}, True),
    "128 wide": Shape(128, 4, {}, True),
    "4 blocks, each 4 times": Shape(64, 4, {"sharing": 4}, True),
    "2 blocks, each 8 times": Shape(64, 2, {"sharing": 8}, True),
    "16 layers": Shape(64, 16, {}, True),
    "cycles between prelude and coda": Shape(64, 4, LOOPED, False),
    "128 wide, 2 blocks, each 4 times": Shape(128, 2, {"sharing": 4}, False),
    "256 wide, 2 layers": Shape(256, 2, {}, False),
    "256 wide": Shape(256, 4, {}, True),
}


def design(multiples: tuple[float, ...] = MULTIPLES) -> Design:
    """Every shape at every multiple of its rate."""
    runs = tuple(
        Run(
            label=label,
            architecture=ArchitectureFields.of(shape.architecture()),
            tokens=(TOKENS,),
            learning_rate=multiple,
        )
        for label, shape in SHAPES.items()
        for multiple in multiples
    )
    parts = tuple(
        Part(name=label, runs=tuple(run for run in runs if run.label == label)) for label in SHAPES
    )
    return Design(
        name="learning-rate", corpus="python", batch_sequences=BATCH_SEQUENCES, part=parts,
        measured_types=(),
    )  # fmt: skip


def best_multiple(losses: dict[float, float]) -> float | None:
    """Vertex of the parabola in ln(rate) through the least loss and its neighbours."""
    tried = sorted(losses)
    least = min(range(len(tried)), key=lambda place: losses[tried[place]])
    if not 0 < least < len(tried) - 1:
        return None
    three = tried[least - 1 : least + 2]
    second, first, _ = np.polyfit(np.log(three), [losses[one] for one in three], 2)
    return float(np.exp(-first / (2 * second)))


def first_step_of_logits(width: int, version: schedule.TrainerVersion) -> float:
    """Root mean square change of the logits by Adam's first step at the rule's rate.

    The first step moves every weight by its own rate against the sign of its gradient.
    """
    a = Shape(width, 2, {}, False).architecture()
    model = Decoder(
        a,
        draw=normal_weights(0),
        embedding_deviation=schedule.embedding_deviation_for(a, version),
        final_gain=schedule.final_gain_for(a, version),
    )
    random = np.random.default_rng(0)
    tokens = jnp.asarray(random.choice(256, (8, 33), p=random.dirichlet(np.full(256, 0.2))))
    graph, state = nnx.split(model)

    def logits(state: Any) -> jax.Array:
        return nnx.merge(graph, state)(tokens[:, :-1])

    def loss(state: Any) -> jax.Array:
        return jnp.mean(token_losses(logits(state), tokens[:, 1:]))

    rate = schedule.learning_rate_for(a, schedule.BASE_BATCH_TOKENS, trainer_version=version)
    factors = learning_rate_factors(a, nnx.to_pure_dict(state), version)
    leaves, structure = jax.tree.flatten(state)
    slopes = jax.tree.leaves(jax.grad(loss)(state))
    moved = jax.tree.unflatten(
        structure,
        [
            leaf - rate * factor * jnp.sign(slope)
            for leaf, factor, slope in zip(leaves, jax.tree.leaves(factors), slopes, strict=True)
        ],
    )
    return float(jnp.sqrt(jnp.mean((logits(moved) - logits(state)) ** 2)))


def report(records: list[RunRecord]) -> dict[str, Any]:
    """Best multiple by shape, how far it is from one, and the logits' first step by width."""
    losses: dict[str, dict[float, float]] = defaultdict(dict)
    label_of = {shape.architecture(): label for label, shape in SHAPES.items()}
    for record in records:
        a = record.architecture.build()
        if record.loss is None or a not in label_of:
            continue
        rule = schedule.learning_rate_for(a, BATCH_SEQUENCES * record.recipe.sequence_length)
        multiple = round(record.recipe.learning_rate / rule, 3)
        losses[label_of[a]][multiple] = record.loss
    shapes = []
    for label, shape in SHAPES.items():
        best = best_multiple(losses[label]) if losses[label] else None
        shapes.append(
            {
                "shape": label, "d_model": shape.width,
                "depth": shape.architecture().depth, "tuned_on": shape.tuned_on,
                "losses": losses[label], "best_multiple": best,
                "within_root_two": best is not None and 1 / LIMIT <= best <= LIMIT,
            }
        )  # fmt: skip
    found = [one["best_multiple"] for one in shapes if one["best_multiple"]]
    return {
        "shapes": shapes,
        "all_within_root_two": all(one["within_root_two"] for one in shapes),
        "largest_over_smallest": max(found) / min(found) if found else None,
        "first_step_of_logits": {
            f"trainer_version {version}": {
                str(width): first_step_of_logits(width, version) for width in STEP_WIDTHS
            }
            for version in (schedule.UNSCALED_LOGITS, schedule.TRAINER_VERSION)
        },
    }


def train(out: Path) -> None:
    """All shapes at the three multiples, and a fourth where the first of them is the best."""
    run_sweep(design(), out, workers=1)
    ends = {
        one["shape"]
        for one in report(read_records(out))["shapes"]
        if one["best_multiple"] is None and min(one["losses"], key=one["losses"].get) == 0.5
    }
    further = design((FURTHER,))
    parts = tuple(part for part in further.part if part.name in ends)
    if parts:
        run_sweep(Design(**{**_fields(further), "part": parts}), out, workers=1)


def _fields(one: Design) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", type=Path, metavar="OUT")
    options = parser.parse_args()
    if options.run is not None:
        train(options.run)
    found = report(read_records(options.run or RECORDS))
    if options.json:
        print(json.dumps(found))
        return
    for one in found["shapes"]:
        best = one["best_multiple"]
        said = "not bracketed" if best is None else f"{best:.2f} of the rule's"
        print(f"{one['shape']:36} {one['d_model']:4} x {one['depth']:2}  {said}")
    for version, steps in found["first_step_of_logits"].items():
        print(version, ", ".join(f"{width}: {step:.2f}" for width, step in steps.items()))


if __name__ == "__main__":
    main()
