"""Architectures from a Hugging Face `config.json`: what the block can express, and what it cannot.

Each model type names where its fields stand and what it stores or does beside the block of
`scaling.architecture`: norms of queries and keys, norms after attention and MLP, biases. Those are
counted as extra parameters and named; they cost no time worth modelling.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown
from shapelaw.search.applied_blocks import (
    applied_blocks_of,
    by_stored_block,
    check_order,
    topology_of,
)

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Model:
    """An architecture, and what a model of it stores or does that the block does not say."""

    architecture: Architecture
    extra_parameters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What is stored beside the block's matrices and norms -> parameters."""
    notes: tuple[str, ...] = ()
    """What the block cannot express."""
    assumed: tuple[str, ...] = ()
    """Fields that the file leaves out and its model type fills in."""

    @property
    def total_parameters(self) -> int:
        """Every stored parameter, extras included."""
        return int(self.architecture.total_parameters) + sum(self.extra_parameters.values())

    def kv_bytes(self, context: int, bits: float = 16) -> float:
        """Keys and values of one sequence of `context` tokens, by the layers' own windows."""
        shape = self.architecture
        local = shape.depth - shape.n_global_layers
        kept = shape.n_global_layers * context + local * min(shape.window or context, context)
        return float(2 * shape.n_kv_heads * shape.head_dim * kept * bits / 8)

    def described(self, context: float) -> dict[str, Any]:
        """What `explain --json` says of it beside the costs."""
        shape = self.architecture
        return {
            "parameters": {
                "total": self.total_parameters,
                "non_embedding": int(shape.non_embedding_parameters)
                + sum(self.extra_parameters.values()),
                "embedding": int(shape.embedding_parameters),
                "extra": dict(self.extra_parameters),
            },
            "kv_bytes": self.kv_bytes(round(context)),
            "not_expressed": list(self.notes),
            "assumed": list(self.assumed),
        }


@dataclasses.dataclass(frozen=True)
class _Type:
    """What is particular to a model type."""

    tied: bool
    """Whether embeddings are tied where the config does not say."""
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Field -> what transformers' class of the type takes where a file leaves it out, of the fields
    that files in the wild do leave out."""
    query_key_norms: Callable[[Config], int] | None = None
    """Parameters of one block's norms of queries and keys."""
    norms_after: bool = False
    """Whether attention and MLP are followed by a norm of their own, two more a block."""
    query_biases: bool = False
    """Whether queries, keys and values always have biases."""
    attention_biases: bool = True
    """Whether `attention_bias` is heeded: biases of queries, keys, values and output."""
    mlp_biases: bool = False
    """Whether `mlp_bias` is heeded."""
    windowed: bool = False
    """Whether `sliding_window` is in use unless the config says otherwise."""
    global_every: int | None = None
    """Which blocks are global where the config does not list them."""
    is_local: Callable[[Config, int], bool] | None = None
    """Instead, whether a block has the window where it is in use."""
    activation: str = "silu"
    """Where the config does not say."""
    notes: tuple[str, ...] = ()


def _by_head(config: Config) -> int:
    return 2 * _head_dim(config)


def _by_width(config: Config) -> int:
    heads = _whole(config, "num_attention_heads")
    return _head_dim(config) * (heads + _kv_heads(config))


def _after_the_first(config: Config, block: int) -> bool:
    """Qwen: the first `max_window_layers` blocks are global."""
    first = config.get("max_window_layers", 28)
    if isinstance(first, bool) or not isinstance(first, int):
        raise BadInput(f"max_window_layers = {shown(first, 30)}: a whole number is needed")
    return block >= first


def _without_rotation(config: Config, block: int) -> bool:
    """SmolLM3: the window belongs to blocks without rotary embedding, every fourth unless said."""
    rotated = config.get("no_rope_layers")
    if isinstance(rotated, list) and block < len(rotated):
        return not rotated[block]
    if config.get("no_rope_layer_interval") is None:
        return (block + 1) % 4 == 0
    return (block + 1) % _whole(config, "no_rope_layer_interval") == 0


_GELU = "gelu_pytorch_tanh"
_GEMMA = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
          "sliding_window": 4096}  # fmt: skip
