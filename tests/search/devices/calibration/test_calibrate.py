"""Calibration finds a device's constants, says what it cannot know, and fails in one line."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.devices_measured import JAX_UNSEEN_SMALL
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.calibration import calibrate as calibration
from shapelaw.search.devices.calibration import constants_fit, timing
from shapelaw.search.devices.calibration.constants_fit import fit_observations, template
from shapelaw.search.devices.calibration.least_squares import Observation, field, predict, solve
from shapelaw.search.devices.calibration.llama_bench import read_llama_bench
from shapelaw.search.devices.calibration.timing_shapes import (
    Case,
    jax_cases,
    llama_cpp_cases,
    shape,
)
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.device_tables import calibration_tables
from shapelaw.search.devices.engines import best, executorch, llamacpp, mlx, settled
from shapelaw.search.devices.engines.worker_process import run_worker
from shapelaw.search.workload import Workload

NOWHERE = Path("/no/such/script")
TRUE = dataclasses.replace(
    constants(load_device("iphone-13")),
    bandwidth=2e10,
    kv_bandwidth=2e10,
    cache_capacity=(2e7,),
    cache_bandwidth=(6e10,),
    per_token=2e-4,
    per_layer=4e-5,
    per_layer_feature=1e-8,
    peak=((16.0, 1.3e11),),
    efficiency=1.0,
    half_width=40.0,
    half_tokens=3.0,
    attention_efficiency=0.2,
    per_prompt=1e-3,
    per_prompt_layer=2e-4,
    weights=((4.0, 4.5, 2e-11, 1.2), (8.0, 8.5, 1e-12, 1.0), (16.0, 16.0, 1e-12, 0.8)),
)
"""A machine whose constants are known."""


class Pretend:
    """An engine whose speed follows the known constants, with a little noise."""

    peak_bytes = None
    file_bytes = None

    def __init__(self, case: Case, noise: float, generator: np.random.Generator) -> None:
        self.case, self.noise, self.generator = case, noise, generator

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        work = Workload(name="w", prompt=prompt_tokens, generated=decode_tokens)
        a, bits = self.case.architecture, self.case.weight_bits
        rows = [
            Observation(a, work, "prefill", bits, 1.0),
            Observation(a, work, "decode", bits, 1.0),
        ]
        prefill, decode = predict(rows, TRUE)
        slower = 1 + self.noise * self.generator.exponential(size=2)
        return float(prefill * slower[0]), float(decode * slower[1])

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def known_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fit looks for the cache around this machine's own: here, around the made-up one."""
    near = 1.5 * TRUE.cache_capacity[0]
    monkeypatch.setattr(constants_fit, "last_level_cache", lambda: (near, True))


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    monkeypatch.setattr(
        timing, "_prepare", lambda engine, case, folder: Pretend(case, 0.02, generator)
    )


def test_a_fit_recovers_known_constants() -> None:
    """Without noise the bandwidth, overheads and unpacking come back, from another start."""
    work = Workload(name="w", prompt=128, generated=24)
    rows = [
        Observation(c.architecture, work, "decode", c.weight_bits, 1.0) for c in llama_cpp_cases()
    ]
    rows = [
        dataclasses.replace(o, seconds=float(s))
        for o, s in zip(rows, predict(rows, TRUE), strict=True)
    ]
    free = [field("per_layer", 1e-7, 1e-2, 1e-4), field("per_token", 1e-7, 1e-1, 1e-3)]
    solution = solve(rows, dataclasses.replace(TRUE, per_layer=1e-3, per_token=1e-2), free)
    assert solution.values["per_layer"] == pytest.approx(4e-5, rel=1e-3)
    assert solution.values["per_token"] == pytest.approx(2e-4, rel=1e-2)
    assert solution.not_determined == []


