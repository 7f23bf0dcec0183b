"""How blocks are shared, from a list of the stored block that each layer applies.

This project's own exports say it so: `applied_blocks` of a config.json with custom model code.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown

MOST_LAYERS = 100_000


def applied_blocks_of(config: Mapping[str, Any]) -> list[int] | None:
    """The stored block (from 0) of each layer; None where each layer is a block of its own.

    Raises:
        BadInput: not one stored block for each of `num_hidden_layers`.
    """
    applied = config.get("applied_blocks")
    if applied is None:
        return None
    if (
        not isinstance(applied, list)
        or not 0 < len(applied) <= MOST_LAYERS
        or len(applied) != config.get("num_hidden_layers")
        or not all(type(block) is int for block in applied)
        or set(applied) != set(range(len(set(applied))))
    ):
        raise BadInput(
            f"applied_blocks = {shown(applied, 40)}: the number of a stored block for each of "
            "num_hidden_layers is needed"
        )
    return applied


def topology_of(applied: list[int], injected: bool) -> dict[str, Any]:
    """The fields of an architecture that say how its blocks are shared."""
    times = Counter(applied)
    repeated = [block for block in range(len(times)) if times[block] > 1]
    if not repeated:
        return {"n_blocks": len(times)}
    prelude, end = repeated[0], repeated[-1] + 1
    return {
        "n_blocks": len(times),
        "sharing": times[prelude],
        "n_prelude": prelude,
        "n_coda": len(times) - end,
        "sharing_order": "cycle" if prelude + 1 in applied[prelude : prelude + 2] else "immediate",
        "input_injection": injected,
    }


def check_order(architecture: Architecture, applied: list[int]) -> None:
    """Raises BadInput where the architecture applies its blocks otherwise."""
    if architecture.applied_blocks() != applied:
        raise BadInput(
            f"applied_blocks = {shown(applied, 40)}: blocks shared in this order cannot be "
            "expressed"
        )


def by_stored_block(kinds: list[Any], applied: list[int]) -> list[Any]:
    """What is said of each layer, of each stored block instead: where it is applied first."""
    if len(kinds) != len(applied):
        raise BadInput(f"layer_types: {len(kinds)} kinds for {len(applied)} layers")
    first = dict(zip(reversed(applied), reversed(kinds), strict=True))
    return [first[block] for block in range(len(first))]
