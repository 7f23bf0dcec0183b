"""Laws by name or by file."""

from importlib import resources
from pathlib import Path

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.law import Law
from shapelaw.scaling.user_files import exists, shown


def law_names() -> list[str]:
    """Names of the laws that ship with the package."""
    folder = resources.files("shapelaw.results") / "reference" / "laws"
    if not folder.is_dir():
        return []
    return sorted(
        entry.name.removesuffix(".json")
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    )


def load_law(name_or_path: str | Path) -> Law:
    """A shipped law by name (`literature`, `reference` where present), or a law file.

    Raises:
        BadInput: neither, with what exists.
    """
    name = str(name_or_path)
    if name in law_names():
        with resources.as_file(
            resources.files("shapelaw.results") / "reference" / "laws" / f"{name}.json"
        ) as path:
            return Law.from_file(path)
    if exists(name):
        return Law.from_file(name_or_path)
    raise BadInput(
        f"law = {shown(name)}: no such file; laws by name: {', '.join(law_names()) or 'none'}"
    )
