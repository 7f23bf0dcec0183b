"""What each weight format costs in loss, measured on a run's own weights.

At the end of a budget the weights are rounded to each of eight types and evaluated on windows of
the fixed validation set, paired with the loss of the weights as they are: the difference of two
losses on the same windows is known some ten times better than either.
"""

from collections.abc import Sequence

import jax
import numpy as np

from shapelaw.results.record import FormatLoss
from shapelaw.sweeps.training.evaluation import (
    BATCH_TOKENS,
    ValidationBatches,
    mean_and_error,
    validation_losses,
)
from shapelaw.sweeps.training.step import Parameters, Program
from shapelaw.sweeps.training.weight_formats import EMBEDDING, rounded_parameters

SHARE_OF_TRAINING = 0.04
"""Of the operations of a budget's whole path. Budgets that double on one trunk train on 1.2 of the
largest and count twice it, so that a trunk spends a fifteenth, and a little on rounding."""
TRAINING_OVER_FORWARD = 3.0
EVALUATIONS = 2
"""Of each type: all matrices, and all but the token embedding."""


def measured_batches(tokens: int, types: int, batches: int) -> np.ndarray:
    """Numbers of the evaluation batches to measure on, spread evenly over all `batches`.

    As many as `SHARE_OF_TRAINING` of a path of `tokens` tokens pays for; one at the least.
    """
    paid = SHARE_OF_TRAINING * TRAINING_OVER_FORWARD * tokens
    count = int(paid / (EVALUATIONS * max(types, 1) * BATCH_TOKENS))
    count = max(1, min(batches, count))
    return np.unique(np.linspace(0, batches - 1, count).round().astype(int))


def losses_by_format(
    program: Program,
    members: Sequence[Parameters],
    batches: ValidationBatches,
    tokens: int,
    own: np.ndarray,
    types: Sequence[str],
) -> list[dict[str, FormatLoss]]:
    """For each member, what each type adds to its loss; nothing for one that has come to grief.

    Args:
        program: the compiled evaluation.
        members: the parameters of each, on the host.
        batches: the validation set.
        tokens: D of the budget; sets how many windows are read.
        own: losses of the members as they are [members, windows], on all windows.
        types: tensor types.
    """
    well = [bool(np.isfinite(one).all()) for one in own]
    if not types or not any(well):
        return [{} for _ in members]
    # A member without numbers is not rounded: another stands in its place, and is not looked at.
    sound = members[well.index(True)]
    members = [one if fine else sound for one, fine in zip(members, well, strict=True)]
    chosen = measured_batches(tokens, len(types), batches.number)
    windows = batches.windows_of(chosen)
    found: list[dict[str, FormatLoss]] = [{} for _ in members]
    for name in types:
        everything = [rounded_parameters(one, name) for one in members]
        blocks_only = [
            tree | {EMBEDDING: one[EMBEDDING]}
            for tree, one in zip(everything, members, strict=True)
        ]
        both = [
            validation_losses(program, stacked(program, trees), batches, chosen) - own[:, windows]
            for trees in (everything, blocks_only)
        ]
        for member, result in enumerate(found):
            if not well[member]:
                continue
            difference, error = mean_and_error(both[0][member])
            blocks, blocks_error = mean_and_error(both[1][member])
            result[name] = FormatLoss(
                loss=float(own[member].mean()) + difference,
                difference=difference,
                standard_error=error,
                blocks_difference=blocks,
                blocks_standard_error=blocks_error,
                tokens=len(windows) * (batches.sequences.shape[2] - 1),
            )
    return found


def stacked(program: Program, members: Sequence[Parameters]) -> Parameters:
    """The members' parameters as the program takes them: one tree, or one with an axis more."""
    if program.members == 1:
        return members[0]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *members)
