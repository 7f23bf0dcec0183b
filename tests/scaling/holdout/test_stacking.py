"""A stack's weights."""

import numpy as np
import pytest

from shapelaw.scaling.holdout.stacking import stack_weights


def test_errors_of_opposite_sign_are_averaged_away() -> None:
    observed = np.linspace(0.0, 1.0, 40)
    predicted = np.stack([observed + 0.02, observed - 0.01], axis=1)
    weights = stack_weights(predicted, observed, np.ones(40))
    assert weights == pytest.approx([1 / 3, 2 / 3], abs=0.02)


def test_a_form_that_fails_gets_next_to_nothing_and_none_is_negative() -> None:
    generator = np.random.default_rng(0)
    observed = generator.normal(size=60)
    good = observed + 0.01 * generator.normal(size=60)
    alike = observed + 0.01 * generator.normal(size=60)
    bad = observed + 0.5
    weights = stack_weights(np.stack([good, alike, bad], axis=1), observed, np.ones(60))
    assert weights.sum() == pytest.approx(1.0)
    assert np.all(weights >= 0)
    assert weights[2] < 0.01
    assert 0.3 < weights[0] < 0.7


def test_importance_decides_which_rows_count() -> None:
    observed = np.zeros(20)
    predicted = np.stack([np.repeat([0.0, 0.1], 10), np.repeat([0.1, 0.0], 10)], axis=1)
    first = stack_weights(predicted, observed, np.repeat([1.0, 1e-6], 10))
    assert first[0] > 0.95


def test_alike_forms_share_evenly() -> None:
    generator = np.random.default_rng(1)
    observed = generator.normal(size=30)
    same = observed + 0.01
    assert stack_weights(np.stack([same, same, same], axis=1), observed, np.ones(30)) == (
        pytest.approx([1 / 3] * 3, abs=1e-6)
    )
