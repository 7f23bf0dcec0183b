"""GGUF export: the file's facts, and agreement with llama.cpp where it is installed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.gguf_file import gguf_file_bytes, vocabulary_bytes
from shapelaw.scaling.formats.mixes import mix
from shapelaw.scaling.formats.stored_tensors import stored_tensors
from shapelaw.search.export.exchange_weights import RandomWeights, tensor_shapes
from shapelaw.search.export.gguf import (
    FILE_FORMATS,
    export_gguf,
    neighbouring_pairs,
    write_gguf,
)
from shapelaw.search.export.vocabulary import (
    byte_characters,
    byte_vocabulary,
    bytes_in_file,
    read_vocabulary,
)

gguf = pytest.importorskip("gguf")

SHARED = Architecture(
    vocab_size=256,
    d_model=64,
    n_blocks=2,
    sharing=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=16,
    d_ff=160,
)
UNTIED = Architecture(
    vocab_size=300,
    d_model=96,
    n_blocks=2,
    n_heads=3,
    n_kv_heads=1,
    head_dim=32,
    d_ff=128,
    tied_embeddings=False,
)
ODD = Architecture(
    vocab_size=256, d_model=48, n_blocks=1, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=64
)


def save_random(path: Path, architecture: Architecture, seed: int = 3) -> Path:
    """Weights whose logits are not all alike, in the exchange form."""
    from safetensors.numpy import save_file

    source = RandomWeights(seed)
    save_file(
        {name: source.tensor(name, shape) for name, shape in tensor_shapes(architecture).items()},
        path,
    )
    return path


def turned(vector: np.ndarray, angles: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    """RoPE written from its definition: each pair is a point in the plane, turned by its angle."""
    out = vector.copy()
    for (first, second), angle in zip(pairs, angles, strict=True):
        cos, sin = math.cos(angle), math.sin(angle)
        out[first] = vector[first] * cos - vector[second] * sin
        out[second] = vector[first] * sin + vector[second] * cos
    return out


def test_turning_neighbours_after_the_new_layout_is_turning_halves_before_it() -> None:
    rng = np.random.default_rng(0)
    heads, size, width = 3, 8, 5
    query, key = rng.normal(size=(2, heads * size, width))
    x = rng.normal(size=width)
    halves = [(e, e + size // 2) for e in range(size // 2)]
    neighbours = [(2 * e, 2 * e + 1) for e in range(size // 2)]
    angles = rng.uniform(0, 6, size // 2)

    def score(query: np.ndarray, key: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
        q, k = (query @ x).reshape(heads, size), (key @ x).reshape(heads, size)
        return np.array(
            [turned(q[h], 3 * angles, pairs) @ turned(k[h], angles, pairs) for h in range(heads)]
        )

    again = score(neighbouring_pairs(query, heads), neighbouring_pairs(key, heads), neighbours)
    np.testing.assert_allclose(again, score(query, key, halves), rtol=1e-12)


@pytest.mark.parametrize("name", FILE_FORMATS)
@pytest.mark.parametrize("architecture", [SHARED, UNTIED, ODD], ids=["shared", "untied", "odd"])
def test_the_file_weighs_and_holds_what_was_predicted(
    tmp_path: Path, name: str, architecture: Architecture
) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, architecture, weight_format=name)
    predicted = gguf_file_bytes(mix(name, "gguf"), architecture)
    assert path.stat().st_size == pytest.approx(predicted, rel=5e-4)
    found = [(t.name, t.tensor_type.name.lower()) for t in gguf.GGUFReader(path).tensors]
    promised = [tensor.type.name for tensor in stored_tensors(mix(name, "gguf"), architecture)]
    assert [kind for _, kind in found] == promised
    assert dict(found)["output_norm.weight"] == "f32"


def test_a_vocabulary_without_a_tokenizer_weighs_what_one_usually_does() -> None:
    for size in (256, 300, 4096, 32_000, 128_256):
        assert bytes_in_file(byte_vocabulary(size)) == vocabulary_bytes(size)
        assert len(set(byte_vocabulary(size).tokens)) == size


@pytest.mark.parametrize("architecture", [SHARED, UNTIED], ids=["shared", "untied"])
def test_the_file_holds_every_applied_block(tmp_path: Path, architecture: Architecture) -> None:
    path = tmp_path / "m.gguf"
    notes = write_gguf(path, architecture, weight_format="q8_0")
    tensors = gguf.GGUFReader(path).tensors
    matrices = [t for t in tensors if len(t.shape) == 2]
    a = architecture
    expected = a.depth * (a.attention_parameters + a.mlp_parameters) + a.embedding_parameters
    assert sum(int(t.n_elements) for t in matrices) == expected
    gains = sum(int(t.n_elements) for t in tensors if len(t.shape) == 1)
    assert gains == (2 * a.depth + 1) * a.d_model
    assert any("written 2 times" in remark for remark in notes) == (a.sharing > 1)


def test_random_weights_have_the_variance_of_their_fan_in(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write_gguf(path, SHARED, weight_format="q8_0")
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    for name, fan_in in (
        ("blk.0.ffn_down.weight", SHARED.d_ff),
        ("blk.3.attn_q.weight", SHARED.d_model),
    ):
        values = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        assert values.std() == pytest.approx(fan_in**-0.5, rel=0.05)


def test_rows_that_do_not_fill_a_block_keep_sixteen_bits(tmp_path: Path) -> None:
    notes = write_gguf(tmp_path / "m.gguf", ODD, weight_format="q4_0")
    kinds = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert kinds["blk.0.ffn_down.weight"] == "Q4_0"
    assert kinds["blk.0.ffn_up.weight"] == "F16"
    assert "keep f16" in notes[-1]


def test_a_window_bounds_the_context_the_file_states(tmp_path: Path) -> None:
    local = Architecture(
        vocab_size=256,
        d_model=64,
        n_blocks=1,
        n_heads=2,
        n_kv_heads=1,
        head_dim=32,
        d_ff=64,
        window=128,
    )
    notes = write_gguf(tmp_path / "m.gguf", local)
    field = gguf.GGUFReader(tmp_path / "m.gguf").get_field("llama.context_length")
    assert field.contents() == 128
    assert "window" in notes[0]


def test_the_byte_alphabet_is_that_of_byte_level_tokenizers() -> None:
    from tokenizers import pre_tokenizers

    assert sorted(byte_characters()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert byte_vocabulary(300).tokens[ord("a")] == "a"
    assert len(byte_vocabulary(300).tokens) == len(byte_vocabulary(300).types) == 300


def trained_tokenizer(path: Path) -> Path:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|endoftext|>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["def shape(law): return law.shape\n" * 50], trainer)
    tokenizer.save(str(path))
    return path


def test_a_trained_tokenizer_is_carried_over_with_its_merges(tmp_path: Path) -> None:
    file = trained_tokenizer(tmp_path / "tokenizer.json")
    vocabulary = read_vocabulary(file, 320)
    assert vocabulary.tokens[vocabulary.end] == "<|endoftext|>"
    assert len(vocabulary.tokens) == 320
    assert len(vocabulary.merges) > 10
    with pytest.raises(BadInput, match="vocab_size"):
        read_vocabulary(file, 100)


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    file = tmp_path / "tokenizer.json"
    Tokenizer(models.WordLevel({"a": 0}, unk_token="a")).save(str(file))
    with pytest.raises(BadInput, match="tokenizer"):
        read_vocabulary(file, 10)
    file.write_text("[]")
    with pytest.raises(BadInput, match="tokenizer"):
        read_vocabulary(file, 10)


def test_nothing_is_left_where_export_cannot_finish(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    with pytest.raises(BadInput, match="format"):
        export_gguf(SHARED, target, weight_formats=("q3",))
    assert list(tmp_path.iterdir()) == []
    target.write_text("mine")
    with pytest.raises(BadInput, match="it exists"):
        export_gguf(SHARED, target)
    assert target.read_text() == "mine"


# --- llama.cpp -----------------------------------------------------------------------------------


def llama_server(path: Path) -> Any:
    """llama.cpp with keys and values kept in full precision."""
    llama = pytest.importorskip("xllamacpp")
    parameters = llama.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = 128, 1, False
    parameters.verbosity = 0
    parameters.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_type_k = parameters.cache_type_v = llama.ggml_type.GGML_TYPE_F32
    return llama.Server(parameters)


def llama_probabilities(
    path: Path, prompt: list[int], steps: int
) -> list[tuple[int, dict[int, float]]]:
    """(token chosen, log-probabilities of the likeliest of all) for each of `steps` tokens.

    Single bytes of longer characters are not chosen: the server shows nothing for half a character.
    """
    never = [[byte, False] for byte in range(128, 256)]
    server = llama_server(path)
    found = []
    for _ in range(steps):
        answer = server.handle_completions(
            {
                "prompt": prompt,
                "max_tokens": 1,
                "temperature": 0,
                "n_probs": 8,
                "ignore_eos": True,
                "logit_bias": never,
            }
        )
        row = answer["choices"][0]["logprobs"]["content"][0]
        found.append((row["id"], {top["id"]: top["logprob"] for top in row["top_logprobs"]}))
        prompt = [*prompt, row["id"]]
    return found


@pytest.mark.parametrize("architecture", [SHARED, UNTIED], ids=["shared", "untied"])
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("f32", 1e-4), ("f16", 5e-3), ("q8_0", 0.2), ("q4_k_m", 0.6)]
)
def test_llama_cpp_computes_what_transformers_computes(
    tmp_path: Path, architecture: Any, precision: Any, tolerance: Any
) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    pytest.importorskip("xllamacpp")
    from shapelaw.search.export.hugging_face import export_hf

    weights = save_random(tmp_path / "w.safetensors", architecture)
    export_hf(architecture, tmp_path / "hf", weights)
    export_gguf(architecture, tmp_path / "m.gguf", weights=weights, weight_formats=(precision,))
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    prompt = [104, 105, 32, 99, 7, 250]
    for token, likeliest in llama_probabilities(tmp_path / "m.gguf", prompt, 4):
        with torch.no_grad():
            logits = model(torch.tensor([prompt])).logits[0, -1]
        expected = torch.log_softmax(logits, -1)
        # Tokens closer than the precision may change places.
        top = max(likeliest, key=lambda other: likeliest[other])
        assert float(expected.max() - expected[top]) <= 2 * tolerance
        for other, logprob in likeliest.items():
            assert logprob == pytest.approx(float(expected[other]), abs=tolerance)
        prompt = [*prompt, token]


def test_llama_cpp_splits_text_as_the_tokenizer_does(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    from tokenizers import Tokenizer

    file = trained_tokenizer(tmp_path / "tokenizer.json")
    architecture = Architecture(
        vocab_size=320, d_model=64, n_blocks=1, n_heads=2, n_kv_heads=1, head_dim=32, d_ff=64
    )
    write_gguf(tmp_path / "m.gguf", architecture, tokenizer=file)
    text = "def shape(law):\n    return law.shape"
    answer = llama_server(tmp_path / "m.gguf").handle_completions(
        {"prompt": text, "max_tokens": 1, "temperature": 0}
    )
    expected = len(Tokenizer.from_file(str(file)).encode(text).ids)
    assert answer["usage"]["prompt_tokens"] == expected
