"""llama-bench files: read in every form, fitted, and refused in one line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.calibration import calibrate as calibration
from shapelaw.search.devices.calibration import constants_fit
from shapelaw.search.devices.calibration.constants_fit import fit_observations, template
from shapelaw.search.devices.calibration.least_squares import Observation, predict
from shapelaw.search.devices.calibration.llama_bench import read_llama_bench
from shapelaw.search.devices.calibration.timing_shapes import shape
from shapelaw.search.devices.constants import Constants
from shapelaw.search.workload import Workload
from tests.search.devices.calibration.known_machine import TRUE

pytestmark = pytest.mark.usefixtures("known_cache")

CASES = Path(__file__).parents[3] / "cases" / "borders"


TEST = {
    "model_type": "llama 7B Q4_0",
    "model_filename": "llama-2-7b.Q4_0.gguf",
    "model_size": 3825065984,
    "model_n_params": 6738415616,
    "n_threads": 8,
    "n_gpu_layers": 99,
    "type_k": "f16",
    "type_v": "f16",
    "n_depth": 0,
}


def bench_rows(architecture: Architecture, bits: float, c: Constants) -> list[dict[str, Any]]:
    """What llama-bench writes, for the known machine."""
    rows = []
    for prompt, generated in ((512, 0), (0, 128)):
        work = Workload(name="b", prompt=max(prompt, 1), generated=max(generated, 1))
        phase: Any = "prefill" if prompt else "decode"
        seconds = float(predict([Observation(architecture, work, phase, bits, 1.0)], c)[0])
        total = 1e9 * seconds * (generated or 1)
        rows.append(
            {
                "build_commit": "abc",
                "model_filename": "m.gguf",
                "model_type": "llama ?B Q8_0",
                "model_size": int(architecture.total_parameters * (bits + 0.5) / 8),
                "model_n_params": architecture.total_parameters,
                "n_prompt": prompt,
                "n_gen": generated,
                "n_depth": 0,
                "avg_ns": total * 1.02,
                "samples_ns": [total * 1.03, total],
                "avg_ts": 1.0,
            }
        )
    return rows


def llama_2_rows() -> list[dict[str, Any]]:
    """A prompt and a generation, offloaded and not; the second three times slower."""
    return [
        {**TEST, "n_gpu_layers": layers, "n_prompt": p, "n_gen": g, "avg_ns": 1e9 * slow}
        for layers, slow in ((99, 1.0), (0, 3.0))
        for p, g in ((512, 0), (0, 128))
    ]


def test_a_phone_is_calibrated_from_its_llama_bench(tmp_path: Path) -> None:
    names = ("mobilellm-125m", "mobilellm-350m", "smollm2-135m", "llama-3.2-1b")
    rows = [row for name in names for row in bench_rows(load_architecture(name), 8.0, TRUE)]
    own = shape(7, 448, 7, 1024)
    (tmp_path / "own.json").write_text(json.dumps(own.to_dict()))
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(rows + bench_rows(own, 8.0, TRUE)))
    profile, report = calibration.calibrate("my-phone", llama_bench=path)
    assert profile.kind == "phone"
    assert profile.si("memory.bandwidth") == pytest.approx(TRUE.bandwidth, rel=0.25)
    assert report["errors"]["decode"]["timings"] == 5
    assert report["errors"]["decode"]["in_sample_mean"] < 0.05
    assert report["not_determined"]


@pytest.mark.parametrize(
    ("told", "overlaps"),
    [
        ({"backends": "CPU", "n_gpu_layers": 99}, False),
        ({"backends": "BLAS,CPU"}, False),
        ({}, False),
        ({"backends": "CUDA", "n_gpu_layers": 99}, True),
        ({"backends": "MTL,BLAS", "n_gpu_layers": -1}, True),
        ({"backends": "Metal,BLAS", "n_gpu_layers": 0}, False),
        ({"backends": "OpenCL"}, True),
        ({"metal": True, "cuda": False, "n_gpu_layers": 99}, True),
        ({"metal": "0", "cuda": "1", "n_gpu_layers": "99"}, True),
    ],
)
def test_unpacking_adds_to_reading_on_processors_alone(
    told: dict[str, Any], overlaps: bool, tmp_path: Path
) -> None:
    """A graphics processor has other threads to run while some wait for memory."""
    names = ("mobilellm-125m", "smollm2-135m", "llama-3.2-1b")
    rows = [row | told for n in names for row in bench_rows(load_architecture(n), 8.0, TRUE)]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(rows))
    profile, _ = calibration.calibrate("theirs", llama_bench=path)
    assert profile.engine_traits().overlaps is overlaps


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '[{"n_gen": 3}]',
        "[1]",
        '[{"model_n_params": 12345, "model_size": 100, "n_prompt": 0, "n_gen": 8, "avg_ns": 5.0}]',
        '[{"model_n_params": 124635456, "model_size": 9, "n_prompt": 0, "n_gen": 8, "avg_ns": -5}]',
        '[{"model_n_params": 124635456, "model_size": 0, "n_prompt": 0, "n_gen": 8, "avg_ns": 5}]',
    ],
)
def test_bad_llama_bench_files_are_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        read_llama_bench(path)
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput):
        read_llama_bench(tmp_path / "missing.json")


def test_a_file_with_generation_only_is_enough(tmp_path: Path) -> None:
    names = ("mobilellm-125m", "mobilellm-350m", "smollm2-360m")
    rows = [bench_rows(load_architecture(n), 8.0, TRUE)[1] for n in names]
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(rows))
    observations = read_llama_bench(path)
    fit = fit_observations(observations, template("llama.cpp", {}, observations))
    errors = predict(observations, fit.constants) / [o.seconds for o in observations] - 1
    assert np.max(np.abs(errors)) < 0.1


def test_every_form_of_llama_bench_reads_alike(tmp_path: Path) -> None:
    """JSON within log lines, JSONL, CSV and SQL: the same observations, of the fastest setting."""
    rows = llama_2_rows()
    names = ", ".join(rows[0])
    texts = {
        "noise.json": "ggml_cuda_init: found 1\n  Device 0\n" + json.dumps(rows) + "\ndone\n",
        "rows.jsonl": "\n".join(json.dumps(row) for row in rows),
        "rows.csv": "\n".join(
            ",".join(f'"{cell}"' for cell in line)
            for line in (tuple(rows[0]), *(tuple(row.values()) for row in rows))
        ),
        "rows.sql": "\n".join(
            f"INSERT INTO test ({names}) VALUES ({', '.join(repr(str(v)) for v in row.values())});"
            for row in rows
        ),
    }
    found = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found.append(read_llama_bench(tmp_path / name))
    assert [o.seconds for o in found[0]] == [1.0, 1 / 128]
    assert all(each == found[0] for each in found[1:])


def test_a_filled_context_is_attended_and_formats_of_keys_are_read(tmp_path: Path) -> None:
    rows = [
        {**TEST, "n_prompt": p, "n_gen": g, "n_depth": 16384, "type_k": "q8_0", "avg_ns": 1e9}
        for p, g in ((512, 0), (0, 128))
    ]
    (tmp_path / "depth.json").write_text(json.dumps(rows))
    prefill, decode = read_llama_bench(tmp_path / "depth.json")
    assert prefill.workload.prefill_tokens == pytest.approx(512)
    assert prefill.workload.prefix_tokens == pytest.approx(16384)
    assert decode.workload.decode_context == pytest.approx(16384 + 65)
    assert prefill.kv_bits == decode.kv_bits == 16.0  # the wider of keys and values


def test_two_timings_determine_two_figures(tmp_path: Path) -> None:
    (tmp_path / "two.json").write_text(json.dumps(llama_2_rows()[:2]))
    profile, report = calibration.calibrate("toy", llama_bench=tmp_path / "two.json")
    known = [row for row in report["fitted"] if row["uncertainty"] != "not determined"]
    assert 1 <= len(known) <= 2
    assert not any(row["uncertainty"] == "×÷ 1.00" for row in known)
    assert "NaN" not in json.dumps(report)
    assert profile.overhead.per_layer.status == "not determined"


@pytest.mark.parametrize("case", ["bench-zero.json", "bench-not-finite.json"])
def test_impossible_times_are_refused(case: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_llama_bench(CASES / case)
    assert case in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_a_phones_cache_is_not_sought_around_this_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same file gives the same figures on a laptop and on a server."""
    (tmp_path / "two.json").write_text(json.dumps(llama_2_rows()[:2]))
    found = []
    for here in (1e6, 1e9):
        monkeypatch.setattr(constants_fit, "last_level_cache", lambda here=here: (here, True))
        _, report = calibration.calibrate("toy", llama_bench=tmp_path / "two.json")
        found.append({row["name"]: row["value"] for row in report["fitted"]})
    assert found[0] == found[1]
    assert 1 <= found[0]["cache capacity"] <= 500  # MB: a phone's, a laptop's, a server's
