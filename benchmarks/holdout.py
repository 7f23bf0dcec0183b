"""All forms on all hold-outs, side by side.

    python -m benchmarks.holdout [TABLE.csv ...]

Every fit sees the training part of its split alone. Figures are mean absolute log errors of the
held-out rows, with the rank correlation at fixed N and D in brackets where it exists.
`shape-depth` also prints psi, the exponent by which depth slows learning from tokens. Tables with
N below and above 6e8 and 3e8 are cut there too, as published comparisons are.
"""

import argparse
from pathlib import Path

import numpy as np

from shapelaw.results.tables.reader import read_table
from shapelaw.scaling.features import table_features
from shapelaw.scaling.fitting.best_fits import best_fits
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.holdout.form_choice import candidates
from shapelaw.scaling.holdout.splits import (
    Split,
    all_splits,
    predict_splits,
    score_split,
    thinned,
    varying,
)

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "runs"
TABLES = ("chinchilla.csv", "morph.csv", "gemstones.csv")
CUTS = (6e8, 3e8)
DELTA = 1e-3


def compare(path: Path) -> None:
    """Print one table of runs: forms down, splits across."""
    table, dropped = read_table(path)
    for line in dropped:
        print(f"dropped: {line}")
    table = thinned(table)
    splits = all_splits(table)
    for cut in CUTS:
        train = table.n < cut
        if path.stem == "gemstones" and train.any() and not train.all():
            splits.append(Split(f"N<{cut:.0e}", train[None, :], ~train[None, :]))
    features = table_features(table)
    informative = frozenset(varying(features))
    print(f"\n{path.stem}: {len(table)} rows, {len(set(table.run))} runs")
    print(
        f"{'form':22s} {'p':>3s} {'objective':>10s} "
        + " ".join(f"{split.name[:20]:>20s}" for split in splits)
    )
    for name in candidates(table):
        form = build_form(name, informative)
        whole = best_fits(
            form, features, table.loss, np.ones((1, len(table))), delta=DELTA, starts=16
        )[0]
        predicted = predict_splits(
            table, features, name, splits, delta=DELTA, informative=informative
        )
        cells = []
        for split in splits:
            if split.name not in predicted:
                cells.append(f"{'too few rows':>20s}")
                continue
            found = score_split(table, predicted[split.name])
            rank = found["spearman_at_fixed_n_d"]
            cells.append(
                f"{found['mean_abs_log']:.5f}{'' if rank is None else f' [{rank:.2f}]'}".rjust(20)
            )
        print(
            f"{name:22s} {len(form.names):3d} {whole.objective:10.6f} "
            + " ".join(cells)
            + (f"  psi {whole.theta[form.index('psi')]:.3f}" if "psi" in form.names else ""),
            flush=True,
        )


def main(arguments: list[str] | None = None) -> None:
    """Compare on the tables given, or on the published ones where they are at hand."""
    parser = argparse.ArgumentParser(description="All forms on all hold-outs.")
    parser.add_argument("tables", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    tables = options.tables or [FOLDER / name for name in TABLES]
    for path in tables:
        if path.is_file():
            compare(path)
        else:
            print(f"skipped: {path.name} is not here")


if __name__ == "__main__":
    main()
