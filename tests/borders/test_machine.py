"""Machines with little memory, and places where no file may be put."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from tests.borders.command_line import CASES, Run, refused


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


@pytest.mark.parametrize(
    ("arguments", "instead"),
    [(("devices",), "SHAPELAW_HOME"), (("sweep", "smoke", "--plan"), "XDG_CACHE_HOME")],
)
def test_a_user_without_a_home_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], instead: str
) -> None:
    for name in ("SHAPELAW_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "~")
    if arguments[0] == "sweep":
        monkeypatch.setenv("SHAPELAW_HOME", "/nonexistent")
    refused(run(*arguments), "HOME = ~", instead)
