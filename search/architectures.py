"""Architectures by name, or from a user's JSON or TOML file, strictly."""

import functools
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput


@functools.cache
def _published() -> dict[str, dict[str, Any]]:
    text = (resources.files("shapelaw.search") / "known_architectures.toml").read_text(
        encoding="utf-8"
    )
    return tomllib.loads(text)


def known_names() -> list[str]:
    """Names of the published shapes, sorted."""
    return sorted(_published())


def load_architecture(name_or_file: str | Path) -> Architecture:
    """A published shape by its name, or the one in a `.json` or `.toml` file.

    A file holds the eleven fields of an architecture, or has them under `architecture`.

    Raises:
        BadInput: neither a known name nor a readable file, or a field that does not hold.
    """
    name = str(name_or_file)
    if name in _published():
        return Architecture.from_dict(_published()[name])
    path = Path(name)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise BadInput(
            f"architecture = {name!r}: a JSON or TOML file, or one of {', '.join(known_names())}"
        )
    fields = _read(path)
    if isinstance(fields, dict) and set(fields) == {"architecture"}:
        fields = fields["architecture"]
    if not isinstance(fields, dict):
        raise BadInput(f"architecture file {path}: an object of fields is needed")
    try:
        return Architecture.from_dict(fields)
    except BadInput as error:
        raise BadInput(f"architecture file {path}: {error}") from None


def _read(path: Path) -> Any:
    """The file's content by its ending; anything else is tried as JSON, then as TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"architecture file {path}: cannot be read: {error}") from None
    try:
        if path.suffix == ".toml":
            return tomllib.loads(text)
        return json.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"architecture file {path}: not a TOML file: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"architecture file {path}: not a JSON file: {error}") from None
