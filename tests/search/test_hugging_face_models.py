"""Configs written by transformers' own classes, counted by transformers' own models."""

import json
from pathlib import Path
from typing import Any

import pytest

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.hugging_face_config import hf_config
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
    kept = kept_tokens(config, context)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert model.kv_bytes(context) == 2 * config.num_key_value_heads * head_dim * kept * 2


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


def kept_tokens(config: Any, context: int) -> int:
    """Tokens of keys and values that all layers keep, by what transformers' config says."""
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        windowed = window is not None and config.model_type in ("mistral", "phi3")
        kinds = ["sliding_attention" if windowed else "full_attention"] * config.num_hidden_layers
    return sum(min(context, window or context) if "sliding" in k else context for k in kinds)


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


PUBLISHED = {
    "mobilellm-125m": 124.635e6,
    "mobilellm-350m": 345.36e6,
    "mobilellm-600m": 603.19e6,
    "mobilellm-1b": 1005.46e6,
    "mobilellm-1.5b": 1511.19e6,
    "mobilellm-ls-125m": 124.635e6,
    "mobilellm-ls-350m": 345.36e6,
    "mobilellm-pro": 1084e6,
    "smollm2-360m": 361.82e6,
    "smollm2-1.7b": 1711.38e6,
    "smollm3-3b": 3075.1e6,
    "llama-3.2-1b": 1235.81e6,
    "llama-3.2-3b": 3212.75e6,
    "qwen3-0.6b": 596.05e6,
    "qwen3-1.7b": 1720.57e6,
    "qwen3-4b": 4022.47e6,
    "gemma-3-1b": 999.886e6,
    "qwen2.5-7b": 7615.6e6,
}
"""Parameters as the models' papers and cards give them, rounded."""
COUNTED = {
    "smollm2-135m": 134_515_008,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen3-8b": 8_190_735_360,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-3.1-8b": 8_030_261_248,
    "mistral-7b": 7_241_732_096,
    "tinyllama-1.1b": 1_100_048_384,
    "qwen-1.8b": 1_836_828_672,  # of Qwen1.5-1.8B, which has the same shape
    # The file holds 619,570,176: the tied head is stored beside the embedding.
    "qwen1.5-0.5b": 619_570_176 - 151_936 * 1024,
}
"""Elements of the published weights as safetensors or GGUF files count them."""
BY_THEIR_PAPER = {"panda-1b", "panda-3b", "surefire-1b", "surefire-3b"}
"""Of which a paper gives the non-embedding parameters: tests/search/test_architectures.py."""


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_known_names_have_the_published_parameters(name: str) -> None:
    assert load_model(name).total_parameters == pytest.approx(PUBLISHED[name], rel=5e-4)


@pytest.mark.parametrize("name", sorted(COUNTED))
def test_known_names_have_the_parameters_of_their_files(name: str) -> None:
    assert load_model(name).total_parameters == COUNTED[name]


def test_every_known_name_is_checked_against_what_was_published() -> None:
    assert set(known_names()) == {*PUBLISHED, *COUNTED, *BY_THEIR_PAPER}


QWEN2 = {"model_type": "qwen2", "use_sliding_window": False, "vocab_size": 151936}
PUBLISHED_CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3-8b": {
        "model_type": "qwen3",
        "attention_bias": False,
        "head_dim": 128,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "max_window_layers": 36,
        "num_attention_heads": 32,
        "num_hidden_layers": 36,
        "num_key_value_heads": 8,
        "rope_scaling": None,
        "sliding_window": None,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "qwen2.5-0.5b": {
        **QWEN2,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "max_window_layers": 24,
        "num_attention_heads": 14,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "sliding_window": None,
        "tie_word_embeddings": True,
    },
    "qwen1.5-0.5b": {
        **QWEN2,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "max_window_layers": 21,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "num_key_value_heads": 16,
        "sliding_window": 32768,
        "tie_word_embeddings": True,
    },
    "qwen-1.8b": {  # of Qwen1.5-1.8B
        **QWEN2,
        "hidden_size": 2048,
        "intermediate_size": 5504,
        "max_window_layers": 21,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "num_key_value_heads": 16,
        "sliding_window": 32768,
        "tie_word_embeddings": False,
    },
}
"""What the config.json beside the weights says of the shape."""


