"""The space of shapes: strict, countable, and made of models."""

import dataclasses
import types

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapelaw.scaling.architecture import FIELDS, ArchitectureBatch, SharingOrder
from shapelaw.scaling.errors import BadInput
from shapelaw.search.space.space import (
    Bounds,
    Pattern,
    Range,
    Space,
    Topology,
    load_space,
    space_names,
)

SMALL = """
name = "small"
d_model = { from = 128, to = 640, step = 64 }
n_blocks = { from = 2, to = 12, step = 2 }
sharing = [1, 2]
head_dim = [32, 64]
gqa_group = [1, 2, 3]
mlp_attention_ratio = { from = 0.5, to = 4, factor = 1.3 }
attention = ["full", { window = 256, global_every = 4 }]
weight_bits = [4, 8]
"""


def everything(space: Space, chunk: int = 1000) -> tuple[ArchitectureBatch, np.ndarray]:
    parts = list(space.enumerate(chunk))
    batch = ArchitectureBatch(
        **{name: np.concatenate([getattr(part, name) for part, _ in parts]) for name in FIELDS}
    )
    return batch, np.concatenate([bits for _, bits in parts])


def test_every_point_is_a_valid_model_and_none_comes_twice() -> None:
    space = Space.from_toml(SMALL, "small.toml")
    batch, bits = everything(space)
    assert len(batch) == space.size()
    # Architecture's own validation refuses heads that do not divide, odd heads, zero sizes.
    points = {(batch[row], float(bits[row])) for row in range(len(batch))}
    assert len(points) == space.size()
    assert np.all(batch.n_heads * batch.head_dim == batch.d_model)
    assert np.all(batch.d_ff % 64 == 0)


@pytest.mark.parametrize("name", space_names())
def test_presets_hold_models_and_are_counted_without_enumerating(name: str) -> None:
    space = load_space(name)
    total = 0
    for batch, bits in space.enumerate():
        assert len(batch) == len(bits)
        assert np.all(batch.n_heads % batch.n_kv_heads == 0)
        total += len(batch)
    assert total == space.size()
    row = total // 2
    batch, _ = next(iter(space.enumerate(total)))
    assert batch[row].total_parameters > 0


def test_the_phone_preset_holds_mobilellm_125m() -> None:
    grid = load_space("phone").grid()
    batch = grid.architectures(np.arange(grid.n_architectures()))
    found = (
        (batch.d_model == 576)
        & (batch.n_blocks == 30)
        & (batch.sharing == 1)
        & (batch.n_heads == 9)
        & (batch.n_kv_heads == 3)
        & (batch.d_ff == 1536)
    )
    assert found.sum() == 1
    row = int(np.flatnonzero(found)[0])
    assert batch[row].total_parameters == 124_635_456  # 124.635M in the paper's table


SOME_TOPOLOGIES: list[SharingOrder | Topology] = [
    "immediate",
    "cycle",
    Topology(n_prelude=1, n_coda=1),
    Topology(order="immediate", n_coda=2),
]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_counting_numbering_and_coordinates_agree_on_random_spaces(data: st.DataObject) -> None:
    few = st.lists(st.integers(1, 6), min_size=1, max_size=3)
    low = data.draw(st.floats(0, 1e6))
    stored = data.draw(st.booleans())
    space = Space(
        name="random",
        d_model=[32 * k for k in data.draw(few)],
        n_blocks=data.draw(few) if stored else None,
        depth=None if stored else data.draw(few),
        sharing=data.draw(few),
        topology=data.draw(st.lists(st.sampled_from(SOME_TOPOLOGIES), min_size=1, max_size=3)),
        head_dim=[8 * k for k in data.draw(few)],
        gqa_group=data.draw(few),
        attention_width=data.draw(st.none() | st.lists(st.floats(0.5, 2), min_size=1, max_size=3)),
        mlp_attention_ratio=data.draw(st.lists(st.floats(0.3, 5), min_size=1, max_size=6)),
        d_ff_multiple_of=data.draw(st.sampled_from([1, 8, 64])),
        attention=["full", Pattern(128, 2), Pattern(64)],
        tied_embeddings=[True, False],
        vocab_size=[256, 512],
        weight_bits=[4, 8],
        non_embedding=data.draw(st.none() | st.just(Bounds(low, low * 10))),
    )
    try:
        grid = space.grid()
    except BadInput:
        return  # nothing divides
    batch, bits = everything(space)
    assert len(batch) == space.size()
    points = {(batch[row], float(bits[row])) for row in range(len(batch))}
    assert len(points) == space.size()
    numbers = np.arange(space.size())
    again, again_bits, valid = grid.decode(grid.coordinates(numbers))
    assert valid.all()
    assert all(np.array_equal(getattr(batch, name), getattr(again, name)) for name in FIELDS)
    assert np.array_equal(bits, again_bits)


def test_bounds_on_size_keep_exactly_the_sizes_within() -> None:
    space = Space.from_toml(SMALL, "small.toml")
    batch, _ = everything(space)
    sizes = batch.non_embedding_parameters
    low, high = int(np.quantile(sizes, 0.3)), int(np.quantile(sizes, 0.6))
    bounded = msgspec.structs.replace(space, non_embedding=Bounds(low, high))
    assert bounded.size() == int(((sizes >= low) & (sizes <= high)).sum())