TYPES: dict[str, _Type] = {
    "llama": _Type(tied=False, mlp_biases=True),
    "mistral": _Type(tied=False, attention_biases=False, windowed=True,
                     left_out={"num_key_value_heads": 8, "sliding_window": 4096}),
    "ministral": _Type(tied=False, attention_biases=False, windowed=True,
                       left_out={"num_key_value_heads": 8, "sliding_window": 4096}),
    "qwen2": _Type(tied=False, query_biases=True, attention_biases=False,
                   is_local=_after_the_first, left_out={"sliding_window": 4096}),
    "qwen3": _Type(tied=False, query_key_norms=_by_head, is_local=_after_the_first,
                   left_out={"head_dim": 128, "sliding_window": 4096}),
    "gemma2": _Type(tied=True, norms_after=True, windowed=True, global_every=2, activation=_GELU,
                    left_out={**_GEMMA, "vocab_size": 256_000},
                    notes=("logits and scores are capped",)),
    "gemma3_text": _Type(tied=True, query_key_norms=_by_head, norms_after=True, windowed=True,
                         global_every=6, activation=_GELU,
                         left_out={**_GEMMA, "vocab_size": 262_208}),
    "smollm3": _Type(tied=True, mlp_biases=True, is_local=_without_rotation,
                     left_out={"num_key_value_heads": 4},
                     notes=("every fourth layer has no rotary embedding",)),
    "phi3": _Type(tied=False, attention_biases=False, windowed=True),
    "olmo2": _Type(tied=False, query_key_norms=_by_width,
                   notes=("norms stand after attention and MLP",)),
    "shapelaw": _Type(tied=True),
}  # fmt: skip
"""`model_type` -> what is particular to it."""

_CLASSES = {"gemma3": "gemma3_text"}
_NOT_EXPRESSED = {
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
    "n_routed_experts": "a mixture of experts",
    "kv_lora_rank": "latent attention",
    "num_kv_shared_layers": "keys and values shared between layers",
    "hidden_size_per_layer_input": "per-layer embeddings",
    "conv_L_cache": "convolutional layers",
    "linear_num_key_heads": "linear attention",
    "mamba_d_state": "state-space layers",
}
"""Fields of configs whose models are of another build."""


_MOST_LISTED = 100_000
"""Blocks; a file that says more is refused by the architecture."""


def is_config(document: Any) -> bool:
    """Whether a JSON document is a Hugging Face config."""
    return isinstance(document, dict) and ("model_type" in document or "text_config" in document)


def model_of_config(config: Config) -> Model:
    """The architecture of a Hugging Face config.

    Raises:
        BadInput: a model type or a field of it that the block cannot express, or a field missing.
    """
    notes = []
    text = config.get("text_config")
    if isinstance(text, Mapping):  # a model of text and pictures: the text part is the decoder
        if config.get("vision_config") or config.get("audio_config"):
            notes.append("what reads pictures or sound is left out")
        tied = config.get("tie_word_embeddings")
        config = text if tied is None else {"tie_word_embeddings": tied, **text}
    kind = str(config.get("model_type"))
    kind = _CLASSES.get(kind, kind)
    for name, what in _NOT_EXPRESSED.items():
        if config.get(name):
            raise BadInput(f"{name} = {shown(config[name], 30)}: {what} cannot be expressed")
    if kind not in TYPES:
        raise BadInput(f"model_type = {shown(kind, 40)}: one of {', '.join(TYPES)} is read")
    particular = TYPES[kind]
    config, assumed = _filled(config, particular)
    applied = applied_blocks_of(config) if kind == "shapelaw" else None
    topology: dict[str, Any]
    if applied is None:
        topology = {"n_blocks": _whole(config, "num_hidden_layers")}
    else:
        topology = topology_of(applied, bool(config.get("injected_layers")))
        if isinstance(kinds := config.get("layer_types"), list):
            config = {**config, "layer_types": by_stored_block(kinds, applied)}
    blocks = topology["n_blocks"]
    window, every, last_local = _pattern(config, particular, blocks)
    tied = config.get("tie_word_embeddings")
    architecture = Architecture(
        vocab_size=_whole(config, "vocab_size"),
        d_model=_whole(config, "hidden_size"),
        n_heads=_whole(config, "num_attention_heads"),
        n_kv_heads=_kv_heads(config),
        head_dim=_head_dim(config),
        d_ff=_whole(config, "intermediate_size"),
        tied_embeddings=particular.tied if tied is None else bool(tied),
        window=window,
        global_every=every,
        last_local=last_local,
        **topology,
    )
    if applied is not None:
        check_order(architecture, applied)
    extra = {name: value for name, value in _extras(config, particular, blocks).items() if value}
    notes += [*particular.notes, *_not_of_the_block(config, particular)]
    return Model(architecture, extra, tuple(notes), assumed)


def _filled(config: Config, particular: _Type) -> tuple[Config, tuple[str, ...]]:
    """The config with what its type takes for the fields it leaves out, and those that matter."""
    left_out = {name: value for name, value in particular.left_out.items() if name not in config}
    in_use = particular.windowed or bool(config.get("use_sliding_window"))
    said = [
        f"{name} is not in the file: {value}, as models of its type have it"
        for name, value in left_out.items()
        if name != "sliding_window" or (in_use and not config.get("layer_types"))
    ]
    return {**left_out, **config}, tuple(said)


