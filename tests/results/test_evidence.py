"""The shipped evidence: what was published holds, and a user's runs turn it into their law."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

from shapelaw.results.evidence.shipped_evidence import (
    data_sheet,
    evidence_law,
    fit_with_evidence,
    shipped_population,
)
from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.evidence.refuted_studies import WORSE, nested_pairs, refuted
from shapelaw.scaling.run_table import RunTable


def llama_like(width: int, blocks: int, sharing: int = 1) -> Architecture:
    return Architecture(
        vocab_size=32000,
        d_model=width,
        n_blocks=blocks,
        sharing=sharing,
        n_heads=width // 64,
        n_kv_heads=width // 64,
        head_dim=64,
        d_ff=8 * width // 3 // 32 * 32,
    )


def table(n: np.ndarray, d: np.ndarray) -> RunTable:
    loss = 1.8 + 480 * n**-0.35 + 2100 * d**-0.37
    return RunTable(n=n, d=d, loss=loss, run=np.arange(len(n)).astype(str))


def test_a_thousand_draws_ship_with_their_data_sheet() -> None:
    assert len(shipped_population()) >= 1000
    assert {"N", "tokens", "depth", "sharing"} <= set(data_sheet().ranges)
    assert "mobilellm_depth" not in str(data_sheet().studies)


def test_deeper_than_twelve_layers_is_better_at_a_billion_parameters() -> None:
    """Gemstones: 3072×12 loses to 2048×27 and 1792×7 to 768×45, at equal parameters."""
    law = evidence_law()
    pairs = ArchitectureBatch.of(
        [llama_like(3072, 12), llama_like(2048, 27), llama_like(1792, 7), llama_like(768, 38)]
    )
    losses = law.loss_draws(pairs, 3.5e11)
    assert np.mean(losses[:, 0] > losses[:, 1]) > 0.7
    assert np.mean(losses[:, 2] > losses[:, 3]) > 0.7


def test_sharing_helps_less_than_distinct_blocks() -> None:
    shapes = ArchitectureBatch.of(
        [llama_like(576, 15), llama_like(576, 15, sharing=2), llama_like(576, 30)]
    )
    once, shared, distinct = evidence_law().loss(shapes, 1e12)
    assert distinct < shared < once


def test_losses_fall_with_size_and_tokens() -> None:
    ladder = ArchitectureBatch.of(
        [llama_like(w, b) for w, b in ((256, 8), (576, 12), (1024, 24), (2048, 24), (4096, 48))]
    )
    law = evidence_law()
    assert np.all(np.diff(law.loss(ladder, 1e12)) < 0)
    assert np.all(law.loss(ladder, 2e12) < law.loss(ladder, 1e12))
    low, high = law.interval(ladder, 1e12)
    assert np.all((low < law.loss(ladder, 1e12)) & (law.loss(ladder, 1e12) < high))


def test_sixteen_runs_predict_larger_ones_within_their_interval_in_three_seconds() -> None:
    generator = np.random.default_rng(0)
    n, d = np.exp(generator.uniform(np.log(2e7), np.log(3e8), 16)), np.full(16, 0.0)
    d = n * np.exp(generator.uniform(np.log(5), np.log(80), 16))
    started = time.process_time()
    law, report = fit_with_evidence(table(n, d))
    assert time.process_time() - started < 3
    larger = table(np.array([1e9, 2e9]), np.array([2e10, 1e11]))
    answer = law.predict_table(larger)
    assert answer["error"]["mean_abs_log"] < 0.05
    for row, loss in zip(answer["rows"], larger.loss, strict=True):
        assert row["interval"][0] < loss < row["interval"][1]
    shares = report["diagnostics"]["from_runs"]
    assert shares["ln_loss"] > 0.9 > 0.3 > shares["ln_best_depth"]


def test_one_run_fixes_the_level_and_little_else() -> None:
    one = table(np.array([1e8]), np.array([2e9]))
    law, report = fit_with_evidence(one)
    assert law.predict_table(one)["error"]["mean_abs_log"] < 0.02
    assert report["diagnostics"]["from_runs"]["ln_loss"] > 0.9
    assert report["diagnostics"]["from_runs"]["ln_capacity_slope"] < 0.3


def test_a_law_of_runs_is_read_back(tmp_path: Path) -> None:
    law, _ = fit_with_evidence(table(np.array([1e8, 2e8]), np.array([2e9, 2e9])))
    law.to_file(tmp_path / "law.json")
    read = load_law(tmp_path / "law.json")
    assert isinstance(read, EvidenceLaw)
    np.testing.assert_allclose(read.theta, law.theta, rtol=1e-6)
    stored = json.loads((tmp_path / "law.json").read_text(encoding="utf-8"))
    stored["parameters"][0] = "loss"
    (tmp_path / "other.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(BadInput, match="parameters: ln_loss, floor"):
        load_law(tmp_path / "other.json")
    with pytest.raises(BadInput, match="each draw needs"):
        dataclasses.replace(law, theta=law.theta[:, :3])


def test_a_law_that_was_written_with_exponents_is_the_same_law(tmp_path: Path) -> None:
    """Before slopes stood for them, files held ln_alpha and ln_beta."""
    law, _ = fit_with_evidence(table(np.array([1e8, 2e8]), np.array([2e9, 2e9])))
    law.to_file(tmp_path / "law.json")
    stored = json.loads((tmp_path / "law.json").read_text(encoding="utf-8"))
    names = stored["parameters"]
    floor = names.index("floor")
    for old, new in (("ln_alpha", "ln_capacity_slope"), ("ln_beta", "ln_data_slope")):
        at = names.index(new)
        names[at] = old
        for draw in stored["draws"]:
            draw[at] += np.logaddexp(0.0, draw[floor])
    (tmp_path / "old.json").write_text(json.dumps(stored), encoding="utf-8")
    read = load_law(tmp_path / "old.json")
    assert isinstance(read, EvidenceLaw)
    np.testing.assert_allclose(read.theta, law.theta, rtol=1e-6, atol=1e-6)


def test_no_study_says_that_a_model_fails_at_what_a_model_inside_it_does() -> None:
    """A stack twice as deep, or an MLP twice as wide, can do whatever the smaller one did."""
    law = evidence_law()
    smaller, larger = nested_pairs()
    gap = law.loss_draws(larger, 1e12) - law.loss_draws(smaller, 1e12)
    assert gap.max() <= WORSE
    # They are few, and what is left still doubts that depth pays.
    theta, _ = shipped_population().new_studies(1000, np.random.default_rng(1), unit_known=True)
    everyone = dataclasses.replace(law, theta=theta)
    assert 0.005 < refuted(everyone.loss_draws).mean() < 0.15
    assert np.mean(gap > 0) > 0.001
    # Untouched: the middle of what the studies say of depth.
    sizes = np.array([1e8, 1e9])
    ratio = np.median(law.best_depth(sizes), axis=0) / np.median(everyone.best_depth(sizes), axis=0)
    assert np.abs(np.log(ratio)).max() < 0.1