def test_what_timings_do_not_say_is_said() -> None:
    """One depth cannot tell time per token from time per layer."""
    work = Workload(name="w", prompt=128, generated=24)
    rows = [
        Observation(shape(12, 512, 2, d_ff), work, "decode", 8.0, 1.0)
        for d_ff in (512, 1024, 1536, 2048)
    ]
    rows = [
        dataclasses.replace(o, seconds=float(s))
        for o, s in zip(rows, predict(rows, TRUE) * [1.01, 0.99, 1.01, 0.99], strict=True)
    ]
    free = [field("per_layer", 1e-7, 1e-2, 1e-5), field("per_token", 1e-7, 1e-1, 1e-4)]
    solution = solve(rows, TRUE, free, prior=0.01)
    # The token's time stays open, and the layers' is known only as far as the token's is bounded.
    assert solution.not_determined == ["per_token"]
    assert solution.log_standard_error["per_layer"] > 0.2


def test_calibration_predicts_shapes_it_did_not_see(pretend: None) -> None:
    measured = calibration.take("llama.cpp", llama_cpp_cases(), rounds=3)
    fit = calibration.fit_measured(measured)
    unseen = [
        Case(shape(b, w, kv, d_ff), bits)
        for b, w, kv, d_ff, bits in (
            (30, 576, 3, 1536, 8.0),
            (60, 256, 2, 768, 8.0),
            (4, 1280, 5, 3584, 8.0),
            (10, 896, 14, 2432, 4.0),
            (5, 384, 6, 1024, 16.0),
        )
    ]
    timed = timing.time_cases("llama.cpp", unseen, prompts=(128,), decode_tokens=24, rounds=3)
    assert np.mean(np.abs(calibration.errors_on(fit, timed, 16.0, "decode"))) < 0.05
    assert np.mean(np.abs(calibration.errors_on(fit, timed, 16.0, "prefill"))) < 0.07


def test_the_report_tells_errors_and_repeatability(pretend: None) -> None:
    profile, report = calibration.calibrate("this-machine", "llama.cpp", quick=True)
    assert profile.name == "this-machine"
    assert profile.memory.bandwidth.status == "fitted"
    assert {"fitted", "errors", "not_determined", "timings", "seconds"} <= set(report)
    decode = report["errors"]["decode"]
    assert decode["timings"] == 7
    assert 0 < decode["repeatability"] < 0.2
    assert decode["in_sample_mean"] < 0.1
    assert calibration_tables({**report, "profile": "somewhere"})


def test_shared_blocks_and_contexts_tell_what_the_cache_keeps_and_how_fast_attention_is() -> None:
    true = dataclasses.replace(
        TRUE,
        cache_retained=(0.5,),
        decode_attention_efficiency=0.1,
        peak=((32.0, 1.3e11),),
        weights=((32.0, 32.0, 0.0, 1.0),),
    )
    rows = [
        Observation(
            case.architecture,
            Workload(name="w", prompt=prompt, generated=24),
            "decode",
            32.0,
            1.0,
            32.0,
            32.0,
        )
        for case in jax_cases(32.0)
        for prompt in (128, 384)
    ]
    rows = [
        dataclasses.replace(o, seconds=float(s))
        for o, s in zip(rows, predict(rows, true), strict=True)
    ]
    start = dataclasses.replace(
        true, cache_retained=(1.0,), decode_attention_efficiency=1.0, per_layer=1e-5
    )
    fit = fit_observations(rows, start)
    assert fit.values["cache retained"] == pytest.approx(0.5, rel=0.1)
    assert fit.values["decode_attention_efficiency"] == pytest.approx(0.1, rel=0.1)
    assert fit.values["per_layer"] == pytest.approx(4e-5, rel=0.1)
    assert not any("unpack" in name for name in fit.values)  # float32 is not packed


