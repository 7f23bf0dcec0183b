"""Everything the page shows, as one JSON object; long columns as base64 of their bytes."""

import base64
import math
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import FIELDS, Architecture
from shapelaw.scaling.hugging_face_config import hf_config
from shapelaw.scaling.units import show_count
from shapelaw.search.answer.answer import LEVEL, Answer, Beside, Candidate
from shapelaw.search.devices.roofline_parts import decode_parts, memory_parts
from shapelaw.search.page.law_data import law_data, reference_shape
from shapelaw.search.page.law_runs import LawRuns
from shapelaw.search.page.shape_curves import shape_curves
from shapelaw.search.page.stop_answers import BEYOND, StopAnswers, stop_answers
from shapelaw.search.page.stop_questions import Serving, Training
from shapelaw.search.page.study_runs import runs_behind
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.feasibility import UncertainCost
from shapelaw.search.pareto.problem import Points

COSTS = ("memory_bytes", "decode_tokens_per_s", "ttft_s", "energy_per_token_j")


def page_data(answer: Answer, runs: LawRuns | None = None) -> dict[str, Any]:
    """The page's content. Numbers are in SI units; what is unknown is left out or NaN.

    Args:
        runs: of the law that judged, where they are at hand.
    """
    found = stop_answers(answer)
    best = answer.best
    law = found.trainings[found.asked_training].problems[0].law
    return {
        "answer": _question(answer, found)
        | {
            "stops": _stops(found),
            "shapes": _shapes(found),
            "trainings": [
                _training(found, each, number) for number, each in enumerate(found.trainings)
            ],
            "servings": [
                _serving(found, each, number) for number, each in enumerate(found.servings)
            ],
            "asked": _as_asked(answer),
        },
        "law": law_data(answer.law, runs),
        "curves": shape_curves(
            law, best.architecture, best.training_tokens, runs_behind(answer.law, runs)
        ),
        "curves_at": _shape_words(best.architecture, best.training_tokens),
        "warnings": list(answer.warnings),
        "level": LEVEL,
    }


def law_page_data(runs: LawRuns) -> dict[str, Any]:
    """The same for a law without a question: what shape does, the law and its runs."""
    shape, tokens = reference_shape(runs)
    curves: list[dict[str, Any]] = []
    if shape is not None:
        curves = shape_curves(runs.law, shape, tokens, runs_behind(runs.law, runs))
    return {
        "answer": None,
        "law": law_data(runs.law, runs),
        "curves": curves,
        "curves_at": "" if shape is None else _shape_words(shape, tokens),
        "warnings": list(runs.table.remarks),
        "level": LEVEL,
    }


def _shape_words(a: Architecture, tokens: float) -> str:
    return f"d_model {a.d_model}, {a.depth} layers, {show_count(tokens)} training tokens"


# --- the question --------------------------------------------------------------------------------


def _question(answer: Answer, found: StopAnswers) -> dict[str, Any]:
    workload = answer.workload
    target = answer.problem.target_loss
    return {
        "device": {"name": answer.device.name, "title": answer.device.title},
        "workload": {
            "name": workload.name,
            "prompt": workload.prompt,
            "generated": workload.generated,
            "turns": workload.turns,
            "context": workload.decode_context,
        },
        "space": {"name": answer.space.name, "size": answer.certificate.space_size},
        "exact": found.exact,
        "confidence": answer.confidence,
        "draws": _draws(found),
        "target_loss": target,
        "level_known": bool(getattr(answer.law, "level_known", True)),
        "in_flops": answer.problem.budget.flops is not None,
        "cost_of_training": {
            "accelerator": answer.training.accelerator,
            "utilisation": answer.training.utilisation,
            "flop_per_hour": answer.training.peak * answer.training.utilisation * 3600,
            "usd_per_hour": answer.training.usd_per_hour,
        },
        "command": _command(answer),
    }


def _draws(found: StopAnswers) -> int:
    return int(_levels(found, found.servings[found.asked_serving]).shape[1])


def _command(answer: Answer) -> list[str]:
    """The words of `shapelaw query` that no slider stands for."""
    words = ["--device", answer.device.name, "--law", answer.law.label]
    words += ["--workload", answer.workload.name, "--space", answer.space.name]
    if answer.formats:
        words += ["--formats", ",".join(each.format for each in answer.formats)]
    if answer.problem.target_loss is not None:
        words += ["--target-loss", f"{answer.problem.target_loss:g}"]
    if answer.confidence != 0.9:
        words += ["--confidence", f"{answer.confidence:g}"]
    return words


