"""Hostile inputs at every border: no traceback, no warning, one line and exit 2.

    python -m benchmarks.fuzz --inputs 10000 --seed 1 [--border law.json] [--keep DIR] [--json]

Files that are well are mutated as their grammar has it (a value replaced by one that is absurd, a
key taken out, renamed or doubled, a table made degenerate) and as bytes, and given to a command
that reads them; command lines that are well get hostile options. Now and then a folder, pipe,
socket, device, link or nothing stands in the file's place, the terminal has an odd width or lacks
characters, or stdout is closed or has lost its reader. A
fault is a traceback, a warning on the terminal, an exit but 0, 1 or 2, a rejection of more than a
line or of 300 characters, control characters on the terminal, an answer that is no JSON, 20
seconds, or 1.5 GB.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import shutil
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fuzz.forked_server import CLOSED, UNREAD, judged, serve
from benchmarks.fuzz.mutations import NUMBERS, TEXTS, mutated
from benchmarks.fuzz.well_inputs import OPTIONS, TOKENISE, Border, well_inputs

OPTIONS_SHARE = 0.2
"""Share of the inputs that are command lines."""


STRANGE_PLACES = ("folder", "pipe", "loop", "device", "sparse", "socket", "absent", "link")
STRANGE_SHARE = 0.03
"""Share of the inputs with something else in the file's place."""
WORK = "a/b/c/work"
"""Where commands run, below a temporary folder: a path of `../../..` stays within that."""
STDOUTS = ("utf-8",) * 8 + ("ascii", "latin-1", "cp437", CLOSED, UNREAD)
"""Encodings of the terminal, or no terminal: a command's stdout is drawn from these."""
WIDTHS = ("", "", "1", "0", "-5", "7", "40", "99999", "x")


class Input(NamedTuple):
    """One hostile input."""

    name: str
    file: str
    """Where its bytes stand below the current folder; "" where the command line is all of it."""
    content: bytes
    command: tuple[str, ...]
    stands_as: str = "file"
    """What stands in the file's place: `file`, or one of STRANGE_PLACES."""
    columns: str = ""
    """How wide the terminal says it is."""


def hostile_input(borders: Sequence[Border], folder: Path, seed: int, number: int) -> Input:
    """Input `number` of a seed: a file at a border, or options."""
    generator = random.Random(f"{seed} {number}")
    if generator.random() < OPTIONS_SHARE and len(borders) > 1:
        return Input("options", "", b"", tuple(_options(generator, folder)))
    weights = [border.weight for border in borders]
    border = generator.choices(borders, weights)[0]
    content = mutated(border.content, border.grammar, generator)
    file = f"{border.folder}/{_FILES.get(border.folder, border.name)}".lstrip("/")
    place = border.folder or border.name
    command = [
        part.replace("{}", place).replace("@", str(folder))
        for part in generator.choice(border.commands)
    ]
    label = f"{border.folder}/{border.name}" if border.folder else border.name
    # Drawn apart, so that an input's content does not depend on where it stands.
    apart = random.Random(f"{seed} {number} apart")
    strange = apart.random() < STRANGE_SHARE
    return Input(
        f"{label} {' '.join(command[:1])}",
        file,
        content,
        tuple(command),
        apart.choice(STRANGE_PLACES) if strange else "file",
        apart.choice(WIDTHS),
    )


_FILES = {"devices": "calibrated.toml"}


def _options(generator: random.Random, folder: Path) -> Iterator[str]:
    """A command line with one or two of its values hostile."""
    command = [part.replace("@", str(folder)) for part in generator.choice(OPTIONS)]
    values = [at for at, part in enumerate(command) if at and not part.startswith("--")]
    for at in generator.sample(values, k=min(len(values), generator.choice((1, 1, 2)))):
        old, kind = command[at], generator.random()
        if kind < 0.35:
            text = str(generator.choice(NUMBERS)) if generator.random() < 0.8 else "1" * 5000
            unit = (
                "".join(c for c in old if c.isalpha() or c == "/")
                if generator.random() < 0.6
                else ""
            )
            text += unit if len(unit) < 8 else ""
        elif kind < 0.8:
            text = generator.choice(TEXTS)
        elif kind < 0.9:
            text = old + generator.choice(TEXTS)
        else:
            text = generator.choice((",", "=")).join([old] * generator.choice((2, 40, 3000)))
        # What the kernel hands over: no zero byte, and bytes that are no UTF-8 as surrogates.
        command[at] = text.replace("\x00", "\udcff").replace("\ud800", "\udced\udca0\udc80")
    yield from command


def _stdout(seed: int, number: int) -> str:
    """Drawn apart, as the place."""
    return random.Random(f"{seed} {number} stdout").choice(STDOUTS)


