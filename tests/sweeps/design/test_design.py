"""Designs: read strictly, laid out by pure combinators, solved to whole numbers near the size."""

import io
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.design.design import Design, load_design, read_design
from shapelaw.sweeps.design.factorial_designs import (
    axis,
    chain,
    latin_hypercube,
    one_at_a_time,
    product,
    zipped,
)
from shapelaw.sweeps.design.layout import layout, trunk_jobs
from shapelaw.sweeps.design.plan import plan
from shapelaw.sweeps.design.plan_table import plan_table
from shapelaw.sweeps.design.shapes import (
    Infeasible,
    Point,
    base_width,
    deviation,
    preferred_head_dim,
    solve,
)
from shapelaw.sweeps.training.schedule import batch_sequences_for
from shapelaw.sweeps.training.trunk import job_keys, resolve

EXAMPLE = """
name   = "demo"
corpus = "python"
tokens_per_parameter = [10, 20, 40]
seeds  = [0, 1]

[base]
non_embedding = [20_000, 40_000, 80_000]
mlp_attention_ratio = 2.0
gqa_group = 1
sharing = 1

[vary]
d_model = [0.5, 0.7, 1.4, 2.0]
mlp_attention_ratio = [0.5, 1.0, 4.0]
gqa_group = [2, 4]
sharing = [2, 3]
"""


# --- combinators -----------------------------------------------------------------------------


def test_product_is_every_combination() -> None:
    both = product(axis("a", [1, 2]), axis("b", [3, 4, 5]))
    assert len(both) == 6
    assert {"a": 2, "b": 5} in both
    with pytest.raises(BadInput, match="a: set twice"):
        product(axis("a", [1]), axis("a", [2]))


def test_zip_steps_together_and_wants_equal_lengths() -> None:
    a, b = axis("a", [1, 2]), axis("b", [3, 4])
    assert zipped(a, b) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    with pytest.raises(BadInput, match="equally many"):
        zipped(a, axis("b", [3]))


def test_one_at_a_time_moves_one_axis_and_holds_the_base() -> None:
    star = one_at_a_time({"a": [1, 2], "b": [3]})
    assert star == [{}, {"a": 1}, {"a": 2}, {"b": 3}]
    assert chain(star, star) == star


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 40), st.integers(0, 5))
def test_a_latin_hypercube_has_one_point_in_each_stratum(count: int, seed: int) -> None:
    points = latin_hypercube({"a": [0.5, 8.0], "g": [1, 2, 4]}, count, seed, frozenset({"g"}))
    places = np.log(np.array([p["a"] for p in points], float) / 0.5) / math.log(16)
    assert sorted(np.floor(places * count + 1e-9).astype(int)) == list(range(count))
    counts = [sum(p["g"] == group for p in points) for group in (1, 2, 4)]
    assert max(counts) - min(counts) <= 1
    again = latin_hypercube({"a": [0.5, 8.0], "g": [1, 2, 4]}, count, seed, frozenset({"g"}))
    assert points == again


# --- whole numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("equal", ["stored", "applied"])
@pytest.mark.parametrize("size", [8_000, 20_000, 50_000, 125_000, 400_000, 2_000_000, 30_000_000])
def test_shapes_are_near_what_was_asked(size: int, equal: str) -> None:
    for width, ratio, group, sharing in itertools.product(
        (0.5, 0.7, 1.0, 1.4, 2.0), (0.5, 1, 2, 4, 6), (1, 2, 3, 4, 8), (1, 2, 3)
    ):
        _assert_near(size, width, ratio, group, sharing, equal)


