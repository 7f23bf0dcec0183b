"""Architectures from the metadata of a `.gguf`: its header is read here, nothing else of the file.

The format is GGUF version 2 or 3 (ggml's documentation of it): magic, version, counts, key-value
pairs, then names and shapes of tensors. Counts and lengths are bounded before anything is read.
"""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from shapelaw.scaling.user_files import open_regular, refuse, shown

MAGIC = b"GGUF"
MOST_PAIRS = 10_000
MOST_TENSORS = 100_000
LONGEST_NAME = 1_024
LONGEST_TEXT = 10_000_000
MOST_ITEMS = 10_000_000

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q",
            12: "d"}  # fmt: skip
_STRING, _ARRAY = 8, 9
_KEPT_ITEMS = 100_000

TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "smollm3": "smollm3",
    "phi3": "phi3",
    "olmo2": "olmo2",
}
"""`general.architecture` -> the model type of a Hugging Face config."""


def is_gguf(path: Path) -> bool:
    """Whether a file starts as GGUF."""
    with open_regular(path, "architecture") as file:
        return bool(file.read(4) == MAGIC)


def config_of_gguf(path: Path) -> dict[str, Any]:
    """What a GGUF's metadata says, in the words of a Hugging Face config.

    Raises:
        BadInput: not GGUF, broken, or of an architecture that the block cannot express.
    """
    with open_regular(path, "architecture") as file:
        metadata, tensors = _Header(file, path).read()
    name = str(metadata.get("general.architecture"))
    if name not in TYPES:
        refuse(
            "architecture",
            path,
            f"general.architecture = {shown(name, 40)}: one of {', '.join(TYPES)} is read",
        )
    said = {key.removeprefix(f"{name}."): value for key, value in metadata.items()}
    width, heads = said.get("embedding_length"), said.get("attention.head_count")
    head_dim = said.get("attention.key_length")
    if head_dim is None and isinstance(width, int) and isinstance(heads, int) and heads:
        head_dim = width // heads
    config = {
        "model_type": TYPES[name],
        "hidden_size": width,
        "num_hidden_layers": said.get("block_count"),
        "intermediate_size": said.get("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": said.get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "num_local_experts": said.get("expert_count"),
        "sliding_window": said.get("attention.sliding_window"),
        "vocab_size": _vocabulary(said, tensors),
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    if any(tensor.endswith("attn_q.bias") for tensor in tensors) and name == "llama":
        config["attention_bias"] = True
    return {key: value for key, value in config.items() if value is not None}


def _vocabulary(said: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]) -> Any:
    embedding = tensors.get("token_embd.weight")
    if embedding is not None and len(embedding) == 2:
        return embedding[1]
    return said.get("vocab_size")


class _Header:
    """The head of one file, read in order."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file = file
        self.path = path
        self.order = "<"

    def read(self) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
        """Metadata by key, and the shape of each tensor by name."""
        if self._bytes(4) != MAGIC:
            self._broken("not a GGUF file")
        version = self._number("I")
        if version > 0xFFFF:  # written by a machine of the other byte order
            self.order = ">"
            version = struct.unpack(">I", struct.pack("<I", version))[0]
        if version not in (2, 3):
            self._broken(f"GGUF version {version}; 2 and 3 are read")
        n_tensors, n_pairs = self._number("Q"), self._number("Q")
        if n_tensors > MOST_TENSORS or n_pairs > MOST_PAIRS:
            self._broken(f"{n_pairs} pairs and {n_tensors} tensors are too many")
        metadata: dict[str, Any] = {}
        for _ in range(n_pairs):
            key = self._text(LONGEST_NAME)
            metadata[key] = self._value(self._number("I"))
        tensors = {}
        for _ in range(n_tensors):
            name = self._text(LONGEST_NAME)
            dimensions = self._number("I")
            if dimensions > 4:
                self._broken(f"tensor {shown(name, 40)} has {dimensions} dimensions")
            tensors[name] = tuple(self._number("Q") for _ in range(dimensions))
            self._bytes(12)  # its type and its place
        return metadata, tensors

    def _bytes(self, count: int) -> bytes:
        content = self.file.read(count)
        if len(content) < count:
            self._broken("it ends within its header")
        return content

    def _number(self, kind: str) -> Any:
        size = struct.calcsize(f"<{kind}")
        return struct.unpack(f"{self.order}{kind}", self._bytes(size))[0]

    def _text(self, longest: int) -> str:
        length = self._number("Q")
        if length > longest:
            self._broken(f"a text of {length} bytes; at most {longest}")
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError:
            self._broken("a text that is not UTF-8")
            raise

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text(LONGEST_TEXT)
        if kind in _SCALARS:
            return self._number(_SCALARS[kind])
        if kind != _ARRAY:
            self._broken(f"a value of type {kind}")
        return self._array()

    def _array(self) -> Any:
        """A list of numbers; texts (a vocabulary) are passed over."""
        kind, count = self._number("I"), self._number("Q")
        if count > MOST_ITEMS:
            self._broken(f"a list of {count}; at most {MOST_ITEMS}")
        if kind == _STRING:
            for _ in range(count):
                self._text(LONGEST_TEXT)
            return None
        if kind not in _SCALARS:
            self._broken(f"a list of type {kind}")
        raw = self._bytes(struct.calcsize(f"<{_SCALARS[kind]}") * count)
        if count > _KEPT_ITEMS:
            return None
        items = struct.unpack(f"{self.order}{count}{_SCALARS[kind]}", raw)
        return items[0] if len(set(items)) == 1 else list(items)

    def _broken(self, why: str) -> None:
        refuse("architecture", self.path, why)
