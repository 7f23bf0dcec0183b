"""Tables as tools and people write them: read, or asked about in one line that says the remedy."""

import csv
import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shapelaw.results.tables.reader import read_table, read_tables
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.run_table import RunTable, clusters

CASES = Path(__file__).parents[2] / "cases" / "inputs"
PLAIN = "comment.csv"  # the table that the others say in other words


def test_every_case_has_its_test() -> None:
    tests = CASES.parents[1]
    text = "".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py"))
    assert sorted(path.name for path in CASES.iterdir() if path.name not in text) == []
    original = tests.parents[1] / "shared" / "cases" / "inputs"
    for path in original.iterdir() if original.is_dir() else ():
        if path.name != "make_text.py":  # its text is made by the test of the designs
            assert (CASES / path.name).read_bytes() == path.read_bytes()


def read(name: str, **columns: str) -> RunTable:
    return read_table(CASES / name, columns)[0]


@pytest.mark.parametrize(
    "name",
    [
        "records.json",
        "wrapped.json",
        "semicolon-decimal-comma.csv",
        "thousands.csv",
        "suffixes.csv",
        "sci-units.csv",
        "two-unnamed.csv",
        "flops-only.csv",
        "total-params.csv",
        "same-name.csv",
    ],
)
def test_the_same_runs_in_other_words(name: str) -> None:
    plain, other = read(PLAIN), read(name)
    np.testing.assert_allclose(other.n, plain.n, rtol=1e-12)
    np.testing.assert_allclose(other.d, plain.d, rtol=1e-12)
    np.testing.assert_array_equal(other.loss, plain.loss)


def test_the_law_behind_them() -> None:
    fitted = fit_law(read("suffixes.csv"), form="chinchilla", bootstrap=0, holdout=False)
    assert fitted.law.parameters["E"] == pytest.approx(1.834, abs=5e-4)
    assert fitted.law.parameters["alpha"] == pytest.approx(0.3507, abs=5e-5)
    report = fitted.report()
    assert report["columns"] == {"n": "params", "d": "tokens", "loss": "loss"}
    assert (report["runs"], report["rows"], report["count"]) == (35, 35, "as given")


def test_units_that_cannot_be_raw_are_asked_about_and_read_as_told() -> None:
    plain = read(PLAIN)
    for name, answer in {
        "billions-plain.csv": {"n": "params:millions", "d": "tokens:billions"},
        "log10.csv": {"n": "params:log10", "d": "tokens:log10"},
        "ppl-as-loss.csv": {"loss": "loss:perplexity"},
    }.items():
        with pytest.raises(BadInput) as caught:
            read(name)
        first = next(iter(answer.values()))
        assert first in str(caught.value)
        assert len(str(caught.value)) <= 300
        told = read(name, **answer)
        np.testing.assert_allclose(told.n, plain.n, rtol=2e-4)
        np.testing.assert_allclose(told.d, plain.d, rtol=2e-4)
        np.testing.assert_allclose(told.loss, plain.loss, rtol=1e-4)


def test_a_row_number_is_never_the_parameters() -> None:
    with pytest.raises(BadInput, match=r"'N' and 'n' could both be n.*--columns n=N"):
        read("dup-case.csv")
    np.testing.assert_array_equal(read("dup-case.csv", n="N").n, read(PLAIN).n)


def test_one_name_in_every_row_is_no_clustering() -> None:
    table = read("same-name.csv")
    assert len(set(table.run)) == len(table)
    assert any("one name is no clustering" in remark for remark in table.remarks)
    fitted = fit_law(table, form="chinchilla", bootstrap=20, holdout=False)
    assert all(high > low for low, high in fitted.intervals.values())
    one = RunTable(n=table.n, d=table.d, loss=table.loss, run=np.full(len(table), "a"))
    assert len(np.unique(clusters(one))) == len(table)


def test_a_history_is_checkpoints_of_its_runs_and_not_final_losses() -> None:
    table = read("wandb-history.csv")
    assert len(table) == 700
    assert len(set(table.run)) == 35
    said = " ".join(table.remarks)
    assert "700 rows are checkpoints along 35 runs" in said
    assert "not final losses" in said