def _assert_near(
    size: int, width: float, ratio: float, group: int, sharing: int, equal: str
) -> None:
    point = Point(
        non_embedding=size,
        d_model=width,
        mlp_attention_ratio=ratio,
        gqa_group=group,
        sharing=sharing,
        sharing_equal=equal,
    )
    try:
        shape = solve(point, 256)
    except Infeasible:
        stored = size / sharing if equal == "applied" else size
        d_model = width * base_width(Point(non_embedding=size))
        blocks = stored / (2 * d_model**2 * (1 + 1 / group) * (1 + ratio))
        why = "at larger sizes every axis can be moved, where half a block of it fits"
        assert stored < 150_000 or group == 8 or blocks < 0.5, why
        return
    assert abs(deviation(shape, point)) < 0.055
    assert abs(math.log(shape.mlp_attention_ratio / ratio)) <= 0.45
    assert shape.gqa_group == group
    assert shape.sharing == sharing
    assert shape.n_heads * shape.head_dim == shape.d_model
    assert shape.head_dim >= 8
    counted = shape.non_embedding_parameters if equal == "stored" else shape.applied_parameters
    assert counted / size == pytest.approx(1 + deviation(shape, point))


def test_larger_sizes_come_closer() -> None:
    off = [
        abs(deviation(solve(point, 256), point))
        for point in (
            Point(non_embedding=5_000_000, d_model=width, mlp_attention_ratio=ratio)
            for width in (0.5, 1.0, 2.0)
            for ratio in (0.5, 2.0, 6.0)
        )
    ]
    assert max(off) < 0.01


def test_width_is_a_multiple_of_the_bases_and_depth_gives_way() -> None:
    base = solve(Point(non_embedding=2_000_000), 256)
    for factor in (0.5, 0.7, 1.4, 2.0):
        other = solve(Point(non_embedding=2_000_000, d_model=factor), 256)
        assert other.d_model / base.d_model == pytest.approx(factor, rel=0.1)
        assert other.n_blocks / base.n_blocks == pytest.approx(factor**-2, rel=0.35)


def test_equal_flops_store_less_and_equal_parameters_do_more() -> None:
    plain = solve(Point(non_embedding=400_000), 256)
    stored = solve(Point(non_embedding=400_000, sharing=2), 256)
    applied = solve(Point(non_embedding=400_000, sharing=2, sharing_equal="applied"), 256)
    assert stored.non_embedding_parameters == plain.non_embedding_parameters
    assert stored.depth == 2 * plain.depth
    assert applied.applied_parameters == pytest.approx(plain.applied_parameters, rel=0.03)
    assert applied.non_embedding_parameters == pytest.approx(
        plain.non_embedding_parameters / 2, rel=0.03
    )


def test_heads_grow_with_width() -> None:
    assert [preferred_head_dim(width) for width in (64, 256, 2048)] == [16, 32, 64]
    groups = [solve(Point(non_embedding=100_000, gqa_group=group), 256) for group in (1, 2, 4)]
    assert len({shape.n_heads for shape in groups}) == 1, "groups compare at the same heads"


# --- the file --------------------------------------------------------------------------------


def test_the_example_of_the_design_document_reads_as_it_says() -> None:
    design = read_design(EXAMPLE)
    planned, dropped = layout(design)
    assert {one.label for one in planned} >= {
        "base",
        "d_model 0.5",
        "mlp_attention_ratio 4",
        "gqa_group 4",
        "sharing 3",
    }
    assert all(one.what.endswith("d_model 2") for one in dropped)
    assert {one.nominal for one in planned} == {20_000, 40_000, 80_000}
    assert {one.job.seed for one in planned} == {0, 1}
    for one in planned:
        assert one.job.tokens == tuple(one.nominal * ratio for ratio in (10, 20, 40))
        assert abs(one.deviation) < 0.05
    jobs = trunk_jobs(design)
    keys = [key for job in jobs for key in job_keys(job)]
    assert len(keys) == len(set(keys)) == 3 * len(jobs)


def test_shapes_of_one_size_share_tokens_and_batch() -> None:
    """Else a comparison of shapes would be one of recipes."""
    for name in ("smoke", "demo", "reference", "gpu"):
        seen: dict[tuple[int, int], set[int]] = {}
        for one in layout(load_design(name))[0]:
            trunk = resolve(one.job)
            for branch in trunk.branches:
                place = (one.nominal, round(branch.tokens, -4))
                seen.setdefault(place, set()).add(trunk.batch_sequences)
        assert all(len(batches) == 1 for batches in seen.values()), name


