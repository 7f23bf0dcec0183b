"""The page: one offline HTML file with the answer, why, the alternatives and the evidence.

Nothing in it reaches the network, and its content-security policy forbids it. Text that comes from
a file (names of devices, laws, spaces) enters the page as JSON with every `<` escaped, and the page
shows it as text only.

A program that drives the page finds the sliders as `#slider-memory` (decode, ttft, energy,
training, batch, context), whose value is a stop and whose `data-limit` is what it stands for, and
the pick as JSON in `data-architecture` of `#pick`. The state stands in the address's fragment.
"""

import base64
import hashlib
import json
import math
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.search.answer.answer import Answer
from shapelaw.search.page.law_runs import LawRuns

SCRIPTS = ("numbers.js", "choice.js", "shape.js", "plots.js", "page.js")
"""In the order they are run."""


def write_answer_page(answer: Answer, path: str | Path, runs: LawRuns | None = None) -> Path:
    """Write the page of an answer of `search.answer.query.query`; one of that name is replaced.

    Args:
        runs: of the law that judged, where they are at hand: they are shown.

    Raises:
        BadInput: the file cannot be written.
    """
    from shapelaw.search.page.page_data import page_data

    return write_page(page_data(answer, runs), Path(path))


def write_law_page(runs: LawRuns, path: str | Path) -> Path:
    """Write the page of a law and its runs: what shape does to the loss, the law and its runs.

    Raises:
        BadInput: the file cannot be written.
    """
    from shapelaw.search.page.page_data import law_page_data

    return write_page(law_page_data(runs), Path(path))


def write_page(data: dict[str, Any], path: Path) -> Path:
    """Write the page of `page_data`, whole or not at all."""
    return write_atomically(path, page(data))


def page(data: dict[str, Any]) -> str:
    """The whole page as text."""
    program = "\n".join(["(() => {", "'use strict';", *map(_asset, SCRIPTS), "})();"])
    plotting = _plotly()
    return _filled(
        _asset("page.html"),
        {
            "title": escape(_title(data)),
            "policy": _policy([program, plotting]),
            "style": _asset("page.css"),
            "data": embedded(data),
            "program": program,
            "plotting": plotting,
        },
    )


def _title(data: dict[str, Any]) -> str:
    if data["answer"] is None:
        return f"What shape does to the loss: {data['law']['label']}"
    return f"Which shape for {data['answer']['device']['title']}?"


def embedded(data: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element."""
    text = json.dumps(_finite(data), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    """The same with every number that JSON does not have as null."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with each `{{name}}` replaced; what is put in is not looked at again."""
    pieces = template.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def _policy(scripts: list[str]) -> str:
    """Only these scripts run, and nothing is fetched from anywhere."""
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (resources.files("shapelaw.search.page") / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The plotting library's own bundle, as it ships with the Python package."""
    import plotly.offline

    # Inside a script element its text must not hold the element's end, and a browser that reads it
    # turns every line end into \n, which the policy's hash would not know of.
    text = str(plotly.offline.get_plotlyjs()).replace("</script", "<\\/script")
    return text.replace("\r\n", "\n").replace("\r", "\n")
