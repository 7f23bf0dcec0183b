"""Weight formats: sizes against published files, prices against published perplexities.

    python -m benchmarks.formats [--json] [--data FOLDER]

Sizes: every row of `file_sizes.csv`, and files written here against what was predicted for them.
Prices: every row of `perplexity.csv` predicted by a fit that left its model out, beside the mean
and the median of the format over the other models (of the same subset). Own runs: the report of
`benchmarks.format_runs`. Query: the question of the README's phone at few and many tokens.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import format_runs
from benchmarks.format_prices import DATA, PriceFit, PriceRow, read_rows
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes
from shapelaw.scaling.formats.mixes import mix

SCORED = ("q4_k_m", "q4_0", "q3_k_m")

WRITTEN = (
    Architecture(
        vocab_size=32000, d_model=512, n_blocks=8, n_heads=8, n_kv_heads=2, head_dim=64, d_ff=1536
    ),
    Architecture(
        vocab_size=8000, d_model=320, n_blocks=5, sharing=2, n_heads=5, n_kv_heads=5, head_dim=64,
        d_ff=832, tied_embeddings=False,
    ),
    Architecture(
        vocab_size=256, d_model=96, n_blocks=3, n_heads=3, n_kv_heads=1, head_dim=32, d_ff=200
    ),
)  # fmt: skip


def published_sizes(path: Path) -> dict[str, Any]:
    """Relative errors of predicted sizes of published GGUF files."""
    errors: dict[str, float] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            names = ("vocab_size", "d_model", "n_heads", "n_kv_heads", "head_dim", "d_ff")
            whole: dict[str, Any] = {name: int(row[name]) for name in names}
            architecture = Architecture(
                **whole,
                n_blocks=int(row["n_layers"]),
                tied_embeddings=row["tied_embeddings"] == "True",
            )
            size = gguf_file_bytes(mix(row["format"], "gguf"), architecture) / 1e6
            errors[f"{row['model']} {row['format']}"] = size / float(row["megabytes"]) - 1
    each = np.abs(list(errors.values()))
    worst = max(errors, key=lambda name: abs(errors[name]))
    return {
        "files": len(errors),
        "mean_abs": float(each.mean()),
        "max_abs": float(each.max()),
        "worst": worst,
    }


def written_sizes() -> dict[str, Any]:
    """Relative errors of predicted sizes of files written here with random weights."""
    from shapelaw.search.export.gguf import FILE_FORMATS, write_gguf

    errors = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        for architecture in WRITTEN:
            for name in FILE_FORMATS:
                write_gguf(path, architecture, weight_format=name)
                predicted = gguf_file_bytes(mix(name, "gguf"), architecture)
                errors.append(predicted / path.stat().st_size - 1)
    return {"files": len(errors), "max_abs": float(np.max(np.abs(errors)))}


def constant(rows: list[PriceRow], average: Callable[..., Any]) -> np.ndarray:
    """Each row by the average of its format over the other models."""
    return np.array(
        [
            average([o.delta for o in rows if o.format == r.format and o.model != r.model] or [0.0])
            for r in rows
        ]
    )


def prices(path: Path) -> dict[str, Any]:
    """Mean absolute errors, nats, each model left out; coverage of 80 % intervals."""
    rows = read_rows(path)
    fit = PriceFit(rows)
    middle, interval = fit.left_out()
    delta = np.array([row.delta for row in rows])
    inside = (interval[:, 0] <= delta) & (delta <= interval[:, 1])
    plain = np.array([not (row.chat or row.imatrix) for row in rows])
    formats = np.array([row.format for row in rows])
    found: dict[str, Any] = {
        "rows": len(rows),
        "models": len(fit.models),
        "coverage_80": float(inside.mean()),
        "coverage_80_scored": float(inside[np.isin(formats, SCORED)].mean()),
    }
    for name, subset in (("all", np.ones(len(rows), dtype=bool)), ("base_without_imatrix", plain)):
        chosen = [row for row, kept in zip(rows, subset, strict=True) if kept]
        flat = {"mean": constant(chosen, np.mean), "median": constant(chosen, np.median)}
        found[name] = {}
        for kind in SCORED:
            at = formats[subset] == kind
            if not at.any():
                continue
            truth = delta[subset][at]
            found[name][kind] = {
                "rows": int(at.sum()),
                "mean_abs": float(np.abs(middle[subset][at] - truth).mean()),
                **{
                    f"constant_{label}": float(np.abs(values[at] - truth).mean())
                    for label, values in flat.items()
                },
            }
    return found


ASKED = "q8_0,q4_k_m,q4_0,q2_k"


def choices() -> dict[str, Any]:
    """What `query` picks for a phone at 1e12 tokens, and at 20 and 5,000 tokens a parameter."""
    from shapelaw.search.answer.query import answer_command

    def asked(tokens: float) -> Any:
        return answer_command("iphone-13", memory="400MB", tokens=tokens, formats=ASKED)

    middle = asked(1e12)
    size = float(middle.best.architecture.non_embedding_parameters)
    found: dict[str, Any] = {}
    for label, answer in (
        ("1e12", middle),
        ("20_a_parameter", asked(20 * size)),
        ("5000_a_parameter", asked(5000 * size)),
    ):
        found[label] = {
            "picked": next(option.format for option in answer.formats if option.chosen),
            "trades": {
                option.format: None if option.trade is None else option.trade.to_dict()
                for option in answer.formats
            },
        }
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object and nothing else")
    parser.add_argument("--data", type=Path, default=DATA)
    options = parser.parse_args()
    found: dict[str, Any] = {"written_sizes": written_sizes()}
    if (options.data / "file_sizes.csv").exists():
        found["published_sizes"] = published_sizes(options.data / "file_sizes.csv")
    if (options.data / "perplexity.csv").exists():
        found["prices"] = prices(options.data / "perplexity.csv")
    found["own_runs"] = format_runs.report(format_runs.read_records(format_runs.RECORDS))
    found["query"] = choices()
    if options.json:
        print(json.dumps(found))
        return
    for part, figures in found.items():
        print(part)
        for name, value in figures.items():
            print(f"  {name}: {value}")


if __name__ == "__main__":
    main()