@pytest.mark.parametrize("name", sorted(PUBLISHED_CONFIGS))
def test_known_names_are_the_shapes_of_their_configs(name: str) -> None:
    model, known = model_of_config(PUBLISHED_CONFIGS[name]), load_model(name)
    assert model.architecture == known.architecture
    assert model.extra_parameters == known.extra_parameters


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
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 28},
            "not evenly spaced",
        ),
        ({"model_type": "gemma3_text", "sliding_window_pattern": "six"}, "sliding_window_pattern"),
        ({"model_type": "shapelaw", "applied_blocks": [0, 1]}, "applied_blocks = [0, 1]"),
        ({"model_type": "shapelaw", "applied_blocks": [0, 1, 0] * 10}, "in this order"),
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


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("Lfm2Config", "convolutional layers"),
        ("Qwen3_5TextConfig", "linear attention"),
        ("Gemma3nTextConfig", "keys and values shared between layers"),
        ("Gemma4TextConfig", "per-layer embeddings"),
        ("MixtralConfig", "a mixture of experts"),
        ("DeepseekV3Config", "a mixture of experts"),
        ("GptOssConfig", "a mixture of experts"),
        ("Mamba2Config", "model_type = mamba2"),
    ],
)
def test_models_of_another_build_are_named(tmp_path: Path, kind: str, named: str) -> None:
    """The shapes of 2026 that this block is not (as transformers writes them)."""
    transformers = pytest.importorskip("transformers")
    if not hasattr(transformers, kind):
        pytest.skip(f"this transformers has no {kind}")
    getattr(transformers, kind)().save_pretrained(tmp_path)
    with pytest.raises(BadInput, match=named):
        load_model(tmp_path)


def test_the_config_of_a_model_of_pictures_is_its_text_part() -> None:
    text = {**SMALL, "model_type": "gemma3_text", "sliding_window": 16, "head_dim": 16}
    model = model_of_config({"model_type": "gemma3", "text_config": text})
    assert model.architecture.window == 16
    assert model.architecture.tied_embeddings


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "scaled (yarn)"),
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "scaled (linear)"),
        (
            {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}}},
            "scaled (linear)",
        ),
        ({"partial_rotary_factor": 0.75}, "turn 0.75 of each head"),
        ({"hidden_act": "gelu"}, "gelu in place of SiLU"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
    ],
)
def test_what_the_block_does_not_do_is_said(change: dict[str, Any], said: str) -> None:
    plain = model_of_config({"model_type": "llama", **SMALL})
    changed = model_of_config({"model_type": "llama", **SMALL, **change})
    assert plain.notes == ()
    assert changed.architecture == plain.architecture
    (note,) = changed.notes
    assert said in note


def test_what_a_file_leaves_out_is_said() -> None:
    model = model_of_config({"model_type": "gemma3_text", **GEMMA})
    assert any(said.startswith("head_dim is not in the file: 256") for said in model.assumed)
    assert model_of_config({"model_type": "qwen2", **SMALL}).assumed == ()


SHARED: dict[str, Any] = {"d_model": 64, "n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "d_ff": 96}
OWN: list[dict[str, Any]] = [
    {"n_blocks": 4},
    {"n_blocks": 4, "tied_embeddings": False},
    {"n_blocks": 4, "window": 32},
    {"n_blocks": 7, "window": 32, "global_every": 3},
    {"n_blocks": 7, "window": 32, "global_every": 3, "last_local": True},
    {"n_blocks": 3, "sharing": 2},
    {"n_blocks": 3, "sharing": 2, "sharing_order": "cycle"},
    {"n_blocks": 5, "sharing": 3, "n_prelude": 1, "n_coda": 2, "sharing_order": "cycle"},
    {"n_blocks": 5, "sharing": 3, "n_prelude": 2, "window": 32, "global_every": 2},
    {
        "n_blocks": 4,
        "sharing": 3,
        "n_prelude": 1,
        "n_coda": 1,
        "sharing_order": "cycle",
        "input_injection": True,
    },
]


@pytest.mark.parametrize("fields", OWN)
def test_this_project_s_own_exports_are_read_back(fields: dict[str, Any]) -> None:
    shape = Architecture(vocab_size=256, **SHARED, **fields)
    assert model_of_config(hf_config(shape, keep_sharing=True)).architecture == shape
    if shape.sharing == 1 or shape.window is None:
        stored = model_of_config(hf_config(shape)).architecture
        assert stored == shape.unshared()


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
