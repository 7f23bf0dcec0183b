"""Every picture is drawn, as PNG and SVG."""

from pathlib import Path

import numpy as np

from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.plots.plot_files import write_all
from tests.scaling.holdout.test_splits import shaped_runs


def test_all_pictures_are_written(tmp_path: Path) -> None:
    fit = fit_law(shaped_runs(), "shape", bootstrap=30, holdout=False, starts=4)
    written = write_all(fit, tmp_path)
    names = {path.stem for path in written}
    assert names == {
        "parity",
        "residuals",
        "isoflop",
        "loss-against-compute",
        "shape",
        "correlations",
    }
    for path in written:
        assert path.stat().st_size > 3000
        start = path.read_bytes()[:8]
        assert start == b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else b"<?xml" in start


def test_a_law_without_shape_or_draws_gets_the_pictures_it_can_have(tmp_path: Path) -> None:
    table = shaped_runs()
    table = type(table)(n=table.n, d=table.d, loss=table.loss, run=np.asarray(table.run))
    fit = fit_law(table, "chinchilla", bootstrap=0, holdout=False, starts=4)
    names = {path.stem for path in write_all(fit, tmp_path)}
    assert "parity" in names
    assert not {"shape", "correlations"} & names