def _stops(found: StopAnswers) -> dict[str, Any]:
    return {
        "budgets": [
            {
                "name": each.name,
                "column": each.column,
                "at_least": each.at_least,
                "values": each.values.tolist(),
                "asked": each.asked,
            }
            for each in found.stops
        ],
        "training": {
            "values": [
                each.budget.flops if each.budget.flops is not None else each.budget.tokens
                for each in found.trainings
            ],
            "asked": found.asked_training,
        },
        "servings": [{"batch": each.batch, "context": each.context} for each in found.servings],
        "asked_serving": found.asked_serving,
        "picks": _runs(found.picks),
        "familiar": _runs(found.familiar),
        "familiar_fits": _runs(found.familiar_fits.astype(np.int64)),
    }


def _runs(table: np.ndarray) -> dict[str, str]:
    """Run lengths of a table of numbers from BEYOND on, in its own order."""
    flat = table.ravel() - BEYOND
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    # Longer runs than two bytes count are cut: they are rare.
    starts = np.union1d(starts, np.arange(0, len(flat), _LONGEST_RUN))
    lengths = np.diff([*starts, len(flat)])
    return {"values": packed(flat[starts], "<u2"), "lengths": packed(lengths, "<u2")}


_LONGEST_RUN = 2**16 - 1


def _shapes(found: StopAnswers) -> dict[str, Any]:
    a = found.shapes
    sequence = found.trainings[0].budget.training_sequence
    configs = []
    for number in range(found.n_picks):
        shape = a[number]
        configs.append(hf_config(shape, keep_sharing=shape.sharing > 1 or shape.input_injection))
    return {
        "n": len(a),
        "picks": found.n_picks,
        "familiar": found.n_familiar,
        "names": found.names,
        "families": found.families,
        "fields": {name: packed(getattr(a, name), "<i4") for name in FIELDS},
        "bits": found.bits.tolist(),
        "formats": [None if each is None else each.name for each in found.formats],
        "format": found.format.tolist(),
        "total": packed(np.broadcast_to(a.total_parameters, len(a)), "<f8"),
        "flops_per_token": packed(
            np.broadcast_to(a.training_flops_per_token(sequence), len(a)), "<f8"
        ),
        "configs": configs,
    }


def _training(found: StopAnswers, training: Training, number: int) -> dict[str, Any]:
    """Losses of every shape, and how much shapes that are shown together differ."""
    n, a = len(found.shapes), found.shapes
    tokens = np.broadcast_to(training.budget.training_tokens(a), n)
    loss, low, high = np.empty((3, n))
    draws: np.ndarray | None = None
    beyond: list[dict[str, float]] = [{} for _ in range(n)]
    for place, problem in enumerate(training.problems):
        rows = np.flatnonzero(found.format == place)
        if not len(rows):
            continue
        shapes = a.take(rows)
        loss[rows] = problem.law.loss(shapes, tokens[rows])
        low[rows], high[rows] = problem.law.interval(shapes, tokens[rows], LEVEL)
        mine = problem.law.loss_draws(shapes, tokens[rows])
        if draws is None:
            draws = np.empty((len(mine), n))
        draws[:, rows] = mine
        for row, axes in zip(rows, problem.law.extrapolated(shapes, tokens[rows]), strict=True):
            beyond[row] = axes
    assert draws is not None
    return {
        "tokens": packed(tokens, "<f8"),
        "loss": packed(loss, "<f8"),
        "low": packed(low, "<f4"),
        "high": packed(high, "<f4"),
        "beyond": [
            ", ".join(f"{axis} {factor:.2g}×" for axis, factor in axes.items())
            for axes in beyond[: found.n_picks]
        ],
        "gaps": _gaps(found, number, loss, draws),
    }


