"""Formats searched with the shape: each with its own bytes and price, the best of the bests taken.

A format divides the space of (shape, format) into parts that share no point; the joint optimum is
the best of the parts' optima. A format below 8 bits whose price nobody measured, and one that a
shape's fallbacks leave by name only, is shown beside the pick and is none itself.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import NoAnswer
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.format_choice import (
    LEVEL,
    FormatOption,
    FormatPrice,
    ServedFormat,
    Trade,
    eight_bits_beside,
    fallback,
    family_of,
    file_bytes_of,
    price_of,
    priced,
)
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.pareto.expected_loss import possible_draws
from shapelaw.search.pareto.priced_law import PricedLaw
from shapelaw.search.pareto.problem import LossModel

TOKENS_PER_PARAMETER = (20, 50, 100, 200, 500, 1000, 2000, 5000)
"""At which an answer says which format would be best: from compute-optimal to long overtraining."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Best:
    """The best shape of one format."""

    served: ServedFormat
    answer: Answer
    price: FormatPrice

    @property
    def priced(self) -> bool:
        return priced(self.served.mix, self.price)

    @property
    def fallback(self) -> float | None:
        return fallback(self.served.mix, self.answer.best.architecture)

    @property
    def eligible(self) -> bool:
        return self.priced and self.fallback is None

    @property
    def goal(self) -> float:
        candidate = self.answer.best
        reach = self.answer.problem.target_loss
        return candidate.loss if reach is None else -candidate.decode_tokens_per_s

    def draws(self, judge: LossModel, tokens: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Loss of its shape before rounding and after [k], at the answer's tokens or others."""
        shape = ArchitectureBatch.of([self.answer.best.architecture])
        seen = self.answer.best.training_tokens if tokens is None else tokens
        stored = PricedLaw(judge, self.served.mix, public_format_prices())
        return possible_draws(judge, shape, seen)[:, 0], possible_draws(stored, shape, seen)[:, 0]


def best_over_formats(
    formats: Sequence[ServedFormat], judge: LossModel, ask: Callable[[ServedFormat], Answer]
) -> Answer:
    """The best of the formats' answers, with a line for each of them.

    Args:
        formats: those asked for. Where all that fit have less than 8 bits and no measured price,
            the usual 8-bit format of the same engine is asked too.
        judge: the law, without prices.
        ask: the answer for one format.

    Raises:
        NoAnswer: no format has a feasible shape; the error of the last is raised.
    """
    found: dict[ServedFormat, _Best | None] = {}
    failure: NoAnswer | None = None

    def asked(served: ServedFormat) -> None:
        nonlocal failure
        try:
            answer = ask(served)
        except NoAnswer as error:
            failure = error
            found[served] = None
            return
        best = answer.best
        price = price_of(served.mix, best.architecture, best.training_tokens, in_loss=True)
        found[served] = _Best(served, answer, price)

    for each in formats:
        asked(each)
    fitting = [one for one in found.values() if one is not None]
    if fitting and not any(one.eligible for one in fitting):
        asked(eight_bits_beside(fitting[0].served))
    fitting = [one for one in found.values() if one is not None]
    if not fitting:
        assert failure is not None
        raise failure
    eligible = [one for one in fitting if one.eligible]
    chosen = min(eligible or fitting, key=lambda one: one.goal)
    widest = max(fitting, key=lambda one: nominal_bits(one.served.mix))
    options = [
        _option(served, best, judge, widest, chosen=best is chosen)
        for served, best in found.items()
    ]
    answer = chosen.answer
    return dataclasses.replace(
        answer,
        formats=options,
        format_by_tokens=_by_tokens(eligible or fitting, judge, answer),
        warnings=[*answer.warnings, *_remarks(chosen, fitting)],
    )


def _option(
    served: ServedFormat, best: _Best | None, judge: LossModel, widest: _Best, *, chosen: bool
) -> FormatOption:
    if best is None:
        return FormatOption(
            format=served.mix.name,
            family=served.mix.family,
            engine=served.device.engine,
            architecture=None,
            loss=np.nan,
            decode_tokens_per_s=np.nan,
            file_bytes=0,
            price=None,
            trade=None,
            chosen=False,
        )
    candidate = best.answer.best
    return FormatOption(
        format=served.mix.name,
        family=served.mix.family,
        engine=served.device.engine,
        architecture=candidate.architecture,
        loss=candidate.loss,
        decode_tokens_per_s=candidate.decode_tokens_per_s,
        file_bytes=file_bytes_of(served.mix, candidate.architecture, served.device),
        price=best.price,
        trade=None if best is widest else _trade(best, widest, judge),
        chosen=chosen,
    )


def _trade(best: _Best, other: _Best, judge: LossModel) -> Trade:
    bare, stored = best.draws(judge)
    other_bare, other_stored = other.draws(judge)
    net = other_stored - stored
    tail = 0.5 * (1 - LEVEL)
    drawn = len(net) > 1
    low, high = np.quantile(net, [tail, 1 - tail])
    return Trade(
        beside=other.served.mix.name,
        cost=float(np.mean((stored - bare) - (other_stored - other_bare))),
        gain=float(np.mean(other_bare - bare)),
        net_interval=(float(low), float(high)) if drawn else None,
        probability_better=float(np.mean(net > 0)) if drawn else None,
    )


def _by_tokens(fitting: Sequence[_Best], judge: LossModel, answer: Answer) -> list[dict[str, Any]]:
    """Which format would be best at other training budgets, the shapes kept.

    What a device holds and how fast it is do not depend on training; what a format costs does.
    """
    budget, size = answer.problem.budget, answer.best.architecture.non_embedding_parameters
    if budget.flops is not None or answer.problem.target_loss is not None:
        return []
    rows = []
    for ratio in TOKENS_PER_PARAMETER:
        tokens = float(ratio * size)
        losses = {one.served.mix.name: one.draws(judge, tokens) for one in fitting}
        means = {name: float(stored.mean()) for name, (_, stored) in losses.items()}
        order = sorted(means, key=lambda name: means[name])
        rows.append(
            {
                "tokens_per_parameter": ratio,
                "tokens": tokens,
                "format": order[0],
                "lead": means[order[1]] - means[order[0]] if len(order) > 1 else None,
                "prices": {
                    name: float((stored - bare).mean()) for name, (bare, stored) in losses.items()
                },
            }
        )
    return rows


def _remarks(chosen: _Best, fitting: Sequence[_Best]) -> list[str]:
    found = []
    unknown = [one.served.mix.name for one in fitting if not one.priced and one is not chosen]
    if unknown:
        found.append(
            f"{', '.join(unknown)}: nobody published what it costs in loss; priced by its rounding "
            "noise and shown beside the pick, no pick itself"
        )
    if not chosen.priced:
        found.append(
            f"{chosen.served.mix.name} is picked because nothing at 8 bits fits: nobody published "
            "what it costs in loss, and its rounding noise stands for that"
        )
    for one in fitting:
        if one.fallback is not None:
            shape = one.answer.best.architecture
            found.append(
                f"{one.served.mix.name} at d_model {shape.d_model}, d_ff {shape.d_ff} is one by "
                f"name: rows that are no whole blocks are stored in {one.fallback:.1f} bits a "
                "weight" + ("" if one is chosen else "; no pick")
            )
    mix, device = chosen.served.mix, chosen.served.device
    if device.engine_traits().formats is None and mix.family != family_of(device):
        found.append(
            f"{mix.name} is a {mix.family} format and {device.name}'s engine takes plain bits: "
            "bytes are the format's, speed is the engine's at so many bits"
        )
    return found