def test_a_space_too_large_to_enumerate_is_still_counted() -> None:
    space = Space(
        name="huge",
        d_model=Range(128, 8192, 16),
        n_blocks=Range(1, 128, 1),
        sharing=[1, 2, 3, 4],
        gqa_group=[1, 2, 4, 8],
        head_dim=[32, 64, 128],
        d_ff=Range(128, 32768, 8),
        weight_bits=[3, 4, 8, 16],
        vocab_size=[16000, 32000, 64000, 128256],
    )
    divisible = sum(
        1
        for d in range(128, 8193, 16)
        for h in (32, 64, 128)
        for g in (1, 2, 4, 8)
        if d % h == 0 and (d // h) % g == 0
    )
    assert space.size() == divisible * 4081 * 128 * 4 * 4 * 4
    assert space.size() > 1e10


def test_around_a_law_holds_the_sizes_it_saw() -> None:
    seen = {"N": (2e4, 1e5), "mlp_attention_ratio": (0.5, 4.0), "sharing": (1.0, 3.0)}
    space = Space.around(types.SimpleNamespace(range=seen), factor=4.0)
    batch, _ = everything(space)
    sizes = batch.non_embedding_parameters
    assert sizes.min() >= 5e3
    assert sizes.max() <= 4e5
    assert ((sizes > 2e4) & (sizes < 1e5)).sum() > 100
    assert set(np.unique(batch.sharing)) == {1, 2, 3}
    with pytest.raises(BadInput, match="sizes it saw"):
        Space.around(object())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("d_modle = 4\n", "d_modle"),
        ("d_model = { from = 512, to = 128, step = 64 }\n", "d_model"),
        ("d_model = { from = 128, to = 512 }\n", "d_model"),
        ("d_model = { from = 128, to = 512, step = 64, factor = 2 }\n", "d_model"),
        ("d_model = { from = 128, to = 512, step = -64 }\n", "d_model"),
        ("d_model = { from = 1, to = 1e9, step = 1 }\n", "d_model"),
        ("d_model = []\n", "d_model"),
        ("d_model = [128.5]\n", "d_model"),
        ("d_model = 'wide'\n", "d_model"),
        ("head_dim = 33\n", "head_dim"),
        ("gqa_group = [0]\n", "gqa_group"),
        ("gqa_group = 7\nattention_width = nan\n", "attention_width"),
        ("gqa_group = 77\n", "divisibility"),
        ("depth = 7\n", "n_blocks or depth"),
        ("d_ff = 256\n", "mlp_attention_ratio or d_ff"),
        ("weight_bits = [64]\n", "weight_bits"),
        ("attention = []\n", "attention"),
        ("attention = ['half']\n", "attention"),
        ("attention = [{ window = 0 }]\n", "window"),
        ("non_embedding = { from = 9e9, to = 1e9 }\n", "non_embedding"),
        ("non_embedding = { from = 9e9 }\n", "nothing is left"),
        ("d_model = [\n", "TOML"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(change: str, named: str) -> None:
    key = change.split(" =")[0]
    kept = "\n".join(line for line in SMALL.splitlines() if not line.startswith(f"{key} ="))
    with pytest.raises(BadInput, match=named) as caught:
        Space.from_toml(f"{kept}\n{change}", "mine.toml")
    assert "\n" not in str(caught.value)


def test_an_unknown_space_says_what_exists() -> None:
    with pytest.raises(BadInput, match="gpu, laptop, phone"):
        load_space("watch")


def test_depth_counts_applied_layers() -> None:
    text = SMALL.replace("n_blocks = { from = 2, to = 12, step = 2 }", "depth = [4, 6, 9]")
    batch, _ = everything(Space.from_toml(text, "depth.toml"))
    assert set(np.unique(batch.depth)) == {4, 6, 9}
    assert set(np.unique(batch.n_blocks)) == {2, 3, 4, 6, 9}
    assert dataclasses.is_dataclass(batch)


TOPOLOGIES = """
name = "topologies"
d_model = [128, 256]
{blocks}
sharing = [1, 2, 3]
topology = ["immediate", "cycle", {{ n_prelude = 1, n_coda = 2, input_injection = true }}]
mlp_attention_ratio = [1.0, 2.0]
"""


@pytest.mark.parametrize("blocks", ["n_blocks = [2, 4, 8]", "depth = [6, 8, 12]"])
def test_topologies_are_an_axis_where_blocks_are_applied_twice(blocks: str) -> None:
    space = Space.from_toml(TOPOLOGIES.format(blocks=blocks), "topologies.toml")
    batch, _ = everything(space)
    assert len(batch) == space.size()
    shapes = [batch[row] for row in range(len(batch))]  # built, so checked
    assert len(set(shapes)) == len(shapes)
    assert {(a.sharing_order, a.n_prelude) for a in shapes if a.sharing == 1} == {("immediate", 0)}
    shared = {(a.sharing_order, a.n_prelude, a.n_coda) for a in shapes if a.sharing > 1}
    assert shared == {("immediate", 0, 0), ("cycle", 0, 0), ("cycle", 1, 2)}
    if "depth" in blocks:
        assert {a.depth for a in shapes} == {6, 8, 12}
    # A point is the same by its number and by its coordinates.
    grid = space.grid()
    again, _, valid = grid.decode(grid.coordinates(np.arange(space.size())))
    assert valid.all()
    assert [again[row] for row in range(len(again))] == shapes


def test_a_topology_that_cannot_be_is_refused() -> None:
    with pytest.raises(BadInput, match="input_injection"):
        Space.from_toml(
            'name = "x"\nd_model = 128\nn_blocks = 4\nmlp_attention_ratio = 2\n'
            'topology = [{ order = "immediate", input_injection = true }]',
            "x.toml",
        )
