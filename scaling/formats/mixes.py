"""Which tensor gets which type: the rules of llama.cpp, ExecuTorch, MLX and the GPU servers.

llama.cpp (src/llama-quant.cpp, `llama_tensor_get_type`, MIT): a file's format names a type for most
matrices; attention value and MLP down matrices get more bits in the first and last eighth of the
layers and in every third between (`_m`), the output matrix (or the embedding that stands for it)
gets q6_k or q8_0. ExecuTorch (8da4w, examples/models/llama): int4 groups in the blocks, 8 bits a
row in the embedding and in the head, which is stored apart even where the two are tied. MLX
(mlx_lm.convert -q): every matrix alike, the tied head not stored. GPU servers (compressed-tensors,
GPTQ, AWQ checkpoints): block matrices quantised, embedding and head in 16 bits.
"""

from typing import Literal, get_args

import msgspec

from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput

Role = Literal["embedding", "head", "q", "k", "v", "o", "gate", "up", "down"]
"""The matrices of a transformer. `head`: the output matrix."""

BLOCK_ROLES: tuple[Role, ...] = ("q", "k", "v", "o", "gate", "up", "down")

Family = Literal["gguf", "executorch", "mlx", "safetensors"]
"""Whose files: llama.cpp; ExecuTorch; MLX; vLLM, SGLang, TensorRT-LLM and transformers."""

FAMILIES: tuple[Family, ...] = get_args(Family)

LLAMA_70B_LAYERS = 80
"""llama.cpp calls a grouped-query model of so many layers "70B" and gives its few value rows more
bits."""


class LayerContext(msgspec.Struct, frozen=True, kw_only=True):
    """What llama.cpp's rules look at beside format and matrix."""

    n_layers: int
    """Layers in the file."""
    four_query_heads: bool = False
    """Whether four or more query heads share a key-value head."""
    grouped: bool = False
    """Whether there are fewer key-value heads than query heads."""


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """One format of one family."""

    name: str
    family: Family
    base: str
    """The type of every block matrix that no rule singles out."""
    embedding: str
    """Type of a token embedding that is looked up only."""
    head: str
    """Type of the output matrix, and of a tied embedding where the head is not stored apart."""
    head_apart: bool = False
    """Whether a tied head is stored a second time."""

    def block_type(self, role: Role, layer: int, context: LayerContext) -> str:
        """The type asked for a block's matrix, before any fallback. `layer` counts from 0."""
        if self.family != "gguf":
            return self.base
        return _llama_cpp_type(self.name, self.base, role, layer, context)


