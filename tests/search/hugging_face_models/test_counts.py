"""Parameters and caches of read configs are those of transformers' own models."""

import json
from pathlib import Path
from typing import Any

import pytest

from shapelaw.search.architectures import load_model
from tests.search.hugging_face_models.configs import CONFIGS, FILES, written


def kept_tokens(config: Any, context: int) -> int:
    """Tokens of keys and values that all layers keep, by what transformers' config says."""
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        windowed = window is not None and config.model_type in ("mistral", "phi3")
        kinds = ["sliding_attention" if windowed else "full_attention"] * config.num_hidden_layers
    return sum(min(context, window or context) if "sliding" in k else context for k in kinds)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_parameters_and_cache_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model, config = written(tmp_path, name)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    assert model.total_parameters == sum(p.numel() for p in built.parameters())
    context = 3000
    kept = kept_tokens(config, context)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert model.kv_bytes(context) == 2 * config.num_key_value_heads * head_dim * kept * 2


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_is_read_as_transformers_reads_it(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    (tmp_path / "config.json").write_text(json.dumps(FILES[name]))
    model = load_model(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    config.pad_token_id = 0
    with torch.device("meta"):
        built = transformers.AutoModelForCausalLM.from_config(config)
    assert model.total_parameters == sum(p.numel() for p in built.parameters())
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kept = kept_tokens(config, 3000)
    assert model.kv_bytes(3000) == 2 * config.num_key_value_heads * head_dim * kept * 2


def test_the_block_of_a_read_config_keeps_its_layers(tmp_path: Path) -> None:
    """Gemma 3 1B has four global layers, not five: the last one is local."""
    model, _ = written(tmp_path, "Gemma-3-1B")
    shape = model.architecture
    assert [b + 1 for b in range(26) if shape.is_global(b)] == [6, 12, 18, 24]
    assert shape.n_global_layers == 4
    assert model.extra_parameters == {
        "norms of queries and keys": 26 * 2 * 256,
        "norms after attention and MLP": 2 * 26 * 1152,
    }
