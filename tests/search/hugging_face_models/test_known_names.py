"""Known names have the parameters and the shapes that were published."""

from typing import Any

import pytest

from shapelaw.search.architectures import known_names, load_model
from shapelaw.search.hugging_face_models import model_of_config

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