def _gaps(found: StopAnswers, number: int, loss: np.ndarray, draws: np.ndarray) -> dict[str, str]:
    """Of each pair that is compared: the pair, ends of the interval of the first one's loss less
    the second one's, and share of the draws in which it is the lower one; both judged by the same
    draws."""
    pairs = _compared(found, number)
    firsts, seconds = np.divmod(pairs, len(found.shapes))
    gaps = np.empty((len(pairs), 3))
    tail = 0.5 * (1 - LEVEL)
    by_shape = np.ascontiguousarray(draws.T)  # neighbouring numbers are quickly sorted
    middle = loss[firsts] - loss[seconds]
    for start in range(0, len(pairs), _PAIRS):
        some = slice(start, start + _PAIRS)
        drawn = by_shape[firsts[some]] - by_shape[seconds[some]]
        drawn.sort(axis=1)
        gaps[some, 0] = np.minimum(_quantile(drawn, tail), middle[some])
        gaps[some, 1] = np.maximum(_quantile(drawn, 1 - tail), middle[some])
        gaps[some, 2] = np.mean(drawn < 0, axis=1)
    return {"pairs": packed(pairs, "<u4"), "ends": packed(gaps, "<f4")}


_PAIRS = 2048
"""Pairs whose draws are sorted together."""


def _compared(found: StopAnswers, number: int) -> np.ndarray:
    """Pairs of shapes, first * shapes + second in ascending order, that the page compares at one
    stop of training: picks of any speed with the familiar choice of any speed, all else alike;
    picks with the named models, and those with the familiar choices."""
    n = len(found.shapes)
    picked, familiar = found.picks[:, number], found.familiar[:, number]
    shown, alike = np.unique(picked[picked >= 0]), np.unique(familiar)
    pairs = []
    for named in range(found.n_picks + found.n_familiar, n):
        # A pick stands beside the named models in its own format.
        mine = shown[found.format[shown] == found.format[named]]
        pairs += [mine * n + named, named * n + alike]
    speeds = [at for at, each in enumerate(found.stops) if each.name == "decode"]
    if speeds:
        picked, familiar = (np.moveaxis(each, 1 + speeds[0], 0) for each in (picked, familiar))
    else:
        picked, familiar = picked[None], familiar[None]
    for here in familiar:
        pairs.append(np.unique((picked * n + here)[picked >= 0]))
    return np.unique(np.concatenate(pairs))


def _quantile(ordered: np.ndarray, share: float) -> np.ndarray:
    """Quantile [n] of numbers in order [n, k], between neighbours where it falls there."""
    place = share * (ordered.shape[1] - 1)
    below, above = ordered[:, int(place)], ordered[:, math.ceil(place)]
    return np.asarray(below + (above - below) * (place - int(place)))


def _serving(found: StopAnswers, serving: Serving, number: int) -> dict[str, Any]:
    """Costs of the shapes that are shown for this batch and context."""
    shown = np.unique(np.concatenate([found.picks[number].ravel(), found.familiar[number].ravel()]))
    named = np.arange(found.n_picks + found.n_familiar, len(found.shapes))
    rows = np.concatenate([shown[shown >= 0], named])
    low, middle, high = _costs(found, serving, rows)
    return {
        "rows": packed(rows, "<u2"),
        "middle": packed(middle, "<f4"),
        "low": packed(low, "<f4"),
        "high": packed(high, "<f4"),
        "levels": packed(_levels(found, serving, rows), "u1"),
    } | _breakdown(found, serving, rows)


def _by_branch(found: StopAnswers, rows: np.ndarray) -> list[tuple[int, np.ndarray, Points]]:
    """(format, places among the rows, their points) of each format that occurs."""
    parts = []
    for number in range(len(found.formats)):
        places = np.flatnonzero(found.format[rows] == number)
        if len(places):
            chosen = rows[places]
            points = Points(found.shapes.take(chosen), found.bits[chosen], {}, chosen)
            parts.append((number, places, points))
    return parts


def _drawn(cost: DeviceCost, points: Points) -> dict[str, np.ndarray]:
    from shapelaw.search.pareto.feasibility import DRAWS

    if isinstance(cost, UncertainCost):
        return cost.draws(points.architectures, points.bits, COSTS, DRAWS)
    columns = cost(points.architectures, points.bits, COSTS)
    return {name: column[None] for name, column in columns.items()}


