"""What an answer says beside its pick: near-ties, shapes people know, gains, and warnings."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.search.answer.answer import Beside, Candidate, candidates
from shapelaw.search.answer.baselines import best_row, known_families, llama_like, priced
from shapelaw.search.pareto.budget import RELAXED
from shapelaw.search.pareto.feasibility import joint_draws, probability
from shapelaw.search.pareto.finalists import PointsOf, first_confident
from shapelaw.search.pareto.loss_differences import loss_differences
from shapelaw.search.pareto.problem import LossModel, Points, Problem
from shapelaw.search.pareto.search_finds import Collected, plainness
from shapelaw.search.space.grid import Grid

TIE = 0.0025
"""Share of the best's loss (or speed, with a loss to reach) within which a shape is a near-tie:
.007 nats at a loss of 2.8, the size of the noise between seeds."""

WORTH = 1.05
"""A near-tie is named when it is this many times as fast or as small."""


@dataclasses.dataclass(frozen=True, eq=False)
class Named:
    """One point, and why it is worth naming beside the best."""

    why: str
    point: Points


def compared(
    problem: Problem, best: Points, others: list[Named], confidence: float
) -> tuple[Candidate, list[Beside]]:
    """The best (one point) as a candidate, and the others with their distance from it.

    Two batches of draws in all, whatever the number of points.
    """
    everyone = Points.join([best, *(other.point for other in others)])
    tokens = problem.budget.training_tokens(everyone.architectures)
    gaps = loss_differences(problem.law, everyone, tokens)
    found = candidates(problem, everyone)
    joint = joint_draws(problem, everyone)
    chance = joint.probability
    return found[0], [
        Beside(
            why=other.why,
            candidate=candidate,
            loss_difference=gap.middle,
            loss_difference_interval=gap.interval,
            probability_better=gap.probability_lower,
            feasible=bool(chance[row] >= confidence),
            budget_probability={name: float(met[:, row].mean()) for name, met in joint.met.items()},
        )
        for row, (other, candidate, gap) in enumerate(
            zip(others, found[1:], gaps, strict=True), start=1
        )
    ]


def near_ties(
    problem: Problem, anchor: Points, points_of: PointsOf, collected: Collected, confidence: float
) -> list[Named]:
    """The fastest, the smallest and the plainest within a tie of the best (`anchor`).

    Of those that meet every budget with the same confidence. A shape that is two of these is named
    once, with both words.
    """
    goal = float(problem.price(anchor.columns, problem.goal)[0])
    most = goal + TIE * abs(goal)
    found: list[Named] = []

    def within(keys: np.ndarray) -> Points | None:
        points = points_of(keys)
        points = points.take(np.flatnonzero(problem.price(points.columns, problem.goal) <= most))
        points = points.take(np.flatnonzero(probability(problem, points) >= confidence))
        return points if len(points) else None

    front = within(collected.front.keys)
    if front is not None and problem.target_loss is None:
        fastest = front.take(np.array([np.argmax(front.columns["decode_tokens_per_s"])]))
        gain = (fastest.columns["decode_tokens_per_s"] / anchor.columns["decode_tokens_per_s"])[0]
        if gain >= WORTH:
            found.append(Named("faster", fastest))
    if front is not None and problem.target_loss is not None:
        lowest = front.take(np.array([np.argmin(front.columns["loss"])]))
        if lowest.columns["loss"][0] < anchor.columns["loss"][0]:
            found.append(Named("lower loss", lowest))
    small = within(collected.small.keys)
    if small is not None:
        smallest = small.take(np.array([np.argmin(small.columns["memory_bytes"])]))
        if anchor.columns["memory_bytes"][0] / smallest.columns["memory_bytes"][0] >= WORTH:
            found.append(Named("smaller", smallest))
    plain = within(collected.plain.keys)
    if plain is not None:
        scores = plainness(plain.architectures)
        plainest = plain.take(np.array([np.argmax(scores)]))
        if scores.max() > plainness(anchor.architectures)[0]:
            found.append(Named("plainer", plainest))
    merged: dict[int, Named] = {}
    for named in found:
        key = int(named.point.keys[0])
        if key in merged:
            named = dataclasses.replace(merged[key], why=f"{merged[key].why}, {named.why}")
        if key != anchor.keys[0]:
            merged[key] = named
    return list(merged.values())


def baselines(
    problem: Problem, best: Architecture, formats: np.ndarray, confidence: float
) -> list[Named]:
    """LLaMA's proportions, and the best member of each known family, under the same budgets.

    Where no member of a family meets them with confidence, the one that comes closest.
    """
    groups: list[tuple[str, list[str], list[Architecture]]] = []
    shapes = llama_like(best.vocab_size, best.tied_embeddings)
    groups.append(("LLaMA-like", [], shapes))
    for family, members in known_families().items():
        groups.append((family, list(members), list(members.values())))
    found = []
    for why, names, architectures in groups:
        points = priced(problem, architectures, formats)
        row = best_row(problem, points, confidence)
        name = names[row // len(formats)] if names else why
        found.append(Named(name, points.take(np.array([row]))))
    return found


def gains(
    problem: Problem,
    collected: Collected,
    points_of: PointsOf,
    rivals: Points,
    best: Candidate,
    confidence: float,
) -> tuple[dict[str, float], list[str]]:
    """(gain per unit of each budget, budgets that bind), each a tenth more generous.

    The gain is in nats per token for each byte, token/s, second, joule, training token or FLOP;
    with a loss to reach it is in tokens/s of decode. What the more generous budget lets through has
    to meet every budget with the same confidence. For training it is taken over the good rivals,
    whose order more training may change.
    """
    goal = best.loss if problem.target_loss is None else -best.decode_tokens_per_s
    relax = {}
    for limit in problem.limits:
        goals, keys = collected.ranked_relaxed(limit.name)
        asked = problem.with_relaxed(limit)
        key, relaxed = first_confident(asked, keys[goals < goal], points_of, confidence)
        relax[limit.name] = 0.0 if key is None else max(0.0, goal - relaxed) / limit.step
    binding = [name for name, gain in relax.items() if gain > 0]
    if problem.target_loss is None:
        tokens = problem.budget.training_tokens(rivals.architectures, RELAXED)
        gained = max(0.0, goal - float(problem.law.loss(rivals.architectures, tokens).min()))
        if problem.budget.flops is not None:
            relax["flops"] = gained / (float(problem.budget.flops) * (RELAXED - 1))
        else:
            relax["tokens"] = gained / (best.training_tokens * (RELAXED - 1))
    return relax, binding


def extrapolation_warnings(problem: Problem, best: Candidate) -> list[str]:
    """One line for each axis on which the law is asked beyond what it saw."""
    seen = getattr(problem.law, "range", {})
    found = []
    for axis, factor in best.extrapolated.items():
        span = f" (seen: {seen[axis][0]:.4g} to {seen[axis][1]:.4g})" if axis in seen else ""
        found.append(
            f"law {problem.law.label} extrapolates on {axis}: {factor:.3g} times beyond "
            f"what it saw{span}"
        )
    return found


def depth_warnings(problem: Problem, best: Candidate) -> list[str]:
    """A line where the pick's depth lies outside the evidence's 90 % band of best depths."""
    from shapelaw.scaling.evidence.evidence_law import EvidenceLaw

    law = problem.law
    while not isinstance(law, EvidenceLaw) and hasattr(law, "law"):
        law = law.law
    if not isinstance(law, EvidenceLaw):
        return []
    shape = best.architecture
    n = float(shape.non_embedding_parameters)
    low, high = np.quantile(law.best_depth(np.array([n]))[:, 0], [0.05, 0.95])
    if shape.depth >= low and shape.n_blocks <= high:
        return []
    limits = ", ".join(limit.name for limit in problem.limits)
    held = f"the budget ({limits})" if limits else "the walls of the space"
    return [
        f"{shape.depth} layers are outside the evidence's band of best depths at {n:.3g} "
        f"parameters, {low:.0f} to {high:.0f} (90 %): {held} and the evidence's own uncertainty "
        "decide here"
    ]


BLIND_MOST = 0.5
"""Of the probability of being best, where the space varies an axis that no run of the law varied:
along it the order of shapes was never seen."""


def blind_axes(law: LossModel, grid: Grid) -> list[str]:
    """Axes of shape that the space varies and that the law's runs never did."""
    ratios = grid.ratio if grid.ratio is not None else grid.d_ff
    moves = {
        "sharing": len(grid.sharing) > 1,
        "gqa_group": len(grid.gqa_group) > 1,
        "mlp_attention_ratio": ratios is not None and len(ratios) > 1,
        "aspect_ratio": len(grid.d_model) > 1 and len(grid.blocks) > 1,
    }
    never: Sequence[str] = getattr(law, "never_varied", ())
    return [axis for axis in never if moves.get(axis, False)]


