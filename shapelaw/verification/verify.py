"""`shapelaw verify`: plan proxies, train them, update the law, say whether the pick stands."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from shapelaw.results.evidence.shipped_evidence import shipped_population
from shapelaw.results.record import ArchitectureFields, RunRecord
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.sweeps.design.design import Design, Part, Run
from shapelaw.sweeps.design.layout import layout
from shapelaw.sweeps.running.run_sweep import run_sweep
from shapelaw.sweeps.training.trunk import resolve
from shapelaw.verification.proxies import (
    SEQUENCE_LENGTH,
    SIZE_FACTOR,
    SMALLEST,
    TOKENS_PER_PARAMETER,
    Proxy,
    proxies_at,
    proxy_flops,
)
from shapelaw.verification.question import Question, read_question
from shapelaw.verification.verdict import (
    STANDS,
    TOLERANCE,
    Belief,
    Runs,
    belief_after,
    belief_before,
    expected_power,
    rivals_of,
    runs_of,
)

FLOPS = 1e14
"""Where none are given: about an hour of one core."""
SEEDS = (1, 2, 3, 5)
"""Tried: fewer seeds of larger proxies, or more of smaller ones."""
LARGEST = 10**10
"""Non-embedding parameters of a proxy."""
MORE = 4.0
"""Times as many FLOPs, for which the plan says what they would tell."""


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What is trained to test an answer, and what that can be expected to tell."""

    question: Question
    proxies: tuple[Proxy, ...]
    seeds: int
    design: Design
    flops: float
    runs: int
    before: Belief
    power: float
    """Probability that the runs let more be said than "cannot tell"."""
    power_of_more: float
    """The same with MORE times the FLOPs."""

    def report(self) -> dict[str, Any]:
        """What `verify --plan --json` prints."""
        rivals = rivals_of(self.question)
        return {
            "law": self.question.law,
            "confidence": self.question.confidence,
            "tolerance_nats": TOLERANCE,
            "tokens": self.question.tokens,
            "probability_before": self.before.probability(rivals),
            "power": self.power,
            "power_of_more": {"times_flops": MORE, "power": self.power_of_more},
            "flops": self.flops,
            "runs": self.runs,
            "seeds": self.seeds,
            "finalists": [
                {
                    "name": each.name,
                    "architecture": msgspec.to_builtins(ArchitectureFields.of(each.architecture)),
                    "rival": number > 0 and each.rival,
                    **_difference(self.before.differences[:, number], "before"),
                }
                for number, each in enumerate(self.question.finalists)
            ],
            "proxies": [
                {
                    "of": self.question.finalists[each.finalist].name,
                    "architecture": msgspec.to_builtins(ArchitectureFields.of(each.architecture)),
                    "non_embedding": int(each.architecture.non_embedding_parameters),
                    "tokens": [each.size * ratio for ratio in TOKENS_PER_PARAMETER],
                }
                for each in self.proxies
            ],
        }


def plan_verification(answer: str | Path, flops: float = FLOPS) -> Plan:
    """The proxies, sizes and seeds that `flops` FLOPs of training pay for and that tell most.

    Raises:
        BadInput: the file is no answer, or so few FLOPs pay for no proxies.
    """
    question = read_question(answer)
    if not len(rivals_of(question)):
        raise BadInput(f"answer = {answer}: no other shape in it meets the budgets")
    population = shipped_population()
    best: tuple[float, int, list[Proxy]] | None = None
    for seeds in SEEDS:
        proxies = _affordable(question, flops, seeds)
        if proxies:
            power = expected_power(population, question, would_be(question, proxies, seeds))
            if best is None or power > best[0] + 0.01:
                best = (power, seeds, proxies)
    if best is None:
        size, least = _least(question)
        raise BadInput(
            f"flops = {flops:g}: the smallest proxies of these shapes, of {size:,} parameters, "
            f"take {least:.2g}"
        )
    power, seeds, proxies = best
    more = _affordable(question, MORE * flops, seeds)
    design = _design(question, proxies, seeds)
    trunks = [resolve(planned.job) for planned in layout(design)[0]]
    return Plan(
        question=question,
        proxies=tuple(proxies),
        seeds=seeds,
        design=design,
        flops=sum(trunk.flops for trunk in trunks),
        runs=sum(len(trunk.branches) for trunk in trunks),
        before=belief_before(population, question),
        power=power,
        power_of_more=expected_power(population, question, would_be(question, more, seeds)),
    )


