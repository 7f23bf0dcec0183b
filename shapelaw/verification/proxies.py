"""Proxies: the proportions of large shapes at sizes that can be trained here.

A proxy keeps the MLP-to-attention ratio, the grouping of queries, the sharing of its shape and its
d_model / blocks, the last up to one factor that all proxies of a size have in common: at equal
proportions a small model would have one block or two, and nothing could be learned of depth. What
is compared is kept: a rival twice as deep as the pick has a proxy twice as deep as the pick's.
"""

import dataclasses
import math

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.design import shapes
from shapelaw.verification.question import Finalist

VOCABULARY = 256
SIZE_FACTOR = 2.5
"""Between the two sizes: far enough apart that what drifts with size is seen to drift."""
TOKENS_PER_PARAMETER = (10, 20)
"""Two budgets of one run each: the second costs little more, since they share their start."""
SMALLEST = 20_000
"""Non-embedding parameters: below it blocks and heads are too few to have proportions."""
SEQUENCE_LENGTH = 256
LEAST_BLOCKS = 4
"""Of the pick's proxy, so that rivals can be shallower and deeper."""


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A small shape in place of a large one."""

    finalist: int
    """Which of the question's."""
    size: int
    """Nominal non-embedding parameters."""
    architecture: Architecture


def slimming(pick: Architecture, size: int) -> float:
    """What every d_model / blocks is multiplied by, at most 1, so that the pick's proxy is deep."""
    per_square = pick.block_parameters / pick.d_model**2
    widest = math.sqrt(size / (per_square * LEAST_BLOCKS**3))
    return min(1.0, widest / (pick.d_model / pick.n_blocks))


def proxy_of(architecture: Architecture, size: int, slim: float = 1.0) -> Architecture:
    """The shape of `size` non-embedding parameters nearest in proportion.

    Args:
        slim: multiplies d_model / blocks; see `slimming`.

    Raises:
        BadInput: no shape in whole numbers comes near.
    """
    a = architecture
    group = int(a.gqa_group)
    for gqa_group in (g for g in range(group, 0, -1) if group % g == 0):
        point = shapes.Point(
            non_embedding=size,
            aspect_ratio=slim * a.d_model / a.n_blocks,
            base_mlp_attention_ratio=float(a.mlp_attention_ratio),
            mlp_attention_ratio=float(a.mlp_attention_ratio),
            base_gqa_group=gqa_group,
            gqa_group=gqa_group,
            sharing=a.sharing,
            sharing_order=a.sharing_order,
            n_prelude=min(a.n_prelude, 1),
            n_coda=min(a.n_coda, 1),
            input_injection=a.input_injection,
        )
        try:
            return shapes.solve(point, VOCABULARY)
        except shapes.Infeasible as error:
            why = str(error)
    raise BadInput(f"size = {size}: no proxy of {a.d_model} x {a.n_blocks} blocks: {why}")


def proxies_at(finalists: tuple[Finalist, ...], sizes: tuple[int, ...]) -> list[Proxy]:
    """A proxy of each finalist at each size; those that come out alike are one.

    Raises:
        BadInput: as `proxy_of`, or no two finalists differ at any size.
    """
    found: list[Proxy] = []
    for size in sizes:
        made: set[Architecture] = set()
        slim = slimming(finalists[0].architecture, size)
        for number, finalist in enumerate(finalists):
            small = proxy_of(finalist.architecture, size, slim)
            if small not in made:
                made.add(small)
                found.append(Proxy(number, size, small))
    if len(found) == len(sizes):
        raise BadInput(
            f"size = {max(sizes)}: the finalists' proxies come out alike; more FLOPs are needed"
        )
    return found


def proxy_flops(proxy: Proxy, seeds: int) -> float:
    """Training FLOPs of all seeds, the second budget going on where the first left off.

    A first estimate, to choose sizes by; a plan counts each step.
    """
    tokens = max(TOKENS_PER_PARAMETER) * proxy.size * 1.1
    return float(3 * proxy.architecture.forward_flops_per_token(SEQUENCE_LENGTH) * tokens * seeds)
