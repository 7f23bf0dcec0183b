"""The study's README says what its records say; the records are whole."""

import pytest

from benchmarks.study.__main__ import differences, render
from benchmarks.study.effects import labelled
from benchmarks.study.records import FOLDER, load_study
from shapelaw.results.store import read_records
from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.training.trunk import resolve


def test_a_changed_number_or_word_is_found() -> None:
    assert differences("loss 1.234 of 5,000 runs", "loss 1.234 of 5,000 runs") == []
    assert differences("loss 1.234 of 5,000 runs", "loss 1.534 of 5,000 runs")
    assert differences("loss 1.234 of 5,000 runs", "loss 1.234 of 6,000 runs")
    assert differences("the best", "the worst")
    assert differences("error 0.0114", "error 0.0150")
    assert differences("error 0.0114", "error 0.0115") == []
    assert differences("[-0.10, 0.05]", "[-0.10, 0.06]") == []
    assert differences("[-0.10, 0.05]", "[-0.10, 0.12]")


def test_every_record_agrees_with_its_own_architecture() -> None:
    for record in read_records(FOLDER):
        architecture = record.architecture.build()
        assert isinstance(architecture, Architecture)
        assert record.n_parameters.non_embedding == architecture.non_embedding_parameters
        assert record.n_parameters.total == architecture.total_parameters
        per_token = architecture.training_flops_per_token(record.recipe.sequence_length)
        assert record.flops == pytest.approx(per_token * record.tokens)
        steps = record.recipe.total_steps
        assert record.tokens == steps * record.recipe.batch_sequences * (
            record.recipe.sequence_length
        )


def test_every_record_is_a_point_of_the_design_whatever_text_this_python_brings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "shapelaw.sweeps.training.trunk.corpus_identity", lambda spec: "of another Python"
    )
    records = read_records(FOLDER)
    resolve.cache_clear()  # keys are kept by job: none of this text may outlive the test
    try:
        assert len(labelled(records)) == len(records)
    finally:
        resolve.cache_clear()


def test_no_fitted_run_is_of_the_held_out_size() -> None:
    study = load_study()
    largest = max(record.n_parameters.non_embedding for record in study.fitted)
    smallest_held_out = min(record.n_parameters.non_embedding for record in study.held_out)
    assert smallest_held_out > 1.4 * largest
    assert len({record.architecture for record in study.held_out}) >= 8


@pytest.mark.long
def test_the_text_is_what_the_records_say() -> None:
    committed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert differences(committed, render(write=False)) == []
