"""The cost model keeps what nature keeps: bytes, heads, monotony, sums."""

import dataclasses
from typing import Any, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.cost import costs, costs_from_constants
from shapelaw.search.devices.roofline_parts import Shapes, decode_parts
from shapelaw.search.sparse_attention import Eviction, Quest
from shapelaw.search.workload import Workload, load_workload

PHONE = load_device("iphone-13")
CHAT = load_workload("chat")
PLAIN = dataclasses.replace(
    constants(PHONE),
    weights=(),
    formats=None,
    packed_surplus=0.0,
    kv_bits_least=0.0,
    kv_reserved=0.0,
    cache_capacity=(),
    cache_bandwidth=(),
    cache_retained=(),
)
"""A device without caches and without block scales: bytes can be counted by hand."""


def batch_of(architecture: Architecture) -> ArchitectureBatch:
    return ArchitectureBatch.of([architecture])


def parts_of(
    architecture: Architecture,
    c: Constants,
    workload: Workload,
    bits: float = 8.0,
) -> dict[str, Any]:
    shapes = Shapes(batch_of(architecture), c, workload, np.array([bits]), 16.0, 16.0)
    shapes = Shapes(batch_of(architecture), c, workload, np.array([bits]), 16.0, 16.0)
    return {part.name: part for part in decode_parts(shapes, c)}


def decode_s(
    architecture: Architecture, c: Constants, workload: Workload = CHAT, **options: Any
) -> float:
    found = costs_from_constants(batch_of(architecture), c, workload, **options)
    return float(found.decode_s[0])


shapes = st.builds(
    lambda kv, group, width, d_ff, blocks, sharing, tied: Architecture(
        vocab_size=32000,
        d_model=64 * width,
        n_blocks=blocks,
        sharing=sharing,
        n_heads=kv * group,
        n_kv_heads=kv,
        head_dim=64,
        d_ff=64 * d_ff,
        tied_embeddings=tied,
    ),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(2, 24),
    st.integers(2, 64),
    st.integers(1, 40),
    st.integers(1, 3),
    st.booleans(),
)


@given(shapes, st.sampled_from([2.0, 4.0, 8.0, 16.0]))
@settings(max_examples=40, deadline=None)
def test_weights_moved_are_parameters_times_bits(shape: Architecture, bits: float) -> None:
    """Every stored weight once a token, and again for each further application; tied or not, the
    embedding gives one row and the head is read whole."""
    parts = parts_of(shape, PLAIN, CHAT, bits)
    names = ("attention weights", "MLP weights", "cached re-reads", "LM head")
    moved = sum(float(parts[name].bytes_moved[0]) for name in names)
    expected = (shape.applied_parameters + shape.vocab_size * shape.d_model) * bits / 8
    assert moved == pytest.approx(expected, rel=1e-12)
    assert parts["LM head"].flops[0] == 2 * shape.vocab_size * shape.d_model
    assert parts["token embedding"].bytes_moved[0] == shape.d_model * bits / 8


def test_the_head_has_the_bytes_of_the_format_that_the_engine_gives_it() -> None:
    """llama.cpp keeps the head of a q4_k_m in q6_k (210 bytes for 256 weights), of a q8_0 in q8_0
    (34 bytes for 32), and every gain in float32."""
    model = load_architecture("llama-2-7b")
    for bits, stored in ((4.0, 8 * 210 / 256), (8.0, 8 * 34 / 32), (16.0, 16.0)):
        head = parts_of(model, constants(load_device("m2-pro")), CHAT, bits)["LM head"]
        total = float(head.bytes_moved[0] + head.bytes_cached[0])
        expected = model.vocab_size * model.d_model * stored / 8 + 4 * model.d_model
        assert total == pytest.approx(expected)


