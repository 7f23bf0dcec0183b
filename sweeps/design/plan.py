"""What a design costs and what it can tell, before it runs.

The columns of the design (logarithms of size, tokens, width, ratio, group, sharing, learning rate)
say what a law could learn from it: a column that never moves, or moves only with another, teaches
nothing of its own; an optimum needs three values.
"""

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.design import power
from shapelaw.sweeps.design.corpus_notes import corpus_notes
from shapelaw.sweeps.design.design import Design
from shapelaw.sweeps.design.layout import Dropped, Planned, layout
from shapelaw.sweeps.training.trunk import resolve
from shapelaw.sweeps.training_speed import Speed, known_speed
from shapelaw.sweeps.worker_environment import default_cache_dir, default_workers

CONFOUNDED = 0.95
"""Correlation of two columns above which a law can hardly tell their effects apart."""
NEGLIGIBLE = 0.02
"""Spread, in logarithm, that comes from rounding rather than from the design."""
VALUES_FOR_AN_OPTIMUM = 3

THREE_PERMILLE = 0.003
"""A difference worth seeing between shapes of equal parameters."""

SHAPE_COLUMNS = ("width_ratio", "mlp_attention_ratio", "gqa_group", "sharing")


def plan(design: Design, workers: int | None = None, *, by_command: bool = False) -> dict[str, Any]:
    """Runs, FLOPs, time on this machine, shapes, dropped points, and what is identified.

    `seconds` supposes that this machine goes as fast as in its last sweep; `speed_from` says where
    the figure is from. `flops_of_separate_runs` is what the same budgets would cost without trunks:
    so it is where a command trains each budget by itself (`by_command`).
    """
    planned, dropped = layout(design)
    workers = workers or default_workers()
    speed = known_speed(default_cache_dir())
    resolved = [resolve(one.job) for one in planned]
    flops = sum(trunk.flops for trunk in resolved)
    separate = sum(branch.flops for trunk in resolved for branch in trunk.branches)
    return {
        "design": design.name,
        "corpus": design.corpus_spec().label(),
        "tokenizer": design.tokenizer,
        "trunks": len(planned),
        "runs": sum(len(trunk.branches) for trunk in resolved),
        "shapes": len({one.architecture for one in planned}),
        "flops": flops,
        "flops_of_separate_runs": separate,
        "tokens": sum(trunk.trained_tokens for trunk in resolved),
        "workers": workers,
        "seconds": _seconds(planned, workers, speed),
        "speed_from": speed.source,
        "parts": _parts(planned),
        "sizes": _sizes(planned),
        "rows": [_row(one) for one in planned],
        "dropped": [{"part": one.part, "what": one.what, "why": one.why} for one in dropped],
        "identified": identified(planned),
        "power": power_of(planned),
        "batch_sequences": sorted({trunk.batch_sequences for trunk in resolved}),
        "notes": [
            *corpus_notes(design, planned),
            *_batch_notes(design, planned),
            *(_of_a_command(separate) if by_command else ()),
            *notes(planned, dropped),
            *_power_notes(planned),
        ],
    }


def columns(planned: list[Planned]) -> dict[str, np.ndarray]:
    """Logarithms of what a law sees, one row a run (a budget of a trunk): name → [runs]."""
    rows: dict[str, list[float]] = {
        name: [] for name in ("non_embedding", "tokens", *SHAPE_COLUMNS, "learning_rate")
    }
    for one in planned:
        for branch in resolve(one.job).branches:
            rows["non_embedding"].append(one.architecture.non_embedding_parameters)
            rows["tokens"].append(branch.tokens)
            for name in SHAPE_COLUMNS:
                rows[name].append(float(getattr(one.architecture, name)))
            rows["learning_rate"].append(one.job.learning_rate)
    return {name: np.log(np.array(values)) for name, values in rows.items()}


