"""Hold-outs keep training and test apart, and auto judges by them."""

from typing import Any

import numpy as np
import pytest

from shapelaw.scaling.holdout.form_choice import candidates, choose
from shapelaw.scaling.holdout.scores import matched_spearman, ranks, spearman
from shapelaw.scaling.holdout.splits import (
    all_splits,
    leave_largest,
    leave_one_shape_out,
    rehearsed,
    rolled_forward,
    score_split,
)
from shapelaw.scaling.run_table import RunTable, shape_groups


def shaped_runs(noise: float = 0.002, seed: int = 0) -> RunTable:
    """Width and depth matter, and larger models are further behind at equal tokens."""
    generator = np.random.default_rng(seed)
    n = np.repeat(np.geomspace(2e6, 3e8, 5), 15)
    aspect = np.tile(np.repeat(np.geomspace(8, 160, 5), 3), 5)
    d = n * np.tile([10.0, 30.0, 90.0], 25)
    width = (n * aspect / 12) ** (1 / 3)
    depth = width / aspect
    loss = 1.6 + 150 * n**-0.4 + 4 * width**-0.45 + 0.9 * depth**-0.7 + 1500 * d**-0.45 * n**0.1
    return RunTable(
        n=n,
        d=d,
        loss=loss * np.exp(noise * generator.standard_normal(len(n))),
        run=np.arange(len(n)).astype(str),
        shape={"d_model": width, "n_layers": depth},
    )


def test_splits_never_test_what_they_train_on() -> None:
    table = shaped_runs()
    splits = all_splits(table)
    assert [split.name for split in splits] == [
        "largest_N",
        "largest_D",
        "largest_C",
        "leave_one_shape_out",
        "roll_out",
    ]
    for split in splits:
        assert not np.any(split.train & split.test)
        assert np.all(split.test.sum(axis=0) <= 1)
        assert split.train.any(axis=1).all()
        assert split.test.any(axis=1).all()


def test_largest_sizes_are_larger_than_all_trained_on() -> None:
    table = shaped_runs()
    split = leave_largest(table, "N")
    assert split is not None
    assert table.n[split.train[0]].max() < table.n[split.test[0]].min()


def test_rehearsals_ask_for_more_than_was_trained_on() -> None:
    table = shaped_runs()
    splits = {split.name: split for split in rolled_forward(table)}
    assert set(splits) == {"largest_C", "next_C", "largest_N", "next_N"}
    for axis, values in (("C", table.n * table.d), ("N", table.n)):
        last, earlier = splits[f"largest_{axis}"], splits[f"next_{axis}"]
        for split in (last, earlier):
            assert values[split.train[0]].max() < values[split.test[0]].min()
        assert not np.any(earlier.train & last.test)
        assert not np.any(earlier.test & last.test)


def test_a_shape_is_held_out_whole() -> None:
    table = shaped_runs()
    groups = shape_groups(table)
    split = leave_one_shape_out(table)
    assert split is not None
    for test in split.test:
        assert not set(groups[test]) & set(groups[~test])


def held_out(table: RunTable, form: str) -> dict[str, dict[str, Any]]:
    """Scores of a form on every split."""
    same, _, predicted = rehearsed(table, form)
    return {split: score_split(same, values) for split, values in predicted.items()}


def test_held_out_error_of_the_true_form_is_about_the_noise() -> None:
    found = held_out(shaped_runs(), "shape")
    assert found["leave_one_shape_out"]["mean_abs_log"] < 2 * 0.002
    assert found["largest_N"]["spearman_at_fixed_n_d"] > 0.7
    worse = held_out(shaped_runs(), "chinchilla")
    assert (
        worse["leave_one_shape_out"]["mean_abs_log"]
        > 2 * found["leave_one_shape_out"]["mean_abs_log"]
    )


def test_auto_takes_the_form_that_predicts_held_out_shapes() -> None:
    table = shaped_runs()
    assert set(candidates(table)) == {
        "chinchilla",
        "morph",
        "gemstones",
        "shape",
        "shape-depth",
        "norm",
        "shape-norm",
        "shape-norm-monotone",
    }
    choice = choose(table, delta=1e-3)
    assert choice.form in ("shape", "shape-depth", "shape-norm")
    assert choice.form in choice.reason
    assert choice.weights.sum() == pytest.approx(1.0)
    assert choice.runner_up in choice.scores
    assert "chinchilla" in choice.scores


def test_rank_correlation() -> None:
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 40.0])) == 1.0
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == -1.0
    assert spearman(np.ones(3), np.arange(3.0)) is None
    assert list(ranks(np.array([5.0, 1.0, 5.0]))) == [1.5, 0.0, 1.5]
    log_n = np.log(np.array([1e6, 1e6, 1e6, 1e9, 1e9, 1e9]))
    predicted = np.array([1.0, 2.0, 3.0, -3.0, -2.0, -1.0])
    assert matched_spearman(predicted, predicted, log_n, log_n) == 1.0
