"""Size of a GGUF file: header, tensor list, vocabulary, and the aligned tensors.

The layout is ggml's (docs/gguf.md): everything that precedes the tensors is a list of keys and a
list of tensor descriptions; each tensor begins at a multiple of 32 bytes.
"""

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.scaling.formats.stored_tensors import StoredTensor, stored_tensors

ALIGNMENT = 32
"""Each tensor begins at a multiple of so many bytes."""

HEADER_BYTES = 1024
"""Keys that describe the model, the vocabulary's entries left out, as this project writes them with
a name of eight letters; chat templates make it a few thousand."""

VOCABULARY_BYTES: dict[int, int] = {32_000: 723_000, 128_256: 7_815_000, 262_144: 6_400_000}
"""Bytes of the vocabularies that many models share: Llama 2 and Gemma 3 (SentencePiece: no merges
are stored), Llama 3 (280,147 merges for 128,256 tokens)."""

BYTES_PER_TOKEN = 37.0
"""A byte-level BPE otherwise: name, type and merge of a token, each with its length."""

_GGUF_NAMES = {
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def vocabulary_bytes(vocab_size: int) -> int:
    """Bytes that a tokenizer of this size usually takes within a file."""
    if vocab_size <= 256:
        # Single bytes: printable ones take a letter, others two, and there is one merge.
        return 14 * vocab_size - min(max(vocab_size - 33, 0), 94) + 13
    return VOCABULARY_BYTES.get(vocab_size, round(BYTES_PER_TOKEN * vocab_size))


def aligned(size: int) -> int:
    """The next multiple of the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def tensor_name(tensor: StoredTensor, *, second_gain: bool = False) -> str:
    """What llama.cpp calls a tensor."""
    if tensor.role == "embedding":
        return "token_embd.weight"
    if tensor.role == "head":
        return "output.weight"
    if tensor.layer is None:
        return "output_norm.weight"
    if tensor.role == "gain":
        return f"blk.{tensor.layer}.{'ffn' if second_gain else 'attn'}_norm.weight"
    return f"blk.{tensor.layer}.{_GGUF_NAMES[tensor.role]}.weight"


def gguf_file_bytes(
    mix: Mix,
    architecture: Architecture,
    *,
    vocabulary: int | None = None,
    header: int = HEADER_BYTES,
) -> int:
    """Bytes of the file llama.cpp would write of this shape in this format.

    Args:
        mix: the format.
        architecture: its shape; shared blocks are written once an application.
        vocabulary: bytes of the vocabulary's keys; None takes what is usual for its size.
        header: bytes of all other keys.
    """
    described, stored, gains = 0, 0, 0
    for tensor in stored_tensors(mix, architecture, shares_blocks=False):
        gain = tensor.role == "gain"
        name = tensor_name(tensor, second_gain=gain and bool(gains % 2))
        gains += gain
        # Length and letters of the name, number of dimensions, the dimensions, type, offset.
        described += 8 + len(name) + 4 + 8 * (1 if gain else 2) + 4 + 8
        stored += aligned(tensor.bytes)
    tokens = vocabulary_bytes(architecture.vocab_size) if vocabulary is None else vocabulary
    return aligned(header + tokens + described) + stored
