"""Configs written by transformers' own classes, counted by transformers' own models."""

import json
from pathlib import Path
from typing import Any

import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.search.architectures import known_names, load_architecture, load_model
from shapelaw.search.hugging_face_models import Model, model_of_config

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


def written(folder: Path, name: str) -> tuple[Model, Any]:
    """The config as transformers writes it, read here; and transformers' config."""
    transformers = pytest.importorskip("transformers")
    kind, fields = CONFIGS[name]
    config = getattr(transformers, kind)(**fields)
    config.save_pretrained(folder)
    return load_model(folder / "config.json"), config


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_parameters_and_cache_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    model, config = written(tmp_path, name)
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    assert model.total_parameters == sum(p.numel() for p in built.parameters())
    context = 3000
    kinds = getattr(config, "layer_types", None)
    window: int | None = getattr(config, "sliding_window", None)
    if kinds is None:
        everywhere = "full_attention" if window is None else "sliding_attention"
        kinds = [everywhere] * config.num_hidden_layers
    kept = sum(min(context, window or context) if "sliding" in k else context for k in kinds)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert model.kv_bytes(context) == 2 * config.num_key_value_heads * head_dim * kept * 2


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


PUBLISHED = {
    "mobilellm-125m": 124.635e6,
    "mobilellm-350m": 345.36e6,
    "mobilellm-600m": 603.19e6,
    "mobilellm-1b": 1005.46e6,
    "mobilellm-1.5b": 1511.19e6,
    "mobilellm-pro": 1084e6,
    "smollm2-135m": 134.515e6,
    "smollm2-360m": 361.82e6,
    "smollm2-1.7b": 1711.38e6,
    "smollm3-3b": 3075.1e6,
    "llama-3.2-1b": 1235.81e6,
    "llama-3.2-3b": 3212.75e6,
    "llama-3.1-8b": 8030.26e6,
    "qwen3-0.6b": 596.05e6,
    "qwen3-1.7b": 1720.57e6,
    "qwen3-4b": 4022.47e6,
    "gemma-3-1b": 999.886e6,
    "qwen2.5-0.5b": 494.03e6,
    "qwen2.5-1.5b": 1543.71e6,
    "mistral-7b": 7241.73e6,
    "llama-2-7b": 6738.42e6,
}
"""Parameters as the models' papers and weight files give them."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_known_names_have_the_published_parameters(name: str) -> None:
    assert load_model(name).total_parameters == pytest.approx(PUBLISHED[name], rel=5e-4)


def test_every_known_name_loads() -> None:
    for name in known_names():
        assert load_model(name).total_parameters > 1e8


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mamba"}, "model_type = mamba"),
        ({"num_local_experts": 8}, "a mixture of experts"),
        ({"num_hidden_layers": "30"}, "num_hidden_layers = 30"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_key_value_heads": 7}, "n_kv_heads = 7"),
        ({"layer_types": ["full_attention"] * 29}, "29 kinds for 30 layers"),
        ({"layer_types": ["linear_attention"] * 30}, "linear_attention"),
        (
            {
                "sliding_window": 64,
                "layer_types": ["full_attention"] * 7 + ["sliding_attention"] * 23,
            },
            "not evenly spaced",
        ),
        ({"num_hidden_layers": 10**9}, "n_blocks = 1000000000"),
    ],
)
def test_what_cannot_be_expressed_is_named(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "llama", **SMOLLM2} | change))
    with pytest.raises(BadInput) as caught:
        load_architecture(path)
    assert named in str(caught.value)
    assert "config.json" in str(caught.value)


def test_the_config_of_a_model_of_pictures_is_its_text_part() -> None:
    text = {**SMALL, "model_type": "gemma3_text", "sliding_window": 16, "head_dim": 16}
    model = model_of_config({"model_type": "gemma3", "text_config": text})
    assert model.architecture.window == 16
    assert model.architecture.tied_embeddings


def test_a_folder_an_answer_and_an_explanation(tmp_path: Path) -> None:
    model, _ = written(tmp_path, "SmolLM2-135M")
    assert load_model(tmp_path) == model
    shape = model.architecture
    assert shape == load_architecture("smollm2-135m")
    for document in (
        {"device": "m2", "best": {"architecture": shape.to_dict(), "loss": 2.5}},
        {"architecture": shape.to_dict(), "decode_s": 0.01},
        shape.to_dict(),
    ):
        path = tmp_path / "some.json"
        path.write_text(json.dumps(document))
        assert load_architecture(path) == shape


def test_a_case_in_the_wild() -> None:
    case = Path(__file__).parents[1] / "cases" / "inputs" / "hf-config.json"
    assert load_architecture(case) == load_architecture("smollm2-135m")


def test_gguf_metadata(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(576)
    writer.add_block_count(30)
    writer.add_feed_forward_length(1536)
    writer.add_head_count(9)
    writer.add_head_count_kv(3)
    writer.add_key_length(64)
    writer.add_vocab_size(49152)
    writer.add_token_list([f"t{i}" for i in range(300)])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert load_architecture(path) == load_architecture("smollm2-135m")
    content = path.read_bytes()
    for cut in (3, 10, 30, 200, len(content) - 5):
        path.write_bytes(content[:cut])
        with pytest.raises(BadInput):
            load_architecture(path)
    (tmp_path / "huge.gguf").write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 16)
    with pytest.raises(BadInput, match="too many"):
        load_architecture(tmp_path / "huge.gguf")