WIDE = """
name = "wide"
tokens_per_parameter = [20, 40]
[base]
non_embedding = [100_000, 3_000_000]
"""


def test_a_design_has_one_batch_whatever_its_budgets() -> None:
    """By the rule alone a trunk of 4e6 tokens would have another batch than one of 1.2e8."""
    apart = {batch_sequences_for(max(job.tokens), 128) for job in trunk_jobs(read_design(WIDE))}
    assert len(apart) == 2
    design = read_design(WIDE)
    assert {resolve(job).batch_sequences for job in trunk_jobs(design)} == {16}
    assert batch_sequences_for(2_000_000, 128) == 16, "the smallest budget's"
    assert any("one batch for all: 16 sequences" in note for note in plan(design)["notes"])


def test_a_larger_size_added_later_leaves_the_runs_what_they_were() -> None:
    keys = {key for job in trunk_jobs(read_design(WIDE)) for key in job_keys(job)}
    more = read_design(WIDE.replace("3_000_000", "3_000_000, 9_000_000"))
    assert keys < {key for job in trunk_jobs(more) for key in job_keys(job)}
    fewer = read_design(WIDE.replace("100_000", "10_000"))
    assert not keys & {key for job in trunk_jobs(fewer) for key in job_keys(job)}
    named = read_design(
        WIDE.replace("100_000", "10_000").replace("[base]", "batch_sequences = 16\n[base]", 1)
    )
    assert keys & {key for job in trunk_jobs(named) for key in job_keys(job)}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("gqa_group = 1", "gqa_grup = 1", "gqa_grup"),
        ('corpus = "python"', 'corpus = "python"\ncolour = 1', "colour"),
        ("d_model = [0.5, 0.7, 1.4, 2.0]", "d_model = [-0.5]", "d_model"),
        ("d_model = [0.5, 0.7, 1.4, 2.0]", "d_model = [128]", "multiples of the base width"),
        ("gqa_group = [2, 4]", "gqa_group = [2.5]", "gqa_group"),
        ('corpus = "python"', 'corpus = "latin"', "corpus"),
        ('corpus = "python"', 'corpus = "python"\ntext = ["x"]', "text"),
        ("seeds  = [0, 1]", "seeds = []", "seeds"),
        ("seeds  = [0, 1]", 'seeds = ["a"]', "seeds"),
        ("non_embedding = [20_000, 40_000, 80_000]", "", "non_embedding"),
        ("non_embedding = [20_000, 40_000, 80_000]", "non_embedding = 10", "non_embedding"),
        ("sharing = [2, 3]", 'sharing = [2, 3]\ncross = ["depth"]', "depth"),
        ("[vary]", "flops = [1e12]\n[vary]", "flops"),
        ('name   = "demo"', "name = [", "line"),
    ],
)
def test_a_malformed_file_is_one_line_that_names_the_field(old: str, new: str, named: str) -> None:
    assert old in EXAMPLE
    with pytest.raises(BadInput, match=named) as caught:
        trunk_jobs(read_design(EXAMPLE.replace(old, new, 1)))
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_lists_those_there_are() -> None:
    with pytest.raises(BadInput, match="demo, formats, gpu, reference, sharing, smoke"):
        load_design("tiny")