def test_total_parameters_set_the_count() -> None:
    assert read("total-params.csv").count == "total"
    assert read(PLAIN).count == "as given"


def test_a_law_of_total_parameters_is_asked_by_total_parameters() -> None:
    law = fit_law(read("total-params.csv"), form="chinchilla", bootstrap=0, holdout=False).law

    def expected(n: float) -> float:
        p = law.parameters
        return p["E"] + p["A"] * n ** -p["alpha"] + p["B"] * 1e11 ** -p["beta"]

    assert expected(292_336_640) == pytest.approx(2.5672, abs=1e-4)
    shape = Architecture(
        vocab_size=32_000,
        d_model=1024,
        n_blocks=20,
        n_heads=16,
        n_kv_heads=16,
        head_dim=64,
        d_ff=2816,
    )
    found = law.loss(ArchitectureBatch.of([shape]), 1e11)[0]
    assert found == pytest.approx(expected(shape.total_parameters), rel=1e-9)
    assert found < expected(shape.non_embedding_parameters) - 0.01


def test_a_bare_nan_is_row_four() -> None:
    with pytest.raises(BadInput, match=r"row 4: loss = 'nan'.*--drop-invalid"):
        read("nan.jsonl")
    table, dropped = read_table(CASES / "nan.jsonl", drop_invalid=True)
    assert (len(table), dropped) == (34, ["row 4: loss = 'nan'"])
    assert len(read_table(CASES / "nan.jsonl", loss_needed=False)[0]) == 35


def test_a_trainer_state_is_read_and_what_it_lacks_is_named() -> None:
    with pytest.raises(BadInput, match=r"no column for n; it has epoch, eval_loss, step, loss"):
        read("trainer_state.json")


def test_flops_stand_in_for_tokens_and_it_is_said() -> None:
    assert any("D = C/(6N)" in remark for remark in read("flops-only.csv").remarks)


# --- more of each kind ----------------------------------------------------------------------------

GRID = [(n, d) for n in (1e7, 3e7, 1e8) for d in (1e9, 4e9)]


def loss_of(n: float, d: float) -> float:
    return 1.8 + 400 * n**-0.34 + 1200 * d**-0.37


def table_of(folder: Path, header: str, rows: list[str], name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


ROWS = [{"params": n, "tokens": d, "val_loss": loss_of(n, d)} for n, d in GRID]
DOCUMENTS: dict[str, Callable[[], object]] = {
    "columns": lambda: {k: [row[k] for row in ROWS] for k in ROWS[0]},
    "split": lambda: {
        "columns": list(ROWS[0]),
        "index": list(range(len(ROWS))),
        "data": [list(row.values()) for row in ROWS],
    },
    "pandas": lambda: {k: {str(i): row[k] for i, row in enumerate(ROWS)} for k in ROWS[0]},
    "by name": lambda: {f"run-{i}": row for i, row in enumerate(ROWS)},
    "nested": lambda: [
        {
            "config": {"n_params": row["params"]},
            "summary": {"tokens": row["tokens"], "val/loss": row["val_loss"]},
        }
        for row in ROWS
    ],
    "history": lambda: {"best": None, "log_history": ROWS, "epoch": 1.0},
}


@pytest.mark.parametrize("kind", sorted(DOCUMENTS))
def test_json_documents_of_many_shapes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(DOCUMENTS[kind](), indent=1))
    table, _ = read_table(path)
    np.testing.assert_array_equal(table.loss, [row["val_loss"] for row in ROWS])
    np.testing.assert_array_equal(table.n, [row["params"] for row in ROWS])


