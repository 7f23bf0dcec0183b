"""Files that no model, device or run is behind: one line that names file, field and value, exit 2.

Names with markup or control characters are data: shown as they are, or refused.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from shapelaw.cli import cli, main
from shapelaw.results.store import read_records
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import parse_json, parse_toml, read_bytes, read_json
from shapelaw.search.devices.catalogue import load_device

CASES = Path(__file__).parent / "cases" / "borders"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process: exit code, stdout, stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shapelaw", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def refused(result: tuple[int, str, str], *named: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.count("\n") == 1
    assert len(err[:-1]) <= 300
    assert err[:-1].isprintable()
    for name in named:
        assert name in err


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("device-deep.toml", ["nested 5000 deep"]),
        ("device-zero-bandwidth.toml", ["bandwidth", "0"]),
        ("device-unknown-field.toml", ["zzz"]),
        ("device-escape.toml", ["title", "control characters"]),
    ],
)
def test_devices(run: Run, file: str, named: list[str]) -> None:
    refused(run("explain", "smollm2-135m", "--device", CASES / file), file, *named)


def test_markup_in_a_device_is_shown(run: Run) -> None:
    code, out, _ = run("devices", CASES / "device-markup.toml")
    assert code == 0
    assert "Apple [/] iPhone 13" in " ".join(out.split()) or "[/]" in out
    code, out, _ = run(
        "explain", "smollm2-135m", "--device", CASES / "device-markup.toml",
        "--workload", CASES / "workload-markup.toml",
    )  # fmt: skip
    assert code == 0
    assert "ch[/]at" in out


def test_nothing_is_recommended_that_a_device_cannot_hold(run: Run, tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text(SPACE)
    device = CASES / "device-small-capacity.toml"
    code, out, err = run("query", "--device", device, "--tokens", "1B", "--space", space, "--json")
    assert code == 1
    assert "memory <= 100 B" in err
    assert "best" not in out


def test_architectures(run: Run, tmp_path: Path) -> None:
    refused(run("explain", CASES / "int64.json", "--device", "m2"), "int64.json", "sharing")
    refused(
        run("export", CASES / "blocks.json", "--to", "hf", tmp_path / "out"),
        "blocks.json", "n_blocks", "100000000",
    )  # fmt: skip
    refused(
        run("export", CASES / "answer-not-utf8.json", "--to", "hf", tmp_path / "out"),
        "answer-not-utf8.json", "UTF-8",
    )  # fmt: skip


def test_workloads(run: Run) -> None:
    refused(
        run("explain", "smollm2-135m", "--device", "m2", "--workload", CASES / "wl.toml"),
        "wl.toml", "generated = 9223372036854775807",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("design-huge-size.toml", ["non_embedding", "9223372036854775807"]),
        ("lat.toml", ["latin", "runs", "1000000000"]),
    ],
)
def test_designs(run: Run, file: str, named: list[str]) -> None:
    refused(run("sweep", CASES / file, "--plan"), file, *named)


@pytest.mark.parametrize("source", ['text = ["/nowhere/*.txt"]', 'tokens = "/nowhere/x.bin"'])
def test_a_corpus_that_has_vanished(run: Run, tmp_path: Path, source: str) -> None:
    design, kind = tmp_path / "own.toml", source.split()[0]
    design.write_text(f'name = "own"\n{source}\ntokens_per_parameter = [1]\n'
                      "[base]\nnon_embedding = 4_000\n")  # fmt: skip
    refused(run("sweep", design, "--out", tmp_path / "out"), "own.toml", kind, "/nowhere/")
    assert not list((tmp_path / "out").glob("runs.jsonl"))


def test_a_design_wider_than_anything(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "wide.toml"
    path.write_text('name = "x"\n[base]\nnon_embedding = 8_000\naspect_ratio = 1e20\n')
    refused(run("sweep", path, "--plan"), "aspect_ratio = 1e+20")


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
    ("file", "named"),
    [("bench-zero.json", ["samples_ns[1] = 5e-324"]), ("bench-not-finite.json", ["n_gen = -64"])],
)
def test_benches(run: Run, tmp_path: Path, file: str, named: list[str]) -> None:
    refused(
        run("calibrate", "--name", "x", "--llama-bench", CASES / file, "--out", tmp_path / "x"),
        file, *named,
    )  # fmt: skip


def test_a_bench_of_a_model_of_five_bytes(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_text(
        "model_filename,model_type,model_size,model_n_params,n_prompt,n_gen,avg_ns\n"
        "a,llama 7B Q4_0,5.3,6738415616,512,0,216142857\n"
        "a,llama 7B Q4_0,5.3,6738415616,0,128,2000000000\n"
    )
    refused(
        run("calibrate", "--name", "x", "--llama-bench", path, "--out", tmp_path / "x"),
        "model_size = 5.3", "bits a weight",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("kv_share = ", "kv_share = 1e12, spare = ", "uncertainty.spread.kv_share"),
        ("capacity = {value = ", "capacity = {value = 1e30, unit = \"GB\", source = \"x\", "
         "status = \"fitted\"} #", "memory.capacity"),
        ("[compute.peak]\n", "[compute.peak]\n\"\u0663\" = {value = 1.0, unit = \"TFLOP/s\", "
         "source = \"x\", status = \"fitted\"}\n", "precision"),
    ],
)  # fmt: skip
def test_profiles(run: Run, tmp_path: Path, old: str, new: str, named: str) -> None:
    path = tmp_path / "device.toml"
    load_device("m2").to_file(path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    refused(run("explain", "smollm2-135m", "--device", path), "device.toml", named)


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


def test_a_store_with_a_byte_that_is_not_utf8(run: Run, tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_bytes((CASES / "runs-not-utf8.jsonl").read_bytes())
    for command in (("fit", tmp_path), ("sweep", "--status", tmp_path)):
        refused(run(*command), "runs.jsonl", "line ", "UTF-8")


def test_every_case_has_its_test() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert sorted(path.name for path in CASES.iterdir() if path.name not in text) == []


# --- what the fuzzer found ------------------------------------------------------------------------


SPACE = """name = "x"
d_model = [64, 128]
head_dim = 32
n_blocks = [4, 8]
mlp_attention_ratio = 2
vocab_size = 1000
"""


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("sharing = 2147483647", "sharing"),
        ("gqa_group = [1e-300]", "gqa_group"),
        ("attention_width = { from = 5e-324, to = 1e308, factor = 1.0001 }", "attention_width"),
        ("attention_width = { from = 1, to = 2, step = 5e-324 }", "attention_width"),
        ("d_ff_multiple_of = 9223372036854775807", "d_ff_multiple_of"),
        ('attention = [{ window = 4, global_every = 0 }]', "global_every = 0"),
        ("gqa_group = { from = 1, to = 9999, step = 1 }\nattention_width = "
         "{ from = 1, to = 9999, step = 1 }", "combinations"),
    ],
)  # fmt: skip
def test_spaces(run: Run, tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "space.toml"
    path.write_text(SPACE + line)
    refused(run("query", "--device", "m2", "--tokens", "1B", "--space", path), "space.toml", named)


@pytest.mark.parametrize("value", ["5e-324", "1e300", "1e-200"])
@pytest.mark.parametrize("column", ["n", "d", "loss", "d_model"])
def test_tables_of_numbers_no_run_has(run: Run, tmp_path: Path, column: str, value: str) -> None:
    row = {"n": "1e7", "d": "1e9", "loss": "3", "d_model": "256", "n_layers": "4", column: value}
    path = tmp_path / "runs.csv"
    path.write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")
    refused(run("fit", path, "--form", "chinchilla"), "runs.csv", "row 1", column)


def test_records(run: Run, tmp_path: Path) -> None:
    line = (Path(__file__).parent / "data" / "runs-v2.jsonl").read_bytes().split(b"\n")[0]
    store = tmp_path / "runs.jsonl"
    for old, new, named in (
        (b'"seed":', b'"seed":1,"seed":', "'seed' stands twice"),
        (b'"design":"', b'"design":"\\u001b[31m', "design"),
        (b'"flops":', b'"flops":1e300,"x":', "flops"),
    ):
        store.write_bytes(line.replace(old, new, 1) + b"\n")
        refused(run("sweep", "--status", tmp_path), "line 1", *([] if "x" in str(new) else [named]))


def test_state_of_a_sweep(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"design": "a", "design": "b"}')
    refused(run("sweep", "--status", tmp_path), "sweep.json", "stands twice")
    (tmp_path / "sweep.json").unlink()
    os.mkfifo(tmp_path / "sweep.json")
    refused(run("sweep", "--status", tmp_path), "a pipe")


def test_options_of_thousands_of_characters(run: Run) -> None:
    for arguments in (
        ("export", "smollm2-135m", "--to", "1" * 5000, "out"),
        ("explain", "smollm2-135m", "--device", "m2", "--bits", "4=" * 3000),
        ("explain", "smollm2-135m", "--device", "m2", "--format", "a" * 5000),
        ("sweep", "--status", "x\x1b]0;y\x07"),
    ):
        refused(run(*arguments))


def test_too_little_memory_is_said() -> None:
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)),) * 2)\n"
        "from shapelaw.cli import main\nmain()"
    )
    for room in (60_000_000, 250_000_000):
        done = subprocess.run(
            [sys.executable, "-c", code, str(room), "fit", str(CASES / "table-markup.csv")],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("\n") == 1
        assert "ulimit -v" in done.stderr


# --- the border itself ----------------------------------------------------------------------------


def test_only_regular_files_are_read(tmp_path: Path, run: Run) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    refused(run("fit", pipe), "a pipe")
    refused(run("query", "--device", "m2", "--law", pipe), "a pipe")
    refused(run("explain", "smollm2-135m", "--device", pipe), "a pipe")
    refused(run("explain", "/dev/zero", "--device", "m2"), "/dev/zero")
    refused(run("fit", "/dev/zero"), "device")
    refused(run("sweep", tmp_path / "x.toml"), "No such file")
    refused(run("sweep", tmp_path), "folder")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": ' + "9" * 500 + "}", "500 digits"),
        ("[" * 10_000 + "]" * 10_000, "nested 10000 deep"),
        ('{"a": "' + "[" * 300 + '"', "not JSON"),
        ('{"a": 1', "line 1"),
        ('"\\' * 50_000, "not JSON"),
    ],
)
def test_json_documents(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why.replace("[", r"\[")) as caught:
        parse_json(text, "law", "x.json")
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    "text",
    ["a = 1\na = 2\n", "a = nan", "a = inf", "a = " + "[" * 999, "a = " + "1" * 9999, "a.b" * 500],
)
def test_toml_documents(text: str) -> None:
    with pytest.raises(BadInput, match=r"device = x\.toml"):
        parse_toml(text, "device", "x.toml")


def test_large_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "law.json"
    with path.open("wb") as file:
        file.truncate(2_000_000_000)
    with pytest.raises(BadInput, match="2,000,000,000 bytes"):
        read_json(path, "law")
    with pytest.raises(BadInput, match="not the name of a file"):
        read_bytes("a\0b", "law")


def test_a_long_message_is_cut_and_keeps_its_head(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_bytes("x" * 3000, "law")
    assert len(str(caught.value)) <= 300
    assert str(caught.value).startswith("law = xxx")


def test_in_little_memory(tmp_path: Path) -> None:
    """A deep file and a huge design end at once under 1 GB of address space."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1_000_000_000,) * 2)\n"
        "from shapelaw.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "sweep", str(CASES / "lat.toml"), "--plan"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "lat.toml" in done.stderr


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


