"""The closed loop's own parts, on devices and losses that are known."""

import numpy as np

from benchmarks import closed_loop
from shapelaw.results.store import read_records
from shapelaw.scaling.architecture import Architecture


def shape(width: int) -> Architecture:
    """One of a kind for each width."""
    return Architecture(
        vocab_size=256, d_model=width, n_blocks=2, n_heads=2, n_kv_heads=1, head_dim=8, d_ff=width
    )


def test_timings_leave_the_posterior_of_a_gaussian() -> None:
    """One unknown speed: the update has the mean and spread of Bayes' rule."""
    generator = np.random.default_rng(0)
    unknown = 0.3 * generator.standard_normal(20_000)
    draws = {name: np.exp(unknown)[None] for name in closed_loop.SHARES}
    truth = {name: np.exp(np.array([0.2])) for name in closed_loop.SHARES}
    known = closed_loop.told(draws, draws, truth, np.random.default_rng(1))
    noise = np.array([closed_loop.TIMING_NOISE[name] for name in closed_loop.SHARES])
    precision = 1 / 0.3**2 + np.sum(1 / noise**2)
    logs = np.log(known.draws["decode_s"][0])
    assert abs(logs.std() - precision**-0.5) < 0.03 * precision**-0.5
    assert abs(logs.mean() - 0.2) < 4 * precision**-0.5


def test_a_perfect_tool_has_no_regret_and_a_wrong_law_has_some() -> None:
    shapes = [shape(width) for width in (16, 32, 48, 64)]
    losses = np.array([1.4, 1.3, 1.2, 1.1])
    among = closed_loop.Candidates(shapes, np.full(4, 1e6), np.arange(1.0, 5.0), losses)
    truth = {name: np.arange(1.0, 5.0) for name in closed_loop.SHARES}
    known = closed_loop.Known({name: truth[name][:, None] for name in truth})
    right = closed_loop.judge(among, losses, known, truth, 0.01)
    assert right
    assert all(one["regret"] == 0 and one["pick"] == one["best"] for one in right)
    wrong = closed_loop.judge(among, -losses, known, truth, 0.01)
    # The wrong law always takes the smallest; the largest that fits is the right one.
    assert {one["pick"] for one in wrong} == {0}
    expected = [(losses[0] - losses[one["best"]]) / 0.01 / losses[one["best"]] for one in wrong]
    np.testing.assert_allclose([one["regret"] for one in wrong], expected)


def test_the_calibrated_phone_keeps_its_promises() -> None:
    figures = closed_loop.report()
    assert figures["shapes"] >= 24
    assert figures["told"]["budgets"] >= 24
    assert figures["told"]["within_two_deviations"] >= 0.9
    assert 0.85 <= figures["told"]["decode_s_inside_interval"] <= 0.97


def test_no_law_has_seen_a_size_of_the_panel() -> None:
    """Sizes of the panel lie 10 % or more from every size that the law is fitted to."""
    seen = {one.n_parameters.non_embedding for one in closed_loop.seen_by_the_law()}
    panel = {one.n_parameters.non_embedding for one in read_records(closed_loop.PANEL)}
    assert len({round(np.log(size) / 0.15) for size in panel}) >= 6
    assert min(abs(np.log(a / b)) for a in seen for b in panel) > 0.1
    shapes = {one.architecture.build() for one in read_records(closed_loop.PANEL)}
    assert not shapes & {one.architecture.build() for one in closed_loop.seen_by_the_law()}
