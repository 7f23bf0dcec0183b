"""Where text comes from: what a design may name as its corpus, and a fingerprint of it.

Nothing here tokenises or trains, and nothing heavy is imported: run keys are computed from this.
"""

import codecs
import functools
import hashlib
import itertools
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from shapelaw.results.record import content_key
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import LONGEST_NUMBER, parse_json, read_bytes, said_by, shown
from shapelaw.sweeps.corpus.file_patterns import matching

BYTES_VOCABULARY = 256
"""One token a byte; byte 0, which no text holds, ends a document."""

MOST_FILES = 200_000
"""That a glob pattern may find: `/**` is a slip."""
LARGEST_TEXT = 100_000_000_000
"""Bytes of all text files."""
_LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__", "encodings"})
"""Folders of the standard library that are not its text: installed packages, and the character
tables, hundreds of near copies of one file that would stand in training and validation alike."""


class CorpusSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to read and how to tokenise it. At most one of the four sources; none means `python`."""

    corpus: str | None = None
    """A named corpus. `python`: the source of the running Python's standard library."""
    text: tuple[str, ...] | None = None
    """Glob patterns of text files, one document a file."""
    encoding: str = "utf-8"
    """Of the text files, by a name Python knows."""
    dataset: str | None = None
    """A Hugging Face dataset: a name on the Hub, or `json:FILE`, `text:FILE`, `parquet:FILE`."""
    dataset_config: str | None = None
    dataset_split: str = "train"
    dataset_field: str = "text"
    """Column of the dataset that holds the text of a document."""
    dataset_bytes: Annotated[int, msgspec.Meta(ge=1)] = 200_000_000
    """Bytes of text to stream from the dataset; the rest is not read."""
    tokens: str | None = None
    """A `.bin` of tokens, unsigned 16-bit little-endian (32-bit where the name ends `.u32.bin`)."""
    tokenizer: str = "bytes"
    """`bytes`, `bpe-512` (any size; trained on the corpus), or the path of a tokenizer.json."""
    validation_tokens: Annotated[int, msgspec.Meta(ge=1024)] = 65_536
    """Size of the fixed validation set, out of the held-out documents."""

    def kind(self) -> str:
        """`python`, `text`, `dataset` or `tokens`. Raises BadInput where the spec is not clear."""
        given = [
            name
            for name in ("corpus", "text", "dataset", "tokens")
            if getattr(self, name) is not None
        ]
        if len(given) > 1:
            raise BadInput(
                f"{given[1]} = {getattr(self, given[1])!r}: the corpus is already given "
                f"by {given[0]}; name one of corpus, text, dataset, tokens"
            )
        try:
            codecs.lookup(self.encoding)
        except (LookupError, ValueError):
            raise BadInput(
                f"encoding = {shown(self.encoding, 40)}: the name of an encoding is needed, such "
                "as utf-8, latin-1 or utf-16"
            ) from None
        if not given:
            return "python"
        if given[0] == "corpus" and self.corpus != "python":
            raise BadInput(
                f"corpus = {self.corpus!r}: the named corpus is 'python'; for other "
                "text use text = [globs], dataset = name, or tokens = file.bin"
            )
        return "python" if given[0] == "corpus" else given[0]

    def label(self) -> str:
        """A short name for records and tables."""
        kind = self.kind()
        if kind == "text":
            return "text:" + ",".join(Path(pattern).name for pattern in self.text or ())
        if kind == "dataset":
            return f"dataset:{self.dataset}"
        return f"tokens:{Path(self.tokens or '').name}" if kind == "tokens" else "python"


