"""The house: which room may import which, and what the front door may cost."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {
    "scaling": set(),
    "results": {"scaling"},
    "sweeps": {"scaling", "results"},
    "search": {"scaling", "results"},
}


def _imported_rooms(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names & {*ALLOWED, "shapelaw", "tests", "benchmarks"}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_each_room_imports_only_those_below(room):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert _imported_rooms(path) <= ALLOWED[room] | {room}, path


def test_help_answers_in_under_three_tenths_of_a_second():
    command = [sys.executable, "-c", "import sys; sys.argv = ['shapelaw', '--help']; "
                                     "import shapelaw; shapelaw.main()"]
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT)  # byte-compiles
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_a_query_imports_neither_jax_nor_a_plotting_library():
    code = (
        "import sys, search.query, search.devices.cost, results.laws\n"
        "heavy = {'jax', 'flax', 'matplotlib', 'plotly', 'pyarrow', 'torch', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=ROOT)
    assert out.stdout.strip() == "[]"
