"""The house: which room imports which, no circle anywhere, and what the front door may cost.

The import graph is computed from the source: module-level imports and those inside functions alike.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("scaling", "results", "sweeps", "search")
ALLOWED = {
    "scaling": {"scaling"},
    "results": {"results", "scaling"},
    "sweeps": {"sweeps", "results", "scaling"},
    "search": {"search", "results", "scaling"},
}
Graph = dict[str, set[str]]


def sources() -> Iterator[tuple[str, Path]]:
    """Every module of the package and the benchmarks: dotted name, file."""
    for folder in ("shapelaw", *ROOMS, "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if any(parent.is_symlink() for parent in path.parents):
                continue  # shapelaw/scaling and its like link to the rooms
            if path.parent.name == "remote_code":
                continue  # travels with an exported model, and is not imported here
            parts = path.relative_to(ROOT).with_suffix("").parts
            dotted = ".".join(
                parts if parts[0] in ("shapelaw", "benchmarks") else ("shapelaw", *parts)
            )
            yield dotted.removesuffix(".__init__"), path


def imports_of(text: str) -> set[str]:
    """Dotted names a source imports, `from a import b` as both `a` and `a.b`."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, "imports are absolute here"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def import_graph(texts: Mapping[str, str]) -> Graph:
    """Module -> the modules among `texts` that it imports; a package only where no module is."""
    graph: Graph = {}
    for name, text in texts.items():
        found = {other for other in imports_of(text) if other in texts and other != name}
        packages = {f.rpartition(".")[0] for f in found}
        graph[name] = {f for f in found if f not in packages or not _only_a_path(f, found, text)}
    return graph


def _only_a_path(package: str, found: set[str], text: str) -> bool:
    """Whether `from package import module` named a package only on the way to its modules."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module == package:
            return all(f"{package}.{alias.name}" in found for alias in node.names)
    return True


def circles(graph: Graph) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == name:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def place(name: str) -> str:
    """The sub-room of a module: `shapelaw.sweeps.design.plan` -> `sweeps.design`."""
    parts = name.split(".")
    return ".".join(parts[1:3]) if len(parts) > 3 else parts[1] if len(parts) > 2 else name


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in sources()}


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_imports_only_those_below(texts: dict[str, str], room: str) -> None:
    of_room = {n: t for n, t in texts.items() if n.startswith(f"shapelaw.{room}.")}
    assert of_room
    for name, text in of_room.items():
        for other in imports_of(text):
            top, _, rest = other.partition(".")
            assert top not in ("tests", "benchmarks", *ROOMS), f"{name} imports {other}"
            if top == "shapelaw":
                assert rest.split(".")[0] in ALLOWED[room], f"{name} imports {other}"


def test_no_circle_of_modules(texts: dict[str, str]) -> None:
    assert circles(import_graph(texts)) == []


def test_no_circle_of_sub_rooms(texts: dict[str, str]) -> None:
    """`sweeps.design` may import `sweeps.training` or the reverse, never both."""
    graph: Graph = {}
    for name, others in import_graph(texts).items():
        if not name.startswith("shapelaw.") or place(name).count(".") != 1:
            continue
        here = place(name)
        graph.setdefault(here, set())
        for other in others:
            there = place(other)
            if there != here and there.count(".") == 1 and other.startswith("shapelaw."):
                graph.setdefault(there, set())
                graph[here].add(there)
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    """The two tests above can fail: a pair, a ring of three, and one made inside a function."""
    ring = {
        "shapelaw.a": "from shapelaw import b",
        "shapelaw.b": "def f() -> None:\n    from shapelaw.c import g",
        "shapelaw.c": "import shapelaw.a",
        "shapelaw.d": "from shapelaw.a import x",
    }
    assert circles(import_graph(ring)) == [["shapelaw.a", "shapelaw.b", "shapelaw.c"]]


def test_only_shapelaw_is_installed() -> None:
    """From an empty folder, isolated from PYTHONPATH: one package, and the rooms inside it."""
    code = (
        "import importlib.util as u\n"
        "print([n for n in ('scaling', 'results', 'sweeps', 'search') if u.find_spec(n)])\n"
        "import shapelaw.scaling, shapelaw.results, shapelaw.sweeps, shapelaw.search"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert done.stdout.strip() == "[]"


def test_help_answers_in_under_three_tenths_of_a_second() -> None:
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv = ['shapelaw', '--help']; from shapelaw.cli import main; main()",
    ]
    subprocess.run(command, capture_output=True, check=True, cwd=ROOT)  # byte-compiles
    seconds = []
    for _ in range(5):
        before = os.times()
        subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
        after = os.times()  # of the processor: whatever else the machine is doing
        seconds.append(
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
    assert min(seconds) < 0.3


def test_a_query_imports_neither_jax_nor_a_plotting_library() -> None:
    code = (
        "import sys, shapelaw.search.answer.query, shapelaw.search.devices.cost\n"
        "import shapelaw.results.shipped_laws\n"
        "heavy = {'jax', 'flax', 'matplotlib', 'plotly', 'pyarrow', 'torch', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"
