"""Which runs to do next: those that most reduce the uncertainty of the answer, within a budget.

A law's bootstrap draws say how the predicted losses of all shapes go together. Treating them as
one Gaussian, a run that has not been done yet tells about the answer as far as its predicted loss
varies with it: observing y with noise R leaves of the answer's variance

    Var(g | y) = Var(g) - Cov(g, y) [Cov(y) + R]^-1 Cov(y, g)

whatever y turns out to be (sequential experimental design for a linear model: Chaloner & Verdinelli
1995, equation 4). Runs are picked one by one; the covariances are updated after each.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from results.record import RunRecord
from scaling.architecture import Architecture, ArchitectureBatch
from scaling.errors import BadInput
from scaling.law import Law
from sweeps.design import Design, Planned
from sweeps.job import TrunkJob, resolve
from sweeps.sources import CorpusSpec

if TYPE_CHECKING:
    from rich.console import RenderableType

Array = np.ndarray
Goal = Literal["best shape", "loss"]

DRAWS = 400
MOST_TARGETS = 64
TOKENS_PER_PARAMETER = 20.0
"""Of a target whose training tokens nobody gave."""
NOISE_UNKNOWN = 0.008
"""Standard deviation of ln loss between seeds of small runs, where the law does not say."""
SHARED_NOISE = 0.8
"""Of a run's noise variance, what all budgets of its trunk share (its weights and text order)."""
RUN_LEAST_GAIN = 1e-12
UNSEEN_EFFECT = 0.02
"""Standard deviation of ln loss per factor e of a shape axis that a law has never seen vary."""
UNSEEN_AXES = {"ln_x": "width_ratio", "ln_r": "mlp_attention_ratio", "ln_g": "gqa_group",
               "ln_s": "sharing"}
"""Feature of a law -> property of an architecture."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A trunk that could be trained next."""

    part: str
    label: str
    job: TrunkJob
    architecture: Architecture
    tokens: tuple[int, ...]
    flops: float


def propose(
    design: Design,
    law: Law,
    count: int,
    *,
    flops: float | None = None,
    targets: Sequence[Architecture] | ArchitectureBatch | None = None,
    tokens: float | None = None,
    goal: Goal | None = None,
    held: Sequence[RunRecord] = (),
) -> dict[str, Any]:
    """The next `count` runs, of those the design could make, for the answer that matters.

    Args:
        design: its shapes, sizes and budgets are what can be run.
        law: fitted so far, with bootstrap draws.
        count: trunks to propose, at most.
        flops: training FLOPs they may cost together; `count` times the median candidate where None.
        targets: the shapes the answer is about: those that fit a device, say. The shapes of the
            design's largest size where None.
        tokens: the targets' training tokens; 20 for each non-embedding parameter where None.
        goal: `best shape`: which target has the least loss; `loss`: the targets' loss itself.
        held: runs already done; a shape proposed again gets a seed of its own.

    Returns:
        `runs` in the order picked; `uncertainty` before and after, in nats (the standard deviation
        of the loss differences that decide, or of the loss); `design`, a TOML text of the runs.

    Raises:
        BadInput: the law has no draws, or nothing fits the budget.
    """
    if count < 1:
        raise BadInput(f"next = {count}: one or more is needed")
    if flops is not None and not flops > 0:
        raise BadInput(f"flops = {flops}: a positive number is needed")
    if len(law.draws) < 2:
        raise BadInput(f"law = {law.label}: has no bootstrap draws; fit it with --bootstrap 200")
    batch = _targets(design, targets)
    budget_of_target = np.broadcast_to(
        tokens if tokens is not None else TOKENS_PER_PARAMETER * batch.non_embedding_parameters,
        (len(batch),))
    goal = goal or ("best shape" if len(batch) > 1 else "loss")
    candidates = candidates_of(design)
    budget = flops if flops is not None else count * float(
        np.median([one.flops for one in candidates]))
    beliefs, answer_weights, best = beliefs_of(law, candidates, batch, budget_of_target, goal)
    picks, after = pick(beliefs, answer_weights, candidates, run_noise(law), count, budget)
    if not picks:
        raise BadInput(f"flops = {budget:.3g}: the cheapest run costs "
                       f"{min(one.flops for one in candidates):.3g}")
    before = float(answer_weights @ np.diag(beliefs.covariance)[: len(answer_weights)])
    scale = float(np.exp(beliefs.best_log_loss))
    runs = _runs(picks, after, held, scale)
    return {
        "goal": goal, "law": law.label, "targets": len(batch), "flops_budget": budget,
        "flops": sum(run["flops"] for run in runs),
        "uncertainty": {"before": scale * math.sqrt(max(before, 0.0)),
                        "after": scale * math.sqrt(max(after[-1], 0.0))},
        "best": {"architecture": best[0].to_dict(), "probability": best[1]},
        "runs": runs,
        "design": design_text(design, runs),
    }


