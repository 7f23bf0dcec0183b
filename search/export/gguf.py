"""A GGUF file of an architecture, as llama.cpp's `llama` family reads it.

llama.cpp rotates neighbouring pairs of a head where this project's decoder (and Hugging Face)
rotates its two halves; the rows of the query and key matrices are laid out anew so that the same
angles meet the same numbers. Blocks that are applied several times are written as often: the
format has no shared form.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.mixes import Mix, mix
from shapelaw.scaling.formats.quantisers import quantised
from shapelaw.scaling.formats.stored_tensors import stored_tensors
from shapelaw.scaling.formats.tensor_types import TensorType
from shapelaw.scaling.hugging_face_config import NORM_EPSILON, ROPE_BASE
from shapelaw.search.export.exchange_weights import (
    EMBEDDING,
    FINAL_NORM,
    LM_HEAD,
    RandomWeights,
    StoredWeights,
    WeightSource,
    block_shapes,
    expansion_cost,
    tensor_shapes,
    written_whole,
)
from shapelaw.search.export.vocabulary import Vocabulary, byte_vocabulary, read_vocabulary

FILE_TYPES: dict[str, str] = {
    "f32": "ALL_F32",
    **{
        name: f"MOSTLY_{name.upper()}"
        for name in ("f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "q6_k")
    },
    **{
        f"{name}{size}": f"MOSTLY_{name.upper()}{size.upper()}"
        for name, sizes in (("q5_k", "sm"), ("q4_k", "sm"), ("q3_k", "sml"))
        for size in (f"_{letter}" for letter in sizes)
    },
    "q2_k": "MOSTLY_Q2_K",
    "mxfp4": "MOSTLY_MXFP4_MOE",
}
"""Format -> what gguf calls a file of it. Every format of the family gguf can be written."""

FILE_FORMATS: tuple[str, ...] = tuple(FILE_TYPES)

CONTEXT_LENGTH = 4096
"""Written as the trained context; RoPE itself sets no limit."""

_BLOCK_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
}


class GgufTensor(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of the file: what it is called there and where it comes from."""

    name: str
    source: str
    shape: tuple[int, ...]
    heads: int = 0
    """Heads whose rows RoPE turns; 0 where it does not."""


