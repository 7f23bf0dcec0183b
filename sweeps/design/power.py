"""How small a difference between two shapes a design can see, from the noise between seeds.

The loss of a run is known to what a seed's luck moves it by. In the reference study (runs of 300
optimizer steps and more, two or three seeds a shape) that is, as a standard deviation of ln(loss),

    sd(D) = 0.0061 · (D / 1e6)^-0.18

whatever the size; two shapes of one seed share almost none of it (correlation 0.06), so that a pair
differs by √2 sd; and the budgets of one trunk share half of it (0.54), so that three of them tell
little more than two.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

NOISE_AT_MILLION = 0.0061
"""Standard deviation of ln(loss) over seeds, at 1e6 training tokens."""
NOISE_EXPONENT = 0.18
"""sd ∝ D^-this."""
SHAPES_CORRELATE = 0.06
"""Of two shapes of one seed."""
BUDGETS_CORRELATE = 0.54
"""Of two budgets of one trunk."""

POWER = 0.9
LEVEL = 0.05
"""Of a two-sided test."""


def seed_noise(tokens: float) -> float:
    """Standard deviation of ln(loss) over seeds for a budget of `tokens`."""
    return float(NOISE_AT_MILLION * (tokens / 1e6) ** -NOISE_EXPONENT)


def pair_noise(budgets: Sequence[float]) -> float:
    """Standard deviation of the mean over budgets of ln(loss / loss), two shapes of one seed."""
    pairs = [math.sqrt(2 * (1 - SHAPES_CORRELATE)) * seed_noise(tokens) for tokens in budgets]
    alone = sum(one**2 for one in pairs)
    together = sum(pairs) ** 2 - alone
    return math.sqrt(alone + BUDGETS_CORRELATE * together) / len(pairs)


def smallest_difference(budgets: Sequence[float], seeds: int, pairs: int = 1) -> float:
    """Relative difference that is seen with power POWER at level LEVEL, budgets taken together.

    Args:
        budgets: training tokens of each, branches of one trunk.
        seeds: of each shape.
        pairs: independent pairs of shapes that ask the same question, such as two base depths.
    """
    return _deviations() * pair_noise(budgets) / math.sqrt(seeds * pairs)


def seeds_needed(difference: float, budgets: Sequence[float], pairs: int = 1) -> int:
    """Seeds of each shape that see a relative difference, as `smallest_difference` means it."""
    return math.ceil((_deviations() * pair_noise(budgets) / difference) ** 2 / pairs)


def _deviations() -> float:
    """Standard errors between no difference and one that is seen: 1.96 + 1.28."""
    normal = NormalDist()
    return normal.inv_cdf(1 - LEVEL / 2) + normal.inv_cdf(POWER)