def blind_spots(problem: Problem, grid: Grid) -> list[str]:
    """One line for each axis that varies in the space and that the law's runs never varied."""
    law = problem.law
    free: list[str] = []
    if len(grid.bits) > 1:
        free.append("weight bits")
    if len(grid.vocab_size) > 1:
        free.append("vocabulary")
    if len(grid.patterns) > 1:
        free.append("attention window")
    blind = blind_axes(law, grid)
    reads = _features(law)
    if reads is not None:
        if len(grid.sharing) > 1 and "ln_s" not in reads and "sharing" not in blind:
            free.append("sharing")
        if len(grid.gqa_group) > 1 and "ln_g" not in reads and "gqa_group" not in blind:
            free.append("GQA group")
    lines = [
        f"law {law.label} knows nothing of {axis}: chosen on cost alone, as if the "
        "loss did not depend on it"
        for axis in free
    ]
    if blind:
        from shapelaw.scaling.law import Law, never_seen

        # Beneath the mean over its draws and the price of a format.
        while not isinstance(law, Law) and hasattr(law, "law"):
            law = law.law
        if isinstance(law, Law):
            lines += [never_seen(law, axis) for axis in blind]
        lines.append(
            f"the space varies {', '.join(blind)}, which no run of law {law.label} did: the "
            f"probability that the pick is best is held to at most {BLIND_MOST:g}"
        )
    return lines


def rising(problem: Problem, best: Candidate) -> list[str]:
    """A line where the law says that a larger model of the pick's shape would be worse."""
    law = problem.law
    forms = [member.form for member in getattr(law, "members", ())]
    if not any(form.rises_with(("ln_n", "ln_width", "ln_depth")) for form in forms):
        return []
    shape = best.architecture
    step = max(1, shape.n_blocks // 8)
    larger = ArchitectureBatch.of(
        [shape, dataclasses.replace(shape, n_blocks=shape.n_blocks + step)]
    )
    loss = law.loss(larger, best.training_tokens)
    if loss[1] <= loss[0]:
        return []
    return [
        f"law {law.label} says that a deeper model would be worse on so few tokens "
        f"({loss[1] - loss[0]:.2g} nats): its runs show larger models behind at equal "
        "tokens, and nothing bounds that here"
    ]


def _features(law: LossModel) -> Sequence[str] | None:
    declaration = getattr(law, "declaration", None)
    if declaration is None:
        return None
    from shapelaw.scaling.features import wanted_features

    return wanted_features(declaration)