@pytest.mark.parametrize("write", [str, json.dumps])
def test_objects_in_the_cells_of_a_table(tmp_path: Path, write: Callable[[object], str]) -> None:
    """As the recipe of Weights & Biases exports runs: config and summary are objects in a cell."""
    rows = [
        {
            "": number,
            "summary": write(
                {
                    "_wandb": {"runtime": 60},
                    "val/loss": row["val_loss"],
                    "tokens": row["tokens"],
                    "note": 'it\'s "so", \\ {nan}',
                    "grad": math.nan,
                    "best": None,
                }
            ),
            "config": write({"n_params": row["params"], "compile": True, "betas": [0.9, 0.95]}),
            "name": f"glad-sun-{number}",
        }
        for number, row in enumerate(ROWS)
    ]
    with (tmp_path / "project.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    table, _ = read_table(tmp_path / "project.csv")
    np.testing.assert_array_equal(table.loss, [row["val_loss"] for row in ROWS])
    np.testing.assert_array_equal(table.n, [row["params"] for row in ROWS])
    assert table.columns["d"] == "summary.tokens"
    assert list(table.run) == [row["name"] for row in rows]


def test_gzip_utf16_tabs_and_comments(tmp_path: Path) -> None:
    text = "# a\nparams\ttokens\tloss\n# b\n" + "".join(
        f"{n:.6g}\t{d:.6g}\t{loss_of(n, d):.4f}\n" for n, d in GRID
    )
    (tmp_path / "a.tsv").write_text(text)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "c.txt").write_bytes(text.encode("utf-16"))
    tables = [read_table(tmp_path / name)[0] for name in ("a.tsv", "b.csv.gz", "c.txt")]
    for table in tables:
        np.testing.assert_array_equal(table.loss, tables[0].loss)
        assert len(table) == len(GRID)


def test_long_tables_of_scalars_are_pivoted(tmp_path: Path) -> None:
    rows = [
        f"r{i},{tag},{100},{value}"
        for i, (n, d) in enumerate(GRID)
        for tag, value in (("eval/loss", loss_of(n, d)), ("n_params", n), ("tokens", d))
    ]
    table, _ = read_table(table_of(tmp_path, "run,tag,step,value", rows))
    assert list(table.run) == [f"r{i}" for i in range(len(GRID))]
    np.testing.assert_allclose(table.loss, [loss_of(n, d) for n, d in GRID])


def test_european_numbers(tmp_path: Path) -> None:
    rows = [f"{int(n):,};{int(d):,};{loss_of(n, d):.3f}".replace(",", "_") for n, d in GRID]
    rows = [row.replace(".", ",").replace("_", ".") for row in rows]
    table, _ = read_table(table_of(tmp_path, "params;tokens;loss", rows))
    np.testing.assert_array_equal(table.n, [n for n, _ in GRID])
    np.testing.assert_allclose(table.loss, [loss_of(n, d) for n, d in GRID], atol=6e-4)


def test_checkpoints_are_recognised_where_nothing_names_the_run(tmp_path: Path) -> None:
    rows = [
        f"{n:.6g},{d:.6g},{loss_of(n, d):.5f}"
        for n in (1e7, 3e7, 1e8)
        for d in np.linspace(1e8, 2e9, 20)
    ]
    table, _ = read_table(table_of(tmp_path, "n,d,loss", rows))
    assert len(set(table.run)) == 3
    assert any("checkpoints along 3 runs" in remark for remark in table.remarks)
    assert not any("keep those" in remark for remark in table.remarks)


def test_a_decayed_schedule_is_seen_at_the_ends_of_its_runs(tmp_path: Path) -> None:
    """Losses by momentum law (arXiv 2408.11029): what annealing brings comes at the end."""
    rows = []
    for n in (1e7, 3e7, 1e8):
        rate = np.minimum(1, (1 - np.linspace(0.02, 1, 50)) / 0.2)
        area = np.cumsum(rate) / 50
        momentum = np.zeros(50)
        for i in range(1, 50):
            momentum[i] = 0.95 * momentum[i - 1] + rate[i - 1] - rate[i]
        loss = 2 + 400 * n**-0.34 + 0.4 * area**-0.5 - 0.04 * np.cumsum(momentum)
        rows += [
            f"{n:.6g},{d:.6g},{value:.6f}"
            for d, value in zip(np.linspace(4e7, 2e9, 50), loss, strict=True)
        ]
    table, _ = read_table(table_of(tmp_path, "n,d,loss", rows))
    assert any("only the last row of each run" in remark for remark in table.remarks)