def test_calibrations_stay_small() -> None:
    assert len(llama_cpp_cases()) <= 20
    assert any(case.architecture.sharing > 1 for case in jax_cases(32))
    unseen = {(256, 704), (576, 1536)}  # the benchmark's block sizes stay unseen
    assert not {(c.architecture.d_model, c.architecture.d_ff) for c in jax_cases(32)} & unseen
    small = {(width, d_ff) for _, width, _, _, d_ff, _ in JAX_UNSEEN_SMALL}
    assert not {(c.architecture.d_model, c.architecture.d_ff) for c in jax_cases(32)} & small


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("This Machine", "jax"),
        ("../evil", "jax"),
        ("", "jax"),
        ("this-machine", "tensorrt"),
    ],
)
def test_a_bad_request_is_one_line(name: str, engine: Any) -> None:
    with pytest.raises(BadInput) as error:
        calibration.calibrate(name, engine)
    assert "\n" not in str(error.value)


# --- engines that fail ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("import sys; sys.exit('model is broken')", "model is broken"),
        ("print('no json here')", "without an answer"),
        ("pass", "without an answer"),
    ],
)
def test_an_engine_that_crashes_is_one_line(program: str, said: str) -> None:
    with pytest.raises(NoAnswer, match=said) as error:
        run_worker("pretend", NOWHERE, {}, command=[sys.executable, "-c", program])
    assert "\n" not in str(error.value)


def test_an_engine_that_hangs_is_given_up() -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(30)"]
    with pytest.raises(NoAnswer, match="did not answer"):
        run_worker("pretend", NOWHERE, {}, patience=0.2, command=sleeper)


def test_an_engine_that_is_not_there_is_one_line() -> None:
    with pytest.raises(NoAnswer, match="did not start"):
        run_worker("pretend", NOWHERE, {}, command=["/no/such/engine"])


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp, "available", lambda: False)
    with pytest.raises(BadInput, match="llamacpp"):
        llamacpp.measure(shape(1, 64, 1, 64), weight_bits=8)
    monkeypatch.setattr(executorch, "available", lambda: False)
    with pytest.raises(BadInput, match="extra `executorch`"):
        executorch.prepare(shape(1, 64, 1, 64))
    monkeypatch.setattr(mlx, "available", lambda: False)
    with pytest.raises(BadInput, match="extra `mlx`"):
        mlx.prepare(shape(1, 64, 1, 64))


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


def test_of_many_rounds_the_luckiest_tenth_is_set_aside() -> None:
    assert settled([2.0]) == 2.0
    assert settled([5.0, 1.0, 4.0, 3.0, 2.0]) == 1.0
    assert settled([10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 1.0, 4.0, 3.0, 2.0]) == 2.0
    lucky = best([1.0] * 12, [0.5, *[1.0] * 11])
    assert (lucky.decode_s, lucky.spread) == (1.0, 0.0)


def test_a_round_comes_back_to_small_shapes_and_visits_every_other_once() -> None:
    cases = jax_cases(32.0)
    order = timing.visiting_order(cases)
    small = {
        index
        for index, case in enumerate(cases)
        if case.architecture.applied_parameters < timing.SMALL_PARAMETERS
    }
    assert 0 < len(small) < len(cases)
    for index in range(len(cases)):
        assert order.count(index) == (timing.SMALL_VISITS if index in small else 1)
    first = min(small)
    visits = [place for place, index in enumerate(order) if index == first]
    assert min(np.diff(visits)) > len(small), "larger shapes lie between two visits"


def test_turns_are_merged_round_by_round(pretend: None) -> None:
    first, second = (
        timing.time_cases(
            "llama.cpp", llama_cpp_cases(quick=True), prompts=(128,), decode_tokens=8, rounds=rounds
        )
        for rounds in (2, 3)
    )
    whole = timing.merged([first[1], second[1]])
    assert whole.decode == first[1].decode + second[1].decode
    assert whole.seconds("decode") == min(whole.decode)


def test_the_best_run_is_kept_and_the_spread_told() -> None:
    found = best([3.0, 2.0, 2.5], [1.1, 1.0, 1.3])
    assert (found.prefill_s, found.decode_s) == (2.0, 1.0)
    assert found.spread == pytest.approx(0.1)
    assert found.prefill_spread == pytest.approx(0.25)


# --- llama-bench ---------------------------------------------------------------------------------


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


# --- the real engines ----------------------------------------------------------------------------