def write_gguf(
    path: Path,
    architecture: Architecture,
    weights: WeightSource | None = None,
    *,
    weight_format: str = "f16",
    tokenizer: Path | None = None,
    seed: int = 0,
    context_length: int = CONTEXT_LENGTH,
    name: str = "shapelaw",
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Write one GGUF file at `path`; an existing file is replaced. Returns notes for a person.

    Args:
        path: the file. It is written in place: `export_gguf` is the careful way.
        architecture: its shape; sharing is expanded to `depth` blocks.
        weights: where tensors come from; None gives random ones from `seed`, which are enough to
            time a shape.
        weight_format: which type each matrix gets, by llama.cpp's rules (scaling/formats/mixes).
        tokenizer: a byte-level BPE tokenizer.json; None gives one token a byte.
        seed: of the random weights.
        context_length: most tokens the file says it was trained for.
        name: the model's name within the file.
        progress: told what writing shared blocks several times costs, before it begins and once
            nothing is refused any more.

    Raises:
        BadInput: an unknown format, or a tokenizer that does not fit.
    """
    import gguf

    chosen = mix(weight_format, "gguf")
    a = architecture
    vocabulary = (
        byte_vocabulary(a.vocab_size)
        if tokenizer is None
        else read_vocabulary(tokenizer, a.vocab_size)
    )
    context = context_length if a.window is None else min(a.window, context_length)
    writer = gguf.GGUFWriter(path, "llama")
    try:
        _describe(writer, a, chosen.name, context, name)
        _add_vocabulary(writer, vocabulary)
        tensors = list(gguf_tensors(a))
        kinds = [stored.type for stored in stored_tensors(chosen, a)]
        if progress is not None and (cost := expansion_cost(a)) is not None:
            progress(cost)
        for tensor, kind in zip(tensors, kinds, strict=True):
            writer.add_tensor_info(
                tensor.name,
                tensor.shape,
                np.dtype(np.float32),
                _bytes_of(tensor.shape, kind),
                raw_dtype=gguf.GGMLQuantizationType[kind.name.upper()],
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        noise = _Noise(RandomWeights(seed)) if weights is None else None
        for tensor, kind in zip(tensors, kinds, strict=True):
            if noise is not None:
                data = noise.encoded(tensor, kind)
            else:
                assert weights is not None
                data = _encoded(weights, tensor, kind)
            writer.write_tensor_data(data)
    finally:
        writer.close()
    fallen = [
        kind
        for tensor, kind in zip(tensors, kinds, strict=True)
        if len(tensor.shape) == 2 and kind.name == "f16" and chosen.base not in ("f32", "f16")
    ]
    return _notes(a, chosen, len(fallen))


def export_gguf(
    architecture: Architecture,
    out: Path,
    *,
    weights: Path | None = None,
    weight_formats: Sequence[str] = ("f16",),
    tokenizer: Path | None = None,
    seed: int = 0,
    context_length: int = CONTEXT_LENGTH,
    name: str = "shapelaw",
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write `out` (a .gguf file, or a folder that gets one a format) whole or not at all.

    Returns:
        `files` (paths), `notes` (lines for a person), `bytes` (format -> of its file).

    Raises:
        BadInput: the target exists or cannot be written; weights or tokenizer do not fit; several
            formats for one file.
    """
    source = None if weights is None else StoredWeights(weights, architecture)
    formats = list(dict.fromkeys(mix(each, "gguf").name for each in weight_formats))
    as_folder = out.suffix != ".gguf"
    if len(formats) > 1 and not as_folder:
        raise BadInput(
            f"format = {', '.join(formats)}: one file holds one format; name a folder in place of "
            f"{str(out)!r}"
        )
    notes: list[str] = []
    sizes = {}
    with written_whole(out, folder=as_folder) as made:
        for each in formats:
            file = made / _file_name(name, each) if as_folder else made
            said = write_gguf(
                file,
                architecture,
                source,
                weight_format=each,
                tokenizer=tokenizer,
                seed=seed,
                context_length=context_length,
                name=name,
                progress=progress if each == formats[0] else None,
            )
            notes += [f"{each}: {note}" if len(formats) > 1 else note for note in said]
            sizes[each] = file.stat().st_size
    if source is None:
        notes.insert(0, "no weights were given: the file holds random ones, for timing only")
    return {
        "files": [str(out / _file_name(name, each) if as_folder else out) for each in formats],
        "notes": notes,
        "bytes": sizes,
    }


def _file_name(name: str, weight_format: str) -> str:
    return f"{name}-{weight_format}.gguf"


def gguf_tensors(architecture: Architecture) -> Iterator[GgufTensor]:
    """Every tensor of the file, in order; a block applied s times comes s times."""
    a = architecture
    if a.input_injection:
        raise BadInput(
            "architecture input_injection = true: llama.cpp's llama family cannot add the "
            "input of the shared blocks again; export it with --to hf"
        )
    stored = tensor_shapes(a)
    yield GgufTensor(name="token_embd.weight", source=EMBEDDING, shape=stored[EMBEDDING])
    for layer, block in enumerate(a.applied_blocks()):
        for part, shape in block_shapes(a).items():
            heads = {
                "self_attn.q_proj.weight": a.n_heads,
                "self_attn.k_proj.weight": a.n_kv_heads,
            }.get(part, 0)
            yield GgufTensor(
                name=f"blk.{layer}.{_BLOCK_NAMES[part]}",
                shape=shape,
                heads=heads,
                source=f"model.layers.{block}.{part}",
            )
    yield GgufTensor(name="output_norm.weight", source=FINAL_NORM, shape=stored[FINAL_NORM])
    if not a.tied_embeddings:
        yield GgufTensor(name="output.weight", source=LM_HEAD, shape=stored[LM_HEAD])


def neighbouring_pairs(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads·head_dim, in) laid out so that RoPE's pair (e, e + E/2) becomes (2e, 2e + 1)."""
    rows, columns = matrix.shape
    halves = matrix.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows, columns)