def test_a_learning_rate_sweep_is_reduced_to_its_best_and_seeds_are_not(tmp_path: Path) -> None:
    rows = [
        f"{n:.6g},{d:.6g},{loss_of(n, d) * (1 + 0.05 * np.log(lr / 1e-3) ** 2):.5f},{lr},{seed}"
        for n, d in GRID
        for lr in (3e-4, 1e-3, 3e-3)
        for seed in (0, 1)
    ]
    path = table_of(tmp_path, "n,d,loss,lr,seed", rows)
    table, _ = read_table(path)
    assert len(table) == 2 * len(GRID)
    np.testing.assert_allclose(np.unique(table.loss), np.unique([loss_of(*p) for p in GRID]), 1e-4)
    assert any("sweep over 'lr'" in remark for remark in table.remarks)
    assert len(read_table(path, loss_needed=False)[0]) == len(rows)
    unnamed = [row.rsplit(",", 2)[0] for row in rows if row.endswith("0")]
    table, _ = read_table(table_of(tmp_path, "n,d,loss", unnamed, "u.csv"))
    assert len(table) == len(GRID)
    seeds = [row.rsplit(",", 2)[0] for row in rows if ",0.001," in row] * 2
    assert len(read_table(table_of(tmp_path, "n,d,loss", seeds, "s.csv"))[0]) == len(seeds)


def test_shape_columns_under_other_names(tmp_path: Path) -> None:
    rows = [f"{n:.6g},{d:.6g},{loss_of(n, d):.5f},256,8,2,704" for n, d in GRID]
    path = table_of(tmp_path, "n,d,loss,Embed Dim,num_blocks,loops,ffn", rows)
    table, _ = read_table(path)
    assert set(table.shape) == {"d_model", "n_layers", "sharing", "d_ff"}
    assert set(table.shape["n_layers"]) == {16.0}
    odd = table_of(tmp_path, "n,d,loss,emb_channels,b,c,e", rows, "odd.csv")
    table, _ = read_table(odd)
    assert any("--columns d_model=emb_channels" in remark for remark in table.remarks)
    assert set(read_table(odd, {"d_model": "emb_channels"})[0].shape) == {"d_model"}


def test_a_used_column_may_name_the_run(tmp_path: Path) -> None:
    rows = [f"{n:.6g},{d:.6g},{loss_of(n, d):.5f}" for n, d in GRID]
    table, _ = read_table(table_of(tmp_path, "n,d,loss", rows), {"run": "n"})
    assert len(set(table.run)) == 3


def test_crashed_runs_of_a_tracker_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [
        f"r{i},{'crashed' if i == 2 else 'finished'},{n:.6g},{d:.6g},{loss_of(n, d):.5f}"
        for i, (n, d) in enumerate(GRID)
    ]
    path = table_of(tmp_path, "Name,State,config.n_params,tokens,summary.val_loss", rows)
    table, dropped = read_table(path)
    assert len(table) == len(GRID) - 1
    assert dropped == ["1 rows of runs that did not finish (State = crashed)"]


@pytest.mark.parametrize(("column", "epochs"), [("epochs", [1, 67]), ("config/num_epochs", [2, 4])])
def test_a_column_of_epochs_is_remarked_upon(
    tmp_path: Path, column: str, epochs: list[int]
) -> None:
    rows = [f"{n:.6g},{d:.6g},{loss_of(n, d):.5f},{epochs[i % 2]}" for i, (n, d) in enumerate(GRID)]
    table, _ = read_table(table_of(tmp_path, f"n,d,loss,{column}", rows))
    repeated = sum(epochs[i % 2] > 1 for i in range(len(GRID)))
    (said,) = [remark for remark in table.remarks if "more than once" in remark]
    assert said.startswith(f"{repeated} of {len(GRID)} rows")
    assert f"up to {max(epochs)} times" in said
    once = table_of(tmp_path, "n,d,loss,epochs", [row.rsplit(",", 1)[0] + ",1" for row in rows])
    assert not any("more than once" in remark for remark in read_table(once)[0].remarks)


def test_several_tables_keep_what_was_read_from_where() -> None:
    table, _ = read_tables([CASES / PLAIN, CASES / "suffixes.csv"], allow_mixed=True)
    assert len(table) == 70
    assert table.columns["n"] == "params"
