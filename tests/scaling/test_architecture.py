"""Topologies: which block is applied where, by brute force and against published models."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput


def shape(**changes: Any) -> Architecture:
    fields: dict[str, Any] = {
        "vocab_size": 256,
        "d_model": 32,
        "n_blocks": 6,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 8,
        "d_ff": 64,
    }
    return Architecture(**(fields | changes))


def every_topology() -> list[Architecture]:
    found = []
    for prelude, shared, coda, sharing, order, pattern in itertools.product(
        (0, 1, 2),
        (1, 2, 3),
        (0, 1, 3),
        (1, 2, 4),
        ("immediate", "cycle"),
        ({}, {"window": 8}, *({"window": 8, "global_every": k} for k in (1, 2, 3, 5))),
    ):
        found.append(
            shape(
                n_blocks=prelude + shared + coda,
                n_prelude=prelude,
                n_coda=coda,
                sharing=sharing,
                sharing_order=order,
                input_injection=order == "cycle",
                **pattern,
            )
        )
    return found


def test_formulas_count_what_the_list_of_applied_blocks_holds() -> None:
    shapes = every_topology()
    batch = ArchitectureBatch.of(shapes)
    for row, a in enumerate(shapes):
        applied = a.applied_blocks()
        times = [applied.count(block) for block in range(a.n_blocks)]
        middle = slice(a.n_prelude, a.n_blocks - a.n_coda)
        assert set(times[middle]) == {a.sharing}
        assert all(count == 1 for count in times[: a.n_prelude] + times[middle.stop :])
        assert applied[: a.n_prelude] == list(range(a.n_prelude))
        assert applied[len(applied) - a.n_coda :] == list(range(middle.stop, a.n_blocks))
        again = [
            places[1] - places[0]
            for block in range(a.n_blocks)
            if len(places := [i for i, b in enumerate(applied) if b == block]) > 1
        ]
        if again:
            assert set(again) == {a.reuse_blocks}
        assert a.depth == len(applied) == batch.depth[row]
        global_blocks = [block for block in range(a.n_blocks) if a.is_global(block)]
        assert a.n_global_blocks == len(global_blocks) == batch.n_global_blocks[row]
        layers = sum(times[block] for block in global_blocks)
        assert a.n_global_layers == layers == batch.n_global_layers[row]
        assert a.once_parameters + a.shared_parameters == a.non_embedding_parameters
        assert a.applied_parameters == a.depth * a.block_parameters + a.d_model
        assert batch.applied_parameters[row] == a.applied_parameters
        assert batch.forward_flops_per_token(64)[row] == a.forward_flops_per_token(64)
        assert len(a.injected_layers()) == a.n_injections == batch.n_injections[row]
        assert batch[row] == a
        assert Architecture.from_dict(a.to_dict()) == a


def test_orders_are_those_of_the_papers() -> None:
    """MobileLLM applies each block twice running; looped models repeat the stack between two ends.

    2 + 4·4 + 2 = 20 applied layers (arXiv 2604.21106).
    """
    assert shape(n_blocks=3, sharing=2).applied_blocks() == [0, 0, 1, 1, 2, 2]
    looped = shape(
        n_blocks=8, n_prelude=2, n_coda=2, sharing=4, sharing_order="cycle", input_injection=True
    )
    assert looped.depth == 20
    assert looped.applied_blocks() == [0, 1, *[2, 3, 4, 5] * 4, 6, 7]
    assert looped.injected_layers() == [6, 10, 14]
    assert looped.unshared().applied_blocks() == list(range(20))


def test_columns_of_topology_may_be_left_out() -> None:
    plain = ArchitectureBatch.of([shape(), shape(sharing=2)])
    short = ArchitectureBatch(
        **{
            field.name: getattr(plain, field.name)
            for field in dataclasses.fields(plain)
            if field.name not in ("n_prelude", "n_coda", "sharing_order", "input_injection")
        }
    )
    np.testing.assert_array_equal(short.depth, [6, 12])
    assert short[1] == plain[1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"n_prelude": -1}, "n_prelude = -1"),
        ({"n_prelude": True}, "n_prelude = True"),
        ({"n_prelude": 3, "n_coda": 3}, "at least one must be left"),
        ({"sharing_order": "sideways"}, "immediate or cycle"),
        ({"sharing": 2, "input_injection": True}, "needs sharing_order"),
        ({"input_injection": 1}, "true or false"),
    ],
)
def test_what_no_stack_can_be_is_said(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        shape(**changes)