def candidates_of(design: Design) -> list[Candidate]:
    """Every shape of the design with its first budget, its first two, and so on.

    Batch and warmup stay those of the whole trunk, so that losses compare. Shapes that the design
    tries at another learning rate than the recipe's are left out.
    """
    found: dict[tuple[Architecture, tuple[int, ...], str], Candidate] = {}
    for planned in design.layout()[0]:
        if planned.job.learning_rate != 1.0:
            continue
        for one in _prefixes(planned):
            key = (one.architecture, one.tokens, one.job.sharing_order)
            found.setdefault(key, one)
    return list(found.values())


def _prefixes(planned: Planned) -> list[Candidate]:
    plan = resolve(planned.job)
    budgets = tuple(branch.tokens for branch in plan.branches)
    result = []
    for end in range(1, len(budgets) + 1):
        job = msgspec.structs.replace(
            planned.job, tokens=budgets[:end], batch_sequences=plan.batch_sequences,
            warmup_steps=plan.warmup_steps,
        )
        result.append(Candidate(
            part=planned.part, label=planned.label, job=job, architecture=planned.architecture,
            tokens=budgets[:end], flops=resolve(job).flops,
        ))
    return result


def _targets(
    design: Design, targets: Sequence[Architecture] | ArchitectureBatch | None
) -> ArchitectureBatch:
    if targets is None:
        planned = design.layout()[0]
        largest = max(one.nominal for one in planned)
        shapes = dict.fromkeys(one.architecture for one in planned if one.nominal == largest)
        return ArchitectureBatch.of(shapes)
    batch = targets if isinstance(targets, ArchitectureBatch) else ArchitectureBatch.of(targets)
    if not len(batch):
        raise BadInput("targets: at least one architecture is needed")
    return batch


# --- what is believed --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Beliefs:
    """One Gaussian over the answers [q] and, after them, every candidate's log losses [m]."""

    covariance: Array
    """[q + m, q + m]."""
    slices: list[slice]
    """Where each candidate's observations stand."""
    best_log_loss: float
    """Mean ln loss of the target believed best."""


def beliefs_of(
    law: Law, candidates: Sequence[Candidate], batch: ArchitectureBatch, tokens: Array, goal: Goal
) -> tuple[Beliefs, Array, tuple[Architecture, float]]:
    """The Gaussian, the weight of each answer, and the best target with its probability."""
    middle = law.loss(batch, tokens)
    top = np.argsort(middle)[:MOST_TARGETS]
    batch, tokens = batch.take(top), tokens[top]
    draws = np.log(law.loss_draws(batch, tokens, DRAWS))
    ignorance = _Ignorance(law, len(draws))
    draws = draws + ignorance.of(batch)
    answers, weights, best, probability = answers_of(draws, goal)
    shapes = ArchitectureBatch.of(one.architecture for one in candidates for _ in one.tokens)
    budgets = np.array([float(t) for one in candidates for t in one.tokens])
    observed = np.log(law.loss_draws(shapes, budgets, DRAWS)) + ignorance.of(shapes)
    both = np.concatenate([answers, observed], axis=1)
    centred = both - np.median(both, axis=0)
    # A draw that ran away would make every candidate look telling: spreads are clipped at four.
    spread = 1.4826 * np.median(np.abs(centred), axis=0)
    spread = np.where(spread > 0, spread, np.abs(centred).max(axis=0))
    centred = np.clip(centred, -4 * spread, 4 * spread)
    covariance = centred.T @ centred / (len(centred) - 1)
    slices, start = [], answers.shape[1]
    for one in candidates:
        slices.append(slice(start, start + len(one.tokens)))
        start += len(one.tokens)
    beliefs = Beliefs(covariance, slices, float(np.median(draws[:, best])))
    return beliefs, weights, (batch[best], probability)


