"""The law of a format's price finds what made the prices, and the records bear out what is said."""

import msgspec
import numpy as np
import pytest

from benchmarks import format_runs
from shapelaw.results.record import FormatLoss, RunRecord
from shapelaw.results.store import read_records


@pytest.fixture(scope="module")
def records() -> list[RunRecord]:
    return [
        record
        for record in read_records(format_runs.RECORDS)
        if record.loss is not None and record.loss_by_format
    ]


def test_the_law_recovers_the_exponents_that_made_the_prices(records: list[RunRecord]) -> None:
    source = np.random.default_rng(0)
    truth = np.array([-3.5, 0.5, 0.4, -4.5, 0.1, 0.3, 0.2])
    plain = [record for record in records if record.recipe.weight_format == "f16"]
    whole, blocks = format_runs.Prices(plain, "q4_0").predicted(truth)
    made = []
    for record, all_of_it, part in zip(plain, whole, blocks, strict=True):
        luck = np.exp(source.normal(0, 0.1))
        price = FormatLoss(
            loss=1.0, difference=all_of_it * luck, standard_error=0.001,
            blocks_difference=part * luck, blocks_standard_error=0.001, tokens=4096,
        )  # fmt: skip
        made.append(msgspec.structs.replace(record, loss_by_format={"q4_0": price}))
    found = format_runs.Prices(made, "q4_0").fitted(np.ones(len(made)))
    np.testing.assert_allclose(found[:3], truth[:3], atol=0.15)


def test_the_records_are_the_study_that_the_preset_asks_for(records: list[RunRecord]) -> None:
    plain = [record for record in records if record.recipe.weight_format == "f16"]
    assert len(plain) >= 24
    assert len({record.n_parameters.non_embedding for record in plain}) >= 3
    assert {record.seed for record in plain} == {0, 1}
    assert max(r.tokens / r.n_parameters.non_embedding for r in plain) > 150
    measuring = sum(record.format_seconds for record in records)
    assert measuring <= 0.10 * (sum(record.wall_seconds for record in records) - measuring)


def test_rounding_while_training_saves_part_of_the_price(records: list[RunRecord]) -> None:
    saved = format_runs.share_saved(records)
    low, high = saved["interval"]
    assert 0 < low < saved["ratio"] < high < 1
    assert saved["difference_interval"][1] < 0
    assert saved["trunks"] == 4


def test_the_report_in_the_folder_is_of_these_records(records: list[RunRecord]) -> None:
    page = (format_runs.RECORDS / "REPORT.md").read_text(encoding="utf-8")
    plain = [record for record in records if record.recipe.weight_format == "f16"]
    assert f"{len(plain)} runs of" in page
    saved = format_runs.share_saved(records)
    assert f"costs {saved['ratio']:.2f} of after" in page