def test_a_path_is_read_and_a_missing_one_named(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(EXAMPLE)
    assert load_design(tmp_path / "mine.toml") == read_design(EXAMPLE)
    with pytest.raises(BadInput, match="No such file"):
        load_design(tmp_path / "other.toml")


BASE = 'name = "x"\ntokens_per_parameter = [10]\n'


def laid(text: str) -> list[str]:
    return [one.label for one in layout(read_design(text))[0]]


def test_cross_is_a_full_product_with_the_base() -> None:
    axes = "[vary]\nd_model = [0.7, 1.4]\nsharing = [2]\nmlp_attention_ratio = [1.0]\n"
    sizes = "[base]\nnon_embedding = 400_000\n"
    alone = laid(BASE + sizes + axes)
    assert len(alone) == 1 + 2 + 1 + 1
    crossed = laid(BASE + 'cross = ["d_model", "sharing"]\n' + sizes + axes)
    assert len(crossed) == 3 * 2 + 1
    assert "d_model 0.7, sharing 2" in crossed
    inside = laid(BASE + sizes + axes + 'cross = [["d_model", "sharing"]]\n')
    assert inside == crossed


def test_zip_and_latin() -> None:
    sizes = "[base]\nnon_embedding = 400_000\n"
    zipped = laid(
        BASE + sizes + "[vary]\nd_model = [0.7, 1.4]\nsharing = [2, 3]\n"
        'zip = ["d_model", "sharing"]\n'
    )
    assert sorted(zipped) == ["base", "d_model 0.7, sharing 2", "d_model 1.4, sharing 3"]
    cube = read_design(
        BASE + sizes + "[latin]\nruns = 8\nd_model = [0.5, 2.0]\n"
        "mlp_attention_ratio = [0.5, 6.0]\ngqa_group = [1, 2, 4]\n"
    )
    ratios = sorted(one.architecture.mlp_attention_ratio for one in layout(cube)[0])
    assert len(ratios) >= 8
    assert ratios[0] < 0.8
    assert ratios[-1] > 4


def test_iso_flop_budgets_cost_the_same_at_every_size() -> None:
    design = read_design(
        'name = "x"\nflops = [2e12, 4e12]\n[base]\n'
        "non_embedding = [20_000, 80_000]\n[vary]\nd_model = [0.7]\n"
    )
    for one in layout(design)[0]:
        costs = [branch.flops for branch in resolve(one.job).branches]
        assert costs == pytest.approx([2e12, 4e12], rel=0.02)


def test_a_trunk_asked_for_twice_is_done_once_with_all_its_budgets() -> None:
    design = read_design("""
        name = "x"
        tokens_per_parameter = [10]
        [base]
        non_embedding = 50_000
        [[part]]
        name = "first"
        [[part]]
        name = "second"
        tokens_per_parameter = [20]
        [part.vary]
        sharing = [2]
    """)
    planned = layout(design)[0]
    assert [(one.part, one.label) for one in planned] == [
        ("first", "base"),
        ("second", "sharing 2"),
    ]
    assert planned[0].job.tokens == (500_000, 1_000_000)


def test_parts_keep_their_order_and_runs_may_be_given_in_full() -> None:
    design = read_design("""
        name = "x"
        tokens_per_parameter = [10]
        [base]
        non_embedding = 20_000
        [[part]]
        shapes = [{ label = "LLaMA-like", mlp_attention_ratio = 4.0 }]
        [[part]]
        [part.base]
        non_embedding = 80_000
        [[part]]
        [[part.runs]]
        tokens = [100_000]
        [part.runs.architecture]
        vocab_size = 256
        d_model = 32
        n_blocks = 2
        n_heads = 4
        n_kv_heads = 4
        head_dim = 8
        d_ff = 64
    """)
    planned = layout(design)[0]
    assert [one.label for one in planned] == ["LLaMA-like", "base", "base", "as given"]
    assert planned[-1].job.tokens == (100_000,)


def test_learning_rate_is_a_multiple_of_the_rule() -> None:
    design = read_design(BASE + "[base]\nnon_embedding = 50_000\n[vary]\nlearning_rate = [0.5]\n")
    rates = [resolve(job).learning_rate for job in trunk_jobs(design)]
    assert sorted(rates)[0] / sorted(rates)[1] == pytest.approx(0.5)


# --- the plan --------------------------------------------------------------------------------


def noted(text: str) -> str:
    return " ".join(plan(read_design(text), workers=2)["notes"])


def test_the_plan_counts_what_will_be_done() -> None:
    design = read_design(EXAMPLE)
    outline = plan(design, workers=2)
    jobs = trunk_jobs(design)
    assert outline["trunks"] == len(jobs)
    assert outline["runs"] == sum(len(job_keys(job)) for job in jobs)
    assert outline["flops"] == pytest.approx(sum(resolve(job).flops for job in jobs))
    assert outline["flops"] / outline["flops_of_separate_runs"] <= 0.70
    assert outline["seconds"] > 0
    assert plan(design, workers=1)["seconds"] > 1.5 * outline["seconds"]


def test_the_plan_says_what_cannot_be_told() -> None:
    sizes = "[base]\nnon_embedding = [50_000, 100_000, 200_000]\n"
    alone = noted(BASE + sizes)
    assert "tokens are proportional to parameters" in alone
    assert "sharing never varies" in alone
    assert "one seed" in alone
    several = noted(
        'name = "x"\ntokens_per_parameter = [5, 20]\n'
        + sizes
        + "[vary]\nsharing = [2, 3]\ngqa_group = [2]\n"
    )
    assert "proportional" not in several
    assert "sharing never" not in several
    assert "gqa_group has two values" in several
    assert "sharing has two values" not in several
    assert "one size only" in noted(BASE + "[base]\nnon_embedding = 50_000\n")


def test_the_plan_sees_axes_that_move_together() -> None:
    text = (
        'name = "x"\ntokens_per_parameter = [5, 20]\n[base]\nnon_embedding = 400_000\n'
        "[vary]\nsharing = [2, 4]\nmlp_attention_ratio = [1.0, 0.5]\n"
        'zip = ["sharing", "mlp_attention_ratio"]\n'
    )
    outline = plan(read_design(text), workers=1)
    pairs = [set(pair["columns"]) for pair in outline["identified"]["confounded"]]
    assert {"sharing", "mlp_attention_ratio"} in pairs


def test_reference_can_tell_every_axis_apart() -> None:
    told = plan(load_design("reference"), workers=2)["identified"]
    assert told["confounded"] == []
    assert told["rank"] == told["columns"]
    assert set(told["optimum"]) == {"width_ratio", "mlp_attention_ratio", "gqa_group", "sharing"}
    assert len(told["crossed"]) >= 3


def test_an_empty_design_needs_a_size() -> None:
    with pytest.raises(BadInput, match="non_embedding"):
        trunk_jobs(Design(name="x"))


@pytest.mark.parametrize("name", ["demo", "reference", "gpu"])
def test_a_plan_is_readable_at_80_columns(name: str) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    outline = plan(load_design(name))
    console.print(plan_table(outline, rows=10**6))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    # A shape stands once for all of its seeds, and no trunk is lost.
    table = [line.split() for line in text.splitlines() if " × " in line and "blocks" not in line]
    distinct = {
        (row["part"], row["shape"], str(row["architecture"]), row["learning_rate"])
        for row in outline["rows"]
    }
    assert len(table) == len(distinct)


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(BadInput, match=r"seed"):
        read_design('name = "x"\ncorpus = "python"\nseeds = [-1]\n')


def test_more_tokens_than_there_is_text_are_refused() -> None:
    own = read_design(
        'name = "x"\ncorpus = "python"\ntokens_per_parameter = [9223372036854775807]\n'
        "[base]\nnon_embedding = 4_000\n"
    )
    with pytest.raises(BadInput, match=r"3\.\d+e\+22 tokens for .* parameters; at most 1e\+17"):
        layout(own)


def test_quantities_are_written_with_units_or_without() -> None:
    text = """
        name = "own"
        sequence_length = {length}
        validation_tokens = {validation}
        flops = [{flops}]
        [[part]]
        name = "by tokens"
        token_budgets = [{budget}]
        [part.base]
        non_embedding = [{size}]
        window = {window}
        [[part]]
        name = "in full"
        [[part.runs]]
        tokens = [{budget}]
        [part.runs.architecture]
        vocab_size = 256
        d_model = 32
        n_blocks = 2
        n_heads = 2
        n_kv_heads = 2
        head_dim = 16
        d_ff = 96
    """
    plain = text.format(
        length=2000, validation=65000, flops=1e12, budget=400_000, size=20_000, window=1000
    )
    told = text.format(
        length="'2k'",
        validation="'65k tokens'",
        flops="'1 TFLOPs'",
        budget="'0.4M'",
        size="'20k'",
        window="'1k'",
    )
    assert read_design(told) == read_design(plain)
    assert read_design("name = 'a'\ntokens = '2k'").tokens == "2k"  # there it is a file