def test_records_nested_too_deep_are_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text("[" * 100_000 + "\n{}\n")
    with pytest.raises(BadInput):
        read_records(tmp_path)


def test_more_refits_than_anyone_waits_for_are_refused() -> None:
    done = CliRunner().invoke(cli, ["fit", "x.csv", "--bootstrap", "1" + "0" * 30])
    assert done.exit_code == 2


def test_a_device_or_a_pipe_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(BadInput, match="a regular file is needed"):
        write_atomically(pipe, "x")
    assert pipe.is_fifo()
    link = tmp_path / "link"
    for behind in (pipe, Path("/dev/stdout"), Path("/dev/null"), Path("/proc/self/fd/1"), link):
        link.unlink(missing_ok=True)
        link.symlink_to(behind)
        with pytest.raises(BadInput, match=r"regular file is needed|symbolic links"):
            write_atomically(link, "x")
        assert link.is_symlink()


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    file, link = tmp_path / "other" / "law.json", tmp_path / "law.json"
    link.symlink_to("other/law.json")
    for content in ("new", "newer"):
        write_atomically(link, content)
        assert link.is_symlink()
        assert file.read_text() == content


# --- the user's own profiles ---------------------------------------------------------------------


@pytest.fixture
def own_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's calibrated devices, empty."""
    monkeypatch.setenv("SHAPELAW_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "devices"
    folder.mkdir(parents=True)
    return folder


def test_an_own_profile_that_takes_a_shipped_name_is_named_in_every_answer(
    run: Run, tmp_path: Path, own_devices: Path
) -> None:
    space, said = tmp_path / "space.toml", str(own_devices / "m2.toml")
    space.write_text(SPACE)
    load_device("m2").to_file(own_devices / "m2.toml")
    load_device("h100").to_file(own_devices / "h100.toml")
    asked = ("--space", space, "--tokens", "1B", "--json")
    answers: dict[str, tuple[tuple[object, ...], ...]] = {
        "notes": (("devices", "m2", "--json"), ("devices", "--json")),
        "warnings": (
            ("explain", "smollm2-135m", "--device", "m2", "--json"),
            ("query", "--device", "m2", *asked),
            ("query", "--device", "m2", *asked, "--formats", "q8_0"),
        ),
    }
    for field, commands in answers.items():
        for command in commands:
            code, out, err = run(*command)
            assert code == 0, err
            assert any(said in line for line in json.loads(out)[field]), command
    code, out, _ = run("query", "--device", "m1", *asked)
    assert code == 0
    assert any("h100.toml" in line for line in json.loads(out)["warnings"])
    code, _, err = run("sweep", "smoke", "--plan", "--accelerator", "h100")
    assert code == 0
    assert "h100.toml" in "".join(err.split())
    others: tuple[tuple[object, ...], ...] = (
        ("explain", "smollm2-135m", "--device", "m2@llama.cpp", "--json"),
        ("explain", "smollm2-135m", "--device", "m2", "--engine", "llama.cpp", "--json"),
        ("explain", "smollm2-135m", "--device", own_devices / "m2.toml", "--json"),
    )
    for command in others:
        code, out, _ = run(*command)
        assert code == 0
        assert said not in json.dumps(json.loads(out)["warnings"])


def test_one_broken_profile_spoils_only_itself(run: Run, own_devices: Path) -> None:
    load_device("m2").to_file(own_devices / "mine.toml")
    (own_devices / "broken.toml").write_text("name = [")
    (own_devices / "zero.toml").write_bytes(b"\0" * 40)
    (own_devices / "folder.toml").mkdir()
    code, out, _ = run("devices", "--json")
    assert code == 0
    listed = json.loads(out)
    assert {"m2", "mine", "h100"} <= {device["name"] for device in listed["devices"]}
    assert [device["name"] for device in listed["unusable"]] == ["broken", "folder", "zero"]
    assert all(device["name"] in device["why"] for device in listed["unusable"])
    code, out, _ = run("devices")
    assert code == 0
    assert "broken" in out
    for device in ("mine", "m2"):
        assert run("explain", "smollm2-135m", "--device", device, "--json")[0] == 0
    refused(run("explain", "smollm2-135m", "--device", "broken"), "broken.toml", "not TOML")


# --- the terminal --------------------------------------------------------------------------------

LINE = [sys.executable, "-m", "shapelaw"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve runs of a law, in a file and by runs with names of other scripts."""
    path = tmp_path / "läufe-漢字.csv"
    rows = [
        f"é{n:g}漢{d:g},{n},{d},{1.8 + 400 * n**-0.34 + 900 * d**-0.36:.4f}"
        for n in (1e7, 4e7, 1e8, 1e9)
        for d in (1e9, 9e9, 4e10)
    ]
    path.write_text("run,n,d,loss\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_reader_that_has_had_enough(table: Path) -> None:
    """As `shapelaw ... | head -1`: no traceback, no word of a broken pipe."""
    for arguments in (
        ["devices"],
        ["devices", "--json"],
        ["--help"],
        ["predict", "evidence", table],
    ):
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [*LINE, *map(str, arguments)],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )
        os.close(write)
        assert done.returncode == 1, done.stderr
        assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_to_a_full_disk_is_one_line() -> None:
    for arguments in (["devices"], ["devices", "m2", "--json"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*LINE, *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
                timeout=60,
            )
        assert done.returncode == 1
        assert done.stderr == "shapelaw: output: No space left on device\n"


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_lead_nowhere(table: Path, tmp_path: Path, closed: tuple[int, ...]) -> None:
    law, front = tmp_path / "law.json", tmp_path / "page.html"
    code = (
        f"import os, sys\nfor one in {closed}: os.close(one)\n"
        f"os.execv(sys.executable, [sys.executable, '-m', 'shapelaw', *sys.argv[1:]])"
    )
    fit = ["fit", table, "--form", "chinchilla", "--bootstrap", "5", "--no-holdout"]
    for arguments in ([*fit, "--out", law, "--html", front], [*fit[:1], tmp_path / "none.csv"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == (0 if "--out" in arguments else 2), done.stderr
        assert "Traceback" not in done.stderr
    assert json.loads(law.read_text())["form"] == "chinchilla"
    assert "</html>" in front.read_text()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp437"])
def test_a_terminal_that_lacks_characters_gets_their_numbers(
    table: Path, tmp_path: Path, encoding: str
) -> None:
    """In the C locale too, where the names of files are bytes."""
    bare = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    environment = {**os.environ, **bare, "PYTHONIOENCODING": encoding}
    law = tmp_path / "größe.json"
    fit = ["fit", table, "--form", "chinchilla", "--bootstrap", "5", "--no-holdout", "--out", law]
    for arguments in (fit, [*fit, "--json"], ["predict", law, table], ["devices", "m2"]):
        done = subprocess.run(
            [*LINE, *(os.fsencode(str(part)) for part in arguments)],
            capture_output=True,
            check=False,
            timeout=60,
            env=environment,
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        done.stdout.decode(encoding)
    missing = subprocess.run(
        [*LINE, "fit", os.fsencode(tmp_path / "fehlt-漢.csv")],
        capture_output=True,
        check=False,
        env=environment,
    )
    assert missing.returncode == 2
    assert missing.stderr.count(b"\n") == 1
    assert json.loads(law.read_text(encoding="utf-8"))["runs"] == 12
