"""The table of `predict`: what each row is, what was seen, what was predicted."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from shapelaw.results.report import predict_tables
from shapelaw.results.shipped_laws import load_law
from shapelaw.results.tables.reader import read_tables


def test_each_row_tells_shape_n_d_observed_predicted_and_error() -> None:
    table, _ = read_tables(("results/reference/runs.jsonl",))
    table = table.take(np.arange(40))
    prediction = load_law("reference").predict_table(table)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*predict_tables(prediction, table))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    head = lines[1].split()
    assert head == ["row", "shape", "N", "D", "observed", "predicted", "error", "90", "%"]
    rows = [line for line in lines if re.match(r"\d+ ", line)]
    assert len(rows) == 40
    for place, line in enumerate(rows):
        observed, predicted, error = re.findall(r" (\d\.\d{4})[* ]| ([+-]\d+\.\d\d)%", line)
        seen, said = float(observed[0]), float(predicted[0])
        assert seen == pytest.approx(table.loss[place], abs=1e-4)
        assert float(error[1]) == pytest.approx(100 * np.log(said / seen), abs=0.02)
        shape = f"{table.shape['d_model'][place]:g}×{table.shape['n_layers'][place]:g}"
        assert shape in line
    # Rows marked as beyond what the law saw are those that the JSON names.
    marked = [place for place, line in enumerate(rows) if "*" in line]
    assert marked == [k for k, row in enumerate(prediction["rows"]) if row["extrapolated"]]
    assert marked


def test_a_loss_that_no_quotient_holds_has_its_error_all_the_same() -> None:
    """Found by the fuzzer: the smallest numbers there are overflowed predicted / observed."""
    table, _ = read_tables(("results/reference/runs.jsonl",))
    table = table.take(np.arange(2))
    prediction = load_law("reference").predict_table(table)
    table.loss[0] = 5e-324
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(*predict_tables(prediction, table))
    error = np.log(prediction["rows"][0]["loss"]) - np.log(5e-324)
    assert f"{error:+.2%}" in console.export_text()
