"""A LLaMA-like configuration whose layers may apply the same stored block more than once."""

from typing import Any

from transformers import PretrainedConfig


class ShapelawConfig(PretrainedConfig):
    """`num_hidden_layers` counts applied layers; `applied_blocks` names the stored block of each.

    The other fields are LLaMA's. It is no subclass of LLaMA's configuration because that one
    refuses a hidden size that heads do not divide, though the head size is given.
    """

    model_type = "shapelaw"
    keys_to_ignore_at_inference = ("past_key_values",)

    def __init__(
        self,
        vocab_size: int = 32_000,
        hidden_size: int = 576,
        intermediate_size: int = 1536,
        num_hidden_layers: int = 30,
        num_attention_heads: int = 9,
        num_key_value_heads: int = 3,
        head_dim: int = 64,
        applied_blocks: list[int] | None = None,
        stack_start: int = 0,
        injected_layers: list[int] | None = None,
        sliding_window: int | None = None,
        layer_types: list[str] | None = None,
        **fields: Any,
    ) -> None:
        """Without `applied_blocks`, each layer is a block of its own, as in LLaMA.

        What enters layer `stack_start` is added to what enters each of `injected_layers`.
        """
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.applied_blocks = applied_blocks or list(range(num_hidden_layers))
        self.stack_start = stack_start
        self.injected_layers = injected_layers or []
        self.sliding_window = sliding_window
        self.layer_types = layer_types or ["full_attention"] * num_hidden_layers
        model = {
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
            "attention_bias": False,
            "mlp_bias": False,
            "attention_dropout": 0.0,
            "initializer_range": 0.02,
            "use_cache": True,
            "pretraining_tp": 1,
        }
        for name, value in model.items():
            setattr(self, name, fields.pop(name, value))
        common = {
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
        }
        super().__init__(**{**common, **fields})
