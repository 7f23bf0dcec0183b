"""The recipe: how fast, how long and on how much at once. Pure arithmetic; imports no framework.

Warmup-stable-decay, with several token budgets branched off one trunk by short decays (Hägele et
al., arXiv 2405.18392); a learning rate scaled with width and depth; a batch below the critical one.

Under Adam a first step moves each weight by the learning rate. A matrix of the blocks sums over
d_model inputs, so its rate falls as 1 / d_model (muP, arXiv 2203.03466). The token embedding is
looked up: its entries begin alike and move alike at every width. Tied, though, it is the LM head
too and sums over d_model: there the gains of the last norm carry the factor 64 / d_model, in what
they begin as and in how fast they move, so that the logits' first step is the same at every width
and no factor is left outside the weights. Trainer version 3, of records made before, had no such
factor, and a fresh embedding that shrank as d_model^-1/2.
"""

import math
from typing import Literal

from shapelaw.scaling.architecture import Architecture

DECAY_SHARE = 0.2
"""Share of a budget's steps that decays the learning rate to nothing (arXiv 2405.18392)."""
WARMUP_SHARE = 0.1
WARMUP_STEPS_MOST = 100
"""Warmup: a tenth of the smallest budget's steps, a hundred at most."""

TrainerVersion = Literal[3, 4]
TRAINER_VERSION: TrainerVersion = 4
"""Part of every run key: raised when a change to model or trainer moves losses."""
UNSCALED_LOGITS: TrainerVersion = 3
"""The last trainer version whose tied logits step further the wider the model is."""

BASE_LEARNING_RATES: dict[TrainerVersion, float] = {3: 7e-3, 4: 5.1e-3}
"""Peak for the shape and batch below, by trainer version. With 5.1e-3 the best rates of eleven
shapes, 32 to 256 wide and 2 to 16 layers deep, shared ones too, on runs of 4e5 tokens lie at .87 to
1.31 of the rule's. `python -m benchmarks.learning_rate` shows them."""
BASE_D_MODEL = 64
BASE_DEPTH = 4
BASE_BATCH_TOKENS = 2048
EMBEDDING_TIMES = 4.0
"""The embedding's rate over that of the gains: a choice by a few small runs, which no command here
repeats."""
WIDTH_EXPONENT = 1.0
"""Of the blocks' matrices: muP's own (arXiv 2203.03466); the tuning runs agree from 32 to 128."""
DEPTH_EXPONENT = 0.2
"""Of applied depth, from 2 to 12 layers, shared or not, by the same runs."""
BATCH_EXPONENT = 0.5
"""Adam's square-root rule (arXiv 2205.10287)."""

WEIGHT_DECAY = 0.1
BETA1 = 0.9
BETA2 = 0.95
GRADIENT_CLIP = 1.0

BATCH_TOKENS_LEAST = 1024
BATCH_TOKENS_PER_ROOT = 1.2


def learning_rate_for(
    architecture: Architecture,
    batch_tokens: int,
    multiplier: float = 1.0,
    trainer_version: TrainerVersion = TRAINER_VERSION,
) -> float:
    """Peak learning rate of the blocks' matrices: that of the gains times 64 / d_model."""
    width = (BASE_D_MODEL / architecture.d_model) ** WIDTH_EXPONENT
    return gain_learning_rate_for(architecture, batch_tokens, multiplier, trainer_version) * width


def gain_learning_rate_for(
    architecture: Architecture,
    batch_tokens: int,
    multiplier: float = 1.0,
    trainer_version: TrainerVersion = TRAINER_VERSION,
) -> float:
    """Peak learning rate of the norms' gains, which width does not change.

    Base · (4 / depth)^b · (batch / 2048)^c · multiplier.
    """
    depth = (BASE_DEPTH / architecture.depth) ** DEPTH_EXPONENT
    batch = (batch_tokens / BASE_BATCH_TOKENS) ** BATCH_EXPONENT
    return BASE_LEARNING_RATES[trainer_version] * depth * batch * multiplier


def embedding_learning_rate_for(
    architecture: Architecture, batch_tokens: int, multiplier: float = 1.0
) -> float:
    """Peak learning rate of the token embedding, whatever the width.

    A row is looked up, not summed over, so its step need not shrink as the sums grow longer (muP).
    """
    return EMBEDDING_TIMES * gain_learning_rate_for(architecture, batch_tokens, multiplier)


def embedding_deviation_for(
    architecture: Architecture, trainer_version: TrainerVersion = TRAINER_VERSION
) -> float:
    """Standard deviation of the fresh token embedding: 1/8, that of rows of length one at 64."""
    width = architecture.d_model if trainer_version <= UNSCALED_LOGITS else BASE_D_MODEL
    return float(width**-0.5)


def final_gain_for(
    architecture: Architecture, trainer_version: TrainerVersion = TRAINER_VERSION
) -> float:
    """What the gains of the last norm begin as: 64 / d_model where the embedding is the LM head."""
    if trainer_version <= UNSCALED_LOGITS or not architecture.tied_embeddings:
        return 1.0
    return BASE_D_MODEL / architecture.d_model


def final_gain_learning_rate_for(
    architecture: Architecture,
    batch_tokens: int,
    multiplier: float = 1.0,
    trainer_version: TrainerVersion = TRAINER_VERSION,
) -> float:
    """Peak learning rate of the last norm's gains: in proportion to what they begin as."""
    rate = gain_learning_rate_for(architecture, batch_tokens, multiplier, trainer_version)
    return rate * final_gain_for(architecture, trainer_version)


def batch_sequences_for(tokens: int, sequence_length: int) -> int:
    """Sequences a step for a run of `tokens`: about 1.2·√tokens tokens, to a power of two.

    The critical batch grows with the tokens trained on, about as D^0.46, and hardly with the model
    (Zhang et al., arXiv 2410.21676; Bergsma et al., arXiv 2505.13738: 0.047·D^0.462 sequences of
    2048, so 94,000 tokens at D = 3e6). This stays far below it, where no token is wasted and a
    small run still has a thousand steps: 1,024 tokens at 1e6, 2,048 at 3e6, 4,096 at 1e7.
    """
    wanted = max(BATCH_TOKENS_LEAST, BATCH_TOKENS_PER_ROOT * math.sqrt(tokens))
    return max(1, 2 ** round(math.log2(wanted / sequence_length)))


def warmup_steps_for(smallest_budget_steps: int) -> int:
    """Steps of linear warmup, shared by all branches of a trunk."""
    return max(1, min(WARMUP_STEPS_MOST, round(WARMUP_SHARE * smallest_budget_steps)))


def decay_steps_for(budget_steps: int) -> int:
    """Steps of the decay that ends a budget."""
    return max(1, round(DECAY_SHARE * budget_steps))
