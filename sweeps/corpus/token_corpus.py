"""Text to tokens: tokenised once, cached whole, split by document, fingerprinted.

The cache is a folder per corpus and tokenizer. It is written beside its place and renamed into it,
so two processes may do so at once and a killed one leaves nothing behind that could be read.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shapelaw.results.record import Corpus
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.user_files import said_by
from shapelaw.sweeps.corpus.readable_text import documents
from shapelaw.sweeps.corpus.sources import (
    CorpusSpec,
    bpe_size,
    corpus_identity,
    source_files,
)

VALIDATION_SHARE = 0.05
"""Of the documents, by the hash of their text: the same text is never on both sides."""
HELD_OUT_MOST = 2_000_000
"""Tokens at the end of a `.bin` that are kept from training: a twentieth, and no more than this."""
LEAST_HELD_OUT = 1024
"""Tokens; with fewer to validate on, a loss would say nothing."""
LONGEST_DOCUMENT = 65_536
"""Bytes; a longer text of the user's own is cut at line ends, so that one big file can be split."""
SHORTEST_PIECE = 2_048
ENOUGH_DOCUMENTS = 100
END_OF_DOCUMENT = 0
_BPE_SAMPLE_BYTES = 10_000_000
_HASH_BLOCK = 1 << 24


class _Meta(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What stands in a cache folder beside the tokens."""

    record: Corpus
    dtype: str
    train_tokens: int
    largest_token: int
    held_out_tokens: int


@dataclass(frozen=True, kw_only=True)
class TokenCorpus:
    """Tokens to train on and to validate on."""

    train: np.ndarray
    """[n] unsigned integers, a memory map."""
    held_out: np.ndarray
    """[m] unsigned integers: all text that is kept from training, a memory map."""
    record: Corpus
    largest_token: int
    """A model needs a vocabulary above it."""
    tokenizer_file: Path | None
    """The tokenizer.json, where there is one."""

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises BadInput where a token has no row in an embedding of `vocab_size` rows."""
        if self.largest_token >= vocab_size:
            raise BadInput(
                f"vocab_size = {vocab_size}: the corpus {self.record.name!r} holds "
                f"token {self.largest_token}; it needs {self.largest_token + 1} or more"
            )

    def windows(self, sequence_length: int) -> int:
        """Distinct training sequences of this length. Raises BadInput where there is not one."""
        count = (len(self.train) - 1) // sequence_length
        if count < 1:
            raise BadInput(
                f"sequence_length = {sequence_length}: the corpus "
                f"{self.record.name!r} has only {len(self.train)} training tokens"
            )
        return count

    def validation_windows(self, sequence_length: int) -> np.ndarray:
        """The fixed validation set: [n, sequence_length + 1], spread evenly over the held-out text.

        Many short stretches far apart know the mean loss better than few long ones.
        """
        starts = self.validation_starts(sequence_length)
        return np.asarray(self.held_out[starts[:, None] + np.arange(sequence_length + 1)])

    def validation_starts(self, sequence_length: int) -> np.ndarray:
        """Where in the held-out text each validation window begins [n]."""
        if len(self.held_out) <= sequence_length:
            raise BadInput(
                f"sequence_length = {sequence_length}: only {len(self.held_out)} tokens "
                f"of the corpus {self.record.name!r} are held out to validate on"
            )
        count = max(1, self.record.validation_tokens // sequence_length)
        last = len(self.held_out) - sequence_length - 1
        return np.linspace(0, last, count).astype(np.int64)

    def epochs(self, tokens: int, sequence_length: int) -> float:
        """Passes over the training text that `tokens` make; above 1 means repeated data."""
        return tokens / (self.windows(sequence_length) * sequence_length)


def load_corpus(spec: CorpusSpec, cache_dir: Path) -> TokenCorpus:
    """The tokens of a spec, from the cache or by tokenising now.

    Raises:
        BadInput: text that is not there, is empty or too little to split, or a tokenizer or token
            file that cannot be read.
    """
    # How much of the held-out text is validated on does not change the tokens.
    usual = msgspec.structs.replace(spec, validation_tokens=CorpusSpec().validation_tokens)
    folder = Path(cache_dir) / "corpora" / corpus_identity(usual)
    if not (folder / "meta.json").is_file():
        _keep(spec, folder)
    try:
        return _kept(spec, folder)
    except (OSError, ValueError, msgspec.MsgspecError):  # a disk has spoilt it, or a hand
        shutil.rmtree(folder, ignore_errors=True)
    _keep(spec, folder)
    return _kept(spec, folder)


def _keep(spec: CorpusSpec, folder: Path) -> None:
    """Tokenise into the cache: beside the folder, then moved there whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
    try:
        try:
            _build(spec, building)
        except OSError as error:
            if error.filename is not None:  # a text that cannot be read: said by its name
                raise
            raise NoAnswer(f"{folder.parent}: tokens cannot be written ({error})") from None
        try:
            os.rename(building, folder)
        except OSError:  # another process was first: its folder has the same content
            if not (folder / "meta.json").is_file():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _kept(spec: CorpusSpec, folder: Path) -> TokenCorpus:
    """The tokens that the cache holds, mapped into memory."""
    meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=_Meta)
    dtype = np.dtype(meta.dtype)
    if spec.kind() == "tokens":
        _, source = source_files(spec)[0]
    else:
        source = folder / "train.bin"
    tokenizer_file = folder / "tokenizer.json"
    return TokenCorpus(
        train=np.memmap(source, dtype=dtype, mode="r", shape=(meta.train_tokens,)),
        held_out=np.memmap(
            folder / "held_out.bin", dtype=dtype, mode="r", shape=(meta.held_out_tokens,)
        ),
        record=msgspec.structs.replace(
            meta.record, validation_tokens=min(spec.validation_tokens, meta.held_out_tokens)
        ),
        largest_token=meta.largest_token,
        tokenizer_file=tokenizer_file if tokenizer_file.is_file() else None,
    )


def _build(spec: CorpusSpec, folder: Path) -> None:
    """Tokenise and write train.bin, validation.bin, tokenizer.json and meta.json."""
    tokenizer = None
    if spec.kind() == "tokens":
        everything = token_file(spec)
        # The tail is for validation: no document is known in a .bin, so none can be kept whole.
        held = tokens_held_out(len(everything))
        train, held_out = everything[: len(everything) - held], everything[len(everything) - held :]
        if spec.tokenizer != "bytes":
            tokenizer = _tokenizer_from_file(spec.tokenizer)
    else:
        train_texts, held_texts = _split(spec)
        if spec.tokenizer != "bytes":
            size = bpe_size(spec.tokenizer)
            tokenizer = (
                _tokenizer_from_file(spec.tokenizer)
                if size is None
                else _train_bpe(train_texts, size)
            )
        train, held_out = _encode(tokenizer, train_texts), _encode(tokenizer, held_texts)
        train.tofile(folder / "train.bin")
    if len(held_out) < LEAST_HELD_OUT:
        raise BadInput(
            f"{spec.kind()} = {spec.label()!r}: too little text: {len(held_out)} tokens "
            f"are left to validate on and {LEAST_HELD_OUT} are the least "
            "(bring at least 100 kB)"
        )
    held_out.tofile(folder / "held_out.bin")
    if tokenizer is not None:
        # Its own way of saving tells of a full disk by an error without a kind.
        (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True), encoding="utf-8")
        tokenizer_name = spec.tokenizer if bpe_size(spec.tokenizer) else Path(spec.tokenizer).name
        with (folder / "tokenizer.json").open("rb") as file:
            tokenizer_print = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    else:
        tokenizer_name = "bytes" if spec.kind() != "tokens" else "as given"
        tokenizer_print = tokenizer_name
    meta = _Meta(
        record=Corpus(
            name=spec.label(),
            corpus_fingerprint=_fingerprint(train),
            tokenizer=tokenizer_name,
            tokenizer_fingerprint=tokenizer_print,
            validation_fingerprint=_fingerprint(held_out),
            validation_tokens=len(held_out),
            bytes_per_token=_bytes_per_token(spec, tokenizer, held_out),
        ),
        dtype=train.dtype.str,
        train_tokens=len(train),
        held_out_tokens=len(held_out),
        largest_token=max(_largest(train), _largest(held_out)),
    )
    (folder / "meta.json").write_bytes(msgspec.json.encode(meta))


def _split(spec: CorpusSpec) -> tuple[list[bytes], list[bytes]]:
    """Documents for training and for validation, by the hash of their text."""
    texts = [text for _, text in documents(spec)]
    total = sum(map(len, texts))
    if total == 0:
        raise BadInput(f"{spec.kind()} = {spec.label()!r}: there is no text in it")
    if spec.kind() != "python":
        # Documents stay whole where there are enough of them to split between the two sides.
        longest = LONGEST_DOCUMENT
        if len(texts) < ENOUGH_DOCUMENTS:
            longest = min(longest, max(SHORTEST_PIECE, total // 200))
        texts = [piece for text in texts for piece in _pieces(text, longest)]
    train: list[bytes] = []
    held: list[bytes] = []
    for text in texts:
        place = int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64
        (held if place < VALIDATION_SHARE else train).append(text)
    if not train or not held:
        raise BadInput(
            f"{spec.kind()} = {spec.label()!r}: {total} bytes are too little text to "
            "keep some for validation (bring at least 100 kB)"
        )
    return train, held


def _pieces(text: bytes, longest: int) -> Iterator[bytes]:
    """The text in pieces of at most about `longest` bytes, cut after line ends or, failing that,
    between characters."""
    start = 0
    while len(text) - start > longest:
        end = text.rfind(b"\n", start, start + longest) + 1
        if end <= start:
            end = start + longest
            while text[end] & 0xC0 == 0x80:  # inside a UTF-8 character
                end -= 1
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def _encode(tokenizer: Any, texts: list[bytes]) -> np.ndarray:
    """One stream of tokens, an end of document after each text."""
    if tokenizer is None:
        joined = b"".join(text + b"\0" for text in texts)
        return np.frombuffer(joined, dtype=np.uint8).astype("<u2")
    end = tokenizer.token_to_id("<|endoftext|>")
    for name in ("</s>", "<eos>", "<|end_of_text|>"):
        end = tokenizer.token_to_id(name) if end is None else end
    dtype = "<u2" if tokenizer.get_vocab_size() <= 65_536 else "<u4"
    parts = []
    for first in range(0, len(texts), 256):
        batch = [text.decode(errors="replace") for text in texts[first : first + 256]]
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            ids = encoding.ids if end is None else [*encoding.ids, end]
            parts.append(np.array(ids, dtype=dtype))
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _train_bpe(texts: list[bytes], size: int) -> Any:
    """A byte-level BPE of `size` tokens, trained on an even sample of the training documents."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    stride = -(-sum(map(len, texts)) // _BPE_SAMPLE_BYTES)
    tokenizer.train_from_iterator((text.decode() for text in texts[::stride]), trainer)
    return tokenizer


def _tokenizer_from_file(name: str) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(os.path.expanduser(name))
    except Exception as error:  # the library raises bare Exception
        raise BadInput(
            f"tokenizer = {name!r}: not a Hugging Face tokenizer.json ({said_by(error)})"
        ) from None


def tokens_held_out(total: int) -> int:
    """Of a `.bin` of so many tokens, how many at its end are kept from training."""
    return min(total // 20, HELD_OUT_MOST)


def token_file(spec: CorpusSpec) -> np.ndarray:
    """The whole `.bin` as a memory map. Raises BadInput where it is not whole tokens."""
    _, path = source_files(spec)[0]
    dtype = np.dtype("<u4" if path.name.endswith(".u32.bin") else "<u2")
    size = path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise BadInput(
            f"tokens = {str(path)!r}: {size} bytes are not whole tokens of "
            f"{dtype.itemsize} bytes each"
        )
    return np.memmap(path, dtype=dtype, mode="r")


def _bytes_per_token(spec: CorpusSpec, tokenizer: Any, held_out: np.ndarray) -> float | None:
    """Text bytes a held-out token; None for a `.bin` whose tokenizer is not given."""
    if tokenizer is None:
        if spec.kind() == "tokens":
            return None
        return float(np.mean(held_out != END_OF_DOCUMENT))
    pieces = np.array_split(held_out, -(-len(held_out) // 4096))
    texts = tokenizer.decode_batch([piece.tolist() for piece in pieces], skip_special_tokens=True)
    return sum(len(text.encode()) for text in texts) / len(held_out)


def _fingerprint(tokens: np.ndarray) -> str:
    """Sixteen hex digits of the tokens as 32-bit integers, whatever width they are stored in."""
    digest = hashlib.sha256()
    for start in range(0, len(tokens), _HASH_BLOCK):
        digest.update(tokens[start : start + _HASH_BLOCK].astype("<u4").tobytes())
    return digest.hexdigest()[:16]


def _largest(tokens: np.ndarray) -> int:
    blocks = range(0, len(tokens), _HASH_BLOCK)
    return max(int(tokens[start : start + _HASH_BLOCK].max()) for start in blocks)
