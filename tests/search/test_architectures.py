"""Published shapes, and shapes from files."""

import json
from pathlib import Path

import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.search.architectures import known_names, load_architecture


@pytest.mark.parametrize(
    ("name", "millions", "digits"),
    [
        ("mobilellm-125m", 124.635, 3),
        ("mobilellm-350m", 345.36, 2),
        ("mobilellm-600m", 603.19, 2),
        ("mobilellm-1b", 1005.46, 2),
        ("mobilellm-1.5b", 1511.19, 2),
        ("smollm2-135m", 134.515, 3),
        ("smollm2-360m", 361.821, 3),
        ("llama-3.2-1b", 1235.81, 2),
        ("llama-3.2-3b", 3212.75, 2),
        ("llama-2-7b", 6738.42, 2),
        ("llama-3.1-8b", 8030.26, 2),
        ("qwen2.5-7b", 7615.49, 2),
    ],
)
def test_parameters_are_the_published_ones(name: str, millions: float, digits: int) -> None:
    assert round(load_architecture(name).total_parameters / 1e6, digits) == millions


def test_surefire_and_panda_have_the_paper_s_size_and_group() -> None:
    """0.97e9 and 2.82e9 non-embedding parameters; GQA groups 9 and 7 (arXiv 2510.18245)."""
    for name, billions, group in (
        ("surefire-1b", 0.97, 9),
        ("panda-1b", 0.97, 4),
        ("surefire-3b", 2.82, 7),
        ("panda-3b", 2.82, 3),
    ):
        shape = load_architecture(name)
        assert shape.non_embedding_parameters / 1e9 == pytest.approx(billions, abs=0.01)
        assert shape.gqa_group == group


def test_every_known_name_is_a_model() -> None:
    for name in known_names():
        assert load_architecture(name).total_parameters > 0


def test_files_are_read_strictly(tmp_path: Path) -> None:
    shape = load_architecture("mobilellm-125m")
    plain, nested = tmp_path / "a.json", tmp_path / "b.json"
    plain.write_text(json.dumps(shape.to_dict()))
    nested.write_text(json.dumps({"architecture": shape.to_dict()}))
    assert load_architecture(plain) == shape == load_architecture(nested)
    table = tmp_path / "a.toml"
    table.write_text(
        "vocab_size = 100\nd_model = 64\nn_blocks = 2\nn_heads = 1\nn_kv_heads = 1\n"
        "head_dim = 64\nd_ff = 128\n"
    )
    assert load_architecture(table).d_ff == 128


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "[1, 2]"),
        ("a.json", "{}"),
        ("a.json", '{"d_model": 4}'),
        ("a.json", '{"__class__": "os.system"}'),
        ("a.toml", "d_model = "),
        ("a.json", "[" * 100000),
        (
            "a.json",
            '{"vocab_size": 10, "d_model": "os.getcwd()", "n_blocks": 1, "n_heads": 1, '
            '"n_kv_heads": 1, "head_dim": 2, "d_ff": 4}',
        ),
    ],
)
def test_bad_files_are_one_line(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        load_architecture(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gpt-9", "", "../../etc", "x" * 5000, "a\0b"])
def test_unknown_names_are_one_line(name: str) -> None:
    with pytest.raises(BadInput) as error:
        load_architecture(name)
    assert "\n" not in str(error.value)