@given(shapes, st.integers(1, 4000))
@settings(max_examples=30, deadline=None)
def test_kv_bytes_grow_linearly_in_context(shape: Architecture, context: int) -> None:
    def read(tokens: int) -> float:
        work = Workload(name="w", prompt=1, generated=1, context=tokens)
        return float(parts_of(shape, PLAIN, work)["KV cache"].bytes_moved[0])

    one = 2 * shape.n_kv_heads * shape.head_dim * 2 * shape.depth
    assert read(context + 1) - read(context) == pytest.approx(one)
    assert read(context) == pytest.approx(one * (context + 1))  # what is read, and one written


def test_kv_bytes_follow_key_value_heads_and_never_query_heads() -> None:
    base = load_architecture("mobilellm-350m")
    kv = float(parts_of(base, PLAIN, CHAT)["KV cache"].bytes_moved[0])
    more_queries = dataclasses.replace(base, n_heads=30)
    assert float(parts_of(more_queries, PLAIN, CHAT)["KV cache"].bytes_moved[0]) == kv
    all_heads = dataclasses.replace(base, n_kv_heads=15)
    assert float(parts_of(all_heads, PLAIN, CHAT)["KV cache"].bytes_moved[0]) == 3 * kv


def test_windows_bound_local_layers_only() -> None:
    base = load_architecture("mobilellm-125m")
    local = dataclasses.replace(base, window=512, global_every=4)  # 8 of 30 global, 22 local
    work = Workload(name="w", prompt=1, generated=1, context=4096)
    per_token = 2 * base.n_kv_heads * base.head_dim * 2
    expected = per_token * (8 * 4096 + 22 * 512 + 30)
    assert parts_of(local, PLAIN, work)["KV cache"].bytes_moved[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("bandwidth", 1.3),
        ("kv_bandwidth", 1.3),
        ("efficiency", 1.3),
        ("per_token", 0.5),
        ("per_layer", 0.5),
        ("attention_efficiency", 1.3),
        ("half_tokens", 0.5),
        ("decode_attention_efficiency", 1.3),
        ("half_width", 0.5),
        ("per_prompt_layer", 0.5),
    ],
)
@pytest.mark.parametrize("device", ["iphone-13", "jetson-orin-nano-25w", "h100"])
def test_more_of_a_resource_never_costs_time(device: str, name: str, factor: float) -> None:
    c = constants(load_device(device))
    better = dataclasses.replace(c, **{name: getattr(c, name) * factor})
    names = ("mobilellm-125m", "mobilellm-ls-350m", "llama-3.2-1b", "gemma-3-1b")
    batch = ArchitectureBatch.of([load_architecture(n) for n in names])
    for workload in ("chat", "long-context"):
        before = costs_from_constants(batch, c, load_workload(workload))
        after = costs_from_constants(batch, better, load_workload(workload))
        for column in ("decode_s", "prefill_s", "ttft_s", "artifact_s"):
            assert np.all(getattr(after, column) <= getattr(before, column) * (1 + 1e-12))


@given(shapes, st.floats(1.0, 4.0))
@settings(max_examples=30, deadline=None)
def test_more_cache_never_costs_time(shape: Architecture, factor: float) -> None:
    c = constants(PHONE)
    larger = dataclasses.replace(
        c, cache_capacity=tuple(factor * size for size in c.cache_capacity)
    )
    faster = dataclasses.replace(
        c, cache_bandwidth=tuple(factor * rate for rate in c.cache_bandwidth)
    )
    now = decode_s(shape, c)
    assert decode_s(shape, larger) <= now * (1 + 1e-12)
    assert decode_s(shape, faster) <= now * (1 + 1e-12)


def test_a_cache_that_keeps_half_of_a_block_serves_half_of_it_again() -> None:
    c = constants(PHONE)
    half = dataclasses.replace(c, cache_retained=(0.5,))
    once = load_architecture("mobilellm-125m")
    twice = dataclasses.replace(once, sharing=2)
    assert decode_s(once, half) == decode_s(once, c)  # nothing is read twice
    reread = parts_of(twice, half, CHAT)["cached re-reads"]
    share = reread.bytes_cached / (reread.bytes_cached + reread.bytes_moved)
    assert float(share[0]) == pytest.approx(0.5)
    assert decode_s(twice, half) > decode_s(twice, c)


