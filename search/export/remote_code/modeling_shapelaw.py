"""A LLaMA decoder that stores a block once and applies it as often as its configuration says.

Each application keeps keys and values of its own, so the cache is as long as in a model without
sharing; it is the weights that are stored, and read from memory, once.
"""

from typing import Any

import torch
from torch import nn
from transformers import DynamicCache, LlamaForCausalLM, LlamaModel
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast

from .configuration_shapelaw import ShapelawConfig


class ShapelawModel(LlamaModel):
    """The decoder without its language-model head."""

    config_class = ShapelawConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        stored = max(config.applied_blocks) + 1
        self.layers = nn.ModuleList(list(self.layers)[:stored])

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **options: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states [batch, length, hidden_size], and the cache where one is used."""
        if inputs_embeds is None:
            inputs_embeds = self.embed_tokens(input_ids)
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            seen = 0 if past_key_values is None else past_key_values.get_seq_length()
            position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device)
            position_ids = (position_ids + seen).unsqueeze(0)
        masks = self._masks(inputs_embeds, attention_mask, past_key_values, position_ids)
        angles = self.rotary_emb(inputs_embeds, position_ids=position_ids)
        hidden = inputs_embeds
        stack_input = hidden
        for layer, block in enumerate(self.config.applied_blocks):
            if layer == self.config.stack_start:
                stack_input = hidden
            if layer in self.config.injected_layers:
                hidden = hidden + stack_input
            module = self.layers[block]
            # The attention writes its keys and values to the cache's row of this number.
            module.self_attn.layer_idx = layer
            mask = masks[self.config.layer_types[layer]]
            hidden = module(
                hidden,
                attention_mask=mask,
                position_embeddings=angles,
                position_ids=position_ids,
                past_key_values=past_key_values,
                use_cache=use_cache,
            )
        return BaseModelOutputWithPast(
            last_hidden_state=self.norm(hidden), past_key_values=past_key_values
        )

    def _masks(
        self,
        embedded: torch.Tensor,
        attention_mask: torch.Tensor | None,
        cache: Any,
        position_ids: torch.Tensor,
    ) -> dict[str, Any]:
        makers = {
            "full_attention": create_causal_mask,
            "sliding_attention": create_sliding_window_causal_mask,
        }
        return {
            kind: makers[kind](
                config=self.config,
                inputs_embeds=embedded,
                attention_mask=attention_mask,
                past_key_values=cache,
                position_ids=position_ids,
            )
            for kind in set(self.config.layer_types)
        }


class ShapelawForCausalLM(LlamaForCausalLM):
    """The decoder with its language-model head."""

    config_class = ShapelawConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = ShapelawModel(config)
        self.post_init()
