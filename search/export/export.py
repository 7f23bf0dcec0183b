"""From an architecture, an answer or a trained run to files for another tool.

`export_hf` and `export_gguf` do the writing; here is what the command line may name.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from shapelaw.results.record import ArchitectureFields, RunRecord, decode_record
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import convert, exists, parse_json, read_bytes
from shapelaw.search.export.gguf import FILE_FORMATS, export_gguf
from shapelaw.search.export.hugging_face import BYTES_VOCABULARY, export_hf

__all__ = ["ExportSource", "export_command", "export_gguf", "export_hf", "export_source"]


BYTES = "bytes"
"""What records call one token a byte."""


class ExportSource(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be exported, whichever way it was named."""

    architecture: Architecture
    name: str
    """For file names: letters, digits, `-`, `_` and `.` only."""
    weights: Path | None = None
    tokenizer: Path | None = None
    weight_format: str | None = None
    """What an answer promised, where a GGUF can hold it."""
    tokenizer_known: bool = False
    """Whether `tokenizer` is what trained the weights; None then means bytes."""


class _Best(msgspec.Struct, frozen=True):
    architecture: ArchitectureFields
    format: str | None = None


class _AnswerFile(msgspec.Struct, frozen=True):
    """The part of `query --json` that export reads."""

    best: _Best


def export_command(
    arch: str,
    target: str,
    directory: Path,
    *,
    weights: Path | None = None,
    weight_formats: Sequence[str] = (),
    tokenizer: Path | None = None,
    keep_sharing: bool | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """What `shapelaw export` does. Returns `architecture`, `files`, `notes`.

    Several formats stand beside each other in the folder. Without one a GGUF has the answer's own,
    or f16 where nothing names one, and a Hugging Face folder has f32. Shared blocks stay
    shared in a Hugging Face folder unless `keep_sharing` is False; what writing them several times
    costs is told to `progress` before that begins.

    Raises:
        BadInput: what is named cannot be read, or `directory` cannot be written or is not empty.
    """
    source = export_source(arch, tokenizer)
    weights = weights or source.weights
    if weights is not None and not source.tokenizer_known:
        source = _with_tokenizer(source, weights, tokenizer)
    if target == "hf":
        report = export_hf(
            source.architecture,
            directory,
            weights,
            source.tokenizer,
            keep_sharing=keep_sharing is not False,
            weight_formats=weight_formats or ("f32",),
            progress=progress,
        )
    else:
        report = export_gguf(
            source.architecture,
            directory,
            weights=weights,
            weight_formats=weight_formats or (source.weight_format or "f16",),
            tokenizer=source.tokenizer,
            name=source.name,
            progress=progress,
        )
    return {"architecture": source.architecture.to_dict(), **report}


def export_source(arch: str, tokenizer: Path | None = None) -> ExportSource:
    """Reads ARCH: a run's weights, an answer of `query --json`, a run record, a name or a file.

    Weights of a sweep (`OUT/weights/<run_key>.safetensors`) bring the architecture along, from the
    record of the same key in `OUT/runs.jsonl`, and the tokenizer where it stands beside them.
    """
    path = Path(arch)
    if path.suffix == ".safetensors":
        return _trained(path, tokenizer)
    name = _file_name(path.stem if path.suffix in (".json", ".toml") else arch)
    if path.suffix == ".json" and exists(path):
        raw = read_bytes(path, "arch")
        keys = parse_json(raw, "arch", path)
        if isinstance(keys, dict) and "best" in keys:
            best = convert(keys, _AnswerFile, "arch", path).best
            promised = best.format if best.format in FILE_FORMATS else None
            return ExportSource(
                architecture=best.architecture.build(), name=name, weight_format=promised
            )
        if isinstance(keys, dict) and "run_key" in keys:
            return _of_record(decode_record(raw, str(path)), None)
    from shapelaw.search.architectures import load_architecture

    return ExportSource(architecture=load_architecture(arch), name=name)


def _with_tokenizer(source: ExportSource, weights: Path, tokenizer: Path | None) -> ExportSource:
    """Weights that no record speaks of: the tokenizer is the user's to name, but for bytes."""
    if tokenizer is None and source.architecture.vocab_size != BYTES_VOCABULARY:
        raise BadInput(
            f"weights = {str(weights)!r}: nothing says which tokenizer trained them; "
            "give its tokenizer.json as --tokenizer"
        )
    return msgspec.structs.replace(source, tokenizer=tokenizer)


def _trained(weights: Path, tokenizer: Path | None) -> ExportSource:
    from shapelaw.results.store import read_records

    if not weights.is_file():
        raise BadInput(f"arch = {str(weights)!r}: no such file")
    folder = weights.absolute().parent.parent
    if not (folder / "runs.jsonl").is_file():
        raise BadInput(
            f"arch = {str(weights)!r}: no runs.jsonl in {str(folder)!r} says which "
            "architecture these weights have; name it and give the file as --weights"
        )
    for record in read_records(folder):
        if record.run_key == weights.stem:
            return _of_record(record, weights, tokenizer)
    raise BadInput(f"arch = {str(weights)!r}: runs.jsonl in {str(folder)!r} has no run of that key")


def _of_record(
    record: RunRecord, weights: Path | None, tokenizer: Path | None = None
) -> ExportSource:
    if record.corpus.tokenizer == BYTES:
        if tokenizer is not None:
            raise BadInput(f"tokenizer = {str(tokenizer)!r}: these weights were trained on bytes")
    elif weights is not None:
        tokenizer = _trained_with(record, weights, tokenizer)
    return ExportSource(
        architecture=record.architecture.build(),
        name=_file_name(record.run_key),
        weights=weights,
        tokenizer=tokenizer,
        tokenizer_known=True,
    )


def _trained_with(record: RunRecord, weights: Path, given: Path | None) -> Path:
    """The tokenizer.json whose fingerprint the record has. Raises BadInput where it is not here."""
    wanted = record.corpus.tokenizer_fingerprint
    beside = [
        weights.parent / f"tokenizer-{wanted}.json",
        weights.with_suffix(".tokenizer.json"),
        weights.parent / "tokenizer.json",
    ]
    for path in [given] if given is not None else beside:
        try:
            found = hashlib.sha256(read_bytes(path, "tokenizer")).hexdigest()[:16]
        except BadInput:
            continue
        # A .bin of tokens is recorded without its tokenizer: the user's word is all there is.
        if found == wanted or (given is not None and wanted == record.corpus.tokenizer):
            return path
    what = "is another" if given is not None and given.is_file() else "is not here"
    raise BadInput(
        f"weights = {str(weights)!r}: trained with the tokenizer {record.corpus.tokenizer!r}, "
        f"which {what}; give its tokenizer.json as --tokenizer (fingerprint {wanted})"
    )


def _file_name(text: str) -> str:
    """`text` with everything that could mean something in a path replaced."""
    kept = [character if character.isalnum() or character in "-_." else "-" for character in text]
    return "".join(kept).strip(".-")[:80] or "shapelaw"
