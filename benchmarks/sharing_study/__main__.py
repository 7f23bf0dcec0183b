"""What is sharing worth? Estimates from the runs of the preset `sharing`, whichever there are.

python -m benchmarks.sharing_study [RUNS] [--json]     RUNS: a sweep's folder or its runs.jsonl
python -m benchmarks.sharing_study --write             results/sharing/README.md and its figure anew
"""

import argparse
import json
from pathlib import Path

from benchmarks.sharing_study.analysis import analyse
from benchmarks.sharing_study.figure import write_figure
from benchmarks.sharing_study.page import FIGURE, text
from benchmarks.sharing_study.runs import FOLDER
from shapelaw.results.store import read_records


def main() -> None:
    """Print the figures, or write the README beside the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    figures = analyse(read_records(asked.runs))
    if asked.json:
        print(json.dumps(figures))
        return
    if asked.write:
        (FOLDER / "README.md").write_text(text(figures), encoding="utf-8")
        write_figure(figures, FOLDER / FIGURE)
    print(text(figures))


if __name__ == "__main__":
    main()
