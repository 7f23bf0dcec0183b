"""llama-bench output files as people have them: what they say, and how little they determine."""

import json
from pathlib import Path
from typing import Any

import pytest

from shapelaw.search.devices.calibration.calibrate import calibrate
from shapelaw.search.devices.calibration.llama_bench import read_llama_bench

CASES = Path(__file__).parents[3] / "cases" / "inputs"
LLAMA_2_Q4_0_BYTES = 3825065984


def known_figures(name: str) -> tuple[dict[str, float], dict[str, Any]]:
    """Figures that a calibration by the case determines, and its report."""
    _, report = calibrate("toy", llama_bench=CASES / name)
    known = {
        row["name"]: row["value"]
        for row in report["fitted"]
        if row["uncertainty"] != "not determined"
    }
    return known, report


def test_every_format_of_output_and_log_lines_around_it_read_alike() -> None:
    names = ("bench-llama2-7b.json", "bench-llama2-7b.jsonl", "bench-llama2-7b.csv")
    first, *others = [read_llama_bench(CASES / name) for name in (*names, "bench-noise.json")]
    assert len(first) == 2
    for other in others:
        assert other == first


@pytest.mark.parametrize("name", ["bench-llama2-7b.json", "bench-depth0.json"])
def test_two_timings_determine_at_most_two_figures(name: str) -> None:
    known, report = known_figures(name)
    assert 1 <= len(known) <= 2
    assert "×÷ 1.00" not in json.dumps(report, ensure_ascii=False)
    assert "NaN" not in json.dumps(report)
    assert report["errors"]["decode"]["repeatability"] is None


def test_a_sweep_of_offloaded_layers_is_never_mixed() -> None:
    """One setting, the fastest: every weight read once a token needs at least 503.6 GB/s."""
    rows = json.loads((CASES / "bench-ngl-sweep.json").read_text())
    fastest = max(row["avg_ts"] for row in rows if row["n_gen"])
    observed = read_llama_bench(CASES / "bench-ngl-sweep.json")
    assert [o.phase for o in observed] == ["prefill", "decode"]
    assert 1 / observed[1].seconds == pytest.approx(fastest, rel=1e-3)
    assert LLAMA_2_Q4_0_BYTES / observed[1].seconds >= 503.6e9


def test_a_filled_context_is_attended() -> None:
    """16,384 tokens deep, a decode step attends to them and takes longer."""
    empty = {o.phase: o for o in read_llama_bench(CASES / "bench-depth0.json")}
    deep = {}
    for o in read_llama_bench(CASES / "bench-depth.json"):
        if o.workload.decode_context > 16384 or o.workload.prefix_tokens:
            deep[o.phase] = o
    added = deep["decode"].workload.decode_context - empty["decode"].workload.decode_context
    assert added == pytest.approx(16384)
    assert deep["prefill"].workload.prefix_tokens == pytest.approx(16384)
    assert deep["decode"].seconds > 2 * empty["decode"].seconds


def test_what_keys_and_values_are_kept_in_is_read(tmp_path: Path) -> None:
    rows = json.loads((CASES / "bench-depth.json").read_text())
    path = tmp_path / "q8_0.json"
    path.write_text(json.dumps([{**row, "type_k": "q8_0", "type_v": "q8_0"} for row in rows]))
    plain, told = read_llama_bench(CASES / "bench-depth.json"), read_llama_bench(path)
    assert {o.kv_bits for o in plain} == {16.0}
    assert {o.kv_bits for o in told} == {8.5}
