"""Trained weights in a safetensors file, named and laid out as Hugging Face's LLaMA keeps them.

There matrices are (out, in) and query, key, value, gate and up are apart; RoPE pairs (e, e + E/2)
there as here, so that no row needs moving. A shared block is stored once, under its own number.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.sweeps.training.trunk import weights_file


def llama_tensors(
    architecture: Architecture, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The model's parameter tree as a flat mapping of Hugging Face's names to arrays."""
    a = architecture
    query, key_value = a.query_width, a.key_width
    tensors = {
        "model.embed_tokens.weight": parameters["embedding_VxD"],
        "model.norm.weight": parameters["norm_D"],
    }
    if not a.tied_embeddings:
        tensors["lm_head.weight"] = np.asarray(parameters["head_DxV"]).T
    for number in range(a.n_blocks):
        block = {name: np.asarray(value) for name, value in parameters["blocks"][number].items()}
        q, k, v = np.split(block["query_key_value"], [query, query + key_value], axis=1)
        gate, up = np.split(block["gate_up"], 2, axis=1)
        prefix = f"model.layers.{number}."
        tensors |= {
            prefix + "input_layernorm.weight": block["attention_norm_D"],
            prefix + "self_attn.q_proj.weight": q.T,
            prefix + "self_attn.k_proj.weight": k.T,
            prefix + "self_attn.v_proj.weight": v.T,
            prefix + "self_attn.o_proj.weight": block["attention_out"].T,
            prefix + "post_attention_layernorm.weight": block["mlp_norm_D"],
            prefix + "mlp.gate_proj.weight": gate.T,
            prefix + "mlp.up_proj.weight": up.T,
            prefix + "mlp.down_proj.weight": block["down"].T,
        }
    return {
        name: np.ascontiguousarray(np.asarray(value, np.float32)) for name, value in tensors.items()
    }


def save_weights(
    folder: Path, run_key: str, architecture: Architecture, parameters: Mapping[str, Any]
) -> Path:
    """Write `<folder>/<run_key>.safetensors`, whole or not at all; returns its path."""
    from safetensors.numpy import save

    path = weights_file(folder, run_key)
    content = save(llama_tensors(architecture, parameters), metadata={"format": "pt"})
    return write_atomically(path, content)