def standard_library_files() -> list[tuple[str, Path]]:
    """(name, path) of every source file of the running Python's standard library, by name.

    The name is the path below the library, so that order and split do not depend on the machine.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        for name in files:
            if name.endswith(".py"):
                path = Path(folder, name)
                found.append((path.relative_to(root).as_posix(), path))
    if not found:
        raise BadInput(f"corpus = 'python': no source text stands in {root}; use text = [globs]")
    return sorted(found)


def text_files(patterns: tuple[str, ...]) -> list[tuple[str, Path]]:
    """(name, path) of every file a glob pattern finds, by name. Raises BadInput where none does."""
    found: dict[str, Path] = {}
    for pattern in patterns:
        names = matching(os.path.expanduser(pattern))
        some = [Path(name) for name in itertools.islice(names, MOST_FILES + 1)]
        if len(some) > MOST_FILES:
            raise BadInput(
                f"text = {shown(pattern)!r}: more than {MOST_FILES:,} files match; join them, or "
                "name fewer"
            )
        hits = [hit for hit in some if hit.is_file()]
        if not hits:
            raise BadInput(
                f"text = {shown(pattern)!r}: no file matches (a glob such as 'data/*.txt')"
            )
        found.update({hit.as_posix(): hit for hit in hits})
    if not found:
        raise BadInput("text = []: at least one glob pattern is needed, such as 'data/*.txt'")
    if (size := sum(hit.stat().st_size for hit in found.values())) > LARGEST_TEXT:
        raise BadInput(
            f"text = {shown(patterns)}: {size:,} bytes; at most {LARGEST_TEXT:,} are read"
        )
    return sorted(found.items())


def source_files(spec: CorpusSpec) -> list[tuple[str, Path]]:
    """The files the spec reads text or tokens from, by name; empty for a dataset on the Hub."""
    kind = spec.kind()
    if kind == "python":
        return standard_library_files()
    if kind == "text":
        return text_files(spec.text or ())
    name = spec.tokens if kind == "tokens" else local_dataset_file(spec)
    if name is None:
        return []
    path = Path(os.path.expanduser(name))
    if not os.path.isfile(path):
        raise BadInput(f"{kind} = {name!r}: no such file")
    return [(path.name, path)]


def local_dataset_file(spec: CorpusSpec) -> str | None:
    """The file of `json:FILE`, `text:FILE`, `parquet:FILE`; None for a dataset on the Hub."""
    builder, _, name = (spec.dataset or "").partition(":")
    return name if builder in ("json", "text", "parquet", "csv") and name else None


def dataset_texts(spec: CorpusSpec) -> Iterator[tuple[str, bytes]]:
    """Documents of a Hugging Face dataset, streamed, until `dataset_bytes` are read."""
    try:
        import datasets
    except ImportError:
        raise BadInput(
            f"dataset = {spec.dataset!r}: needs the extra: pip install 'shapelaw[hf]'"
        ) from None
    local = local_dataset_file(spec)
    try:
        if local is not None:
            builder = (spec.dataset or "").partition(":")[0]
            stream = datasets.load_dataset(
                builder,
                data_files=os.path.expanduser(local),
                split=spec.dataset_split,
                streaming=True,
            )
        else:
            stream = datasets.load_dataset(
                spec.dataset, spec.dataset_config, split=spec.dataset_split, streaming=True
            )
        read = 0
        for number, row in enumerate(stream):
            if spec.dataset_field not in row:
                raise BadInput(
                    f"dataset_field = {spec.dataset_field!r}: the dataset has {', '.join(row)}"
                )
            text = str(row[spec.dataset_field]).encode()
            yield f"{number}", text
            read += len(text)
            if read >= spec.dataset_bytes:
                return
    except BadInput:
        raise
    except Exception as error:  # the library raises a dozen kinds for one thing: it cannot be read
        raise BadInput(f"dataset = {spec.dataset!r}: {said_by(error)}") from None


def tokenizer_identity(spec: CorpusSpec) -> str:
    """`bytes`, `bpe-512`, or the hash of a tokenizer.json. Raises BadInput where it is neither."""
    name = spec.tokenizer
    if name == "bytes" or (bpe_size(name) is not None):
        return name
    path = Path(os.path.expanduser(name))
    if not os.path.isfile(path):
        raise BadInput(
            f"tokenizer = {name!r}: 'bytes', 'bpe-512' (any size of 257 or more), or "
            "the path of a tokenizer.json"
        )
    return hashlib.sha256(read_bytes(path, "tokenizer")).hexdigest()[:16]


def bpe_size(name: str) -> int | None:
    """512 for `bpe-512`; None where the name is of another kind."""
    prefix, _, digits = name.partition("-")
    if prefix != "bpe" or not (digits.isdecimal() and len(digits) <= LONGEST_NUMBER):
        return None
    if int(digits) <= BYTES_VOCABULARY:
        raise BadInput(
            f"tokenizer = {name!r}: a BPE vocabulary holds the 256 bytes and an end of "
            "document, so 257 is the least"
        )
    return int(digits)


def vocabulary_size(spec: CorpusSpec) -> int | None:
    """Least `vocab_size` of a model for this corpus; None for a `.bin`, which does not say."""
    if spec.kind() == "tokens":
        return None
    if spec.tokenizer == "bytes":
        return BYTES_VOCABULARY
    size = bpe_size(spec.tokenizer)
    if size is not None:
        return size
    tokenizer_identity(spec)
    try:
        path = Path(os.path.expanduser(spec.tokenizer))
        model = parse_json(read_bytes(path, "tokenizer"), "tokenizer", path)
        ids = (
            [*model["model"]["vocab"].values()]
            if isinstance(model["model"]["vocab"], dict)
            else [*range(len(model["model"]["vocab"]))]
        )
        ids += [token["id"] for token in model.get("added_tokens") or []]
        return int(max(ids)) + 1
    except BadInput:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput(
            f"tokenizer = {spec.tokenizer!r}: not a Hugging Face tokenizer.json"
        ) from None


@functools.lru_cache(maxsize=32)
def corpus_identity(spec: CorpusSpec) -> str:
    """Sixteen hex digits that change when the text, its tokenizer or the validation set does.

    Reads the files once a process (tens of milliseconds for the standard library); a dataset on
    the Hub is known by its name, configuration, split and length, since to read it is to load it.

    Raises:
        BadInput: a source or tokenizer that is not there.
    """
    digest = hashlib.sha256()
    for name, path in source_files(spec):
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError as error:
            raise BadInput(f"text = {str(path)!r}: {error.strerror}") from None
        # Whole paths would make the key depend on where a checkout stands.
        digest.update(name.encode() if spec.kind() == "python" else Path(name).name.encode())
        digest.update(content)
    dataset = None
    if spec.kind() == "dataset":
        dataset = [
            None if local_dataset_file(spec) else spec.dataset,
            spec.dataset_config,
            spec.dataset_split,
            spec.dataset_field,
            spec.dataset_bytes,
        ]
    if spec.encoding != "utf-8":
        digest.update(spec.encoding.encode())
    return content_key(
        spec.kind(), digest.hexdigest(), dataset, tokenizer_identity(spec), spec.validation_tokens
    )