class _Noise:
    """Random tensors in the file's encoding: one period is encoded and repeated."""

    def __init__(self, weights: RandomWeights) -> None:
        self._weights = weights
        self._periods: dict[tuple[int, int, TensorType], np.ndarray] = {}

    def encoded(self, tensor: GgufTensor, kind: TensorType) -> np.ndarray:
        """The tensor's bytes."""
        if len(tensor.shape) == 1:
            return self._weights.tensor(tensor.name, tensor.shape)
        fan_in = tensor.shape[1]
        period = min(RandomWeights.PERIOD, 1 << (int(np.prod(tensor.shape)) - 1).bit_length())
        if (fan_in, period, kind) not in self._periods:
            # Rows of one period long: a scale is then shared by neighbours, as in any row.
            row = self._weights.tensor("noise", (1, period))
            row = row * np.float32((period / fan_in) ** 0.5)
            self._periods[fan_in, period, kind] = quantised(row, kind.name).reshape(-1)
        return np.resize(self._periods[fan_in, period, kind], _bytes_of(tensor.shape, kind))


def _encoded(weights: WeightSource, tensor: GgufTensor, kind: TensorType) -> np.ndarray:
    values = weights.tensor(tensor.source, tensor.shape)
    if len(tensor.shape) == 1:
        return values
    if tensor.heads:
        values = neighbouring_pairs(values, tensor.heads)
    return quantised(values, kind.name)


def _bytes_of(shape: tuple[int, ...], kind: TensorType) -> int:
    rows = 1 if len(shape) == 1 else shape[0]
    return int(kind.bytes_of(rows, shape[-1]))


def _describe(writer: Any, a: Architecture, format_name: str, context: int, name: str) -> None:
    import gguf

    writer.add_name(name)
    writer.add_context_length(context)
    writer.add_embedding_length(a.d_model)
    writer.add_block_count(a.depth)
    writer.add_feed_forward_length(a.d_ff)
    writer.add_head_count(a.n_heads)
    writer.add_head_count_kv(a.n_kv_heads)
    writer.add_key_length(a.head_dim)
    writer.add_value_length(a.head_dim)
    writer.add_layer_norm_rms_eps(NORM_EPSILON)
    writer.add_rope_dimension_count(a.head_dim)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(a.vocab_size)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[format_name]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.end)
    writer.add_eos_token_id(vocabulary.end)
    writer.add_add_bos_token(False)


def _notes(a: Architecture, mix: Mix, kept_wider: int) -> list[str]:
    notes = []
    if a.sharing > 1:
        once, written = (
            sum(stored.bytes for stored in stored_tensors(mix, a, shares_blocks=shares))
            for shares in (True, False)
        )
        notes.append(
            f"GGUF cannot share blocks: each of {a.n_shared_blocks} is written {a.sharing} times, "
            f"{(written - once) / 1e6:,.1f} MB more to store and to read from memory"
        )
    if a.window is not None:
        notes.append(
            f"llama.cpp's llama family has no attention window: the file states a context "
            f"of {a.window} tokens, within which full attention gives the same numbers"
        )
    if kept_wider:
        notes.append(f"{kept_wider} matrices keep f16: {mix.name} needs rows of a multiple of 32")
    if mix.name == "mxfp4":
        notes.append(
            "llama-quantize gives mxfp4 to the matrices of experts only; this file has it in every "
            "block"
        )
    return notes
