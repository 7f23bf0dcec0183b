"""Laws by name or by file."""

import functools
from importlib import resources
from pathlib import Path

from shapelaw.results.evidence.shipped_evidence import EVIDENCE, evidence_law
from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.law import Law
from shapelaw.scaling.user_files import exists, read_json, shown

AnyLaw = Law | EvidenceLaw


def law_names() -> list[str]:
    """Names of the laws that ship with the package."""
    folder = resources.files("shapelaw.results") / "reference" / "laws"
    fitted = (
        [
            entry.name.removesuffix(".json")
            for entry in folder.iterdir()
            if entry.name.endswith(".json")
        ]
        if folder.is_dir()
        else []
    )
    return sorted([*fitted, EVIDENCE])


def load_law(name_or_path: str | Path) -> AnyLaw:
    """A shipped law by name (`evidence`, `reference` where present), or a law file.

    Raises:
        BadInput: neither, with what exists.
    """
    name = str(name_or_path)
    if name == EVIDENCE:
        return evidence_law()
    if name in law_names():
        return _shipped(name)
    path = Path(name_or_path)
    if exists(name):
        return EvidenceLaw.from_file(path) if _is_evidence(path) else Law.from_file(path)
    raise BadInput(
        f"law = {shown(name)}: no such file; laws by name: {', '.join(law_names()) or 'none'}"
        f"{close_names(name, law_names())}"
    )


@functools.cache
def _shipped(name: str) -> Law:
    """Read once: a page asks for it at every stop of training."""
    place = resources.files("shapelaw.results") / "reference" / "laws" / f"{name}.json"
    with resources.as_file(place) as path:
        return Law.from_file(path)


def _is_evidence(path: Path) -> bool:
    """Whether a law file holds draws of a study of the population."""
    document = read_json(path, "law")
    return isinstance(document, dict) and "evidence_law_version" in document
