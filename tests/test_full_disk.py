"""A disk that is full or may only be read while the tool writes: the old file stays, one line
names it.

Two ways to be full, exit 1: the kernel lets no file grow beyond a limit, and a small tmpfs that
holds no more (where a user may mount one). A file system that may only be read was the user's
choice: exit 2.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.borders.command_line import SPACE

DATA = Path(__file__).parent / "data"
ANSWER = Path(__file__).parent / "verification" / "answer.json"
SHAPE = {
    "vocab_size": 256, "d_model": 64, "n_blocks": 4, "sharing": 1, "n_heads": 4, "n_kv_heads": 2,
    "head_dim": 16, "d_ff": 128, "tied_embeddings": True,
}  # fmt: skip
FIT = ("fit", "runs.csv", "--form", "chinchilla", "--bootstrap", "5", "--no-holdout")
QUERY = ("query", "--device", "m2", "--space", "space.toml", "--tokens", "1B")
WRITERS = {
    "law.json": (*FIT, "--out", "law.json"),
    "parity.png": (*FIT, "--plots", "plots"),
    "law.html": (*FIT, "--html", "law.html"),
    "answer.html": (*QUERY, "--html", "answer.html"),
    "picture.png": ("explain", "shape.json", "--device", "m2", "--picture", "picture.png"),
    "x.toml": ("calibrate", "--name", "x", "--llama-bench", "bench.json", "--out", "x.toml"),
    "own.toml": ("calibrate", "--name", "own", "--llama-bench", "bench.json"),
    "model.gguf": ("export", "shape.json", "--to", "gguf", "model.gguf"),
    "hf": ("export", "shape.json", "--to", "hf", "hf"),
}
"""The file that a command writes, by name, and the command."""
ONCE = ("model.gguf", "hf")
"""What export writes it never replaces: there is no old one."""
ROOM = 600  # bytes: of a file, under the limit

LIMITED = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({ROOM}, resource.RLIM_INFINITY))
from shapelaw.cli import main
main()
"""
ON_TMPFS = r"""
mount -t tmpfs -o size=64m none "$1" && cp -a "$2"/. "$1" && cd "$1" || exit 99
shift 2
cat /dev/zero > filler 2> /dev/null
"$@"
code=$?
rm filler
find . -type f | sort | xargs sha256sum
exit $code
"""
READ_ONLY = r"""
mount -t tmpfs none "$1" && cp -a "$2"/. "$1" && mount -o remount,ro "$1" && cd "$1" || exit 99
shift 2
exec "$@"
"""
ONE_AFTER_ANOTHER = """
import json, os, sys, tempfile
from shapelaw.cli import main
for name, command in json.loads(sys.argv.pop()).items():
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            sys.argv = ["shapelaw", *command]
            main()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        print(json.dumps([name, code, said.read().decode()]), flush=True)
"""
DESIGN = """name = "own"
text = ["text.txt"]
validation_tokens = 1024
tokens_per_parameter = [2]
[base]
non_embedding = 4_000
"""
RUN_WRITERS = {
    "runs": ("sweep", "design.toml", "--out", "runs", "--workers", "1"),
    "proxies": ("verify", "answer.json", "--out", "proxies"),
    "demo": ("demo", "--out", "demo"),
}
"""Further ones, where something runs before anything is written."""
STUDIES = {
    "study.db": (*QUERY, "--storage", "sqlite:///study.db"),
    "journal.log": (*QUERY, "--storage", "journal.log"),
}
READERS = {
    "law": ("predict", "law.json", "runs.csv"),
    "status": ("sweep", "--status", "sweep"),
    "plan": ("sweep", "design.toml", "--plan"),
}
"""What needs to write nothing."""
MOUNTS = (
    shutil.which("unshare") is not None
    and not subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        check=False,
    ).returncode
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands read, and with what each of them wrote while it could."""
    folder = tmp_path_factory.mktemp("disk")
    rows = [
        f"{n},{d},{1.8 + 400 * n**-0.34 + 900 * d**-0.36:.4f}"
        for n in (1e7, 4e7, 1e8, 1e9)
        for d in (1e9, 9e9, 4e10)
    ]
    (folder / "runs.csv").write_text("n,d,loss\n" + "\n".join(rows) + "\n")
    (folder / "space.toml").write_text(SPACE)
    (folder / "shape.json").write_text(json.dumps(SHAPE))
    row = {"model_filename": "a", "model_type": "llama 7B Q4_0", "model_size": 3825065984,
           "model_n_params": 6738415616}  # fmt: skip
    times = ((512, 0, 216142857), (0, 128, 2_000_000_000))
    bench = [{**row, "n_prompt": p, "n_gen": g, "avg_ns": t} for p, g, t in times]
    (folder / "bench.json").write_text(json.dumps(bench))
    (folder / "design.toml").write_text(DESIGN)
    (folder / "text.txt").write_text("one two three four five\n" * 5000)
    (folder / "sweep").mkdir()
    shutil.copy(DATA / "runs-v2.jsonl", folder / "sweep" / "runs.jsonl")
    shutil.copy(ANSWER, folder)
    for name, command in WRITERS.items():
        if name not in ONCE:
            done = run([sys.executable, "-m", "shapelaw"], folder, *command)
            assert done.returncode == 0, done.stderr
    return folder


def run(
    program: list[str], folder: Path, *arguments: str, home: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    where = {"SHAPELAW_HOME": str(home or folder / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*program, *arguments],
        cwd=folder,
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def said(done: "subprocess.CompletedProcess[str]", name: str, reason: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("shapelaw: ")
    assert len(last) <= 300
    assert name in last
    assert reason in last


@pytest.mark.parametrize("name", WRITERS)
def test_no_file_may_grow(written: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    done = run([sys.executable, "-c", LIMITED], tmp_path, *WRITERS[name])
    said(done, name, "File too large")
    assert contents(tmp_path) == before


@pytest.mark.skipif(not MOUNTS, reason="nothing may be mounted here")
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_file_system(written: Path, tmp_path: Path, name: str) -> None:
    empty = tmp_path / "full"
    empty.mkdir()
    sums = run(["sh", "-c", "find . -type f | sort | xargs sha256sum"], written).stdout
    done = run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ON_TMPFS, "sh", str(empty),
         str(written), sys.executable, "-m", "shapelaw"],
        tmp_path,
        *WRITERS[name],
        home=empty / "home",
    )  # fmt: skip
    said(done, name, "No space left")
    assert done.stdout.endswith(sums)


@pytest.fixture(scope="module")
def read_only(
    written: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int, str]]:
    """Exit code and words of every command where what was written may only be read."""
    empty = tmp_path_factory.mktemp("read-only")
    done = run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", READ_ONLY, "sh", str(empty),
         str(written), sys.executable, "-c", ONE_AFTER_ANOTHER],
        empty,
        json.dumps(WRITERS | RUN_WRITERS | STUDIES | READERS),
        home=empty / "home",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {name: (code, words) for name, code, words in map(json.loads, done.stdout.splitlines())}


@pytest.mark.skipif(not MOUNTS, reason="nothing may be mounted here")
@pytest.mark.parametrize("name", [*WRITERS, *RUN_WRITERS, *STUDIES])
def test_a_read_only_file_system(read_only: dict[str, tuple[int, str]], name: str) -> None:
    code, words = read_only[name]
    assert code == 2, words
    assert words.startswith("shapelaw: ")
    assert words.count("\n") == 1
    assert len(words) <= 300
    assert name in words
    assert "Read-only file system" in words or name in STUDIES  # of which SQLite and Optuna speak


@pytest.mark.skipif(not MOUNTS, reason="nothing may be mounted here")
@pytest.mark.parametrize("name", READERS)
def test_what_is_only_read_may_be_read_only(
    read_only: dict[str, tuple[int, str]], name: str
) -> None:
    code, words = read_only[name]
    assert code == 0, words


def test_the_state_of_a_sweep_stays_what_it_was(tmp_path: Path) -> None:
    code = f"""
import resource, sys
from pathlib import Path
from shapelaw.sweeps.running.status import SweepState
state = SweepState.of("x", Path(sys.argv[1]), ["0" * 16] * 4, 1.0, [], 0)
state.write(now=True)
state.run_keys *= 1000
resource.setrlimit(resource.RLIMIT_FSIZE, ({ROOM}, resource.RLIM_INFINITY))
state.write(now=True)
"""
    done = run([sys.executable, "-c", code], tmp_path, str(tmp_path))
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "sweep.json").read_text())
    assert len(state["run_keys"]) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.json"]


def test_a_study_that_cannot_be_kept_is_one_line(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)
    for storage in ("journal.log", "sqlite:///study.db"):
        done = run([sys.executable, "-c", LIMITED], tmp_path, *QUERY, "--storage", storage)
        assert done.returncode in (1, 2), done.stderr
        assert "Traceback" not in done.stderr
        assert storage in done.stderr.splitlines()[-1]