def _run(one: Input, cache: Path, stdout: str) -> str:
    """In the child: the file in its place, then the command."""
    for left in ("out", "out.gguf", "x.toml", "devices", "sweep", "state"):
        with contextlib.suppress(OSError):
            shutil.rmtree(left) if Path(left).is_dir() else Path(left).unlink()
    if one.file:
        _put(Path(one.file), one)
    os.environ.pop("COLUMNS", None)
    if one.columns:
        os.environ["COLUMNS"] = one.columns
    sys.argv = ["shapelaw", *one.command]
    if one.command[0] == TOKENISE:
        return judged(functools.partial(_tokenise, one.command[1], cache))
    from shapelaw.cli import main

    return judged(main, stdout)


def _put(path: Path, one: Input) -> None:
    """The file, or what stands in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)  # never written through: it may be a pipe, or lead to a device
    match one.stands_as:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to("/dev/zero")
        case "sparse":
            with path.open("wb") as file:
                file.truncate(5_000_000_000)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(path))
        case "link":
            target = path.with_name("behind-a-link")
            target.write_bytes(one.content)
            path.symlink_to(target.name)
        case "file":
            path.write_bytes(one.content)


def _tokenise(design: str, cache: Path) -> None:
    from shapelaw.scaling.errors import BadInput, NoAnswer
    from shapelaw.sweeps.corpus.token_corpus import load_corpus
    from shapelaw.sweeps.design.design import load_design

    try:
        load_corpus(load_design(design).corpus_spec(), cache)
    except (BadInput, NoAnswer) as error:
        print(f"shapelaw: {error}", file=sys.stderr)
        sys.exit(2)


def fuzz(
    inputs: int,
    seed: int,
    *,
    border: str | None = None,
    only: int | None = None,
    keep: Path | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Run `inputs` hostile inputs; how often each fault came, with an example kept in `keep`."""
    import shapelaw.cli
    import shapelaw.results.shipped_laws
    import shapelaw.scaling.fit
    import shapelaw.search.answer.query
    import shapelaw.search.devices.explain
    import shapelaw.search.export.export
    import shapelaw.sweeps.design.plan  # noqa: F401  # once, before forking

    faults: Counter[str] = Counter()
    examples: dict[str, int] = {}
    home = os.getcwd()
    with tempfile.TemporaryDirectory() as place:
        folder, work = Path(place, "well"), Path(place, WORK)
        for made in (folder, work):
            made.mkdir(parents=True)
        kept = {name: os.environ.get(name) for name in ("SHAPELAW_HOME", "XDG_CACHE_HOME")}
        os.environ |= {"SHAPELAW_HOME": str(work), "XDG_CACHE_HOME": str(work / "cache")}
        os.chdir(work)
        try:
            borders = [one for one in well_inputs(folder) if border in (None, one.name)]
            numbers = range(inputs) if only is None else [only]
            tasks = [
                functools.partial(_made_and_run, borders, folder, seed, number)
                for number in numbers
            ]
            for number, fault in zip(numbers, serve(tasks), strict=True):
                if progress and number % 500 == 499:
                    print(f"{number + 1} inputs, {sum(faults.values())} faults", file=sys.stderr)
                if not fault:
                    continue
                one = hostile_input(borders, folder, seed, number)
                kind = f"{one.name}: {fault}"
                faults[kind] += 1
                examples.setdefault(kind, number)
                if progress:
                    print(f"input {number}: {kind}", file=sys.stderr)
                if keep is not None:
                    _keep(keep, number, one, fault)
        finally:
            os.chdir(home)
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
    return {
        "inputs": len(numbers),
        "seed": seed,
        "faults": sum(faults.values()),
        "kinds": dict(faults.most_common()),
        "examples": examples,
    }


def _made_and_run(borders: Sequence[Border], folder: Path, seed: int, number: int) -> str:
    one = hostile_input(borders, folder, seed, number)
    return _run(one, folder.parent / WORK / "cache", _stdout(seed, number))


def _keep(keep: Path, number: int, one: Input, fault: str) -> None:
    keep.mkdir(parents=True, exist_ok=True)
    (keep / f"{number}.txt").write_text(
        f"{one.command!r}\n{fault}\n", encoding="utf-8", errors="backslashreplace"
    )
    if one.file:
        (keep / f"{number}-{Path(one.file).name}").write_bytes(one.content)


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--border", help="Inputs of this file's name only.")
    parser.add_argument("--only", type=int, help="This one input of the seed.")
    parser.add_argument("--keep", type=Path, help="Keep the inputs that made faults here.")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    report = fuzz(
        asked.inputs,
        asked.seed,
        border=asked.border,
        only=asked.only,
        keep=asked.keep and asked.keep.absolute(),
        progress=not asked.json,
    )
    if asked.json:
        print(json.dumps(report))
    else:
        print(f"{report['inputs']} inputs, seed {report['seed']}: {report['faults']} faults")
        for kind, count in report["kinds"].items():
            print(f"{count:5d}  {kind} (input {report['examples'][kind]})")
    sys.exit(1 if report["faults"] else 0)


if __name__ == "__main__":
    main()
