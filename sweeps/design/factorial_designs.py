"""Pure combinators: which points a design visits, as overlays over a base point.

An overlay names the axes it sets and their values; a list of overlays is a design. Combinators
take and return such lists, so a sweep is built by composing them and laid over the base last.
"""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from shapelaw.scaling.errors import BadInput

Value = int | float | str | tuple[float, ...] | None
Overlay = Mapping[str, Value]
Overlays = list[dict[str, Value]]


def axis(name: str, values: Sequence[Value]) -> Overlays:
    """One overlay a value."""
    return [{name: value} for value in values]


def chain(*designs: Overlays) -> Overlays:
    """One design after another; an overlay that came before is left out."""
    found: Overlays = []
    for overlay in itertools.chain(*designs):
        if overlay not in found:
            found.append(overlay)
    return found


MOST_POINTS = 100_000


def product(*designs: Overlays) -> Overlays:
    """Every combination. Raises BadInput where two designs set the same axis, or for too many."""
    points = math.prod(map(len, designs))
    if points > MOST_POINTS:
        raise BadInput(f"cross: {points} combinations; at most {MOST_POINTS} are done")
    return [_merge(parts) for parts in itertools.product(*designs)]


def zipped(*designs: Overlays) -> Overlays:
    """The first of each, the second of each, ... Raises BadInput where lengths differ."""
    lengths = {len(design) for design in designs}
    if len(lengths) > 1:
        names = ", ".join(f"{next(iter(d[0]), '')} has {len(d)}" for d in designs if d)
        raise BadInput(f"zip: the axes need equally many values ({names})")
    return [_merge(parts) for parts in zip(*designs, strict=True)]


def one_at_a_time(axes: Mapping[str, Sequence[Value]]) -> Overlays:
    """The base itself, then each value of each axis with all others at the base."""
    return chain([{}], *(axis(name, values) for name, values in axes.items()))


def full_factorial(axes: Mapping[str, Sequence[Value]], base: Overlay) -> Overlays:
    """Every combination of the axes' values, the base's own value of each included."""
    return product(
        *(chain(axis(name, [base[name]]), axis(name, values)) for name, values in axes.items())
    )


def latin_hypercube(
    ranges: Mapping[str, Sequence[float]], count: int, seed: int, whole: frozenset[str]
) -> Overlays:
    """`count` points, each axis cut into `count` equal strata with one point in each.

    Args:
        ranges: for an axis of ratios (low, high), sampled evenly in the logarithm; for an axis in
            `whole`, the values to choose from, each as often as the others to within one.
        seed: of the shuffles; the same seed gives the same points.
    """
    generator = np.random.default_rng(seed)
    columns: dict[str, list[Value]] = {}
    for name, values in ranges.items():
        strata = generator.permutation(count)
        if name in whole:
            columns[name] = [values[int(stratum) * len(values) // count] for stratum in strata]
            continue
        if len(values) != 2 or not 0 < values[0] < values[1]:
            raise BadInput(f"latin {name} = {list(values)}: a low and a high value are needed")
        low, high = math.log(values[0]), math.log(values[1])
        places = (strata + generator.random(count)) / count
        columns[name] = [math.exp(low + float(place) * (high - low)) for place in places]
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def iso_parameter(sizes: Sequence[int], design: Overlays) -> Overlays:
    """The design at each non-embedding size: shapes to be compared at equal parameters."""
    return product(axis("non_embedding", sizes), design)


def iso_flop(budgets: Sequence[float], sizes: Sequence[int], design: Overlays) -> Overlays:
    """The design at each size, its token budgets set so that training costs these FLOPs."""
    return product(axis("non_embedding", sizes), axis("flops", [tuple(budgets)]), design)


def _merge(parts: Sequence[Overlay]) -> dict[str, Value]:
    merged: dict[str, Value] = {}
    for part in parts:
        for name in part:
            if name in merged:
                raise BadInput(f"{name}: set twice in one combination")
        merged.update(part)
    return merged
