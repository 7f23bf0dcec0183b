"""Query: the best shape for a device and a budget. The one entry to the search side.

`query` takes a device, a law, budgets, a workload and a space; it searches (exactly where the space
can be enumerated), and composes the answer. `answer_command` does the same from the words of the
command line.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from shapelaw.results.format_evidence import public_format_prices
from shapelaw.scaling import units
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.answer.answer import Answer
from shapelaw.search.answer.compose import Context, compose
from shapelaw.search.answer.format_choice import (
    ServedFormat,
    asked_formats,
    other_engines,
)
from shapelaw.search.answer.format_search import best_over_formats
from shapelaw.search.answer.law_choice import Judges, default_law, demotion, is_shipped
from shapelaw.search.answer.space_search import (
    EXPLORED_SECONDS,
    Infeasible,
    infeasible,
    search_space,
)
from shapelaw.search.answer.training_cost import (
    DEFAULT_ACCELERATOR,
    UTILISATION,
    training_cost,
)
from shapelaw.search.devices.kv_cache import kv_cache
from shapelaw.search.devices.stored_weights import nominal_bits
from shapelaw.search.pareto.budget import DEFAULT_TOKENS, Budget
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.device_memory import within_device
from shapelaw.search.pareto.finalists import prepared, screen
from shapelaw.search.pareto.priced_law import KvPricedLaw, PricedLaw
from shapelaw.search.pareto.problem import LossModel, Problem, parse_objectives
from shapelaw.search.space.space import Space, load_space

if TYPE_CHECKING:
    from shapelaw.search.devices.profile import DeviceProfile
    from shapelaw.search.workload import Workload

__all__ = ["Budget", "Infeasible", "answer_command", "feasible_architectures", "query"]

CONFIDENCE = 0.9
"""Probability with which a pick meets every budget, where none is asked for."""

_SPACES = {"phone": "phone", "board": "phone", "laptop": "laptop", "cpu": "laptop", "gpu": "gpu"}
"""Kind of device -> preset searched where the user names no space."""


def default_space(device: "DeviceProfile") -> Space:
    """The preset for the kind of device, whatever the law: shapes are for the device."""
    space = load_space(_SPACES[device.kind])
    return space.with_bits(_stored_bits(device, float(space.grid().bits[0])))


def _stored_bits(device: "DeviceProfile", usual: float) -> tuple[float, ...]:
    """The usual precision where the device's engine stores it, else the nearest that it does."""
    known = [float(bits) for bits in device.weights]
    if not known or usual in known:
        return (usual,)
    return (min(known, key=lambda bits: (abs(bits - usual), -bits)),)


