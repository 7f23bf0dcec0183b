"""This project's own exports, folders, answers and GGUF files."""

import json
from pathlib import Path
from typing import Any

import pytest

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.hugging_face_config import hf_config
from shapelaw.search.architectures import load_architecture, load_model
from shapelaw.search.hugging_face_models import model_of_config
from tests.search.hugging_face_models.configs import written

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
    case = Path(__file__).parents[2] / "cases" / "inputs" / "hf-config.json"
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