@pytest.mark.parametrize("window", [None, pytest.param(8, marks=pytest.mark.long)])
def test_jax_times_a_shape(window: int | None) -> None:
    from shapelaw.search.devices.engines import jax

    small = Architecture(
        vocab_size=512,
        d_model=64,
        n_blocks=2,
        sharing=2,
        n_heads=2,
        n_kv_heads=1,
        head_dim=32,
        d_ff=128,
        window=window,
        global_every=None if window is None else 2,
    )
    found = jax.measure(small, prompt_tokens=16, decode_tokens=4, repeats=2)
    assert 0 < found.decode_s < 1
    assert 0 < found.prefill_s < 2
    assert found.spread >= 0
    with pytest.raises(NoAnswer, match="bit"):
        jax.measure(small, weight_bits=3)


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


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (4, 1)])
def test_a_decoded_token_equals_the_same_token_prefilled(heads: int, kv_heads: int) -> None:
    """The jax engine's two programs are one model, whatever the groups."""
    from shapelaw.search.devices.engines import jax as engine

    a = Architecture(
        vocab_size=64,
        d_model=32,
        n_blocks=1,
        n_heads=heads,
        n_kv_heads=kv_heads,
        head_dim=8,
        d_ff=48,
    )
    runner = engine.prepare(a)
    jnp = runner._jnp
    prefill, decode, embed, _ = engine._programs(a)
    tokens = jnp.asarray([3, 14, 15, 9, 26])
    block, (whole, most) = runner._blocks[0], [runner._caches(5)[0], runner._caches(5)[0]]
    expected = prefill(block, embed(runner._embedding, tokens), *whole, jnp.int32(0))[0][-1:]
    _, key, value = prefill(block, embed(runner._embedding, tokens[:4]), *most, jnp.int32(0))
    found = decode(block, embed(runner._embedding, tokens[4:]), key, value, jnp.int32(4))[0]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


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


def llama_2_rows() -> list[dict[str, Any]]:
    """A prompt and a generation, offloaded and not; the second three times slower."""
    return [
        {**TEST, "n_gpu_layers": layers, "n_prompt": p, "n_gen": g, "avg_ns": 1e9 * slow}
        for layers, slow in ((99, 1.0), (0, 3.0))
        for p, g in ((512, 0), (0, 128))
    ]


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


@pytest.mark.parametrize(
    ("request_", "said"),
    [((shape(1, 64, 1, 64), 3), "times 16, 8, 4"), ((shape(1, 64, 1, 80), 4), "d_ff = 80")],
)
def test_what_mlx_does_not_time_is_refused(request_: tuple[Any, float], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        mlx.prepare(request_[0], weight_bits=request_[1])


@pytest.mark.long
@pytest.mark.parametrize("bits", [16.0, 4.0])
def test_mlx_times_a_shape_that_shares_blocks(bits: float) -> None:
    pytest.importorskip("mlx.core")
    runner = mlx.prepare(shape(2, 64, 1, 128, sharing=2, vocabulary=256), weight_bits=bits)
    prefill, decode = runner.run(8, 4)
    assert min(prefill, decode) > 0
    assert runner.peak_bytes is not None
    assert runner.peak_bytes > 1e6


@pytest.mark.parametrize("bits", [16, 4])
def test_mlx_decodes_the_token_that_it_would_prefill(bits: int) -> None:
    mx = pytest.importorskip("mlx.core")
    from shapelaw.search.devices.engines.mlx_process import _Decoder

    a = shape(2, 128, 1, 128, sharing=2, vocabulary=256)
    model = _Decoder(a.to_dict(), list(a.applied_blocks()), bits)
    tokens = mx.array([3, 1, 4, 1, 5])
    together, _ = model.step(tokens, model.empty(5), 0)
    cache = model.empty(5)
    for at in range(5):
        one, cache = model.step(tokens[at : at + 1], cache, at)
    scale = float(mx.abs(together).max())
    assert float(mx.abs(together - one).max()) < 0.02 * scale
    assert len(cache) == 2 * a.depth