@given(shapes)
@settings(max_examples=30, deadline=None)
def test_more_work_never_takes_less_time(shape: Architecture) -> None:
    c = constants(PHONE)
    now = decode_s(shape, c)
    for change in (
        {"n_blocks": shape.n_blocks + 1},
        {"d_ff": shape.d_ff + 64},
        {"sharing": shape.sharing + 1},
        {"vocab_size": 40000},
    ):
        assert decode_s(dataclasses.replace(shape, **cast(Any, change)), c) >= now * (1 - 1e-12)
    assert decode_s(shape, c, weight_bits=16) >= decode_s(shape, c, weight_bits=4)


def test_a_second_application_is_nearly_free_where_a_cache_holds_the_block() -> None:
    """Immediate order needs a block in the cache; cycle order the whole stack."""
    c = constants(PHONE)
    once = load_architecture("mobilellm-125m")
    twice = dataclasses.replace(once, sharing=2)
    deep = dataclasses.replace(once, n_blocks=60)
    work = Workload(name="one", prompt=1, generated=1, context=1)
    first, second, distinct = (decode_s(a, c, work, weight_bits=16) for a in (once, twice, deep))
    assert second - first < 0.15 * (distinct - first)
    in_cycles = dataclasses.replace(twice, sharing_order="cycle")
    cycle = decode_s(in_cycles, c, work, weight_bits=16)
    assert cycle == pytest.approx(distinct, rel=0.02)
    # A stack that fits in the cache is served from it in either order.
    small = Architecture(
        vocab_size=256,
        d_model=128,
        n_blocks=4,
        sharing=2,
        n_heads=2,
        n_kv_heads=2,
        head_dim=64,
        d_ff=256,
    )
    small_cycle = dataclasses.replace(small, sharing_order="cycle")
    assert decode_s(small_cycle, c, work) == pytest.approx(decode_s(small, c, work), rel=1e-9)
    # Prelude and coda are stored, read and applied once; in cycles, two blocks are kept for reuse.
    looped = dataclasses.replace(once, n_prelude=14, n_coda=14, sharing=16, sharing_order="cycle")
    assert looped.depth == 60
    again = decode_s(looped, c, work, weight_bits=16)
    assert first < again < distinct - 0.5 * (distinct - first)


def test_a_model_that_fits_in_the_cache_reads_nothing_from_memory() -> None:
    small = Architecture(
        vocab_size=256, d_model=128, n_blocks=4, n_heads=2, n_kv_heads=2, head_dim=64, d_ff=256
    )
    parts = parts_of(small, constants(PHONE), Workload(name="w", prompt=1, generated=1, context=1))
    assert sum(float(part.bytes_moved[0]) for part in parts.values()) == 0


def test_energy_is_the_sum_of_bytes_operations_and_time() -> None:
    profile = load_device("jetson-orin-nano-25w")
    c = constants(profile)
    model = load_architecture("smollm2-360m")
    parts = parts_of(model, c, CHAT).values()
    by_part = sum(float(part.joules(c)[0]) for part in parts)
    total = costs(batch_of(model), profile, CHAT)
    assert float(total.energy_per_token_j[0]) == pytest.approx(by_part, rel=1e-12)
    seconds = sum(float(part.seconds[0]) for part in parts)
    assert float(total.decode_s[0]) == pytest.approx(seconds, rel=1e-12)


