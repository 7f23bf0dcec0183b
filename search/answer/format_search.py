"""Formats searched with the shape: each with its own bytes and price, the best of the bests taken.

A format divides the space of (shape, format) into parts that share no point; the joint optimum is
the best of the parts' optima.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from shapelaw.scaling.errors import NoAnswer
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.format_choice import (
    FormatOption,
    family_of,
    file_bytes_of,
    price_of,
)


def best_over_formats(formats: Sequence[Mix], ask: Callable[[Mix], Answer]) -> Answer:
    """The best of the formats' answers, with a line for each of them.

    Raises:
        NoAnswer: no format has a feasible shape; the error of the last is raised.
    """
    answers: list[tuple[Mix, Answer | None]] = []
    failure: NoAnswer | None = None
    for each in formats:
        try:
            answers.append((each, ask(each)))
        except NoAnswer as error:
            failure = error
            answers.append((each, None))
    found = [(each, answer) for each, answer in answers if answer is not None]
    if not found:
        assert failure is not None
        raise failure
    best = found[0][1].problem

    def order(pair: tuple[Mix, Answer]) -> float:
        candidate = pair[1].best
        return candidate.loss if best.target_loss is None else -candidate.decode_tokens_per_s

    chosen, answer = min(found, key=order)
    options = []
    for each, other in answers:
        shape = None if other is None else other.best.architecture
        options.append(
            FormatOption(
                format=each.name,
                family=each.family,
                architecture=shape,
                loss=np.nan if other is None else other.best.loss,
                decode_tokens_per_s=np.nan if other is None else other.best.decode_tokens_per_s,
                file_bytes=0 if shape is None else file_bytes_of(each, shape, answer.device),
                price=None
                if other is None or shape is None
                else price_of(each, shape, other.best.training_tokens, in_loss=True),
                chosen=each is chosen,
            )
        )
    family = family_of(answer.device)
    warnings = [*answer.warnings]
    if chosen.family != family:
        warnings.append(
            f"{chosen.name} is a {chosen.family} format and {answer.device.name}'s engine reads "
            f"{family} files: bytes are the format's, speed is the engine's at so many bits"
        )
    return dataclasses.replace(answer, formats=options, warnings=warnings)
