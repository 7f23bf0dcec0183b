"""The cost model put to the test: the best candidates run on this machine's own engine."""

import dataclasses
import importlib
import importlib.util
from typing import Any

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.search.answer.answer import Answer, candidates
from shapelaw.search.pareto.problem import Points, Problem

_DECODE_TOKENS = 32
"""Tokens timed after the prompt."""

_REPEATS = 3

_MOST_PROMPT = 512
"""Longer prompts are cut to this: what is ranked by is decode."""


def _engine(name: str) -> Any:
    """The engine's module: JAX for profiles taken with it or where llama.cpp is not installed."""
    installed = importlib.util.find_spec("xllamacpp") is not None
    wanted = "jax" if "jax" in name.lower() or not installed else "llamacpp"
    return importlib.import_module(f"shapelaw.search.devices.engines.{wanted}")


def measured(answer: Answer, rivals: Points, count: int) -> Answer:
    """The answer with its `count` best candidates timed, the pick made by what was measured.

    Random weights are as fast as trained ones. The pick is the least loss (or, with a loss to
    reach, the most speed) among those that meet the decode budget as measured; where none does,
    the fastest, with a warning.

    Raises:
        BadInput: the workload decodes several sequences at once.
        NoAnswer: the engine does not run these weight bits, or fails.
    """
    problem, workload = answer.problem, answer.workload
    if workload.batch != 1:
        raise BadInput(
            f"measure: workload {workload.name} decodes {workload.batch} sequences "
            "together; this machine's engines time one"
        )
    engine = _engine(answer.device.engine)
    chosen = rivals.take(_best_distinct(problem, rivals, count))
    floor = answer.problem.budget.decode_tokens_per_s
    rows: list[dict[str, Any]] = []
    for row, candidate in enumerate(candidates(problem, chosen)):
        timing = engine.measure(
            candidate.architecture,
            weight_bits=candidate.weight_bits,
            prompt_tokens=min(round(workload.decode_context), _MOST_PROMPT),
            decode_tokens=_DECODE_TOKENS,
            repeats=_REPEATS,
        )
        speed = 1.0 / timing.decode_s
        rows.append(
            {
                "row": row,
                "architecture": candidate.architecture.to_dict(),
                "weight_bits": candidate.weight_bits,
                "loss": candidate.loss,
                "measured_tokens_per_s": speed,
                "spread": float(timing.spread),
                "modelled_tokens_per_s": candidate.decode_tokens_per_s,
                "feasible": floor is None or speed >= float(floor),
            }
        )
    rows.sort(key=lambda each: _rank(problem, each))
    for place, each in enumerate(rows):
        each["chosen"] = place == 0
    pick = candidates(problem, chosen.take(np.array([rows[0]["row"]])))[0]
    warnings = list(answer.warnings)
    if not rows[0]["feasible"]:
        warnings.append(
            f"measured: none of the {len(rows)} candidates reaches "
            f"{float(floor or 0):g} tok/s on this machine; the fastest is shown"
        )
    if answer.device.name != "this-machine":
        warnings.append(f"measured on this machine, which is not {answer.device.name}")
    if pick.architecture != answer.best.architecture:
        warnings.append(
            "measuring changed the pick: how sure it is was computed for the modelled one"
        )
    shown = [{key: value for key, value in each.items() if key != "row"} for each in rows]
    return dataclasses.replace(answer, best=pick, measured=shown, warnings=warnings)


def _rank(problem: Problem, row: dict[str, Any]) -> tuple[bool, float]:
    if not row["feasible"] or problem.target_loss is not None:
        return not row["feasible"], -row["measured_tokens_per_s"]
    return False, row["loss"]


def _best_distinct(problem: Problem, rivals: Points, count: int) -> np.ndarray:
    """Rows of the best feasible rivals, each another architecture or precision."""
    goal = problem.price(rivals.columns, problem.goal)
    rows = np.lexsort((rivals.keys, goal))
    rows = rows[problem.feasible(rivals.columns)[rows]]
    seen: dict[Any, int] = {}
    for row in rows.tolist():
        seen.setdefault((rivals.architectures[row], float(rivals.bits[row])), row)
        if len(seen) == count:
            break
    return np.array(list(seen.values()))
