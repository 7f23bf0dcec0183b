"""Workloads: counting tokens, and sparse attention by its definitions."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import costs
from shapelaw.search.sparse_attention import (
    BlockSparse,
    Eviction,
    Quest,
    VerticalSlash,
    compression,
)
from shapelaw.search.workload import Workload, load_workload, workload_names


def test_the_presets_are_there() -> None:
    assert workload_names() == ["agent", "chat", "long-context", "summarise"]
    for name in workload_names():
        assert load_workload(name).name == name


@given(st.integers(1, 200), st.integers(1, 50), st.integers(1, 12))
def test_block_sparse_counts_the_blocks_it_computes(n: int, chunk: int, kept: int) -> None:
    rows = -(-n // chunk)
    pairs = [(i, j) for i in range(rows) for j in range(i + 1)]
    # Any choice of `kept` blocks a row computes as many; take the nearest.
    computed = [(i, j) for i, j in pairs if i - j < kept]
    assert BlockSparse(chunk, kept).sparsity(n) == pytest.approx(1 - len(computed) / len(pairs))


def test_vertical_slash_counts_tiles_and_strips() -> None:
    """A mask of whole 64×64 tiles below the diagonal and 64-row strips, entry by entry."""
    n, tiles, strips = 512, [(2, 0), (3, 1), (5, 2)], [(6, 7), (7, 70), (7, 200)]
    mask = np.zeros((n, n), bool)
    for row, column in tiles:
        mask[64 * row : 64 * row + 64, 64 * column : 64 * column + 64] = True
    for row, column in strips:
        mask[64 * row : 64 * row + 64, column] = True
    causal = np.tril(np.ones((n, n), bool))
    assert not np.any(mask & ~causal)
    expected = 1 - mask.sum() / causal.sum()
    assert VerticalSlash(blocks=3, columns=3).sparsity(n) == pytest.approx(expected, abs=1e-15)
    assert VerticalSlash(blocks=10**6, columns=1).sparsity(n) == 0


def test_decode_sparsities_count_what_is_read() -> None:
    for n, budget in itertools.product((1, 7, 64, 1000), (1, 64, 5000)):
        read = len(set(range(n)) & set(range(budget)))
        assert Quest(budget, 16).sparsity(n) == pytest.approx(1 - read / n)
        assert Eviction(budget).sparsity(n) == pytest.approx(1 - read / n)
    assert Quest(64, 16).page_vectors(1000) == 2 * 63  # two for each of ⌈1000/16⌉ pages
    assert Quest(64, 16).page_vectors(64) == 0
    assert compression(0.95) == pytest.approx(20)
    assert compression(1.0) == np.inf


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 90), st.floats(0, 1))
def test_prefill_pairs_count_what_each_query_sees(
    prompt: int, turns: int, window: int, cached: float
) -> None:
    """Query by query, with and without a window, for whole numbers of tokens."""
    work = Workload(name="w", prompt=prompt, generated=2, turns=turns, cached_share=cached)
    new, prefix = work.prefill_tokens, work.prefix_tokens
    full = work.prefill_pairs(np.array([0]))[0]
    assert full == pytest.approx(new * prefix + new * (new + 1) / 2)
    if new == int(new) and prefix == int(prefix):
        seen = [min(prefix + i, window) for i in range(1, int(new) + 1)]
        assert work.prefill_pairs(np.array([window]))[0] == pytest.approx(sum(seen))


def test_a_single_turn_is_its_prompt() -> None:
    work = Workload(name="w", prompt=100, generated=20)
    assert (work.prefill_tokens, work.prefix_tokens) == (100, 0)
    assert work.decode_context == 110
    assert work.final_context == 120
    assert Workload(name="w", prompt=1, generated=1, context=5000).decode_context == 5000


def test_turns_grow_the_context_and_the_mean_turn_stands_for_them() -> None:
    """Summing over turns equals turns times the mean turn where cost is linear in tokens."""
    work = Workload(name="w", prompt=30, generated=10, turns=5, cached_share=0.5)
    history = [40 * k for k in range(5)]
    assert work.mean_history == sum(history) / 5
    assert 5 * work.prefill_tokens == pytest.approx(sum(0.5 * (h + 30) for h in history))
    assert 5 * work.decode_context == pytest.approx(sum(h + 30 + 5 for h in history))
    assert work.final_context == 200


def test_the_artifact_is_all_turns() -> None:
    batch = ArchitectureBatch.of([load_architecture("mobilellm-125m")])
    work = load_workload("agent")
    found = costs(batch, load_device("iphone-13"), work)
    per_turn = found.prefill_s[0] + work.generated * found.decode_s[0]
    assert found.artifact_s[0] == pytest.approx(work.turns * per_turn)
    fresh = Workload(name="f", prompt=work.prompt, generated=work.generated, turns=work.turns)
    assert costs(batch, load_device("iphone-13"), fresh).artifact_s[0] > found.artifact_s[0]


@pytest.mark.parametrize(
    "text",
    [
        'name = "w"\nprompt = 0\ngenerated = 1',
        'name = "w"\nprompt = 10',
        'name = "w"\nprompt = 10\ngenerated = 1\ncolour = 3',
        'name = "w"\nprompt = 10\ngenerated = 1\ncached_share = 1.5',
        'name = "w"\nprompt = 10\ngenerated = 1\nbatch = -2',
        'name = "w"\nprompt = 10\ngenerated = 1\n[decode_attention]\nkind = "magic"',
        'name = "w"\nprompt = 10\ngenerated = 1\n[decode_attention]\nkind = "quest"\nbudget = 64',
        "name = ",
        "\x00",
    ],
)
def test_bad_files_are_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        load_workload(path)
    assert "\n" not in str(error.value)


def test_a_file_may_thin_attention(tmp_path: Path) -> None:
    path = tmp_path / "w.toml"
    path.write_text(
        'name = "thin"\nprompt = 8192\ngenerated = 64\n'
        '[prefill_attention]\nkind = "block-sparse"\nchunk = 64\nkept = 8\n'
        '[decode_attention]\nkind = "quest"\nbudget = 512\npage = 16\n'
    )
    work = load_workload(path)
    assert work.read_share(8192) == pytest.approx(512 / 8192)
    dense = Workload(name="dense", prompt=8192, generated=64)
    assert work.prefill_pairs(np.array([0]))[0] < 0.2 * dense.prefill_pairs(np.array([0]))[0]


def test_an_unknown_workload_names_the_known_ones() -> None:
    with pytest.raises(BadInput, match="chat"):
        load_workload("dance")
