"""The answer as an Optuna study, in any storage Optuna opens: the front, and a sample of the rest.

The sample is of the space that was looked at, feasible or not, in the order evaluated, so that a
dashboard's history, importances and slices mean something. The study's parameters are the axes of
the space, named as a person would name them, and Optuna's own samplers can go on from it. Its name
holds a fingerprint of the question: asked again, in this or another process, the same question
finds the same study.
"""

import hashlib
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from shapelaw.scaling.architecture import SHARING_ORDERS
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.user_files import one_line
from shapelaw.search.pareto.feasibility import confident_columns, joint_draws, probability
from shapelaw.search.pareto.problem import Points, Problem
from shapelaw.search.space.grid import AXES, Grid

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from shapelaw.search.space.space import Space

OPENING_ATTEMPTS = 4
OPENING_SECONDS = 0.1
POINT = "point"
"""User attribute of a trial: the point's coordinates, by which repeats are told."""


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its log lines on stderr and its notes that a feature is experimental."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def study_name(problem: Problem, space: "Space", device: str, workload: str) -> str:
    """`device-space-fingerprint`, the same for the same question."""
    law = getattr(problem.law, "fingerprint", "") + problem.law.label
    question = msgspec.json.encode(
        [
            device,
            workload,
            law,
            problem.budget.to_dict(),
            problem.target_loss,
            [objective.name for objective in problem.objectives],
            msgspec.to_builtins(space),
        ]
    )
    return f"{device}-{space.name}-{hashlib.sha256(question).hexdigest()[:8]}"


def axis_values(grid: Grid) -> dict[str, list[Any]]:
    """Axis -> its values as plain numbers or words, for axes that vary."""
    patterns = [
        f"{window} of {every}" if every else str(window) if window else "full"
        for window, every in grid.patterns.tolist()
    ]
    topologies = [
        " ".join(
            [SHARING_ORDERS[order]]
            + [f"{count} {name}" for name, count in (("prelude", before), ("coda", after)) if count]
            + (["injection"] if injected else [])
        )
        for order, before, after, injected in grid.topologies.tolist()
    ]
    mlp = grid.ratio if grid.ratio is not None else grid.d_ff
    values: list[Any] = [
        grid.d_model,
        grid.head_dim,
        grid.gqa_group,
        [1.0] if grid.attention_width is None else grid.attention_width,
        mlp,
        grid.blocks,
        grid.sharing,
        topologies,
        patterns,
        grid.vocab_size,
        [bool(tied) for tied in grid.tied],
        grid.bits,
    ]
    names = dict(zip(AXES, AXES, strict=True)) | {
        "mlp": "mlp_attention_ratio" if grid.ratio is not None else "d_ff",
        "blocks": "depth" if grid.blocks_are_depth else "n_blocks",
        "pattern": "attention",
        "tied": "tied_embeddings",
        "bits": "weight_bits",
    }
    return {
        names[axis]: [value.item() if isinstance(value, np.generic) else value for value in column]
        for axis, column in zip(AXES, values, strict=True)
    }