def verify(
    answer: str | Path,
    *,
    out: str | Path | None = None,
    flops: float = FLOPS,
    workers: int | None = None,
    engine: Literal["local", "ray", "slurm"] = "local",
    trainer: str | None = None,
) -> dict[str, Any]:
    """Train proxies of an answer's finalists and say whether its pick stands.

    Args:
        answer: a file that `query --json` printed.
        out: folder of the runs, made or resumed; `runs/verify` where None.
        flops: of training, in all.
        workers: at once; one a core where None.
        engine: what finds runs a place, as in a sweep.
        trainer: a command of the user's own, as in a sweep; the built-in trainer where None.

    Returns:
        What `verify --json` prints: the plan's report with `verdict` ("stands", "does not stand"
        or "cannot tell"), `probability_after`, and each finalist's difference after.

    Raises:
        BadInput: an answer, folder or budget that cannot be used. NoAnswer: runs failed.
    """
    plan = plan_verification(answer, flops)
    folder = Path(out) if out is not None else Path("runs") / plan.design.name
    swept = run_sweep(
        plan.design, folder, workers=workers, engine=engine, command=trainer, live=None
    )
    finished = [record for record in swept.records if record.loss is not None]
    if swept.failed or not finished:
        raise NoAnswer(f"{swept.failed} runs failed: the same command tries them again")
    return judged(plan, _seen(finished))


def judged(plan: Plan, runs: Runs, seed: int = 0) -> dict[str, Any]:
    """The plan's report with what the runs make of it."""
    after = belief_after(shipped_population(), plan.question, runs, seed)
    rivals, confidence = rivals_of(plan.question), plan.question.confidence
    report = plan.report()
    for number, each in enumerate(report["finalists"]):
        each |= _difference(after.differences[:, number], "after")
    probability = after.probability(rivals)
    report |= {
        "verdict": after.verdict(rivals, confidence),
        "probability_after": probability,
        "rows": len(runs.log_loss),
    }
    return report


def _difference(values: np.ndarray, when: str) -> dict[str, Any]:
    low, high = np.quantile(values, [0.05, 0.95])
    return {
        f"loss_difference_{when}": float(np.median(values)),
        f"loss_difference_interval_{when}": [float(low), float(high)],
    }


def _proxies(question: Question, size: int) -> list[Proxy]:
    return proxies_at(question.finalists, (size, round(size * SIZE_FACTOR)))


def _sizes(question: Question) -> Iterator[tuple[int, list[Proxy]]]:
    """Sizes at which these proportions have proxies, upwards."""
    size = SMALLEST
    while size < LARGEST:
        with contextlib.suppress(BadInput):  # too small for these proportions
            yield size, _proxies(question, size)
        size = round(size * 1.15)


def _affordable(question: Question, flops: float, seeds: int) -> list[Proxy]:
    """The largest proxies that the FLOPs pay for with so many seeds; none where none are."""
    found = list[Proxy]()
    for _, proxies in _sizes(question):
        if sum(proxy_flops(each, seeds) for each in proxies) > flops:
            break
        found = proxies
    return found


def _least(question: Question) -> tuple[int, float]:
    """The smallest size at which there are proxies, and the FLOPs they take with one seed.

    Raises:
        BadInput: no size has them.
    """
    for size, proxies in _sizes(question):
        return size, sum(proxy_flops(each, 1) for each in proxies)
    _proxies(question, LARGEST)  # says why
    raise BadInput("answer: its shapes have no proxies")


def would_be(question: Question, proxies: list[Proxy], seeds: int) -> Runs:
    """The runs of a plan without their losses."""
    rows = [
        (proxy.architecture, float(ratio * proxy.size), number * seeds + seed)
        for number, proxy in enumerate(proxies)
        for seed in range(seeds)
        for ratio in TOKENS_PER_PARAMETER
    ]
    architectures, tokens, run = zip(*rows, strict=True)
    return runs_of(list(architectures), np.array(tokens), np.zeros(len(rows)), np.array(run))


def _design(question: Question, proxies: list[Proxy], seeds: int) -> Design:
    runs = tuple(
        Run(
            architecture=ArchitectureFields.of(each.architecture),
            tokens=tuple(each.size * ratio for ratio in TOKENS_PER_PARAMETER),
            label=question.finalists[each.finalist].name[:60],
        )
        for each in proxies
    )
    return Design(
        name="verify",
        corpus="python",
        sequence_length=SEQUENCE_LENGTH,
        part=(Part(name="proxies", runs=runs, seeds=tuple(range(seeds))),),
    )


def _seen(records: list[RunRecord]) -> Runs:
    return runs_of(
        [record.architecture.build() for record in records],
        np.array([float(record.tokens) for record in records]),
        np.log([float(record.loss or np.nan) for record in records]),
        np.array([record.trunk_key for record in records]),
    )


__all__ = ["FLOPS", "STANDS", "Plan", "judged", "plan_verification", "verify"]
