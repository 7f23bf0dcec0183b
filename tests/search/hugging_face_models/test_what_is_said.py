"""What a config says that the block cannot express is refused by name, or said in a note."""

import json
from pathlib import Path
from typing import Any

import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.search.architectures import load_architecture, load_model
from shapelaw.search.hugging_face_models import model_of_config
from tests.search.hugging_face_models.configs import GEMMA, SMALL, SMOLLM2


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
