"""Law files and tables of numbers that no run has."""

import json
import re
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from shapelaw.cli import cli
from shapelaw.results.record import decode_record
from shapelaw.scaling.errors import BadInput
from tests.borders.command_line import CASES, Run, refused

DATA = Path(__file__).parents[1] / "data"


def test_laws(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    table.write_text("n,d,loss\n1e7,1e9,3\n")
    law = CASES / "law-alpha.json"
    refused(run("predict", law, table), "law-alpha.json", "alpha")
    refused(run("query", "--device", "m2", "--law", law), "law-alpha.json", "alpha")
    refused(
        run("sweep", "smoke", "--next", "2", "--law", CASES / "law-next.json"),
        "law-next.json", "residuals[0]",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": {"level": 1.0, "slopes": [0, 0], "range": {"tokens": [1, 2]}}}, "noise.range.N"),
        ({"drift": {"quantiles": [0.1], "range": {"N": [1, 2]}}}, "drift.range.tokens"),
        (
            {
                "noise": {
                    "level": 2e12,
                    "slopes": [-0.07, 0.02],
                    "range": {"N": [1e7, 1e9], "tokens": [1e9, 4e10]},
                }
            },
            r"noise\.level = 2e\+12",
        ),
        ({"\ud800": 1}, "control characters"),
    ],
)
def test_a_law_file_without_what_it_reads_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    from importlib import resources

    from shapelaw.scaling.law import Law

    folder = resources.files("shapelaw.results.reference") / "laws"
    law = json.loads((folder / "reference.json").read_text())
    path = tmp_path / "law.json"
    path.write_text(json.dumps(law | change))
    with pytest.raises(BadInput, match=message):
        Law.from_file(path)


def test_tables(run: Run, tmp_path: Path) -> None:
    refused(run("fit", CASES / "table-deep.jsonl"), "table-deep.jsonl", "5000 digits")
    law = tmp_path / "law.json"
    for name, text in (
        ("table-markup.csv", "run[/]0"),
        ("table-escape.csv", "run\\x1b]0;pwned\\x07\\x1b[2J0"),
    ):
        table = CASES / name
        options = ("--form", "chinchilla", "--bootstrap", "5", "--no-holdout")
        assert run("fit", table, *options, "--out", law)[0] == 0
        code, out, err = run("predict", law, table)
        assert code == 0
        assert "\x1b]" not in out + err
        assert "\x07" not in out + err
        # A name too long for its column gives way to the number of the row.
        assert text in out or name == "table-escape.csv"


@pytest.mark.parametrize("value", ["5e-324", "1e300", "1e-200"])
@pytest.mark.parametrize("column", ["n", "d", "loss", "d_model"])
def test_tables_of_numbers_no_run_has(run: Run, tmp_path: Path, column: str, value: str) -> None:
    row = {"n": "1e7", "d": "1e9", "loss": "3", "d_model": "256", "n_layers": "4", column: value}
    path = tmp_path / "runs.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    refused(run("fit", path, "--form", "chinchilla"), "runs.csv", "row 1", column)


