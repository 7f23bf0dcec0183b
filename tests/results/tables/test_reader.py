"""Tables of other people are read with suspicion: one line says what is wrong with them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from shapelaw.results.tables.reader import read_table
from shapelaw.scaling.errors import BadInput

ROWS = [
    (n, n * r, 1.8 + 400 * n**-0.34 + 1200 * (n * r) ** -0.3)
    for n in (1e6, 1e7, 1e8)
    for r in (5, 20, 80)
]
HEADER = "n,d,loss"


def write(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def csv_of(rows: Sequence[tuple[object, ...]], header: str = HEADER) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def test_csv_jsonl_and_parquet_agree(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    plain, _ = read_table(write(tmp_path, csv_of(ROWS)))
    lines = "\n".join(f'{{"n": {n}, "d": {d}, "loss": {loss}}}' for n, d, loss in ROWS)
    jsonl, _ = read_table(write(tmp_path, lines, "runs.jsonl"))
    columns = dict(zip(("n", "d", "loss"), zip(*ROWS, strict=True), strict=True))
    parquet.write_table(
        arrow.table({k: list(v) for k, v in columns.items()}), tmp_path / "runs.parquet"
    )
    packed, _ = read_table(tmp_path / "runs.parquet")
    for other in (jsonl, packed):
        np.testing.assert_array_equal(plain.loss, other.loss)
        np.testing.assert_array_equal(plain.n, other.n)


def test_columns_are_found_by_obvious_names_or_as_told(tmp_path: Path) -> None:
    header = "model_name,n_params,tokens,val_loss,hidden_size,num_layers"
    path = write(tmp_path, csv_of([(f"m{k}", *row, 256, 4) for k, row in enumerate(ROWS)], header))
    table, _ = read_table(path)
    assert set(table.shape) == {"d_model", "n_layers"}
    assert list(table.run) == [f"m{k}" for k in range(len(ROWS))]
    odd = write(tmp_path, csv_of(ROWS, "size,seen,ce"), "odd.csv")
    with pytest.raises(BadInput, match="no column for n"):
        read_table(odd)
    table, _ = read_table(odd, {"n": "size", "d": "seen", "loss": "ce"})
    assert len(table) == len(ROWS)
    with pytest.raises(BadInput, match="has no column 'nope'"):
        read_table(odd, {"n": "nope"})
    with pytest.raises(BadInput, match="is needed on the left"):
        read_table(odd, {"size": "size"})


def test_a_unit_in_a_name_is_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("params_m,Tokens (B),loss\n20,1,3.4\n50,2,3.1\n")
    with pytest.raises(BadInput, match="n=params_m:millions"):
        read_table(path)
    with pytest.raises(BadInput, match=r"Tokens .B.:billions"):
        read_table(path, columns={"n": "params_m:millions"})
    table, _ = read_table(path, columns={"n": "params_m:millions", "d": "Tokens (B):billions"})
    assert (table.n[1], table.d[1]) == (5e7, 2e9)


def test_rows_of_one_shape_are_one_run_where_none_is_named(tmp_path: Path) -> None:
    rows = [(*row, 64 * (1 + k // 3), 4) for k, row in enumerate(ROWS)]
    table, _ = read_table(write(tmp_path, csv_of(rows, HEADER + ",d_model,n_layers")))
    assert len(set(table.run)) == 3
    bare, _ = read_table(write(tmp_path, csv_of(ROWS), "bare.csv"))
    assert len(set(bare.run)) == len(ROWS)


@pytest.mark.parametrize("cell", ["nan", "inf", "-inf", "0", "-2.5", "", "abc", "1e400"])
def test_unusable_losses_are_refused_or_dropped_by_name(tmp_path: Path, cell: str) -> None:
    path = write(tmp_path, csv_of([*ROWS, (1e6, 1e7, cell)]))
    with pytest.raises(BadInput, match=r"row 10.*--drop-invalid") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    table, dropped = read_table(path, drop_invalid=True)
    assert len(table) == len(ROWS)
    assert dropped == [f"row 10: loss = {cell!r}"]


def test_losses_next_to_the_largest_number_are_asked_about(tmp_path: Path) -> None:
    # Where losses are not needed, as for `predict`, none is refused before.
    path = write(tmp_path, csv_of([(n, d, 1e308) for n, d, _ in ROWS[:8]]))
    with pytest.raises(BadInput, match=r"1e\+308 are too much for nats a token"):
        read_table(path, loss_needed=False)


def test_losses_of_several_tokenizers_are_not_mixed_unasked(tmp_path: Path) -> None:
    rows = [(*row, "a" if k % 2 else "b") for k, row in enumerate(ROWS)]
    for column in ("tokenizer", "corpus", "Validation Set"):
        path = write(tmp_path, csv_of(rows, f"{HEADER},{column}"))
        with pytest.raises(BadInput, match="do not compare"):
            read_table(path)
        assert len(read_table(path, allow_mixed=True)[0]) == len(ROWS)
    same = write(tmp_path, csv_of([(*row, "a") for row in ROWS], f"{HEADER},tokenizer"))
    assert len(read_table(same)[0]) == len(ROWS)


BAD_TEXTS = {
    "empty": "",
    "header alone": "n,d,loss\n",
    "prose": "once upon a time\nthere was a run\n",
    "ragged": csv_of(ROWS) + "1,2\n",
    "twice": csv_of(ROWS, "n,n,loss"),
    "missing column": "n,loss\n1,2\n",
    "broken json": '{"n": 1}\n{oops\n',
    "json list": "[1, 2]\n",
    "quote": 'n,d,loss\n"1,2,3\n',
}


@pytest.mark.parametrize("what", sorted(BAD_TEXTS))
def test_what_is_no_table_is_one_line(tmp_path: Path, what: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_table(write(tmp_path, BAD_TEXTS[what]))
    assert "\n" not in str(caught.value)


def test_garbage_is_refused_quickly(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, data in {
        "binary.csv": generator.bytes(10_000_000),
        "text.csv": generator.integers(32, 127, 10_000_000, dtype=np.uint8).tobytes(),
        "false.parquet": generator.bytes(100_000),
        "head.parquet": b"PAR1" + generator.bytes(100_000),
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(BadInput) as caught:
            read_table(path)
        assert len(str(caught.value)) < 400 + len(str(path))


def test_missing_files_and_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(BadInput, match=r"runs\.jsonl"):
        read_table(tmp_path)


def test_tables_that_no_machine_holds_are_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    import pyarrow as arrow
    import pyarrow.parquet as parquet

    from shapelaw.results.tables import file_formats

    monkeypatch.setattr(file_formats, "MOST_CELLS", 3_000)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"n,d,loss\n" + b"1,2,3\n" * 1_001))
    # Objects of a key each, of which all have another: a square of cells.
    lines = "\n".join(f'{{"a{row % 60}": 1}}' for row in range(60))
    write(tmp_path, lines, "square.jsonl")
    write(tmp_path, "[" + "{}," * 2_000 + "{}]", "many.json")
    write(tmp_path, "\n".join(f'{{"n": {[0] * 100}}}' for _ in range(40)), "lists.jsonl")
    parquet.write_table(arrow.table({"n": [[0.0] * 4_000], "d": [1.0]}), tmp_path / "list.parquet")
    parquet.write_table(arrow.table({"n": [0.0] * 4_000}), tmp_path / "rows.parquet")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(BadInput, match=r"at most [\d,]+ ?(rows and 3,000|are read)") as caught:
            read_table(path)
        assert path.name in str(caught.value)
        assert len(str(caught.value)) <= 300