def test_a_batch_shares_the_weights_it_reads() -> None:
    model, c = load_architecture("llama-3.2-1b"), constants(load_device("h100"))
    one, many = (Workload(name="w", prompt=128, generated=128, batch=b) for b in (1, 16))
    step_one, step_many = decode_s(model, c, one), decode_s(model, c, many)
    assert step_one < step_many < 16 * step_one
    weights = parts_of(model, c, many)["MLP weights"].bytes_moved[0]
    assert weights == pytest.approx(parts_of(model, c, one)["MLP weights"].bytes_moved[0], rel=1e-3)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    """Costing in pieces and threads equals costing one at a time."""
    generator = np.random.default_rng(1)
    n = 20_000
    kv = generator.integers(1, 9, n)
    batch = ArchitectureBatch(
        vocab_size=np.full(n, 32000),
        d_model=64 * generator.integers(2, 30, n),
        n_blocks=generator.integers(2, 60, n),
        sharing=generator.integers(1, 4, n),
        n_heads=kv * generator.integers(1, 5, n),
        n_kv_heads=kv,
        head_dim=np.full(n, 64),
        d_ff=64 * generator.integers(4, 100, n),
        tied_embeddings=generator.integers(0, 2, n),
        window=generator.choice([0, 512], n),
        global_every=np.full(n, 3),
    )
    bits = generator.choice([4.0, 8.0, 16.0], n)
    whole = costs(batch, PHONE, CHAT, weight_bits=bits)
    for index in (0, 8191, 8192, n - 1):
        one = costs(batch.take([index]), PHONE, CHAT, weight_bits=float(bits[index]))
        for field in dataclasses.fields(whole):
            a, b = getattr(whole, field.name)[index], getattr(one, field.name)[0]
            if isinstance(a, str):
                assert a == b
            else:
                np.testing.assert_allclose(a, b, rtol=1e-12)


def test_memory_holds_weights_once_and_keys_for_each_application() -> None:
    base = load_architecture("mobilellm-125m")
    shared = dataclasses.replace(base, sharing=2)
    profile = load_device("mobilellm-phone")
    one, two = (float(costs(batch_of(a), profile, CHAT).memory_bytes[0]) for a in (base, shared))
    kv = 2 * base.n_kv_heads * base.head_dim * 2 * base.depth * CHAT.final_context
    assert two - one == pytest.approx(kv)
    assert one > base.total_parameters + kv


def test_sparse_decode_reads_its_budget_and_pages() -> None:
    base = load_architecture("llama-2-7b")
    work = Workload(name="w", prompt=1, generated=1, context=8192)
    quest = Workload(
        name="q", prompt=1, generated=1, context=8192, decode_attention=Quest(budget=1024, page=16)
    )
    evict = Workload(
        name="e", prompt=1, generated=1, context=8192, decode_attention=Eviction(capacity=1024)
    )
    read = {
        w.name: float(parts_of(base, PLAIN, w)["KV cache"].bytes_moved[0])
        for w in (work, quest, evict)
    }
    token = 2 * base.n_kv_heads * base.head_dim * 2 * base.depth
    assert read["w"] == token * 8193
    assert read["e"] == token * 1025
    assert read["q"] == token * 1025 + token / 2 * 2 * 8192 / 16  # two key vectors a page
    memory = {
        w.name: float(costs(batch_of(base), PHONE, w).memory_bytes[0]) for w in (work, quest, evict)
    }
    assert memory["e"] < memory["w"] < memory["q"]


def test_unknown_price_and_energy_are_not_numbers() -> None:
    bare = msgspec.structs.replace(load_device("m2-pro"), energy=None)
    found = costs(batch_of(load_architecture("mobilellm-125m")), bare, CHAT)
    assert np.isnan(found.energy_per_token_j[0])
    assert np.isnan(found.artifact_price[0])
    priced = costs(batch_of(load_architecture("llama-2-7b")), load_device("a100"), CHAT)
    dollars = priced.artifact_s[0] * 1.8 / 3600
    assert priced.artifact_price[0] == pytest.approx(dollars)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_bits": 0},
        {"weight_bits": -4},
        {"kv_bits": float("nan")},
        {"activation_bits": 1e9},
    ],
)
def test_precisions_that_no_format_has_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as error:
        costs(batch_of(load_architecture("mobilellm-125m")), PHONE, CHAT, **options)
    assert "\n" not in str(error.value)
