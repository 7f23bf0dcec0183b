"""Mutated files at every border: no traceback, no warning, one line and exit 2.

    python -m benchmarks.fuzz --inputs 10000 --seed 1 [--json]

Files that are well are mutated as text (bytes flipped, cut, doubled) and as documents (a value
replaced by one that is absurd, a key taken out, renamed or doubled), and given to the command that
reads them, each in a forked child with limits on time and memory.
"""

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

LONGEST_SECONDS = 20
MOST_BYTES = 1_500_000_000
LONGEST_LINE = 310
ABSURD: tuple[str, ...] = (
    "0", "-1", "1e308", "-1e308", "1e999", "NaN", "Infinity", "9223372036854775807",
    "18446744073709551616", "5e-324", '""', '"x"', "null", "true", "[]", "{}", "[[[[[]]]]]",
    '"[/]"', '"\\u001b[31m"', '"\\u0000"', "1" * 400, "[" * 400 + "]" * 400,
)  # fmt: skip
"""Values that no file means."""


def seeds(folder: Path) -> dict[str, tuple[bytes, list[str]]]:
    """Name of a file -> its content, and the command that reads it (`{}` stands for the file)."""
    root = resources.files("shapelaw")
    law = (root / "results/reference/laws/reference.json").read_bytes()
    short = json.loads(law)
    short["draws"] = short["draws"][:3]
    workload = (root / "search/workloads/chat.toml").read_bytes()
    design = (root / "sweeps/design/presets/smoke.toml").read_bytes()
    shape = b'{"vocab_size": 1000, "d_model": 64, "n_blocks": 4, "n_heads": 4, "n_kv_heads": 2,'
    shape += b' "head_dim": 16, "d_ff": 128}'
    config = b'{"model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "head_dim": 16,'
    config += b' "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}'
    rows = [(n, d, 1.8 + 400 * n**-0.34 + 900 * d**-0.36) for n in (1e7, 1e8) for d in (1e9, 9e9)]
    csv = "n,d,loss\n" + "".join(f"{n:.0f},{d:.0f},{loss:.4f}\n" for n, d, loss in rows * 3)
    lines = "".join(json.dumps(dict(zip("nd", row[:2], strict=True), loss=row[2])) + "\n"
                    for row in rows)  # fmt: skip
    fit = ["fit", "{}", "--form", "chinchilla", "--bootstrap", "0", "--no-holdout", "--json"]
    table = folder / "well.csv"
    table.write_text(csv)
    explain = ["explain", "{}", "--device", "m2", "--json"]
    return {
        "law.json": (json.dumps(short).encode(), ["predict", "{}", str(table), "--json"]),
        "workload.toml": (workload, ["explain", "smollm2-135m", "--device", "m2", "--workload",
                                     "{}", "--json"]),
        "design.toml": (design, ["sweep", "{}", "--plan", "--json"]),
        "shape.json": (shape, explain),
        "config.json": (config, explain),
        "runs.csv": (csv.encode(), fit),
        "runs.jsonl": (lines.encode(), fit),
        "columns.json": (json.dumps({"n": [r[0] for r in rows], "d": [r[1] for r in rows],
                                     "loss": [r[2] for r in rows]}).encode(), fit),
    }  # fmt: skip


def mutated(content: bytes, generator: random.Random) -> bytes:
    """One to three mutations, of the text or of a value in it."""
    for _ in range(generator.randint(1, 3)):
        values = list(re.finditer(rb'(?<=[:=,\[ ])-?[\w."+-]+', content))
        kind = generator.random()
        if kind < 0.6 and values:
            chosen = generator.choice(values)
            new = generator.choice(ABSURD).encode()
            content = content[: chosen.start()] + new + content[chosen.end() :]
        elif kind < 0.75 and content:
            place = generator.randrange(len(content))
            content = content[:place] + bytes([generator.randrange(256)]) + content[place + 1 :]
        elif kind < 0.9:
            low, high = sorted(generator.choices(range(len(content) + 1), k=2))
            content = content[:low] + content[high:]
        else:
            low, high = sorted(generator.choices(range(len(content) + 1), k=2))
            content = content[:high] + content[low:high] + content[high:]
    return content


def run(arguments: Sequence[str]) -> str:
    """The command in a forked child with limits: "" where it ended as it should, else the fault."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        with contextlib.suppress(BaseException):
            os.write(write, _in_child(arguments).encode()[:2000])
        os._exit(0)
    os.close(write)
    end = time.monotonic() + LONGEST_SECONDS
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            os.close(read)
            return f"longer than {LONGEST_SECONDS} s"
        time.sleep(0.002)
    with os.fdopen(read, "rb") as answer:
        said = answer.read().decode()
    return "killed" if not said else said.removeprefix("ok")


def _in_child(arguments: Sequence[str]) -> str:
    from shapelaw.cli import main

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES + 2_000_000_000,) * 2)
    sys.argv = ["shapelaw", *arguments]
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            warnings.simplefilter("always")
            main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException as error:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
        return f"{type(error).__name__} at {'/'.join(where.split('/')[-2:])}"
    said = err.getvalue()
    if "Warning" in said:
        return f"a warning: {said.strip()[-150:]}"
    if code == 2 and (said.count("\n") != 1 or len(said) > LONGEST_LINE):
        return f"a rejection of {said.count(chr(10))} lines, {len(said)} characters"
    if code not in (0, 1, 2):
        return f"exit {code}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"{peak:,} bytes" if peak > MOST_BYTES else "ok"


def fuzz(inputs: int, seed: int, keep: Path | None = None) -> dict[str, Any]:
    """Run `inputs` mutated files; how often each fault came, with an example kept in `keep`."""
    import shapelaw.results.shipped_laws
    import shapelaw.scaling.fit
    import shapelaw.search.devices.explain
    import shapelaw.sweeps.design.plan  # noqa: F401  # once, before forking

    generator = random.Random(seed)
    faults: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        files = seeds(Path(place))
        for number in range(inputs):
            name = list(files)[number % len(files)]
            content, command = files[name]
            path = Path(place) / name
            path.write_bytes(mutated(content, generator))
            fault = run([part.replace("{}", str(path)) for part in command])
            if fault:
                faults[f"{name}: {fault}"] += 1
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{number}-{name}").write_bytes(path.read_bytes())
    return {"inputs": inputs, "seed": seed, "faults": sum(faults.values()), "kinds": dict(faults)}


def main() -> None:
    """The command line of this benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--inputs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Keep the inputs that made faults here.")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    report = fuzz(asked.inputs, asked.seed, asked.keep)
    if asked.json:
        print(json.dumps(report))
        return
    print(f"{report['inputs']} inputs, seed {report['seed']}: {report['faults']} faults")
    for kind, count in report["kinds"].items():
        print(f"{count:5d}  {kind}")


if __name__ == "__main__":
    main()
