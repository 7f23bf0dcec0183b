"""An architecture as the fields of a Hugging Face config.json.

The block is LLaMA's, so a stock class of `transformers` computes it wherever one can express the
shape; what none can (blocks kept shared) has a model type of its own.
"""

from typing import Any

from shapelaw.scaling.architecture import Architecture

CONTEXT_LENGTH = 4096
"""Written as `max_position_embeddings`; RoPE itself sets no limit."""

ROPE_BASE = 10_000.0
"""Of LLaMA and MobileLLM, and of this project's decoder."""

NORM_EPSILON = 1e-5
"""Of LLaMA, and of this project's decoder."""


def hf_config(
    architecture: Architecture, *, keep_sharing: bool = False, context_length: int = CONTEXT_LENGTH
) -> dict[str, Any]:
    """The fields of config.json."""
    a = architecture
    blocks = a.applied_blocks()
    name = _class_name(a, keep_sharing)
    fields: dict[str, Any] = {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": name.lower(),
        "vocab_size": a.vocab_size,
        "hidden_size": a.d_model,
        "intermediate_size": a.d_ff,
        "num_hidden_layers": a.depth,
        "num_attention_heads": a.n_heads,
        "num_key_value_heads": a.n_kv_heads,
        "head_dim": a.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": context_length,
        "rms_norm_eps": NORM_EPSILON,
        # The first is read by transformers 4, the second by 5.
        "rope_theta": ROPE_BASE,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_BASE},
        "tie_word_embeddings": a.tied_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "initializer_range": 0.02,
        "use_cache": True,
        "dtype": "float32",
    }
    if name == "Mistral":
        fields["sliding_window"] = a.window
    if a.window is not None and name in ("Ministral", "Shapelaw"):
        fields["sliding_window"] = a.window
        fields["layer_types"] = [
            "full_attention" if a.is_global(block) else "sliding_attention" for block in blocks
        ]
    if keep_sharing:
        fields["applied_blocks"] = blocks
        if a.input_injection:
            fields["stack_start"] = a.n_prelude
            fields["injected_layers"] = a.injected_layers()
        fields["auto_map"] = {
            "AutoConfig": "configuration_shapelaw.ShapelawConfig",
            "AutoModel": "modeling_shapelaw.ShapelawModel",
            "AutoModelForCausalLM": "modeling_shapelaw.ShapelawForCausalLM",
        }
    return fields


def _class_name(a: Architecture, keep_sharing: bool) -> str:
    """The stock class that computes this block: they differ in what they let one configure."""
    if keep_sharing:
        return "Shapelaw"
    if a.window is not None:
        return "Mistral" if a.global_every is None else "Ministral"
    # LLaMA's configuration refuses a hidden size that heads do not divide, though the head size
    # is given; Mistral's is the same model without that check.
    return "Llama" if a.d_model % a.n_heads == 0 else "Mistral"
