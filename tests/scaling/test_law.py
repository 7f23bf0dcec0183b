"""A law predicts, warns outside its range, and survives a round trip through its file."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.extrapolation import UNSEEN_EFFECT
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.law import Law, OtherForm, never_seen
from shapelaw.scaling.run_table import RunTable, fingerprint_of


def architectures(count: int = 12) -> ArchitectureBatch:
    return ArchitectureBatch.of(
        Architecture(
            vocab_size=1000,
            d_model=64 * (1 + k % 4),
            n_blocks=2 + k // 4,
            n_heads=4,
            n_kv_heads=2,
            head_dim=16,
            d_ff=192 * (1 + k % 3),
            sharing=1 + k % 2,
        )
        for k in range(count)
    )


def runs(noise: float = 0.004) -> RunTable:
    shapes = architectures()
    n = np.repeat(np.asarray(shapes.non_embedding_parameters, dtype=float), 4)
    width = np.repeat(np.asarray(shapes.d_model, dtype=float), 4)
    depth = np.repeat(np.asarray(shapes.depth, dtype=float), 4)
    d = n * np.tile([10.0, 20.0, 40.0, 80.0], len(shapes))
    loss = 0.9 + 30 * n**-0.3 + 0.3 * depth**-0.6 + 250 * d**-0.38
    loss = loss * np.exp(noise * np.random.default_rng(0).standard_normal(len(n)))
    return RunTable(
        n=n,
        d=d,
        loss=loss,
        run=np.repeat(np.arange(12), 4).astype(str),
        shape={"d_model": width, "n_layers": depth},
        count="non_embedding",
    )


def fitted_stack() -> Law:
    """Two forms with draws, a trend in the noise and a drift, as `auto` makes them."""
    one = fit_law(runs(), "shape", bootstrap=30, starts=4)
    two = fit_law(runs(), "chinchilla", bootstrap=30, holdout=False, starts=4).law
    other = OtherForm("chinchilla", 0.25, two.parameters, two.draws[:10])
    return dataclasses.replace(one.law, others=(other,), label="stack")


@pytest.fixture(scope="module")
def stack() -> Law:
    return fitted_stack()


@pytest.fixture(scope="module")
def law() -> Law:
    return fit_law(runs(), "shape", bootstrap=60, holdout=False, starts=6).law


def test_interval_holds_the_prediction_and_widens_with_the_level(law: Law) -> None:
    shapes = architectures()
    middle = law.loss(shapes, 1e7)
    low, high = law.interval(shapes, 1e7)
    wider_low, wider_high = law.interval(shapes, 1e7, level=0.99)
    assert np.all((low <= middle) & (middle <= high))
    assert np.all((wider_low <= low) & (high <= wider_high))
    draws = law.loss_draws(shapes, 1e7)
    assert draws.shape == (60, len(shapes))
    assert law.loss_draws(shapes, 1e7, draws=5).shape == (5, len(shapes))


def test_tokens_may_differ_between_architectures(law: Law) -> None:
    shapes = architectures()
    tokens = np.geomspace(1e6, 1e8, len(shapes))
    together = law.loss(shapes, tokens)
    alone = [law.loss(shapes.take([k]), tokens[k])[0] for k in range(len(shapes))]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    with pytest.raises(BadInput, match="tokens"):
        law.loss(shapes, -1.0)


def test_extrapolation_is_named_with_its_factor(law: Law) -> None:
    shapes = architectures()
    inside = law.extrapolated(shapes.take([4]), 20 * float(shapes.non_embedding_parameters[4]))
    assert inside == [{}]
    most = law.range["tokens"][1]
    (beyond,) = law.extrapolated(shapes.take([4]), 3 * most)
    assert beyond == pytest.approx({"tokens": 3.0})
    large = ArchitectureBatch.of(
        [
            Architecture(
                vocab_size=1000,
                d_model=1024,
                n_blocks=24,
                n_heads=16,
                n_kv_heads=16,
                head_dim=64,
                d_ff=4096,
            )
        ]
    )
    assert {"N", "d_model", "depth"} <= set(law.extrapolated(large, most)[0])


def test_predictions_of_a_table_follow_the_contract(law: Law) -> None:
    table = runs()
    answer = law.predict_table(table)
    assert answer["law"] == "shape"
    assert len(answer["rows"]) == len(table)
    row = answer["rows"][0]
    assert row["interval"][0] <= row["loss"] <= row["interval"][1]
    assert row["extrapolated"] == []
    assert set(answer["error"]) == {"mean_abs_log", "bias_log", "spearman", "coverage"}
    assert answer["error"]["mean_abs_log"] < 0.01
    json.dumps(answer)
    with pytest.raises(BadInput, match="no column"):
        law.predict_table(RunTable(n=table.n, d=table.d, loss=table.loss, run=table.run))


def test_a_file_gives_the_same_law_back(law: Law, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    law.to_file(path)
    again = Law.from_file(path)
    shapes = architectures()
    np.testing.assert_array_equal(law.loss(shapes, 1e7), again.loss(shapes, 1e7))
    np.testing.assert_array_equal(law.interval(shapes, 1e7), again.interval(shapes, 1e7))
    assert again.range == law.range
    assert again.fingerprint == law.fingerprint == fingerprint_of(runs())


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"form": "nonsense"},
        {"draws": [[1.0], [1.0, 2.0]]},
        {"parameters": {}},
        {"law_version": 99},
        {"draws": [[1.0, 2.0]]},
        {"count": "guessed"},
    ],
)
def test_broken_law_files_are_one_line(law: Law, tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "law.json"
    law.to_file(path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **change}))
    with pytest.raises(BadInput) as caught:
        Law.from_file(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_no_laws(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(BadInput, match="No such file"):
        Law.from_file(path)
    path.write_bytes(b"\x00\xff garbage")
    with pytest.raises(BadInput, match="not a law file"):
        Law.from_file(path)


def test_fingerprint_ignores_the_order_of_rows() -> None:
    table = runs()
    turned = table.take(np.random.default_rng(0).permutation(len(table)))
    assert fingerprint_of(turned) == fingerprint_of(table)
    assert fingerprint_of(table.take(np.arange(1, len(table)))) != fingerprint_of(table)


def test_a_million_architectures_take_well_under_a_second(law: Law) -> None:
    many = architectures().take(np.zeros(1_000_000, dtype=int))
    law.loss(many, 1e8)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        law.loss(many, 1e8)
        times.append(time.perf_counter() - begin)
    assert min(times) < 1.0  # 0.1 s on a quiet core


def test_importing_a_law_pulls_in_nothing_heavy() -> None:
    program = (
        "import sys, scaling.law; "
        "print([m for m in ('jax', 'scipy', 'matplotlib', 'pyarrow', 'pandas') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_stack_is_the_weighted_mean_of_its_forms_and_its_draws_are_theirs(stack: Law) -> None:
    shapes = architectures()
    first = dataclasses.replace(stack, others=())
    (other,) = stack.others
    second = dataclasses.replace(
        first, form=other.form, parameters=other.parameters, draws=other.draws
    )
    np.testing.assert_allclose(
        np.log(stack.loss(shapes, 1e7)),
        0.75 * np.log(first.loss(shapes, 1e7)) + 0.25 * np.log(second.loss(shapes, 1e7)),
        rtol=1e-12,
    )
    assert stack.loss_draws(shapes, 1e7).shape == (40, len(shapes))
    # Any first part of the draws holds the forms in the proportion of their weights.
    assert [number for number, _ in stack._order[:12]].count(1) == 3


def test_the_file_of_a_stack_gives_the_same_law_back(stack: Law, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    stack.to_file(path)
    again = Law.from_file(path)
    shapes = architectures()
    for tokens in (1e7, 1e12):
        np.testing.assert_array_equal(stack.loss(shapes, tokens), again.loss(shapes, tokens))
        np.testing.assert_array_equal(
            stack.loss_draws(shapes, tokens), again.loss_draws(shapes, tokens)
        )
        np.testing.assert_array_equal(
            stack.interval(shapes, tokens), again.interval(shapes, tokens)
        )


def test_files_of_version_one_are_read(law: Law, tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    law.to_file(path)
    content = json.loads(path.read_text())
    old = {k: v for k, v in content.items() if k not in ("others", "noise", "drift", "new_shapes")}
    path.write_text(json.dumps({**old, "law_version": 1}))
    again = Law.from_file(path)
    np.testing.assert_array_equal(again.loss(architectures(), 1e7), law.loss(architectures(), 1e7))


def test_intervals_widen_as_one_leaves_the_runs(stack: Law) -> None:
    shape = architectures().take([4])
    most = stack.range["tokens"][1]
    widths = []
    for tokens in (most, 10 * most, 1000 * most):
        low, high = stack.interval(shape, tokens)
        widths.append(float(np.log(high / low)[0]))
    assert widths[0] < widths[1] < widths[2]
    alone = dataclasses.replace(stack, drift=None)
    low, high = alone.interval(shape, 1000 * most)
    assert widths[2] > 1.05 * float(np.log(high / low)[0])


def test_drift_is_the_same_for_shapes_of_equal_size(stack: Law) -> None:
    """What a law does not know of larger models does not tell two of one size apart."""
    shapes = architectures().take([4, 4])
    draws = stack.loss_draws(shapes, 1000 * stack.range["tokens"][1])
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])


def test_sharing_that_no_run_had_is_said_and_doubted(law: Law) -> None:
    assert "sharing" in law.never_varied
    base = Architecture(
        vocab_size=1000, d_model=128, n_blocks=4, n_heads=4, n_kv_heads=2, head_dim=16, d_ff=384
    )
    shared = dataclasses.replace(base, sharing=4)
    both = ArchitectureBatch.of([base, shared])
    assert law.unseen(both) == [(), ("sharing",)]
    assert law.extrapolated(both, 1e7)[1]["sharing"] == pytest.approx(4.0)
    draws = np.log(law.loss_draws(both, 1e7))
    # Deeper is better by every draw of the form; the effect of unknown sign is not so sure.
    assert np.std(draws[:, 1] - draws[:, 0]) >= 0.9 * UNSEEN_EFFECT * np.log(4)
    blind = dataclasses.replace(law, range={**law.range, "sharing": (1.0, 4.0)})
    assert "sharing" not in blind.never_varied
    assert "through the applied depth" in never_seen(law, "sharing")


def test_a_law_without_draws_says_so_and_is_as_unsure_either_way(tmp_path: Path) -> None:
    fit = fit_law(runs(), "chinchilla", bootstrap=0, holdout=False, starts=4)
    assert fit.diagnostics["draws"] == 0
    fit.law.to_file(tmp_path / "law.json")
    law = Law.from_file(tmp_path / "law.json")
    answer = law.predict_table(runs())
    assert any("no draws" in line for line in answer["remarks"])
    low, high = law.interval(architectures(), 1e7)
    middle = law.loss(architectures(), 1e7)
    above, below = np.log(high / middle), np.log(middle / low)
    assert np.all(above > 0)
    assert np.all(np.abs(above - below) < 0.5 * (above + below))
    assert law.loss_draws(architectures(), 1e7).shape[0] == 1


def test_a_drift_of_no_quantiles_is_refused() -> None:
    from shapelaw.scaling.law_file import DriftFile

    with pytest.raises(msgspec.ValidationError, match="quantiles"):
        msgspec.convert({"quantiles": [], "range": {}}, DriftFile)