def query(
    device: "DeviceProfile | str",
    law: LossModel | str | None = None,
    budget: Budget | None = None,
    workload: "Workload | str" = "chat",
    space: Space | str | None = None,
    *,
    engine: str | None = None,
    formats: str | tuple[str, ...] | None = None,
    kv_format: str | None = None,
    objectives: str | tuple[str, ...] | None = None,
    target_loss: float | None = None,
    confidence: float = CONFIDENCE,
    accelerator: str = DEFAULT_ACCELERATOR,
    utilisation: float = UTILISATION,
    measure: int = 0,
    storage: str | None = None,
    seconds: float = EXPLORED_SECONDS,
    seed: int = 0,
) -> Answer:
    """The shape of the space to expect most of, on the device under the budgets.

    The pick has the least expected loss over the law's draws among the shapes that meet every
    budget, by the device's draws, with probability `confidence`.

    Args:
        law: where none is named, the package's own pooled evidence. A law asked more than
            law_choice.FACTOR times beyond its runs is demoted: it is heard, another judges.
        engine: what runs the model on the catalogued device, with or without its backend
            (`mlx`, `llama.cpp/cpu`); the device's usual engine by default.
        formats: weight formats to search with the shape, such as `q8_0,q4_k_m`: each with the
            bytes of its file and its price in loss, on the first of the device's engines that
            reads it. Without them the usual engine's usual format at the space's bits.
        kv_format: what keys and values are kept in, such as `q8_0`: with its bytes and a price
            that is wide; the engine's usual one by default.
        objectives: names among problem.OBJECTIVES that span the front; loss is always one.
        target_loss: reach this loss (nats per token) with that probability and be as fast as
            possible, instead of the least loss. Needs a law fitted to runs of one's own: no other
            knows the level of the loss on one's corpus.
        confidence: above 0 and below 1.
        accelerator: what the model is trained on, a catalogued device; for the cost of training.
        utilisation: share of its peak that training reaches.
        measure: time this many of the best candidates on this machine's own engine.
        storage: an Optuna storage URL that keeps the study of the answer.
        seconds: how long a space too large to enumerate may be explored.

    Raises:
        BadInput: a name, a budget or a file that cannot be used.
        Infeasible: no point of the space meets the budgets with that probability.
    """
    budget = budget or Budget()
    if engine is not None:
        device = _with_engine(device, engine)
    profile, named, work, where = _resolve(device, law, workload, space, budget)
    if not 0 < confidence < 1:
        raise BadInput(f"confidence = {confidence}: a probability above 0 and below 1 is needed")
    training = training_cost(accelerator, utilisation)
    budget = within_device(budget, profile)
    if budget.bits is not None:
        where = where.with_bits(budget.bits)
    if target_loss is not None and not 0 < target_loss < np.inf:
        raise BadInput(f"target_loss = {target_loss}: nats per token, above 0, are needed")
    if target_loss is not None and is_shipped(named):
        raise BadInput(
            f"target_loss: law {named.label} does not know the level of the loss on your corpus; "
            "fit a law to runs of your own and name it with --law"
        )
    chosen = parse_objectives(objectives)
    if target_loss is not None and all(o.name != "decode" for o in chosen):
        chosen = parse_objectives((*(o.name for o in chosen), "decode"))

    # The other engines' files take a while to read: only named formats ask for them.
    engines = [profile] if formats is None else _engines(device, profile)
    served = asked_formats(formats, budget.bits, engines)

    def answered(judges: Judges) -> Answer:
        from shapelaw.search.devices.catalogue import own_profile_notes

        remarks = own_profile_notes(accelerator, *([device] if isinstance(device, str) else []))
        if not served:
            answer = of_format(judges, None)
        else:
            judge = _with_cache(judges.judge, kv_format)
            answer = best_over_formats(served, judge, lambda each: of_format(judges, each))
            remarks += other_engines(served, profile)
        return dataclasses.replace(answer, warnings=[*remarks, *answer.warnings])

    def of_format(judges: Judges, each: ServedFormat | None) -> Answer:
        believed, shapes = _with_cache(judges.judge, kv_format), where
        runs_on = profile if each is None else each.device
        mix = None if each is None else each.mix
        if mix is not None:
            believed = PricedLaw(believed, mix, public_format_prices())
            shapes = where.with_bits((nominal_bits(mix),))
        cache = kv_cache(kv_format, runs_on, shapes.grid().head_dim)
        cost = DeviceCost(runs_on, work, mix, cache.bits)
        asked = Problem(believed, cost, budget, chosen, target_loss)
        _check_energy(asked, runs_on)
        problem = prepared(asked, shapes.grid(), confidence)
        by_draws = screen(problem, shapes.grid(), confidence)
        searched = search_space(
            problem, shapes, runs_on.name, work.name, storage, seconds, seed, by_draws
        )
        context = Context(runs_on, work, shapes, confidence, training, judges)
        return dataclasses.replace(
            compose(problem, context, searched, measure, storage), kv_cache=cache
        )

    tokens = float(budget.tokens or DEFAULT_TOKENS) if budget.flops is None else 0.0
    reason = None if law is None or is_shipped(named) else demotion(named, 0.0, tokens)
    if reason is None:
        answer = answered(Judges(named))
        if law is None or is_shipped(named):
            return answer
        size = float(answer.best.architecture.non_embedding_parameters)
        reason = demotion(named, size, answer.best.training_tokens)
        if reason is None:
            return answer
    if target_loss is not None:
        raise BadInput(f"target_loss: {reason}; no other law knows the level of your corpus")
    return answered(Judges(default_law(budget, where), named, reason))


def _resolve(
    device: Any, law: Any, workload: Any, space: Any, budget: Budget
) -> "tuple[DeviceProfile, LossModel, Workload, Space]":
    """Names to things."""
    if isinstance(device, str):
        from shapelaw.search.devices.catalogue import load_device

        device = load_device(device)
    if isinstance(space, str):
        space = load_space(space)
    if law is None:
        law = default_law(budget, space)
    elif isinstance(law, str):
        from shapelaw.results.shipped_laws import load_law

        law = load_law(law)
    if isinstance(workload, str):
        from shapelaw.search.workload import load_workload

        workload = load_workload(workload)
    if space is None:
        space = default_space(device)
    return device, law, workload, space


