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

Config = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Model:
    """An architecture, and what a model of it stores or does that the block does not say."""

    architecture: Architecture
    extra_parameters: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """What is stored beside the block's matrices and norms -> parameters."""
    notes: tuple[str, ...] = ()
    """What the block cannot express."""

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
        }


@dataclasses.dataclass(frozen=True)
class _Type:
    """What is particular to a model type."""

    tied: bool
    """Whether embeddings are tied where the config does not say."""
    query_key_norms: Callable[[Config], int] | None = None
    """Parameters of one block's norms of queries and keys."""
    norms_after: bool = False
    """Whether attention and MLP are followed by a norm of their own, two more a block."""
    query_biases: bool = False
    """Whether queries, keys and values have biases where the config does not say."""
    windowed: bool = False
    """Whether `sliding_window` is in use unless the config says otherwise."""
    global_every: int | None = None
    """Which blocks are global where the config does not list them."""
    notes: tuple[str, ...] = ()


def _by_head(config: Config) -> int:
    return 2 * _head_dim(config)


def _by_width(config: Config) -> int:
    heads = _whole(config, "num_attention_heads")
    return _head_dim(config) * (heads + _kv_heads(config))


_POST = "norms stand after attention and MLP"
TYPES: dict[str, _Type] = {
    "llama": _Type(tied=False),
    "mistral": _Type(tied=False, windowed=True),
    "qwen2": _Type(tied=False, query_biases=True),
    "qwen3": _Type(tied=False, query_key_norms=_by_head),
    "gemma2": _Type(tied=True, norms_after=True, windowed=True, global_every=2,
                    notes=("logits and scores are capped", "GELU in place of SiLU")),
    "gemma3_text": _Type(tied=True, query_key_norms=_by_head, norms_after=True, windowed=True,
                         global_every=6, notes=("GELU in place of SiLU",)),
    "smollm3": _Type(tied=True, notes=("every fourth layer has no rotary embedding",)),
    "phi3": _Type(tied=False, windowed=True),
    "olmo2": _Type(tied=False, query_key_norms=_by_width, notes=(_POST,)),
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


def is_config(document: Any) -> bool:
    """Whether a JSON document is a Hugging Face config."""
    return isinstance(document, dict) and ("model_type" in document or "text_config" in document)


def model_of_config(config: Config) -> Model:
    """The architecture of a Hugging Face config.

    Raises:
        BadInput: a model type or a field of it that the block cannot express, or a field missing.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):  # a model of text and pictures: the text part is the decoder
        config = {"tie_word_embeddings": config.get("tie_word_embeddings"), **text}
        config = {name: value for name, value in config.items() if value is not None}
    kind = str(config.get("model_type"))
    kind = _CLASSES.get(kind, kind)
    for name, what in _NOT_EXPRESSED.items():
        if config.get(name):
            raise BadInput(f"{name} = {shown(config[name], 30)}: {what} cannot be expressed")
    if kind not in TYPES:
        raise BadInput(f"model_type = {shown(kind, 40)}: one of {', '.join(TYPES)} is read")
    particular = TYPES[kind]
    blocks = _whole(config, "num_hidden_layers")
    window, every, last_local = _pattern(config, particular, blocks)
    tied = config.get("tie_word_embeddings")
    architecture = Architecture(
        vocab_size=_whole(config, "vocab_size"),
        d_model=_whole(config, "hidden_size"),
        n_blocks=blocks,
        n_heads=_whole(config, "num_attention_heads"),
        n_kv_heads=_kv_heads(config),
        head_dim=_head_dim(config),
        d_ff=_whole(config, "intermediate_size"),
        tied_embeddings=particular.tied if tied is None else bool(tied),
        window=window,
        global_every=every,
        last_local=last_local,
    )
    extra = {name: value for name, value in _extras(config, particular, blocks).items() if value}
    notes = [*particular.notes]
    if config.get("rope_parameters", config.get("rope_scaling")) not in (None, {}):
        scaled = config.get("rope_parameters") or config.get("rope_scaling")
        kinds = scaled.get("rope_type", scaled.get("type")) if isinstance(scaled, dict) else None
        if kinds not in (None, "default"):
            notes.append(f"rotary embeddings are scaled ({shown(kinds, 30)})")
    return Model(architecture, extra, tuple(notes))


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
    if config.get("attention_bias", particular.query_biases):
        biases += queries + 2 * keys
        if "attention_bias" in config:
            biases += width  # of the output matrix too
    if config.get("mlp_bias"):
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
    every = config.get("sliding_window_pattern", particular.global_every)
    size = _whole(config, "sliding_window")
    if every is None:
        return size, None, False
    return size, int(every), blocks % int(every) != 0


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
    raise BadInput("layer_types: global layers are not evenly spaced: this cannot be expressed")