def _not_of_the_block(config: Config, particular: _Type) -> list[str]:
    """What the model does that the block does not, and the config says."""
    said = []
    activation = config.get("hidden_activation") or config.get("hidden_act")
    activation = str(activation or particular.activation)
    if activation not in ("silu", "swish"):
        said.append(f"{shown(activation, 30)} in place of SiLU")
    rotary = config.get("rope_parameters") or config.get("rope_scaling")
    rotary = rotary if isinstance(rotary, Mapping) else {}
    parts = [rotary, *(part for part in rotary.values() if isinstance(part, Mapping))]
    kinds = dict.fromkeys(str(part.get("rope_type", part.get("type"))) for part in parts)
    said += [
        f"rotary embeddings are scaled ({shown(kind, 30)})"
        for kind in kinds
        if kind not in ("None", "default")
    ]
    share = config.get("partial_rotary_factor", rotary.get("partial_rotary_factor"))
    if share not in (None, 1):
        said.append(f"rotary embeddings turn {shown(share, 10)} of each head")
    if isinstance(stored := config.get("quantization_config"), Mapping):
        how = shown(stored.get("quant_method", "quantised"), 30)
        said.append(f"the file's weights are stored otherwise ({how})")
    return said


def _whole(config: Config, name: str) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        said = "missing" if name not in config else f"= {shown(value, 30)}"
        raise BadInput(f"{name} {said}: a positive whole number is needed")
    return value


def _kv_heads(config: Config) -> int:
    if config.get("num_key_value_heads") is None:
        return _whole(config, "num_attention_heads")
    return _whole(config, "num_key_value_heads")


def _head_dim(config: Config) -> int:
    if config.get("head_dim") is not None:
        return _whole(config, "head_dim")
    return _whole(config, "hidden_size") // _whole(config, "num_attention_heads")


def _extras(config: Config, particular: _Type, blocks: int) -> dict[str, int]:
    """Parameters beside the block's: norms and biases."""
    width, head_dim = _whole(config, "hidden_size"), _head_dim(config)
    queries = _whole(config, "num_attention_heads") * head_dim
    keys = _kv_heads(config) * head_dim
    biases = 0
    if particular.query_biases:
        biases += queries + 2 * keys
    elif particular.attention_biases and config.get("attention_bias"):
        biases += queries + 2 * keys + width
    if particular.mlp_biases and config.get("mlp_bias"):
        biases += 2 * _whole(config, "intermediate_size") + width
    norms = particular.query_key_norms
    return {
        "norms of queries and keys": blocks * norms(config) if norms is not None else 0,
        "norms after attention and MLP": 2 * blocks * width if particular.norms_after else 0,
        "biases": blocks * biases,
    }


def _pattern(config: Config, particular: _Type, blocks: int) -> tuple[int | None, int | None, bool]:
    """Window, global_every and last_local.

    Raises:
        BadInput: layers of another kind, or an order of local and global layers that is no pattern.
    """
    window = config.get("sliding_window")
    kinds = config.get("layer_types")
    if isinstance(kinds, list) and kinds:
        known = {"full_attention", "sliding_attention"}
        if other := sorted({str(kind) for kind in kinds} - known):
            raise BadInput(f"layer_types: {shown(other[0], 40)} cannot be expressed")
        if len(kinds) != blocks:
            raise BadInput(f"layer_types: {len(kinds)} kinds for {blocks} layers")
        return _listed(window, [kind == "full_attention" for kind in kinds])
    on = config.get("use_sliding_window", particular.windowed)
    if window is None or not on:
        return None, None, False
    size = _whole(config, "sliding_window")
    if (is_local := particular.is_local) is not None and blocks <= _MOST_LISTED:
        return _listed(size, [not is_local(config, block) for block in range(blocks)])
    if config.get("sliding_window_pattern") is not None:
        every = _whole(config, "sliding_window_pattern")
    elif particular.global_every is not None:
        every = particular.global_every
    else:
        return size, None, False
    return size, every, blocks % every != 0


def _listed(window: Any, is_global: list[bool]) -> tuple[int | None, int | None, bool]:
    """The pattern of a list of layers."""
    if all(is_global):
        return None, None, False
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise BadInput(f"sliding_window = {shown(window, 30)}: a positive whole number is needed")
    if not any(is_global):
        return window, None, False
    blocks, every = len(is_global), is_global.index(True) + 1
    for last_local in (True, False):
        made = [
            (block + 1) % every == 0 or (block == blocks - 1 and not last_local)
            for block in range(blocks)
        ]
        if made == is_global:
            return window, every, last_local and blocks % every != 0
    raise BadInput(
        "layer_types: layers without a window are not evenly spaced: this cannot be expressed"
    )
