"""Text files of a corpus, decoded: what cannot be is named with the remedy, never dropped."""

import codecs
import dataclasses
import functools
import os
from collections.abc import Iterator

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import open_regular, shown
from shapelaw.sweeps.corpus.sources import CorpusSpec, dataset_texts, source_files

LARGEST_TEXT = 4_000_000_000
"""Bytes of one text file, which is held in memory once."""
_NAMED = 3


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the text files of a corpus hold."""

    bytes: int
    """Of text, as UTF-8."""
    files: int
    empty: tuple[str, ...]
    """Files with nothing in them."""


def read_text_file(path: str | os.PathLike[str], encoding: str) -> bytes:
    """The text of a file as UTF-8 bytes.

    Raises:
        BadInput: it cannot be read, is not in the encoding, or holds a zero byte.
    """
    with open_regular(path, "text") as file:
        if os.fstat(file.fileno()).st_size > LARGEST_TEXT:
            raise BadInput(f"text = {shown(str(path), 100)}: more than {LARGEST_TEXT:,} bytes")
        raw: bytes = file.read()
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        likely = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        raise BadInput(
            f"not {encoding} (byte 0x{raw[error.start]:02x} at {error.start}): say encoding = "
            f'"{likely}" if that is what it is, or convert it'
        ) from None
    if "\0" in text:
        raise BadInput(f"a zero byte at {text.index(chr(0))}: not text; take it out of the pattern")
    return raw if codecs.lookup(encoding).name == "utf-8" else text.encode()


@functools.lru_cache(maxsize=8)
def survey(spec: CorpusSpec) -> Survey:
    """Reads every text file of a corpus of the user's own once.

    Raises:
        BadInput: files that cannot be decoded, each named; or no text at all.
    """
    total, empty, bad = 0, [], []
    files = source_files(spec)
    for name, path in files:
        try:
            size = len(read_text_file(path, spec.encoding))
        except BadInput as error:
            bad.append(f"{shown(name, 50)}: {error}")
            continue
        total += size
        if not size:
            empty.append(name)
    if bad:
        more = f"; and {len(bad) - _NAMED} more files" if len(bad) > _NAMED else ""
        # The first with its remedy, the others by name: a line has 300 characters.
        others = "; ".join(line.partition(": ")[0] for line in bad[1:_NAMED])
        raise BadInput(f"text = {bad[0]}" + (f"; also {others}{more}" if others else ""))
    if not total:
        raise BadInput(
            f"text = {shown(spec.label(), 60)}: there is no text in it ({len(files)} files, all "
            "empty)"
        )
    return Survey(total, len(files), tuple(empty))


def documents(spec: CorpusSpec) -> Iterator[tuple[str, bytes]]:
    """(name, text as UTF-8 bytes) of each document, in an order that no machine changes.

    Empty files hold no document. Of the standard library, files in other encodings (tests of them)
    are left out; they are the same on every machine.

    Raises:
        BadInput: a text file of the user's own that cannot be decoded.
    """
    if spec.kind() == "dataset":
        yield from dataset_texts(spec)
        return
    if spec.kind() == "text":
        survey(spec)
    for name, path in source_files(spec):
        try:
            text = read_text_file(path, spec.encoding)
        except BadInput:
            if spec.kind() != "python":
                raise
            continue
        if text:
            yield name, text