def test_a_fit_with_every_parameter_at_a_bound(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    rows = [
        (n * 10**7, d * 10**8, 3.9e-6 - 1e-7 * d + n * 1e-7) for n in range(1, 5) for d in (1, 2, 5)
    ]
    path.write_text("n,d,loss\n" + "".join(f"{n},{d},{loss:.4g}\n" for n, d, loss in rows))
    options = ("--form", "chinchilla", "--bootstrap", "0", "--no-holdout", "--json")
    code, _, err = run("fit", path, "--columns", "n=n,d=d,loss=loss:nats", *options)
    assert code in (0, 2), err


def test_two_runs_that_say_nothing_of_their_blocks(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(
        "n,d,loss,d_model,n_layers,d_ff,n_heads,n_kv_heads\n"
        "3145728,1e9,4.371,256,1.8531,512,4,4\n3145728,4e9,4.1775,256,5.2158,768,4,2\n"
    )
    code, out, err = run("predict", "evidence", path, "--json")
    assert code == 0
    assert "Warning" not in err
    assert all(row["loss"] for row in json.loads(out)["rows"])


def test_more_refits_than_anyone_waits_for_are_refused() -> None:
    done = CliRunner().invoke(cli, ["fit", "x.csv", "--bootstrap", "1" + "0" * 30])
    assert done.exit_code == 2


def test_what_is_refused_is_one_line_without_remarks(run: Run, tmp_path: Path) -> None:
    """Few runs are fitted with the evidence, and a word says so where there is a law."""
    table = tmp_path / "runs.csv"
    table.write_text("n,d,loss\n1e7,1e9,3\n2e7,1e9,2.9\n1e7,4e9,2.8\n4e7,4e9,2.6\n")
    code, _, err = run("fit", table, "--json")
    assert code == 0
    assert "fitted with --prior evidence" in err
    refused(run("fit", table, "--json", "--out", tmp_path), "cannot be written")
    refused(run("fit", table, "--html", "/dev/null"), "/dev/null")


@pytest.mark.parametrize(
    ("header", "row", "columns"),
    [
        ("n,tokens_per_parameter,loss", "1e308,1e308,3", None),
        ("n,flops,loss", "1e-308,1e308,3", None),
        ("n,d,loss", "1e308,1e9,3", "n=n:millions"),
        ("n,d,loss", "400,1e9,3", "n=n:log10"),
        ("n,d,loss,d_model,blocks,sharing", "1e7,1e9,3,64,1e308,1e9", None),
        ("n,d,loss", "1e7,1e308,3", "d=d:trillions"),
    ],
)
def test_products_that_no_number_holds(
    run: Run, tmp_path: Path, header: str, row: str, columns: str | None
) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(f"{header}\n{row}\n{row}\n")
    options = () if columns is None else ("--columns", columns)
    refused(run("fit", path, "--form", "chinchilla", *options), "runs.csv")


def test_steps_without_end_are_in_no_order(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    rows = [f"1e400,{n},{d},{5 - d / 1e9 - n / 1e8}" for n in (1e7, 2e7) for d in (1e8, 2e8, 3e8)]
    path.write_text("step,n,d,loss\n" + "\n".join(rows) + "\n")
    options = ("--form", "chinchilla", "--bootstrap", "0", "--no-holdout", "--json")
    code, _, err = run("fit", path, *options)
    assert (code, err.count("Warning")) == (0, 0), err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("runs.csv", "n,d,loss\n1e7,1e9,3" + " " * 200_000 + "x\n"),
        ("runs.csv", 'n,d,loss,config\n1e7,1e9,3,"{' + "'\\" * 100_000 + '}"\n'),
        ("runs.csv", ",".join(map(str, range(20_000))) + ",x,x\n"),
        ("runs.jsonl", '{"a": ' + "[" * 980 + "]" * 980 + "}\n{}\n"),
    ],
    ids=["spaces", "quotes", "columns", "deep"],
)
def test_tables_that_take_a_reader_s_time(run: Run, tmp_path: Path, name: str, text: str) -> None:
    """Each took a reader longer than anybody waits, or raised what nobody expected."""
    (tmp_path / name).write_text(text)
    began = time.process_time()
    code, _, said = run("fit", tmp_path / name)
    assert code in (0, 2)
    assert "Traceback" not in said
    assert time.process_time() - began < 5


def test_a_record_of_many_keys_with_one_that_stands_twice() -> None:
    keys = ", ".join(f'"{number}": ""' for number in range(100_000))
    line = (DATA / "runs-v2.jsonl").read_bytes().split(b"\n")[0]
    held = f'"software": {{{keys}, "last": "", "last": "", '.encode()
    line = re.sub(rb'"software": ?{', held, line, count=1)
    began = time.process_time()
    with pytest.raises(BadInput, match="'last' stands twice"):
        decode_record(line, "line 1")
    assert time.process_time() - began < 5