class _Ignorance:
    """What a law has never seen vary it cannot be unsure of; this is unsure in its place.

    Each shape axis that its runs did not vary gets an effect on ln loss of unknown sign.
    """

    def __init__(self, law: Law, draws: int) -> None:
        generator = np.random.default_rng(0)
        self.effects = {
            name: UNSEEN_EFFECT * generator.standard_normal(draws)
            for feature, name in UNSEEN_AXES.items() if feature not in law.features
        }

    def of(self, batch: ArchitectureBatch) -> Array:
        """Addition to the ln loss of each shape by each draw [k, n]."""
        added: Array = np.zeros((1, len(batch)))
        for name, effect in self.effects.items():
            added = added + effect[:, None] * np.log(np.asarray(getattr(batch, name), float))
        return added


def answers_of(draws: Array, goal: Goal) -> tuple[Array, Array, int, float]:
    """What is asked, as columns [k, q] with weights [q], from the targets' ln losses [k, t].

    For `loss`: their mean. For `best shape`: the difference of each other target to the one that is
    best on average, weighted by the probability that it is better after all.
    """
    best = int(np.argmin(draws.mean(axis=0)))
    wins = np.bincount(np.argmin(draws, axis=1), minlength=draws.shape[1])
    probability = float(wins[best] / len(draws))
    if goal == "loss":
        return draws.mean(axis=1, keepdims=True), np.ones(1), best, probability
    if draws.shape[1] < 2:
        raise BadInput("goal = 'best shape': needs more than one target")
    others = [t for t in range(draws.shape[1]) if t != best]
    answers = draws[:, others] - draws[:, [best]]
    deviation = answers.std(axis=0) + 1e-12
    weights = np.array([0.5 * math.erfc(z / math.sqrt(2))
                        for z in answers.mean(axis=0) / deviation])
    # Where nothing comes near, the nearest still counts: a law can be surer than it should be.
    weights = np.maximum(weights, 1e-3)
    return answers, weights / weights.sum(), best, probability


def run_noise(law: Law) -> float:
    """Standard deviation of ln loss of one run."""
    if law.residuals.size < 3:
        return NOISE_UNKNOWN
    return max(float(np.std(law.residuals)), 1e-4)


def noise_covariance(budgets: int, deviation: float) -> Array:
    """Of the ln losses of one trunk's budgets: most of it is the trunk's, the rest their own."""
    shared = SHARED_NOISE * np.ones((budgets, budgets))
    return deviation**2 * (shared + (1 - SHARED_NOISE) * np.eye(budgets))


# --- picking -----------------------------------------------------------------------------------


def pick(
    beliefs: Beliefs, weights: Array, candidates: Sequence[Candidate], deviation: float,
    count: int, flops: float,
) -> tuple[list[Candidate], list[float]]:
    """The runs, in order, and the weighted variance left after each.

    Greedy by gain and greedy by gain per FLOP each fail where the other does well (a budget, and a
    number of runs); both are tried, and a third that spends the budget evenly, and the best kept.
    """
    costs = np.array([one.flops for one in candidates])
    rules: list[Callable[[Array, float, int], Array]] = [
        lambda gains, left, runs: gains,
        lambda gains, left, runs: gains / costs,
        lambda gains, left, runs: np.where(costs <= 1.5 * left / runs, gains, gains * 1e-3 / costs),
    ]
    best: tuple[list[Candidate], list[float]] = ([], [math.inf])
    for rule in rules:
        found = _greedy(beliefs, weights, candidates, costs, deviation, count, flops, rule)
        if found[0] and found[1][-1] < best[1][-1]:
            best = found
    return best if best[0] else ([], [])


def _greedy(
    beliefs: Beliefs, weights: Array, candidates: Sequence[Candidate], costs: Array,
    deviation: float, count: int, flops: float, rule: Callable[[Array, float, int], Array],
) -> tuple[list[Candidate], list[float]]:
    covariance = beliefs.covariance.copy()
    left, picks, after = flops, [], []
    q = len(weights)
    for number in range(count):
        gains = np.array([_gain(covariance, place, weights, deviation)
                          for place in beliefs.slices])
        scores = np.where(costs <= left, rule(gains, left, count - number), -math.inf)
        chosen = int(np.argmax(scores))
        if not scores[chosen] > -math.inf or gains[chosen] < RUN_LEAST_GAIN * weights.sum():
            break
        covariance = _observe(covariance, beliefs.slices[chosen], deviation)
        left -= costs[chosen]
        picks.append(candidates[chosen])
        after.append(float(weights @ np.diag(covariance)[:q]))
    return picks, after


