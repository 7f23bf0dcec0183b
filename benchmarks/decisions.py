"""Decisions against truths that are known: what is given up, and whether promises hold.

    python -m benchmarks.decisions [--json] [--truths 300] [--questions NAME,...]

The draws of the evidence are split: one half decides, the other half are truths. Each truth is one
draw of the law and one of the device's constants (by another seed than the decision's). In each
truth every shape of the space is looked at, so the best feasible one is known.

Five rules pick for the same question, under the same promise to meet the budgets with probability
.9 by the device's draws, so that they differ only in how losses are judged:

- `expected`: the least expected loss over the law's draws (what `query` does);
- `middle`: the least loss by the mean parameters;
- `literature`: the least loss by the law composed of published coefficients;
- `llama`: LLaMA's proportions, at the size with the least expected loss;
- `hindsight`: the least expected loss over the truths themselves, which no rule knows: as low as
  any one shape's mean regret can be. What is left of it is not knowing the law, not the search.

Regret is split. `law`: loss in truth less that of the best shape that keeps the promise; what not
knowing the law costs. `total`: less that of the best shape that is feasible in truth; not knowing
the device costs the rest, and every rule pays it.
"""

import argparse
import dataclasses
import json
from typing import Any

import numpy as np

from benchmarks.literature_law import literature_law
from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.query import Budget, query
from shapelaw.search.devices.cost import cost_draws
from shapelaw.search.pareto.decision import NEAR
from shapelaw.search.pareto.expected_loss import possible_draws
from shapelaw.search.pareto.feasibility import probability
from shapelaw.search.pareto.problem import Points, Problem
from shapelaw.search.space.space import Range, Space

CONFIDENCE = 0.9
TRUTH_SEED = 1
CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Question:
    """What a user might ask."""

    device: str
    budget: Budget
    workload: str = "chat"
    space: Space | str | None = None


QUESTIONS = {
    "phone, memory and speed, tokens": Question(
        "iphone-13", Budget(memory_bytes="400MB", decode_tokens_per_s=20, tokens=1e12)
    ),
    "phone, first token, tokens": Question(
        "iphone-15-pro", Budget(ttft_s=4.0, tokens=3e12), "summarise"
    ),
    "phone, energy, FLOPs": Question(
        "galaxy-s24-ultra", Budget(decode_tokens_per_s=40, energy_j=0.2, flops=3e21)
    ),
    "board, speed, FLOPs": Question("raspberry-pi-5", Budget(decode_tokens_per_s=10, flops=1e21)),
    "board, speed, tokens": Question(
        "jetson-orin-nano-15w",
        Budget(memory_bytes="2GB", decode_tokens_per_s=30, tokens=2e12),
    ),
    "laptop, memory and speed, tokens": Question(
        "m2", Budget(memory_bytes="4GB", decode_tokens_per_s=40, tokens=2e12)
    ),
    "laptop, speed, FLOPs": Question("m3-pro", Budget(decode_tokens_per_s=30, flops=1e22)),
    "GPU, speed, tokens": Question("h100", Budget(decode_tokens_per_s=150, tokens=2e12)),
    "GPU, first token, FLOPs": Question("a100", Budget(ttft_s=0.5, flops=3e22), "summarise"),
}


def settled(name: str, d_model: Range, n_blocks: list[int]) -> Space:
    """A space of who has settled all but width and depth: few ways to err, so surer picks."""
    return Space(
        name=name,
        d_model=d_model,
        n_blocks=n_blocks,
        sharing=1,
        gqa_group=4,
        mlp_attention_ratio=[2.5],
        weight_bits=8,
    )


QUESTIONS |= {
    "phone, depth alone": Question(
        "iphone-13",
        Budget(memory_bytes="400MB", tokens=1e12),
        space=settled("phone-depth", Range(256, 2048, 256), [8, 16, 24, 32, 48]),
    ),
    "phone, width alone": Question(
        "galaxy-s24-ultra",
        Budget(decode_tokens_per_s=40, tokens=1e12),
        space=settled("phone-width", Range(256, 2560, 256), [16, 24]),
    ),
    "board, width alone": Question(
        "raspberry-pi-5",
        Budget(decode_tokens_per_s=10, tokens=1e12),
        space=settled("board-width", Range(256, 3072, 256), [20, 28]),
    ),
    "laptop, depth alone": Question(
        "m2",
        Budget(decode_tokens_per_s=40, tokens=2e12),
        space=settled("laptop-depth", Range(512, 5120, 512), [16, 32, 64]),
    ),
}
RULES = ("expected", "middle", "literature", "llama", "hindsight")
OPEN = 9
"""Questions, the first ones, that leave all of shape open."""

