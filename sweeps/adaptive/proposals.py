"""Which runs to do next: those that most reduce the uncertainty of the answer, within a budget.

`expected_error` says what a run would tell; this says which runs there are, and proposes.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from shapelaw.results.record import RunRecord
from shapelaw.results.tables.from_records import unusable
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.units import show_count
from shapelaw.sweeps.adaptive.expected_error import AnyLaw, Goal, Runs, outlook_of
from shapelaw.sweeps.adaptive.greedy_picks import pick
from shapelaw.sweeps.corpus.sources import CorpusSpec
from shapelaw.sweeps.design.design import Design
from shapelaw.sweeps.design.layout import Planned, layout
from shapelaw.sweeps.training.trunk import TrunkJob, resolve

if TYPE_CHECKING:
    from rich.console import RenderableType

TOKENS_PER_PARAMETER = 20.0
"""Of a target whose training tokens nobody gave, where the law does not say what it saw."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A trunk that could be trained next."""

    trunk: str
    """Key of the trunk: its first budget, its first two and so on are candidates that share it."""
    label: str
    job: TrunkJob
    architecture: Architecture
    tokens: tuple[int, ...]
    flops: float


def propose(
    design: Design,
    law: AnyLaw,
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
        law: fitted so far. How sure it is follows from the runs held, or from its draws where it
            has seen more runs than these or has the evidence as its prior.
        count: runs to propose, at most; each budget of a trunk is one.
        flops: training FLOPs they may cost together; `count` times the median run where None.
        targets: the shapes the answer is about: those that fit a device, say. The shapes of the
            design's largest size where None.
        tokens: the targets' training tokens; the most that the law's own runs had where None, since
            a question beyond them is about the law's form and not about the shapes.
        goal: `best shape`: which target has the least loss; `loss`: the targets' losses themselves;
            None: both, each counted by the share of its uncertainty that is left.
        held: runs already done; a shape proposed again gets a seed of its own.

    Returns:
        `runs` in the order picked, a trunk with its budgets each, `count` of them together;
        `fewer`: why they are fewer than `asked` for, or None;
        `tokens` of the question; `uncertainty` before and after for each question, in nats (the
        expected error, root mean square, of the loss differences that decide, or of the loss);
        `buys`: what the difference is worth (see `_bought`); `design`, a TOML text of the runs.

    Raises:
        BadInput: the law has neither runs nor draws, or nothing fits the budget.
    """
    if count < 1:
        raise BadInput(f"next = {count}: one or more is needed")
    if flops is not None and not flops > 0:
        raise BadInput(f"flops = {flops}: a positive number is needed")
    batch = _targets(design, targets)
    done = [record for record in held if unusable(record) is None]
    if tokens is None and done:
        tokens = max(record.tokens for record in done)
    elif tokens is None and "tokens" in law.range:
        tokens = law.range["tokens"][1]
    budget_of_target = np.broadcast_to(
        tokens if tokens is not None else TOKENS_PER_PARAMETER * batch.non_embedding_parameters,
        (len(batch),),
    )
    asked = Runs(batch, budget_of_target, np.arange(len(batch)))
    both: tuple[Goal, ...] = ("best shape", "loss") if len(batch) > 1 else ("loss",)
    questions = (goal,) if goal is not None else both
    candidates = candidates_of(design)
    budget = (
        flops
        if flops is not None
        else count * float(np.median([one.flops / len(one.tokens) for one in candidates]))
    )
    seen = Runs.of(
        [(record.architecture.build(), record.tokens) for record in done],
        [record.trunk_key for record in done],
    )
    outlook = outlook_of(
        law,
        candidates,
        dict.fromkeys(questions, asked),
        seen if len(seen) >= max(law.runs, 1) else None,
    )
    picks, errors = pick(outlook, candidates, count, budget, runs=count)
    cheapest = min(one.flops for one in candidates)
    if cheapest > budget:
        raise BadInput(f"flops = {budget:.3g}: the cheapest run costs {cheapest:.3g}")
    if not picks:
        raise BadInput("next: no run of this design would make the answer surer")
    scale = math.exp(outlook.best.log_loss)
    uncertainty = [
        dict(zip(questions, (scale * np.sqrt(np.maximum(left, 0.0))).tolist(), strict=True))
        for left in (outlook.errors(outlook.start), *errors)
    ]
    runs = _runs(picks, uncertainty[1:], held)
    spent = sum(one.flops for one in picks)
    fewer = None
    if sum(len(one.tokens) for one in picks) < count:
        fewer = (
            "the FLOPs are spent; --flops allows more"
            if cheapest > budget - spent
            else "no further run of this design, for what FLOPs are left, would tell more"
        )
    return {
        "goals": list(questions),
        "law": law.label,
        "targets": len(batch),
        "flops_budget": budget,
        "flops": sum(run["flops"] for run in runs),
        "asked": count,
        "count": sum(len(run["tokens"]) for run in runs),
        "fewer": fewer,
        "tokens": [float(budget_of_target.min()), float(budget_of_target.max())],
        "uncertainty": {"before": uncertainty[0], "after": uncertainty[-1]},
        "buys": _bought(law, batch, budget_of_target, uncertainty[0], uncertainty[-1]),
        "best": {
            "architecture": outlook.best.architecture.to_dict(),
            "probability": outlook.best.probability,
        },
        "runs": runs,
        "design": design_text(design, runs),
    }


def _bought(
    law: AnyLaw,
    targets: ArchitectureBatch,
    tokens: np.ndarray,
    before: dict[str, float],
    after: dict[str, float],
) -> dict[str, dict[str, float]]:
    """What the runs would take off each question's error: `nats`, the `share` of it, and
    `as_tokens`, the share of the targets' training tokens that saves as much loss (by the law's
    slope at the median target)."""
    step = 0.01
    losses = law.loss(targets, tokens), law.loss(targets, tokens * math.exp(step))
    slope = float(np.median(losses[0] - losses[1])) / step
    return {
        goal: {
            "nats": before[goal] - after[goal],
            "share": 1 - after[goal] / before[goal] if before[goal] else 0.0,
            "as_tokens": math.expm1(min((before[goal] - after[goal]) / slope, 20.0))
            if slope > 0
            else math.nan,
        }
        for goal in before
    }


def candidates_of(design: Design) -> list[Candidate]:
    """Every shape of the design with its first budget, its first two, and so on.

    Batch and warmup stay those of the whole trunk, so that losses compare. Shapes that the design
    tries at another learning rate than the recipe's are left out.
    """
    found: dict[tuple[Architecture, tuple[int, ...]], Candidate] = {}
    for planned in layout(design)[0]:
        if planned.job.learning_rate != 1.0:
            continue
        for one in _prefixes(planned):
            key = (one.architecture, one.tokens)
            found.setdefault(key, one)
    return list(found.values())


def _prefixes(planned: Planned) -> list[Candidate]:
    plan = resolve(planned.job)
    budgets = tuple(branch.tokens for branch in plan.branches)
    result = []
    for end in range(1, len(budgets) + 1):
        job = msgspec.structs.replace(
            planned.job,
            tokens=budgets[:end],
            batch_sequences=plan.batch_sequences,
            warmup_steps=plan.warmup_steps,
        )
        result.append(
            Candidate(
                trunk=plan.trunk_key,
                label=planned.label,
                job=job,
                tokens=budgets[:end],
                architecture=planned.architecture,
                flops=resolve(job).flops,
            )
        )
    return result


def _targets(
    design: Design, targets: Sequence[Architecture] | ArchitectureBatch | None
) -> ArchitectureBatch:
    if targets is None:
        planned = layout(design)[0]
        largest = max(one.nominal for one in planned)
        shapes = dict.fromkeys(one.architecture for one in planned if one.nominal == largest)
        return ArchitectureBatch.of(shapes)
    batch = targets if isinstance(targets, ArchitectureBatch) else ArchitectureBatch.of(targets)
    if not len(batch):
        raise BadInput("targets: at least one architecture is needed")
    return batch


# --- saying it ---------------------------------------------------------------------------------


def _runs(
    picks: Sequence[Candidate], after: Sequence[dict[str, float]], held: Sequence[RunRecord]
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
        rows.append(
            {
                "shape": one.label,
                "architecture": one.architecture.to_dict(),
                "non_embedding": one.architecture.non_embedding_parameters,
                "tokens": list(one.tokens),
                "seed": seed,
                "flops": one.flops,
                "batch_sequences": one.job.batch_sequences,
                "warmup_steps": one.job.warmup_steps,
                "uncertainty_after": left,
            }
        )
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
        lines += [
            f"{name} = {json.dumps(run[name])}"
            for name in ("tokens", "seed", "batch_sequences", "warmup_steps")
        ]
        lines.append("[part.runs.architecture]")
        lines += [
            f"{name} = {json.dumps(value)}"
            for name, value in run["architecture"].items()
            if value is not None
        ]
    return "\n".join(lines) + "\n"


def proposal_table(proposal: dict[str, Any]) -> "RenderableType":
    """The proposal for people."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    goals = proposal["goals"]
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim")
    for title in (
        "shape",
        "d × blocks",
        "N",
        "tokens",
        "seed",
        "FLOPs",
        *(f"{goal} then, nats" for goal in goals),
    ):
        table.add_column(title)
    for run in proposal["runs"]:
        shape = run["architecture"]
        sharing = f" ×{shape['sharing']}" if shape["sharing"] > 1 else ""
        table.add_row(
            run["shape"],
            f"{shape['d_model']}×{shape['n_blocks']}{sharing}",
            show_count(run["non_embedding"]),
            ", ".join(map(show_count, run["tokens"])),
            str(run["seed"]),
            f"{run['flops']:.2g}",
            *(f"±{run['uncertainty_after'][goal]:.4f}" for goal in goals),
        )
    before, after = (proposal["uncertainty"][when] for when in ("before", "after"))
    number, trunks = proposal["count"], len(proposal["runs"])
    least, most = proposal["tokens"]
    asked = show_count(most) if least == most else f"{show_count(least)} to {show_count(most)}"
    head = Text(
        f"{number} run{'s' if number > 1 else ''} on {trunks} trunk{'s' if trunks > 1 else ''}, "
        f"{proposal['flops']:.3g} FLOPs, to learn about {proposal['targets']} targets at {asked} "
        "tokens. Error expected of a fit: "
        + "; ".join(f"{goal} ±{before[goal]:.4f} → ±{after[goal]:.4f} nats" for goal in goals)
        + "."
    )
    if proposal["fewer"] is not None:
        head.append(f" Fewer than the {proposal['asked']} asked for: {proposal['fewer']}.")
    bought = [
        f"{goal}: {gain['nats']:.4f} nats less error ({gain['share']:.0%} of it)"
        + (
            f", as much loss as {gain['as_tokens']:.0%} more training tokens save"
            if math.isfinite(gain["as_tokens"])
            else ""
        )
        for goal, gain in proposal["buys"].items()
    ]
    return Group(head, table, Text(f"What it buys: {'; '.join(bought)}."))