def distributions(grid: Grid) -> "dict[str, BaseDistribution]":
    """Optuna's distribution of each axis that varies: steps where it is even, else choices."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    found: dict[str, BaseDistribution] = {}
    for name, values in axis_values(grid).items():
        if len(values) < 2:
            continue
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        steps = np.diff(values) if numbers else np.empty(0)
        even = numbers and bool(np.allclose(steps, steps[0], rtol=1e-9))
        if even and all(isinstance(value, int) for value in values):
            found[name] = IntDistribution(values[0], values[-1], step=int(steps[0]))
        elif even:
            found[name] = FloatDistribution(
                values[0],
                round(values[0] + float(steps[0]) * (len(values) - 1), 9),
                step=round(float(steps[0]), 9),
            )
        else:
            found[name] = CategoricalDistribution(values)
    return found


def open_study(
    problem: Problem, name: str, storage: str | None, sampler: Any = None
) -> "optuna.Study":
    """The study of this name, made where it does not exist.

    Args:
        storage: an Optuna storage URL (`sqlite:///study.db`, `mysql://...`, `redis://...`), or a
            plain path: Optuna's journal file, which is quicker and may be shared by processes too.

    Raises:
        BadInput: the storage cannot be opened.
    """
    import optuna

    directions: list[Any] = ["maximize" if o.maximise else "minimize" for o in problem.objectives]
    with quiet():
        for attempt in range(OPENING_ATTEMPTS):
            try:
                study = optuna.create_study(
                    storage=_opened(storage),
                    study_name=name,
                    directions=directions,
                    load_if_exists=True,
                    sampler=sampler or optuna.samplers.RandomSampler(seed=0),
                )
                study.set_metric_names([objective.column for objective in problem.objectives])
                return study
            except Exception as error:  # each storage fails with exceptions of its own driver
                trouble = error
            # Another process may be creating the tables, or the study, at this very moment.
            if attempt + 1 < OPENING_ATTEMPTS:
                time.sleep(OPENING_SECONDS * (1 + attempt))
    reason = " ".join(str(trouble).split())
    raise BadInput(f"storage = {storage!r}: cannot be opened: {reason[:200]}")


def _opened(storage: str | None) -> Any:
    """A journal file for a plain path; URLs and None as they are."""
    if storage is None or "://" in storage:
        return storage
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(storage))


def constraints_of(
    problem: Problem, points: Points, confidence: float | None = None
) -> list[dict[str, float]]:
    """Limit -> how far a point misses it, as a share of the limit; 0 or less where it is met.

    With a confidence, by the cost that each point keeps to with it, and `together` for all budgets
    at once; else by the expected costs.
    """
    held: Mapping[str, np.ndarray] = points.columns
    together: dict[str, np.ndarray] = {}
    if confidence is not None and problem.limits:
        wanted = tuple(dict.fromkeys(limit.column for limit in problem.limits))
        held = confident_columns(problem, points, wanted, confidence)
        together = {"together": confidence - probability(problem, points)}
    columns = {
        limit.name: np.nan_to_num(limit.ratio(held[limit.column]) - 1.0, posinf=1e9)
        for limit in problem.limits
    } | together
    return [
        {name: float(column[row]) for name, column in columns.items()} for row in range(len(points))
    ]


def values_of(problem: Problem, points: Points) -> np.ndarray:
    """Objectives [n, objectives] in their natural direction."""
    return np.stack([points.columns[o.column] for o in problem.objectives], axis=1)


def attributes_of(problem: Problem, points: Points) -> list[dict[str, Any]]:
    """What else a trial tells of each point: expected loss, where a run falls, probabilities."""
    tokens = np.broadcast_to(problem.budget.training_tokens(points.architectures), len(points))
    low, high = problem.law.interval(points.architectures, tokens)
    columns: dict[str, np.ndarray] = {
        "expected_loss": points.columns["loss"],
        "memory_bytes": points.columns["memory_bytes"],
        "non_embedding_parameters": points.architectures.non_embedding_parameters,
    }
    if problem.limits:
        joint = joint_draws(problem, points)
        columns |= {f"probability_{name}": met.mean(axis=0) for name, met in joint.met.items()}
        columns["probability_of_all_budgets"] = joint.probability
    return [
        {
            **{name: float(column[row]) for name, column in columns.items()},
            "loss_interval": [float(low[row]), float(high[row])],
        }
        for row in range(len(points))
    ]


def trials_of(
    problem: Problem,
    grid: Grid,
    points: Points,
    coordinates: np.ndarray,
    confidence: float | None = None,
) -> "list[FrozenTrial]":
    """Points as finished trials."""
    from optuna.trial import create_trial

    axes, choices = distributions(grid), axis_values(grid)
    column = {name: index for index, name in enumerate(choices)}
    if not len(points):
        return []
    values, constraints = values_of(problem, points), constraints_of(problem, points, confidence)
    told = attributes_of(problem, points)
    with quiet():
        return [
            create_trial(
                params={name: choices[name][coordinates[row, column[name]]] for name in axes},
                distributions=axes,
                values=values[row].tolist(),
                constraints=constraints[row],
                user_attrs={POINT: point_name(coordinates[row]), **told[row]},
            )
            for row in range(len(points))
        ]


def point_name(coordinates: np.ndarray) -> str:
    """The coordinates as one word."""
    return ".".join(str(index) for index in coordinates.tolist())


def point_of(trial: "FrozenTrial") -> np.ndarray:
    """The coordinates a trial of ours stands for."""
    return np.array([int(index) for index in str(trial.user_attrs[POINT]).split(".")])


def record(
    problem: Problem,
    grid: Grid,
    points: Points,
    coordinates: np.ndarray,
    name: str,
    storage: str | None,
    confidence: float | None = None,
) -> "optuna.Study":
    """Put points into the study of this name, those it does not hold yet, in their order."""
    study = open_study(problem, name, storage)
    held = {trial.user_attrs.get(POINT) for trial in study.get_trials(deepcopy=False)}
    fresh = [row for row in range(len(points)) if point_name(coordinates[row]) not in held]
    trials = trials_of(
        problem, grid, points.take(np.array(fresh, int)), coordinates[fresh], confidence
    )
    try:
        with quiet():
            study.add_trials(trials)
    except Exception as error:  # each storage fails with exceptions of its own driver
        raise NoAnswer(
            f"storage = {storage!r}: cannot be written: {one_line(error, 160)}"
        ) from None
    return study