BINS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0001))
LEAST_MET, MOST_MET = 0.85, 0.97


def halves() -> tuple[EvidenceLaw, np.ndarray]:
    """(the law that decides, parameters of the truths): draws that share no draw."""
    law = load_law("evidence")
    assert isinstance(law, EvidenceLaw)
    return dataclasses.replace(law, theta=law.theta[::2]), law.theta[1::2]


@dataclasses.dataclass(frozen=True, eq=False)
class Truths:
    """What is best in each truth."""

    law: EvidenceLaw
    seed: int = TRUTH_SEED

    def __len__(self) -> int:
        return len(self.law.theta)

    def losses(self, problem: Problem, shapes: ArchitectureBatch) -> np.ndarray:
        """[truths, n]."""
        return possible_draws(self.law, shapes, problem.budget.training_tokens(shapes))

    def met(self, answer: Answer, shapes: ArchitectureBatch, bits: np.ndarray) -> dict[str, Any]:
        """Budget -> where it is met [truths, n]."""
        drawn = cost_draws(
            shapes,
            answer.device,
            answer.workload,
            count=len(self),
            seed=self.seed,
            weight_bits=bits,
        )
        return {
            limit.name: limit.met(np.asarray(getattr(drawn, limit.column)).T)
            for limit in answer.problem.limits
        }

    def best(self, answer: Answer) -> tuple[np.ndarray, np.ndarray]:
        """([truths], [truths]): least loss among feasible shapes; among those that keep the
        promise."""
        problem, grid = answer.problem, answer.space.grid()
        assert len(grid.bits) == 1
        feasible_best = np.full(len(self), np.inf)
        promised_best = np.full(len(self), np.inf)
        for start in range(0, grid.n_architectures(), CHUNK):
            numbers = np.arange(start, min(start + CHUNK, grid.n_architectures()))
            shapes = grid.architectures(numbers)
            bits = np.full(len(numbers), grid.bits[0])
            met = self.met(answer, shapes, bits)
            feasible = np.ones((len(self), len(numbers)), dtype=bool)
            for each in met.values():
                feasible &= each
            promised = probability(problem, Points(shapes, bits, {}, numbers)) >= CONFIDENCE
            rows = np.flatnonzero(feasible.any(axis=0) | promised)
            if not len(rows):
                continue
            losses = self.losses(problem, shapes.take(rows))
            here = np.where(feasible[:, rows], losses, np.inf).min(axis=1)
            feasible_best = np.minimum(feasible_best, here)
            if promised.any():
                promised_best = np.minimum(promised_best, losses[:, promised[rows]].min(axis=1))
        return feasible_best, promised_best


def picks(
    question: Question, law: EvidenceLaw, truths: EvidenceLaw
) -> tuple[Answer, dict[str, Architecture]]:
    """`query`'s answer by the deciding half, and what each rule picks."""
    middle = dataclasses.replace(law, theta=law.middle)

    def ask(judge: Any) -> Answer:
        return query(
            question.device,
            judge,
            question.budget,
            question.workload,
            question.space,
            confidence=CONFIDENCE,
        )

    answer = ask(law)
    llama = next(each for each in answer.baselines if each.why == "LLaMA-like")
    return answer, {
        "expected": answer.best.architecture,
        "middle": ask(middle).best.architecture,
        "literature": ask(literature_law()).best.architecture,
        "llama": llama.candidate.architecture,
        "hindsight": ask(truths).best.architecture,
    }


