"""Architectures by name, or from a file: our JSON or TOML, a Hugging Face `config.json`, a `.gguf`,
a query's answer."""

import functools
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import exists, read_document, refuse, shown
from shapelaw.search.gguf_metadata import config_of_gguf, is_gguf
from shapelaw.search.hugging_face_models import Model, is_config, model_of_config


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
    """The architecture of `load_model`. Raises what it raises."""
    return load_model(name_or_file).architecture


def load_model(name_or_file: str | Path) -> Model:
    """A published shape by its name, or the one in a file, with what the block cannot express.

    A file is one of: a JSON or TOML of the fields of an architecture (or with them under
    `architecture`), an answer of `query --json` (its best), an explanation, a run's record, a
    Hugging Face `config.json` (or the folder it stands in), a `.gguf`.

    Raises:
        BadInput: neither a known name nor a readable file, or a field that does not hold.
    """
    name = str(name_or_file)
    if name in _published():
        return _of_fields(_published()[name])
    path = Path(name)
    if not exists(path) and not exists(path / "config.json"):
        close = close_names(name, known_names())
        raise BadInput(
            f"architecture = {shown(name)}: a JSON, TOML or .gguf file, or a known name"
            f"{close or ': ' + shown(', '.join(known_names()), 150)}"
        )
    if path.is_dir():
        path = path / "config.json"
    try:
        if is_gguf(path):
            return model_of_config(config_of_gguf(path))
        return _of_document(read_document(path, "architecture"))
    except BadInput as error:
        if str(error).startswith("architecture = "):
            raise
        refuse("architecture", path, str(error))


def _of_document(document: Any) -> Model:
    """By what it holds: an answer, a config, or the fields themselves."""
    if not isinstance(document, dict):
        raise BadInput("an object of fields is needed")
    if isinstance(document.get("best"), dict):
        document = document["best"]
    if is_config(document):
        return model_of_config(document)
    if isinstance(document.get("architecture"), dict):
        document = document["architecture"]
    return _of_fields(document)


def _of_fields(fields: dict[str, Any]) -> Model:
    """From the fields of an architecture, with `extra_parameters` beside them."""
    plain = {name: value for name, value in fields.items() if name != "extra_parameters"}
    extra = fields.get("extra_parameters", {})
    if not isinstance(extra, dict) or not all(
        isinstance(value, int) and 0 <= value < 10**12 for value in extra.values()
    ):
        raise BadInput("extra_parameters: names and whole numbers are needed")
    return Model(Architecture.from_dict(plain), extra)