def identified(planned: list[Planned]) -> dict[str, Any]:
    """Which columns move, which never do, which move together.

    `varied` gives the range and the number of distinct values of each column that moves.
    `confounded` lists pairs with |correlation| above CONFOUNDED; `rank` is that of the moving
    columns together: below their number, some combination is not told apart.
    """
    table = columns(planned)
    moving = {name: values for name, values in table.items() if float(np.ptp(values)) > NEGLIGIBLE}
    varied = {
        name: {
            "low": float(np.exp(values.min())),
            "high": float(np.exp(values.max())),
            "values": _distinct(values),
        }
        for name, values in moving.items()
    }
    pairs = []
    for (first, a), (second, b) in itertools.combinations(moving.items(), 2):
        correlation = float(np.corrcoef(a, b)[0, 1])
        if abs(correlation) > CONFOUNDED:
            pairs.append({"columns": [first, second], "correlation": correlation})
    matrix = np.array([(v - v.mean()) / v.std() for v in moving.values()])
    rank = int(np.linalg.matrix_rank(matrix, tol=1e-6 * matrix.size)) if moving else 0
    return {
        "varied": varied,
        "constant": [name for name in table if name not in moving],
        "confounded": pairs,
        "rank": rank,
        "columns": len(moving),
        "optimum": [
            name
            for name in SHAPE_COLUMNS
            if name in varied and varied[name]["values"] >= VALUES_FOR_AN_OPTIMUM
        ],
        "crossed": _crossed(planned),
    }


def _distinct(values: np.ndarray) -> int:
    """Values that differ by more than rounding."""
    ordered = np.sort(values)
    return 1 + int(np.sum(np.diff(ordered) > NEGLIGIBLE))


def _crossed(planned: list[Planned]) -> list[list[str]]:
    """Pairs of shape columns of which some run moves both away from the commonest value."""

    def commonest(values: list[float]) -> float:
        return max(set(values), key=values.count)

    away: dict[str, list[bool]] = {}
    for name in ("d_model", "mlp_attention_ratio", "gqa_group", "sharing"):
        asked = [float(getattr(one.asked, name)) for one in planned]
        away[name] = [value != commonest(asked) for value in asked]
    return [
        [a, b]
        for a, b in itertools.combinations(away, 2)
        if any(x and y for x, y in zip(away[a], away[b], strict=True))
    ]


def notes(planned: list[Planned], dropped: list[Dropped]) -> list[str]:
    """What someone should know before spending the compute, in sentences."""
    found = identified(planned)
    table = columns(planned)
    said = [
        f"{name} never varies: a law from these runs says nothing about it."
        for name in found["constant"]
        if name != "learning_rate"
    ]
    for pair in found["confounded"]:
        first, second = pair["columns"]
        said.append(
            f"{first} and {second} move together (correlation {pair['correlation']:+.2f}): "
            "their effects cannot be told apart."
        )
    if found["rank"] < found["columns"]:
        said.append(f"only {found['rank']} of {found['columns']} columns are independent.")
    per_parameter = table["tokens"] - table["non_embedding"]
    if "tokens" in found["varied"] and "non_embedding" in found["varied"] and _few(per_parameter):
        said.append(
            "tokens are proportional to parameters: the exponents of the two cannot be "
            "told apart; give more than one budget per size."
        )
    said += [
        f"{name} has two values: an effect can be seen, an optimum cannot."
        for name in SHAPE_COLUMNS
        if name in found["varied"] and name not in found["optimum"]
    ]
    sizes = {one.nominal for one in planned if one.nominal}
    if len(sizes) == 1:
        said.append("one size only: nothing can be said about scale.")
    elif len(sizes) == 2:
        said.append("two sizes: an exponent can be fitted, and none can be held out.")
    seeds = {one.job.seed for one in planned}
    if len(seeds) == 1:
        said.append("one seed: the noise between runs is not measured.")
    if dropped:
        said.append(f"{len(dropped)} points have no shape in whole numbers and are left out.")
    return said


def _of_a_command(flops: float) -> list[str]:
    return [
        f"a command trains each budget by itself: {flops:.3g} FLOPs together, at a speed that is "
        "not known here."
    ]