def judged(name: str, truths: int) -> dict[str, Any]:
    """One question's figures."""
    law, others = halves()
    question = QUESTIONS[name]
    truth = Truths(dataclasses.replace(law, theta=others[:truths]))
    answer, chosen = picks(question, law, truth.law)
    feasible_best, promised_best = truth.best(answer)
    shapes = ArchitectureBatch.of(list(chosen.values()))
    losses = truth.losses(answer.problem, shapes)
    met = truth.met(answer, shapes, np.full(len(shapes), answer.best.weight_bits))
    whole = np.logical_and.reduce(list(met.values())) if met else np.ones(losses.shape, bool)
    best = np.where(np.isfinite(feasible_best), feasible_best, losses[:, 0])
    rules = {}
    for column, rule in enumerate(chosen):
        from_promised = losses[:, column] - promised_best
        rules[rule] = {
            "law_regret": float(from_promised.mean()),
            "law_regret_error": float(from_promised.std() / np.sqrt(len(truth))),
            "total_regret": float((losses[:, column] - best).mean()),
            "budgets_met": float(whole[:, column].mean()),
            "architecture": chosen[rule].to_dict(),
        }
    pick_feasible = whole[:, 0]
    near = pick_feasible & (losses[:, 0] <= best + NEAR)
    near_confident = losses[:, 0] <= promised_best + NEAR
    gap = losses[:, 0] - losses[:, 1]
    return {
        "question": name,
        "device": question.device,
        "budget": answer.problem.budget.to_dict(),
        "space_size": answer.space.grid().size(),
        "truths": len(truth),
        "rules": rules,
        "expected_less_middle": float(gap.mean()),
        "expected_less_middle_error": float(gap.std() / np.sqrt(len(truth))),
        "near_best": [answer.near_best_probability, float(near.mean())],
        "near_best_confident": [
            answer.near_best_confident_probability,
            float(near_confident.mean()),
        ],
        "promised": answer.budget_probability,
        "met": {limit: float(column[:, 0].mean()) for limit, column in met.items()},
        "all_met": float(pick_feasible.mean()),
        "regret_said": [answer.regret[0], answer.confident_regret],
        "regret_true": [float((losses[:, 0] - best).mean()), rules["expected"]["law_regret"]],
    }


def calibration(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Said and true probability of being near the best, over the questions in each bin of what was
    said; both kinds of it."""
    pairs = np.array(
        [question[kind] for question in found for kind in ("near_best", "near_best_confident")]
    )
    bins = []
    for low, high in BINS:
        rows = pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high)]
        if len(rows):
            said, true = rows.mean(axis=0)
            bins.append(
                {"from": low, "to": min(high, 1.0), "count": len(rows), "said": said, "true": true}
            )
    return bins


def summary(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The bars, question by question and together."""
    open_questions = [each for each in found if each["question"] in list(QUESTIONS)[:OPEN]]

    def ratio(each: dict[str, Any], regret: str, rule: str = "expected") -> float:
        rules = each["rules"]
        return float(rules[rule][regret] / rules["literature"][regret])

    return {
        "expected_not_above_middle": {
            each["question"]: each["expected_less_middle"] <= 1e-9 for each in open_questions
        },
        "ratio_to_literature": {
            each["question"]: ratio(each, "law_regret") for each in open_questions
        },
        "ratio_to_literature_total": {
            each["question"]: ratio(each, "total_regret") for each in open_questions
        },
        "hindsight_ratio_to_literature": {
            each["question"]: ratio(each, "law_regret", "hindsight") for each in open_questions
        },
        "mean_law_regret": {
            rule: float(np.mean([each["rules"][rule]["law_regret"] for each in open_questions]))
            for rule in RULES
        }
        if open_questions
        else {},
        "near_best_bins": calibration(found),
        "budgets_met": {each["question"]: each["all_met"] for each in found},
        "budgets_met_within": all(
            LEAST_MET <= each["all_met"] <= MOST_MET for each in open_questions
        ),
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--truths", type=int, default=500)
    parser.add_argument("--questions", default="", help="Only those whose name holds this.")
    asked = parser.parse_args()
    found = [judged(name, asked.truths) for name in QUESTIONS if asked.questions in name]
    report = {"summary": summary(found), "questions": found}
    if asked.json:
        print(json.dumps(report))
        return
    for each in found:
        print(each["question"], f"({each['device']}, {each['space_size']:,} shapes)")
        for rule, figures in each["rules"].items():
            print(
                f"  {rule:<11} regret {figures['law_regret']:.4f} ± "
                f"{figures['law_regret_error']:.4f} (with the device's "
                f"{figures['total_regret']:.4f}), budgets met {figures['budgets_met']:.2f}"
            )
    print(json.dumps(report["summary"], indent=1))


if __name__ == "__main__":
    main()
