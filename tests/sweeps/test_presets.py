"""The designs that ship: as small, or as telling, as they are said to be."""

import platform
from pathlib import Path

import pytest

from shapelaw.results.store import read_records
from shapelaw.sweeps.design.design import load_design, presets
from shapelaw.sweeps.design.layout import Planned, layout, trunk_jobs
from shapelaw.sweeps.design.plan import plan
from shapelaw.sweeps.training.trunk import job_keys, resolve

REFERENCE = "reference"


def planned(name: str) -> list[Planned]:
    return layout(load_design(name))[0]


def held_out() -> int:
    return max(one.nominal for one in planned(REFERENCE))


def flops(name: str) -> float:
    return sum(resolve(one.job).flops for one in planned(name))


def test_there_are_these() -> None:
    assert presets() == ["demo", "formats", "gpu", "reference", "sharing", "smoke"]


@pytest.mark.parametrize("name", ["demo", "gpu", "reference", "smoke"])
def test_every_point_is_near_its_size(name: str) -> None:
    for one in planned(name):
        assert abs(one.deviation) < 0.05, one.label


def test_costs() -> None:
    """At 2e10 FLOP/s a core: smoke and demo are seconds of training, reference hours."""
    assert flops("smoke") < 3e11
    assert len(planned("smoke")) <= 6
    assert flops("demo") < 1e13
    assert len(planned("demo")) <= 30
    assert 5e13 < flops("reference") < 5e14
    assert 1e16 < flops("gpu") < 1e17


def test_demo_moves_every_axis_and_leaves_a_size_to_hold_out() -> None:
    told = plan(load_design("demo"), workers=2)["identified"]
    assert {
        "non_embedding",
        "tokens",
        "width_ratio",
        "mlp_attention_ratio",
        "gqa_group",
        "sharing",
    } <= set(told["varied"])
    assert told["confounded"] == []
    assert len({one.nominal for one in planned("demo")}) >= 3


def test_reference_spans_a_decade_with_three_budgets_everywhere() -> None:
    sizes: dict[int, list[Planned]] = {}
    for one in planned(REFERENCE):
        sizes.setdefault(one.nominal, []).append(one)
    assert len(sizes) >= 5
    assert max(sizes) / min(sizes) >= 10
    for runs in sizes.values():
        assert any(len(one.job.tokens) >= 3 for one in runs)


def test_reference_covers_the_axes_the_study_asks_for() -> None:
    inner = [one for one in planned(REFERENCE) if one.nominal < held_out()]
    widths = {one.asked.d_model for one in inner if one.nominal == 48_000}
    assert len(widths) >= 5
    ratios = [one.architecture.mlp_attention_ratio for one in inner]
    assert min(ratios) <= 0.55
    assert max(ratios) >= 6
    assert {one.architecture.gqa_group for one in inner} >= {1, 2, 4}
    for equal in ("stored", "applied"):
        shared = {one.architecture.sharing for one in inner if one.asked.sharing_equal == equal}
        assert shared >= {2, 3}
    assert len({one.job.seed for one in inner}) >= 3


def test_reference_checks_the_learning_rate_by_width_and_by_depth() -> None:
    rates: dict[tuple[int, int], set[float]] = {}
    for one in planned(REFERENCE):
        if one.nominal == 24_000 and one.job.seed == 0:
            shape = (one.architecture.d_model, one.architecture.depth)
            rates.setdefault(shape, set()).add(one.job.learning_rate)
    tried = [shape for shape, values in rates.items() if len(values) >= 3]
    assert len({width for width, _ in tried}) >= 3
    assert len({depth for _, depth in tried}) >= 3


def test_the_held_out_size_has_a_panel_of_its_own() -> None:
    panel = {one.label: one.architecture for one in planned(REFERENCE) if one.nominal == held_out()}
    assert len(set(panel.values())) >= 8
    assert {
        "LLaMA-like",
        "MobileLLM-like",
        "wide",
        "deep",
        "high ratio",
        "strong GQA",
        "shared twice",
    } <= set(panel)
    assert panel["strong GQA"].gqa_group >= 4
    assert panel["deep"].depth > 2 * panel["wide"].depth
    assert panel["LLaMA-like"].mlp_attention_ratio > 3
    parts = list(dict.fromkeys(one.part for one in planned(REFERENCE)))
    assert parts.index("shape at 24k") < parts.index("held-out panel") < parts.index("crossings")


def test_the_same_shapes_are_repeated_with_other_seeds() -> None:
    seeds: dict[object, set[int]] = {}
    for one in planned(REFERENCE):
        seeds.setdefault((one.architecture, one.job.learning_rate), set()).add(one.job.seed)
    assert sum(len(found) >= 3 for found in seeds.values()) >= 8


def test_the_reference_study_goes_on_by_the_rule_its_records_were_made_by() -> None:
    """Version 3 of the trainer gives the committed records' keys, to the last one."""
    records = read_records(Path(__file__).parents[2] / "results" / "reference")
    if records[0].software["python"] != platform.python_version():
        pytest.skip("the corpus is the running Python's own library; it was another's")
    design = load_design("reference")
    keys = {key for job in trunk_jobs(design) for key in job_keys(job)}
    assert keys == {record.run_key for record in records}


def test_the_sharing_study_compares_what_it_says() -> None:
    """At each base depth: equal parameters within 0.3 %, B's depth, or B's width."""
    cells = {one.label: one.architecture for one in planned("sharing")}
    for depth in (4, 8):
        by_letter = {label[0]: a for label, a in cells.items() if label[1] == str(depth)}
        by_letter["A"] = next(
            a for a in cells.values() if a.sharing == 1 and a.depth == depth
            and a.d_model == by_letter["B"].d_model
        )  # fmt: skip
        looped = [a for label, a in cells.items() if label.startswith(f"B{depth}")]
        size = by_letter["A"].non_embedding_parameters
        equal = [by_letter["C"], *looped] if "C" in by_letter else looped
        for a in equal:
            assert a.non_embedding_parameters == pytest.approx(size, rel=0.003)
            assert a.depth in (2 * depth, 3 * depth)
        assert by_letter["D"].depth == 2 * depth
        assert by_letter["D"].d_model == by_letter["A"].d_model
        assert {(a.sharing_order, a.input_injection) for a in looped} == {
            ("immediate", False), ("cycle", False), ("cycle", True),
        }  # fmt: skip


def test_the_sharing_study_sees_three_permille() -> None:
    """Over its two base depths, with 90 % power."""
    outline = plan(load_design("sharing"))
    seeds = max(one["seeds"] for one in outline["power"])
    needed = max(one["seeds_for_three_permille"] for one in outline["power"])
    assert 2 * seeds >= needed
    assert any("0.3 % takes" in note for note in outline["notes"])


def test_a_folder_of_a_presets_name_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_design("demo").name == "demo"