def _gain(covariance: Array, place: slice, weights: Array, deviation: float) -> float:
    """Weighted variance of the answers that observing `place` removes."""
    inner = covariance[place, place] + noise_covariance(place.stop - place.start, deviation)
    cross = covariance[place, : len(weights)]
    solved = np.linalg.solve(inner, cross)
    return float(weights @ np.sum(cross * solved, axis=0))


def _observe(covariance: Array, place: slice, deviation: float) -> Array:
    """The covariance after `place` has been observed."""
    inner = covariance[place, place] + noise_covariance(place.stop - place.start, deviation)
    cross = covariance[place, :]
    reduced: Array = covariance - cross.T @ np.linalg.solve(inner, cross)
    return reduced


# --- saying it ---------------------------------------------------------------------------------


def _runs(
    picks: Sequence[Candidate], after: Sequence[float], held: Sequence[RunRecord], scale: float
) -> list[dict[str, Any]]:
    """The picks as plain values; a shape met before gets the next seed."""
    used: dict[Architecture, set[int]] = {}
    for record in held:
        used.setdefault(record.architecture.build(), set()).add(record.seed)
    rows = []
    for one, left in zip(picks, after, strict=True):
        seeds = used.setdefault(one.architecture, set())
        seed = next(s for s in range(len(seeds) + 1) if s not in seeds)
        seeds.add(seed)
        rows.append({
            "shape": one.label, "architecture": one.architecture.to_dict(),
            "non_embedding": one.architecture.non_embedding_parameters,
            "tokens": list(one.tokens), "seed": seed, "flops": one.flops,
            "batch_sequences": one.job.batch_sequences, "warmup_steps": one.job.warmup_steps,
            "uncertainty_after": scale * math.sqrt(max(left, 0.0)),
        })
    return rows


def design_text(design: Design, runs: Sequence[dict[str, Any]]) -> str:
    """A design of these runs on the same text: TOML, to be run by `shapelaw sweep`."""
    lines = [f"name = {json.dumps(design.name + '-next')}"]
    for name in (*CorpusSpec.__struct_fields__, "sequence_length", "precision"):
        value = getattr(design, name)
        if value is not None:
            lines.append(f"{name} = {json.dumps(value)}")
    lines += ["", "[[part]]", 'name = "proposed"']
    for run in runs:
        lines += ["", "[[part.runs]]"]
        lines += [f"{name} = {json.dumps(run[name])}"
                  for name in ("tokens", "seed", "batch_sequences", "warmup_steps")]
        lines.append("[part.runs.architecture]")
        lines += [f"{name} = {json.dumps(value)}"
                  for name, value in run["architecture"].items() if value is not None]
    return "\n".join(lines) + "\n"


def proposal_table(proposal: dict[str, Any]) -> "RenderableType":
    """The proposal for people."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("shape", "d_model × blocks", "parameters", "tokens", "seed", "FLOPs",
                  "uncertainty then"):
        table.add_column(title)
    for run in proposal["runs"]:
        shape = run["architecture"]
        sharing = f" ×{shape['sharing']}" if shape["sharing"] > 1 else ""
        table.add_row(
            run["shape"], f"{shape['d_model']}×{shape['n_blocks']}{sharing}",
            f"{run['non_embedding']:,}", ", ".join(f"{t:,}" for t in run["tokens"]),
            str(run["seed"]), f"{run['flops']:.2g}", f"{run['uncertainty_after']:.4f} nats",
        )
    asked = ("which shape has the least loss" if proposal["goal"] == "best shape"
             else "the loss of the targets")
    before, after = (proposal["uncertainty"][when] for when in ("before", "after"))
    head = Text(
        f"To learn {asked} ({proposal['targets']} targets): {len(proposal['runs'])} runs, "
        f"{proposal['flops']:.3g} FLOPs; uncertainty {before:.4f} → {after:.4f} nats expected."
    )
    return Group(head, table)
