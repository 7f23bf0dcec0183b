"""Corpora: split, cache, tokenizers, token files, datasets, and what is said about bad ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.corpus.sources import (
    CorpusSpec,
    corpus_identity,
    standard_library_files,
    vocabulary_size,
)
from shapelaw.sweeps.corpus.token_corpus import load_corpus


@pytest.fixture
def text(tmp_path: Path) -> str:
    """200 documents of 2 kB each."""
    draw = np.random.default_rng(0)
    for number in range(200):
        words = " ".join(f"word{i}é" for i in draw.integers(0, 99, 250))
        (tmp_path / f"{number}.txt").write_text(words)
    return str(tmp_path / "*.txt")


def test_documents_are_on_one_side_only(text: str, tmp_path: Path) -> None:
    corpus = load_corpus(CorpusSpec(text=(text,)), tmp_path / "cache")
    sides = [bytes(side.astype("u1")).split(b"\0")[:-1] for side in (corpus.train, corpus.held_out)]
    assert set(sides[0]).isdisjoint(sides[1])
    assert sum(map(len, sides)) == 200
    assert len(sides[1]) >= 2
    assert corpus.record.bytes_per_token == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("name", "content"),
    [("meta.json", b"{"), ("meta.json", b"\xff\0"), ("train.bin", b"ab"), ("held_out.bin", b"")],
)
def test_spoilt_tokens_in_the_cache_are_made_again(
    text: str, tmp_path: Path, name: str, content: bytes
) -> None:
    spec = CorpusSpec(text=(text,))
    first = load_corpus(spec, tmp_path / "cache")
    before = np.array(first.train)
    (folder,) = (tmp_path / "cache" / "corpora").iterdir()
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    again = load_corpus(spec, tmp_path / "cache")
    assert again.record == first.record
    np.testing.assert_array_equal(again.train, before)


def test_a_vocabulary_of_thousands_of_digits_is_no_size(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="tokenizer = "):
        load_corpus(CorpusSpec(text=(text,), tokenizer="bpe-" + "9" * 5000), tmp_path)


def test_the_second_load_is_the_first(text: str, tmp_path: Path) -> None:
    spec = CorpusSpec(text=(text,), tokenizer="bpe-300")
    first = load_corpus(spec, tmp_path / "one")
    again, elsewhere = load_corpus(spec, tmp_path / "one"), load_corpus(spec, tmp_path / "two")
    assert first.record == again.record == elsewhere.record
    np.testing.assert_array_equal(first.train, elsewhere.train)
    assert first.record.bytes_per_token is not None
    assert first.record.bytes_per_token > 1.2
    assert vocabulary_size(spec) == 300
    assert first.largest_token < 300
    assert not list((tmp_path / "one" / "corpora").glob(".building*"))
    own = CorpusSpec(text=(text,), tokenizer=str(first.tokenizer_file))
    assert vocabulary_size(own) == 300
    np.testing.assert_array_equal(load_corpus(own, tmp_path / "one").train, first.train)


def test_identity_follows_the_text(text: str, tmp_path: Path) -> None:
    before = corpus_identity(CorpusSpec(text=(text,)))
    assert before != corpus_identity(CorpusSpec(text=(text,), tokenizer="bpe-300"))
    (tmp_path / "0.txt").write_text("changed")
    corpus_identity.cache_clear()
    assert before != corpus_identity(CorpusSpec(text=(text,)))


def test_validation_windows_are_fixed_and_spread(text: str, tmp_path: Path) -> None:
    corpus = load_corpus(CorpusSpec(text=(text,), validation_tokens=2048), tmp_path / "cache")
    windows = corpus.validation_windows(64)
    assert windows.shape == (32, 65)
    np.testing.assert_array_equal(windows[0], corpus.held_out[:65])
    np.testing.assert_array_equal(windows[-1], corpus.held_out[-65:])


def test_token_files_are_mapped_not_copied(tmp_path: Path) -> None:
    tokens = np.random.default_rng(0).integers(0, 500, 100_000).astype("<u2")
    tokens.tofile(tmp_path / "t.bin")
    corpus = load_corpus(CorpusSpec(tokens=str(tmp_path / "t.bin")), tmp_path / "cache")
    np.testing.assert_array_equal(np.concatenate([corpus.train, corpus.held_out]), tokens)
    assert isinstance(corpus.train, np.memmap)
    assert corpus.record.bytes_per_token is None
    assert corpus.epochs(190_000, 100) == pytest.approx(2, abs=0.01)
    with pytest.raises(BadInput, match="vocab_size = 256"):
        corpus.check_vocabulary(256)


def test_a_dataset_is_streamed(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    rows = [json.dumps({"text": f"document {number} " * 100}) for number in range(300)]
    (tmp_path / "d.jsonl").write_text("\n".join(rows))
    spec = CorpusSpec(dataset=f"json:{tmp_path / 'd.jsonl'}", dataset_bytes=200_000)
    corpus = load_corpus(spec, tmp_path / "cache")
    assert 190_000 < len(corpus.train) + len(corpus.held_out) < 220_000


def test_the_standard_library_is_text_without_installed_packages() -> None:
    names = [name for name, _ in standard_library_files()]
    assert "argparse.py" in names
    assert names == sorted(names)
    assert not any("site-packages" in name for name in names)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": ("/nowhere/*.txt",)}, "no file matches"),
        ({"corpus": "books"}, "the named corpus is 'python'"),
        ({"corpus": "python", "text": ("a",)}, "already given by corpus"),
        ({"tokens": "/nowhere.bin"}, "no such file"),
        ({"tokenizer": "bpe-100"}, "257 is the least"),
        ({"tokenizer": "/nowhere.json"}, "tokenizer.json"),
        ({"tokenizer": "~no-such-user/tokenizer.json"}, "tokenizer.json"),
        ({"tokens": "~no-such-user/tokens.bin"}, "no such file"),
    ],
)
def test_bad_specs_are_one_clear_line(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        load_corpus(CorpusSpec(**fields), tmp_path)
    assert "\n" not in str(caught.value)


def test_too_little_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello\n" * 10)
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(BadInput, match="too little text"):
        load_corpus(CorpusSpec(text=(str(tmp_path / "a.txt"),)), tmp_path)
    with pytest.raises(BadInput, match="no text in it"):
        load_corpus(CorpusSpec(text=(str(tmp_path / "b.txt"),)), tmp_path)
    with pytest.raises(BadInput, match=r"not a Hugging Face tokenizer.json"):
        vocabulary_size(CorpusSpec(tokenizer=str(tmp_path / "bad.json")))