def _costs(
    found: StopAnswers, serving: Serving, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low, middle and high costs [rows, COSTS]."""
    low, middle, high = np.empty((3, len(rows), len(COSTS)))
    tail = 0.5 * (1 - LEVEL)
    for number, places, points in _by_branch(found, rows):
        cost = serving.costs[number]
        columns = cost(points.architectures, points.bits, COSTS)
        drawn = _drawn(cost, points)
        for place, name in enumerate(COSTS):
            below, above = np.quantile(drawn[name], [tail, 1 - tail], axis=0)
            middle[places, place] = columns[name]
            # The point cost is no draw: where it lies outside of them the interval reaches to it.
            low[places, place] = np.fmin(below, columns[name])
            high[places, place] = np.fmax(above, columns[name])
    return low, middle, high


def _levels(found: StopAnswers, serving: Serving, rows: np.ndarray | None = None) -> np.ndarray:
    """[rows, draws, budgets]: how many stops of each budget, from the loosest on, a draw meets."""
    rows = np.arange(1) if rows is None else rows
    levels: np.ndarray | None = None
    for number, places, points in _by_branch(found, rows):
        drawn = _drawn(serving.costs[number], points)
        mine = np.stack([each.met(drawn[each.column]).T for each in found.stops], axis=-1)
        if levels is None:
            levels = np.zeros((len(rows), *mine.shape[1:]), dtype=np.uint8)
        levels[places] = mine
    assert levels is not None
    return levels


def _breakdown(found: StopAnswers, serving: Serving, rows: np.ndarray) -> dict[str, Any]:
    """Parts of one decode step, and what memory holds: [rows, parts] each."""
    tables: dict[str, np.ndarray] = {}
    names: list[str] = []
    memory_names: list[str] = []
    scarce = np.empty(len(rows), dtype=object)
    for number, places, points in _by_branch(found, rows):
        cost = serving.costs[number]
        shapes = cost.shapes(points.architectures, points.bits)
        parts = decode_parts(shapes, cost.constants)
        memory = memory_parts(shapes, cost.constants)
        names, memory_names = [part.name for part in parts], list(memory)
        scarce[places] = cost.full(points.architectures, points.bits).scarce
        held = {
            "seconds": [part.seconds for part in parts],
            "bytes": [part.bytes_moved + part.bytes_cached for part in parts],
            "flops": [part.flops for part in parts],
            "memory": list(memory.values()),
        }
        for name, columns in held.items():
            table = tables.setdefault(name, np.zeros((len(rows), len(columns))))
            table[places] = np.stack([np.broadcast_to(c, len(places)) for c in columns], axis=1)
    resources = sorted(set(scarce.tolist()))
    return {
        "parts": names,
        "memory_parts": memory_names,
        "resources": resources,
        "scarce": [resources.index(each) for each in scarce],
        **{name: packed(table, "<f4") for name, table in tables.items()},
    }


# --- the answer as asked -------------------------------------------------------------------------


def _as_asked(answer: Answer) -> dict[str, Any]:
    """What only the question as asked was searched for."""
    return {
        "architecture": answer.best.architecture.to_dict(),
        "near_best": answer.near_best_probability,
        "near_best_confident": answer.near_best_confident_probability,
        "regret": list(answer.regret),
        "law_regret": answer.confident_regret,
        "binding": list(answer.binding),
        "equal": None
        if answer.equal_flops is None and answer.equal_tokens is None
        else _beside(answer.equal_flops or answer.equal_tokens),
        "beside": [_beside(each) for each in answer.near_ties],
        "otherwise": [
            {
                "says": each.belief.says,
                "probability": each.belief.probability,
                "gain": each.belief.gain,
                "cost": each.belief.cost,
                **_candidate(each.candidate),
            }
            for each in answer.otherwise
        ],
        "measurements": [
            {
                "says": each.says,
                "settles": each.settles,
                "value": each.value,
                "kind": each.kind,
                "runs": each.runs,
                "flops": each.flops,
                "gpu_hours": each.gpu_hours,
                "usd": each.usd,
            }
            for each in answer.measurements
        ],
        "edges": [each.to_dict() for each in answer.edges],
        "sources": [
            {"axis": each.axis, "says": each.says, "from": each.source} for each in answer.sources
        ],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "architecture": candidate.architecture.to_dict(),
        "decode": candidate.decode_tokens_per_s,
        "memory": candidate.memory_bytes,
        "tokens": candidate.training_tokens,
        "flops": candidate.training_flops,
    }


def _beside(beside: Beside | None) -> dict[str, Any]:
    assert beside is not None
    return {
        "why": beside.why,
        "difference": beside.loss_difference,
        "interval": list(beside.loss_difference_interval),
        "better": beside.probability_better,
        **_candidate(beside.candidate),
    }


def packed(column: np.ndarray, dtype: str) -> str:
    """Little-endian bytes in base64: exact, and a third of what digits would take."""
    return base64.b64encode(np.ascontiguousarray(column, dtype=dtype).tobytes()).decode()
