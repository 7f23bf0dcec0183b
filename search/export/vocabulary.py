"""The vocabulary a GGUF file carries: a byte-level BPE, or single bytes where none is given."""

from pathlib import Path
from typing import Any

import msgspec

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.gguf_file import vocabulary_bytes
from shapelaw.scaling.user_files import convert, read_json, shown
from shapelaw.search.export.pretokenizers import UNCUT, llama_cpp_name

NORMAL, CONTROL = 1, 3
"""llama.cpp's token types. Rows no tokenizer fills are normal ones: it shows nothing for a token it
is told is unused, and a person would rather see that a model says one."""

_ENTRY_BYTES = 12
"""Of a token in a file, beside its name: the name's length and the token's type."""

END_NAMES = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
"""What tokenizers call the end of a document."""


class Vocabulary(msgspec.Struct, frozen=True, kw_only=True):
    """What llama.cpp's byte-level BPE tokenizer needs; `tokens` and `types` are [vocab_size]."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str = "gpt-2"
    """llama.cpp's name of the rule that cuts text before merging."""
    end: int
    """The token that ends a document; also what stands where a beginning is asked for."""


def byte_characters() -> list[str]:
    """The printable character that stands for each byte in a byte-level BPE [256].

    Bytes that print in Latin-1 stand for themselves; the others are numbered from U+0100 on, in
    order (GPT-2's convention, which Hugging Face and llama.cpp share).
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    shifted = iter(range(256, 512))
    return [chr(byte if byte in printable else next(shifted)) for byte in range(256)]


def byte_vocabulary(vocab_size: int) -> Vocabulary:
    """One token a byte, byte 0 the end of a document; further rows have a name and no text.

    The names are as long as makes the vocabulary weigh what a tokenizer of that size usually does:
    a file written to be timed then weighs what the trained one will.
    """
    tokens = byte_characters()[:vocab_size]
    unused = vocab_size - len(tokens)
    if unused:
        letters = vocabulary_bytes(vocab_size) - vocabulary_bytes(256) - _ENTRY_BYTES * unused
        length, longer = divmod(letters, unused)
        tokens += [
            f"<{number:_>{length - 2 + (place < longer)}}>"
            for place, number in enumerate(range(256, vocab_size))
        ]
    types = [CONTROL] + [NORMAL] * (vocab_size - 1)
    # llama.cpp insists on a list of merges and the format on one entry: two zero bytes, which no
    # text holds, and whose union is no token.
    merges = [f"{tokens[0]} {tokens[0]}"]
    return Vocabulary(tokens=tokens, types=types, merges=merges, end=0)


def bytes_in_file(vocabulary: Vocabulary) -> int:
    """What the vocabulary adds to a file: names, types and merges, each name with its length."""
    names = sum(len(token.encode()) for token in vocabulary.tokens)
    merges = sum(8 + len(merge.encode()) for merge in vocabulary.merges)
    return _ENTRY_BYTES * len(vocabulary.tokens) + names + merges


class _Model(msgspec.Struct, frozen=True):
    type: str
    vocab: dict[str, int]
    merges: list[str | tuple[str, str]]


class _AddedToken(msgspec.Struct, frozen=True):
    id: int
    content: str
    special: bool = False


class _Tokenizer(msgspec.Struct, frozen=True):
    model: _Model
    added_tokens: list[_AddedToken] = []
    pre_tokenizer: Any = None
    normalizer: Any = None


def read_vocabulary(path: Path, vocab_size: int) -> Vocabulary:
    """From a Hugging Face tokenizer.json with a byte-level BPE.

    Raises:
        BadInput: not such a file, another kind of tokenizer, or a token beyond `vocab_size`.
    """
    where = f"tokenizer = {shown(str(path), 100)}"
    read = convert(read_json(path, "tokenizer"), _Tokenizer, "tokenizer", path)
    if (
        read.model.type != "BPE"
        or "ByteLevel" not in msgspec.json.encode(read.pre_tokenizer).decode()
    ):
        raise BadInput(
            f"{where}: llama.cpp takes a byte-level BPE here; this is "
            f"{read.model.type} without byte-level pre-tokenisation"
        )
    rule = llama_cpp_name(
        {"pre_tokenizer": read.pre_tokenizer, "normalizer": read.normalizer}, where
    )
    if rule == UNCUT and read.model.merges:
        raise BadInput(
            f"{where}: llama.cpp cuts text before it merges, and this tokenizer does not"
        )
    rows: dict[int, tuple[str, int]] = {
        number: (text, NORMAL) for text, number in read.model.vocab.items()
    }
    for added in read.added_tokens:
        rows[added.id] = (added.content, CONTROL if added.special else NORMAL)
    if not rows or max(rows) >= vocab_size or min(rows) < 0:
        raise BadInput(
            f"{where}: needs vocab_size = {max(rows, default=0) + 1} or more, the "
            f"architecture has {vocab_size}"
        )
    numbers = {text: number for number, (text, _) in rows.items()}
    end = next((numbers[name] for name in END_NAMES if name in numbers), 0)
    table = [rows.get(number, (f"<unused_{number}>", NORMAL)) for number in range(vocab_size)]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in read.model.merges]
    return Vocabulary(
        tokens=[text for text, _ in table],
        types=[kind for _, kind in table],
        merges=merges or [f"{table[0][0]} {table[0][0]}"],
        pre="gpt-2" if rule == UNCUT else rule,
        end=end,
    )
