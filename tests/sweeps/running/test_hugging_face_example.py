"""The worked example: six runs trained by Hugging Face's Trainer, and a law of them."""

from pathlib import Path

import pytest

from benchmarks.external_trainers import COMMAND, DESIGN
from shapelaw.results.tables.reader import read_tables
from shapelaw.scaling.fit import fit_law
from shapelaw.sweeps.design.design import read_design
from shapelaw.sweeps.running.run_sweep import run_sweep


@pytest.mark.long
def test_six_runs_by_hugging_face_s_trainer_make_a_law(tmp_path: Path) -> None:
    for needed in ("transformers", "torch", "accelerate"):
        pytest.importorskip(needed)
    result = run_sweep(
        read_design(DESIGN),
        tmp_path / "out",
        command=COMMAND,
        trainer_name="hugging-face",
        live=False,
    )
    assert (result.finished, result.failed) == (6, 0), [r.reason for r in result.records]
    by_budget = sorted(result.records, key=lambda r: (r.n_parameters.non_embedding, r.tokens))
    for less, more in zip(by_budget[::2], by_budget[1::2], strict=True):
        assert less.loss is not None
        assert more.loss is not None
        assert 2.0 < more.loss < less.loss < 4.0, "nats a byte, and twice the tokens help"
        assert more.bits_per_byte is not None
        assert len(more.curve) > 10
    table, _ = read_tables([str(tmp_path / "out")], None)
    law = fit_law(table, form="chinchilla", bootstrap=0, holdout=False).law
    assert law.runs in (3, 6)
