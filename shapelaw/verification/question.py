"""What an answer claims: its pick, and the shapes that could take the pick's place."""

import dataclasses
from pathlib import Path
from typing import Any

from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import read_json, refuse

MOST_FINALISTS = 5
"""The pick included: each costs as much to train as the pick."""


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A shape that is trained as a proxy, and what makes it one."""

    name: str
    architecture: Architecture
    rival: bool = True
    """Whether it meets the budgets of the question, so that it could be picked instead."""


@dataclasses.dataclass(frozen=True)
class Question:
    """The pick comes first."""

    finalists: tuple[Finalist, ...]
    tokens: float
    """Training tokens at which the shapes are compared."""
    law: str
    """That the answer believed."""
    confidence: float


def read_question(path: str | Path) -> Question:
    """The claim of an answer that `query --json` printed.

    Finalists are the pick, a familiar shape, the runner-up, and the shapes that would be best if a
    disputed belief were settled otherwise: those that the law's draws cannot tell from the pick.

    Raises:
        BadInput: no file, or not such an answer.
    """
    answer = read_json(path, "answer")
    if not isinstance(answer, dict) or not isinstance(answer.get("best"), dict):
        refuse("answer", path, "needs `best`: what `shapelaw query --json` prints")
    pick = Finalist("pick", _architecture(answer["best"], path, "best"))
    tokens = answer["best"].get("training_tokens")
    if not isinstance(tokens, int | float) or isinstance(tokens, bool) or not 0 < tokens < 1e18:
        refuse("answer", path, "best.training_tokens: a positive number of tokens is needed")
    confidence = answer.get("confidence", 0.9)
    if not isinstance(confidence, float) or not 0.5 <= confidence < 1:
        refuse("answer", path, "confidence: a probability of at least .5 and below 1 is needed")
    found = [pick]
    for name, each in _others(answer):
        shape = _architecture(each, path, name)
        if len(found) < MOST_FINALISTS and shape not in [one.architecture for one in found]:
            found.append(Finalist(name, shape, rival=bool(each.get("feasible", True))))
    if len(found) == 1:
        refuse("answer", path, "holds no other shape than its pick: there is nothing to compare")
    return Question(tuple(found), float(tokens), str(answer.get("law", "")), confidence)


def _others(answer: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """In the order in which they are taken."""
    known = _dicts(answer.get("baselines"))
    fitting = [each for each in known if each.get("feasible")]
    found = [(str(each.get("why", "familiar")), each) for each in (fitting or known)[:1]]
    found += [("runner-up", each) for each in _dicts([answer.get("runner_up")])]
    found += [(str(each.get("says", "other")), each) for each in _dicts(answer.get("otherwise"))]
    found += [(str(each.get("why", "near")), each) for each in _dicts(answer.get("near_ties"))]
    return found


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _architecture(candidate: dict[str, Any], path: str | Path, where: str) -> Architecture:
    fields = candidate.get("architecture")
    if not isinstance(fields, dict):
        refuse("answer", path, f"{where}.architecture: an object of fields is needed")
    try:
        return Architecture.from_dict(fields)
    except BadInput as error:
        refuse("answer", path, f"{where}.architecture: {error}")
