"""Limits of a question: how far from being met."""

import numpy as np

from shapelaw.search.pareto.budget import Limit


def test_a_limit_beyond_all_numbers_is_infinitely_far_off() -> None:
    least = Limit("target_loss", "loss", 5e-324, at_least=False)
    assert list(least.ratio(np.array([2.0, 5e-324, 0.0]))) == [np.inf, 1.0, 0.0]
    most = Limit("decode", "decode_tokens_per_s", 1e308, at_least=True)
    assert list(most.ratio(np.array([0.0, 1e-9, 1e308, np.nan]))) == [np.inf, np.inf, 1.0, np.inf]