def _batch_notes(design: Design, planned: list[Planned]) -> list[str]:
    """Which batch the runs have and why."""
    if design.batch_sequences is not None:
        return []
    smallest = min(min(one.job.tokens) for one in planned)
    batches = {resolve(one.job).batch_sequences for one in planned}
    if len(batches) > 1:
        return ["runs of several batches: their losses do not compare as they are."]
    (batch,) = batches
    return [
        f"one batch for all: {batch} sequences of {design.sequence_length} tokens, by the "
        f"rule for the smallest budget, {smallest:,} tokens. A smaller one added later may "
        f"change it, and so every run; batch_sequences = {batch} in the design keeps it."
    ]


def power_of(planned: list[Planned]) -> list[dict[str, Any]]:
    """For each set of budgets that shapes share: how small a difference between two is seen.

    `seeds` is how many most shapes have; `smallest_difference` is relative, with the noise and the
    meaning of `sweeps.design.power`;
    `seeds_for_three_permille` is how many seeds would see 0.3 %.
    """
    seeds: dict[tuple[int, ...], dict[Architecture, set[int]]] = {}
    for one in planned:
        if one.job.learning_rate == 1.0:
            budgets = tuple(branch.tokens for branch in resolve(one.job).branches)
            shapes = seeds.setdefault(budgets, {})
            shapes.setdefault(one.architecture, set()).add(one.job.seed)
    return [
        {
            "tokens": list(budgets),
            "shapes": len(shapes),
            "seeds": (count := _commonest(len(each) for each in shapes.values())),
            "noise_of_a_pair": power.pair_noise(budgets),
            "smallest_difference": power.smallest_difference(budgets, count),
            "seeds_for_three_permille": power.seeds_needed(THREE_PERMILLE, budgets),
        }
        for budgets, shapes in seeds.items()
        if len(shapes) > 1
    ]


def _commonest(counts: Iterable[int]) -> int:
    return Counter(counts).most_common(1)[0][0]


def _power_notes(planned: list[Planned]) -> list[str]:
    found = power_of(planned)
    if not found:
        return []
    best = min(found, key=lambda one: one["smallest_difference"])
    return [
        f"between two shapes of {_seeds(best['seeds'])} each, a difference of "
        f"{best['smallest_difference']:.2%} is seen with 90 % power at best (budgets to "
        f"{max(best['tokens']):,} tokens together); 0.3 % takes {best['seeds_for_three_permille']} "
        "seeds, or half as many over two pairs that ask the same."
    ]


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _few(per_parameter: np.ndarray) -> bool:
    return float(per_parameter.max() - per_parameter.min()) < 0.2


def _seconds(planned: list[Planned], workers: int, speed: Speed) -> float:
    """Greedy packing of the trunks on the workers, each with its compilation."""
    free = [0.0] * workers
    for one in planned:
        work = resolve(one.job).flops / speed.flops_per_second + speed.compile_seconds
        earliest = free.index(min(free))
        free[earliest] += work
    return max(free)


def _parts(planned: list[Planned]) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(one.part for one in planned))
    result = []
    for name in names:
        mine = [one for one in planned if one.part == name]
        result.append(
            {
                "part": name,
                "trunks": len(mine),
                "runs": sum(len(resolve(one.job).branches) for one in mine),
                "flops": sum(resolve(one.job).flops for one in mine),
            }
        )
    return result


def _sizes(planned: list[Planned]) -> list[dict[str, Any]]:
    result = []
    for size in sorted({one.nominal for one in planned if one.nominal}):
        mine = [one for one in planned if one.nominal == size]
        tokens = sorted({branch.tokens for one in mine for branch in resolve(one.job).branches})
        result.append(
            {
                "non_embedding": size,
                "trunks": len(mine),
                "tokens": tokens,
                "largest_deviation": max(abs(one.deviation) for one in mine),
            }
        )
    return result


def _row(one: Planned) -> dict[str, Any]:
    trunk = resolve(one.job)
    return {
        "part": one.part,
        "shape": one.label,
        "architecture": one.architecture.to_dict(),
        "non_embedding": one.architecture.non_embedding_parameters,
        "deviation": one.deviation,
        "seed": one.job.seed,
        "mlp_attention_ratio": one.architecture.mlp_attention_ratio,
        "learning_rate": trunk.learning_rate,
        "tokens": [branch.tokens for branch in trunk.branches],
        "flops": trunk.flops,
    }