def _with_cache(law: LossModel, kv_format: str | None) -> LossModel:
    """The law with the price of the cache's format, where one was asked for."""
    return law if kv_format is None else KvPricedLaw(law, kv_format.strip().lower())


def _with_engine(device: "DeviceProfile | str", engine: str) -> str:
    """The device's name with the engine's."""
    if not isinstance(device, str):
        raise BadInput(f"engine = {engine[:40]!r}: a profile names its own engine")
    from shapelaw.search.devices.catalogue import with_engine

    return with_engine(device, engine)


def _engines(device: "DeviceProfile | str", profile: "DeviceProfile") -> "list[DeviceProfile]":
    """The device with every engine that it may be costed with, the usual one first."""
    if not isinstance(device, str):
        return [profile]
    from shapelaw.search.devices.catalogue import with_each_engine

    return with_each_engine(device)


def _check_energy(problem: Problem, profile: "DeviceProfile") -> None:
    """Energy asked of a device whose energy nobody measured cannot be answered."""
    asked = {limit.column for limit in problem.limits} | {o.column for o in problem.objectives}
    if "energy_per_token_j" in asked and profile.energy is None:
        raise BadInput(
            f"energy: device {profile.name} has no energy figures; leave energy out, or "
            "add an [energy] table to its profile"
        )


def answer_command(
    device: str,
    *,
    engine: str | None = None,
    law: str | None = None,
    memory: float | str | None = None,
    decode: float | str | None = None,
    ttft: float | str | None = None,
    energy: float | str | None = None,
    tokens: float | str | None = None,
    flops: float | str | None = None,
    bits: str | None = None,
    formats: str | None = None,
    kv_format: str | None = None,
    workload: str = "chat",
    batch: int | None = None,
    context: int | str | None = None,
    space: str | None = None,
    objectives: str | None = None,
    target_loss: float | None = None,
    confidence: float = CONFIDENCE,
    accelerator: str = DEFAULT_ACCELERATOR,
    utilisation: float = UTILISATION,
    measure: int | None = None,
    storage: str | None = None,
) -> Answer:
    """`query` in the command line's words. Raises what `query` raises."""
    budget = Budget(
        memory_bytes=memory,
        decode_tokens_per_s=decode,
        ttft_s=ttft,
        energy_j=energy,
        tokens=tokens,
        flops=flops,
        bits=bits,
    )
    from shapelaw.search.workload import load_workload

    in_view = None if context is None else units.whole_count(context, "context")
    served = load_workload(workload).served(batch, in_view)
    return query(
        device,
        law,
        budget,
        served,
        space,
        engine=engine,
        formats=formats,
        kv_format=kv_format,
        objectives=objectives,
        target_loss=target_loss,
        confidence=confidence,
        accelerator=accelerator,
        utilisation=utilisation,
        measure=measure or 0,
        storage=storage,
    )


def feasible_architectures(
    law: LossModel,
    *,
    device: "DeviceProfile | str",
    memory: Any = None,
    decode: Any = None,
    workload: "Workload | str" = "chat",
    space: Space | str | None = None,
    tokens: float | str | None = None,
    most: int = 512,
) -> list[Architecture]:
    """Good shapes that fit the device and budgets: what further runs should teach the law about.

    Raises:
        BadInput, Infeasible: as `query`.
    """
    budget = Budget(memory_bytes=memory, decode_tokens_per_s=decode, tokens=tokens)
    profile, judge, work, where = _resolve(device, law, workload, space, budget)
    budget = within_device(budget, profile)
    asked = Problem(judge, DeviceCost(profile, work), budget, parse_objectives(None))
    problem = prepared(asked, where.grid(), CONFIDENCE)
    searched = search_space(problem, where, profile.name, work.name)
    if not searched.collected.feasible:
        raise infeasible(problem, where, profile, CONFIDENCE, 0.0)
    batch = searched.points_of(searched.collected.pool(most)).architectures
    return list(dict.fromkeys(batch[row] for row in range(len(batch))))
