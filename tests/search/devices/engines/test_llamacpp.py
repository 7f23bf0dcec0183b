"""The llama.cpp engine times shapes of random weights, and says in one line what it cannot."""

from pathlib import Path
from typing import Any

import pytest

from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.search.devices.calibration.timing_shapes import shape
from shapelaw.search.devices.engines import llamacpp
from shapelaw.search.devices.engines.worker_process import run_worker


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "available", lambda: False)
    with pytest.raises(BadInput, match="llamacpp"):
        llamacpp.measure(shape(1, 64, 1, 64), weight_bits=8)


def test_a_gguf_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")

    def full(path: Path, *_: Any, **__: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shapelaw.search.export.gguf.write_gguf", full)
    with pytest.raises(NoAnswer, match="No space left") as error:
        llamacpp.prepare(shape(1, 64, 1, 64), weight_bits=8, folder=tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_time_is_refused() -> None:
    for options in ({"prompt_tokens": 0}, {"decode_tokens": 1}, {"repeats": 0}):
        with pytest.raises(BadInput):
            llamacpp.measure(shape(1, 64, 1, 64), **options)


@pytest.mark.long
def test_llama_cpp_times_a_shape() -> None:
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    for bits in (16.0, 8.0, 4.0):
        found = llamacpp.measure(
            shape(2, 128, 1, 256, vocabulary=1024),
            weight_bits=bits,
            prompt_tokens=16,
            decode_tokens=8,
            repeats=2,
        )
        assert 0 < found.decode_s < 1
        assert 0 < found.prefill_s < 5


@pytest.mark.long
def test_a_broken_model_file_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but not really")
    job = {
        "model": str(tmp_path / "broken.gguf"),
        "prompt": 8,
        "decode": 4,
        "repeats": 1,
        "threads": 1,
    }
    with pytest.raises(NoAnswer) as error:
        run_worker("llama.cpp", llamacpp.WORKER, job)
    assert "\n" not in str(error.value)


@pytest.mark.long
def test_llama_cpp_takes_a_prompt_beyond_an_exported_files_context() -> None:
    """Files written for timing state no limit that a context of 8192 would exceed."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    found = llamacpp.measure(
        shape(1, 64, 1, 64, vocabulary=1024),
        weight_bits=8,
        prompt_tokens=4200,
        decode_tokens=2,
        repeats=1,
    )
    assert found.decode_s > 0