def _more_bits(layer: int, n_layers: int) -> bool:
    """First and last eighth of the layers, and every third between."""
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def _llama_cpp_type(name: str, base: str, role: Role, layer: int, context: LayerContext) -> str:
    n = context.n_layers
    if role == "o":
        return {"q2_k": "q3_k", "q3_k_m": "q4_k", "q3_k_l": "q5_k"}.get(name, base)
    if role == "down":
        if name == "q2_k":
            return "q3_k"
        if name == "q3_k_l" or (name == "q3_k_m" and layer < n // 16):
            return "q5_k"
        if name == "q3_k_m":
            return "q4_k"
        if name in ("q4_k_m", "q5_k_m") and _more_bits(layer, n):
            return "q6_k"
        return "q5_k" if name == "q4_k_s" and layer < n // 8 else base
    if role == "v":
        found = _llama_cpp_value_type(name, base, layer, context)
        big = n == LLAMA_70B_LAYERS and context.grouped
        return "q5_k" if big and found in ("q3_k", "q4_k") else found
    return base


def _llama_cpp_value_type(name: str, base: str, layer: int, context: LayerContext) -> str:
    if name == "q2_k":
        return "q4_k" if context.four_query_heads else "q3_k"
    if name == "q3_k_l" or (name == "q3_k_m" and layer < 2):
        return "q5_k"
    if name == "q3_k_m":
        return "q4_k"
    if name in ("q4_k_m", "q5_k_m") and _more_bits(layer, context.n_layers):
        return "q6_k"
    return "q5_k" if name == "q4_k_s" and layer < 4 else base


def _mixes() -> dict[Family, dict[str, Mix]]:
    def gguf(name: str, base: str, head: str = "q6_k") -> Mix:
        return Mix(name=name, family="gguf", base=base, embedding=base, head=head)

    k_quants = {
        "q6_k": "q6_k",
        "q5_k_m": "q5_k",
        "q5_k_s": "q5_k",
        "q4_k_m": "q4_k",
        "q4_k_s": "q4_k",
        "q3_k_l": "q3_k",
        "q3_k_m": "q3_k",
        "q3_k_s": "q3_k",
        "q2_k": "q2_k",
    }
    files = [gguf(name, name, name) for name in ("f32", "f16", "bf16", "q8_0")]
    files += [gguf(name, base) for name, base in k_quants.items()]
    files += [gguf(name, name) for name in ("q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")]
    # llama-quantize gives mxfp4 to expert matrices only and q8_0 to the rest; here it is taken for
    # the block matrices, and the rest is kept as there.
    files.append(Mix(name="mxfp4", family="gguf", base="mxfp4", embedding="q8_0", head="q8_0"))

    def plain(family: Family, name: str, base: str, rest: str, *, apart: bool = False) -> Mix:
        return Mix(name=name, family=family, base=base, embedding=rest, head=rest, head_apart=apart)

    executorch = [plain("executorch", name, name, name) for name in ("f32", "f16", "bf16")]
    executorch += [plain("executorch", "int8", "int8", "int8", apart=True)]
    executorch += [
        plain("executorch", f"int4_g{group}", f"int4_g{group}_f32", "int8", apart=True)
        for group in (32, 128)
    ]
    mlx = [plain("mlx", name, name, name) for name in ("f32", "f16", "bf16")]
    mlx += [
        plain(
            "mlx", f"int{bits}_g{group}", f"int{bits}_g{group}_affine", f"int{bits}_g{group}_affine"
        )
        for bits in (8, 4)
        for group in (32, 64, 128)
    ]
    servers = [plain("safetensors", name, name, name) for name in ("f32", "f16", "bf16")]
    servers += [plain("safetensors", name, name, "f16") for name in ("fp8", "int8")]
    servers += [plain("safetensors", "int4_g128", "int4_g128_zero", "f16")]
    lists: dict[Family, list[Mix]] = {
        "gguf": files,
        "executorch": executorch,
        "mlx": mlx,
        "safetensors": servers,
    }
    return {family: {mix.name: mix for mix in mixes} for family, mixes in lists.items()}


MIXES: dict[Family, dict[str, Mix]] = _mixes()
"""Every format by family and name."""

USUAL: dict[Family, dict[int, str]] = {
    "gguf": {
        32: "f32",
        16: "f16",
        8: "q8_0",
        6: "q6_k",
        5: "q5_k_m",
        4: "q4_k_m",
        3: "q3_k_m",
        2: "q2_k",
    },
    "executorch": {32: "f32", 16: "bf16", 8: "int8", 4: "int4_g32"},
    "mlx": {32: "f32", 16: "bf16", 8: "int8_g64", 4: "int4_g64"},
    "safetensors": {32: "f32", 16: "bf16", 8: "fp8", 4: "int4_g128"},
}
"""What people take at so many bits: the meaning of `--bits`."""


def mix(name: str, family: Family | None = None) -> Mix:
    """The format called `name`, of one family or of the first that has it.

    Raises:
        BadInput: no such format.
    """
    wanted = name.strip().lower()
    searched = FAMILIES if family is None else (family,)
    for where in searched:
        if wanted in MIXES[where]:
            return MIXES[where][wanted]
    names = list(dict.fromkeys(name for where in searched for name in MIXES[where]))
    known = ", ".join(names) + close_names(name, names)
    kind = "" if family is None else f"{family} "
    raise BadInput(f"format = {name!r}: not a {kind}format; known: {known}")


def usual_format(bits: float, family: Family) -> Mix:
    """The family's usual format at `bits` bits a weight.

    Raises:
        BadInput: the family has none.
    """
    names = USUAL[family]
    if bits not in names:
        raise BadInput(
            f"bits = {bits:g}: {family} files come with {', '.join(map(str, names))} "
            "bits; or name a format"
        )
    return MIXES[family][names[int(bits)]]
