"""Configs as transformers writes them and as they stand in the wild."""

from pathlib import Path
from typing import Any

import pytest

from shapelaw.search.architectures import load_model
from shapelaw.search.hugging_face_models import Model

SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "tie_word_embeddings": True,
}
SMALL = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "pad_token_id": 0,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "SmolLM2-135M": ("LlamaConfig", SMOLLM2),
    "Llama-3.2-1B": (
        "LlamaConfig",
        {
            "vocab_size": 128256,
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 8192,
            "tie_word_embeddings": True,
        },
    ),
    "Qwen3-0.6B": (
        "Qwen3Config",
        {
            "vocab_size": 151936,
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
            "tie_word_embeddings": True,
        },
    ),
    "Gemma-3-1B": (
        "Gemma3TextConfig",
        {
            "vocab_size": 262144,
            "hidden_size": 1152,
            "num_hidden_layers": 26,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "intermediate_size": 6912,
            "sliding_window": 512,
        },
    ),
    "mistral": ("MistralConfig", {**SMALL, "sliding_window": 128}),
    "qwen2": ("Qwen2Config", SMALL),
    "qwen2 tied": ("Qwen2Config", {**SMALL, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2Config", {**SMALL, "head_dim": 32, "sliding_window": 128}),
    "smollm3": ("SmolLM3Config", SMALL),
    "phi3": ("Phi3Config", SMALL),
    "olmo2": ("Olmo2Config", SMALL),
    "biased llama": ("LlamaConfig", {**SMALL, "attention_bias": True, "mlp_bias": True}),
    "window off": ("Qwen2Config", {**SMALL, "sliding_window": 64, "use_sliding_window": False}),
}
GEMMA = {"vocab_size": 1000, "hidden_size": 64, "num_hidden_layers": 8, "intermediate_size": 96}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
FILES: dict[str, dict[str, Any]] = {
    "llama, embeddings not said": {"model_type": "llama", **SMALL},
    "llama, no head counts of keys": {
        "model_type": "llama",
        **{k: v for k, v in SMALL.items() if k != "num_key_value_heads"},
    },
    "llama, null heads": {
        "model_type": "llama",
        **SMALL,
        "num_key_value_heads": None,
        "head_dim": None,
    },
    "llama, wide heads": {"model_type": "llama", **SMALL, "head_dim": 40},
    "llama, scaled rotary": {
        "model_type": "llama",
        **SMALL,
        "rope_theta": 5e5,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    },
    "llama, a window that its class ignores": {
        "model_type": "llama",
        **SMALL,
        "sliding_window": 64,
    },
    "mistral, window off": {"model_type": "mistral", **SMALL, "sliding_window": None},
    "mistral, window not said": {"model_type": "mistral", **SMALL},
    "mistral, biases that its class ignores": {
        "model_type": "mistral",
        **SMALL,
        "attention_bias": True,
        "mlp_bias": True,
    },
    "mistral, keys not said": {
        "model_type": "mistral",
        **{k: v for k, v in SMALL.items() if k != "num_key_value_heads"},
        "num_attention_heads": 16,
    },
    "qwen2, as Qwen2.5 writes it": {
        "model_type": "qwen2",
        **SMALL,
        "use_sliding_window": False,
        "sliding_window": 131072,
        "max_window_layers": 4,
    },
    "qwen2, biases that its class ignores": {
        "model_type": "qwen2",
        **SMALL,
        "attention_bias": False,
        "mlp_bias": True,
    },
    "qwen2, every layer windowed": {
        "model_type": "qwen2",
        **SMALL,
        "use_sliding_window": True,
        "sliding_window": 64,
        "max_window_layers": 0,
    },
    "qwen2, no layer reaches the window": {
        "model_type": "qwen2",
        **SMALL,
        "use_sliding_window": True,
        "sliding_window": 64,
    },
    "qwen3, head size not said": {"model_type": "qwen3", **SMALL},
    "qwen3, biases": {"model_type": "qwen3", **SMALL, "attention_bias": True},
    "gemma2, nothing but sizes": {"model_type": "gemma2", **GEMMA},
    "gemma2, one layer more": {
        "model_type": "gemma2",
        **GEMMA,
        **HEADS,
        "head_dim": 16,
        "num_hidden_layers": 9,
    },
    "gemma3 text, as the 4B writes it": {"model_type": "gemma3_text", **GEMMA},
    "gemma3 text, biases and another pattern": {
        "model_type": "gemma3_text",
        **GEMMA,
        **HEADS,
        "attention_bias": True,
        "sliding_window": 32,
        "sliding_window_pattern": 3,
    },
    "gemma3 text, untied": {"model_type": "gemma3_text", **GEMMA, "tie_word_embeddings": False},
    "smollm3, keys not said": {
        "model_type": "smollm3",
        **{k: v for k, v in SMALL.items() if k != "num_key_value_heads"},
    },
    "smollm3, biases and no tie": {
        "model_type": "smollm3",
        **SMALL,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
    },
    "smollm3, window by the last of two": {
        "model_type": "smollm3",
        **SMALL,
        "use_sliding_window": True,
        "sliding_window": 64,
        "no_rope_layers": [0, 1] * 4,
    },
    "phi3, window": {"model_type": "phi3", **SMALL, "sliding_window": 2047},
    "phi3, biases that its class ignores": {
        "model_type": "phi3",
        **SMALL,
        "attention_bias": True,
    },
    "olmo2, biases": {"model_type": "olmo2", **SMALL, "attention_bias": True},
    "ministral": {
        "model_type": "ministral",
        **SMALL,
        "head_dim": 16,  # without it transformers 5.23 itself fails
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"] * 4,
    },
}
"""Files as they stand in the wild, with fields left out, null, or of no effect."""


def written(folder: Path, name: str) -> tuple[Model, Any]:
    """The config as transformers writes it, read here; and transformers' config."""
    transformers = pytest.importorskip("transformers")
    kind, fields = CONFIGS[name]
    config = getattr(transformers, kind)(**fields)
    config.save_pretrained(folder)
    return load_model(folder / "config.json"), config
