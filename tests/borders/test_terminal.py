"""Terminals that lack characters, readers that have had enough, streams that are closed or full."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.borders.command_line import LINE


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
