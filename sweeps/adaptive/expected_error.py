"""What a run would tell: how far off a fit's answers would be, with it and without.

A law is fitted by least squares, and its form is only nearly right. Let d be what the form misses
ln loss by: a smooth field, after Kennedy & O'Hagan (2001), section 4.2. A fit to the runs R with
slopes H, noise e of deviation s, and unit widths of what is known of its parameters without runs
takes d for truth and, with true parameters t, misses the targets T with slopes Z by

    d_T - Z A^-1 [H'(d_R + e) - s^2 t],        A = H'H + s^2 I,

so that the expected square of an answer c'(ln loss of the targets) is, with g = A^-1 Z'c and the
field's covariance K,

    c'K_TT c - 2 g'H'K_RT c + g' V g,        V = Var[H'(d_R + e)] + s^4 I.

Where the runs are not at hand, the covariance P of a law's draws stands for them: A = s^2 P^-1 and
V = A P A. So it is where the evidence is the prior: its draws carry population and runs together.

This is Box & Draper's (1959) criterion of variance and bias together, taken over an uncertain form.
A further run changes A, V and H'K_RT by sums over its own rows. It can do harm: a cheap run far
from what is asked pulls a fit that is wrong there. greedy_picks.py picks runs by what they leave.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from scipy.linalg import block_diag

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.bound_form import Model
from shapelaw.scaling.coordinates import to_inner
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.evidence_law import EvidenceLaw
from shapelaw.scaling.evidence.study_features import of_architectures
from shapelaw.scaling.evidence.study_population import ROW_NOISE, RUN_NOISE
from shapelaw.scaling.extrapolation import UNSEEN_EFFECT
from shapelaw.scaling.features import architecture_features, wanted_features
from shapelaw.scaling.law import Law

Array = np.ndarray
AnyLaw = Law | EvidenceLaw
Goal = Literal["best shape", "loss"]

DRAWS = 400
MOST_TARGETS = 64
NOISE, NOISE_WORTH = 0.008, 10
"""Standard deviation of ln loss between seeds of small runs, as a law's residuals find it, and how
many residuals' worth it counts beside these."""
SHARED_NOISE = 0.8
"""Of a run's noise variance, what all budgets of its trunk share (its weights and text order)."""
SCALE_ERROR, SHAPE_ERROR = 0.015, 0.005
"""Standard deviations of ln loss between a law's form and the truth, in what all shapes of a size
and budget have in common and in what each has of its own. On Gemstones' runs published forms miss
sizes beyond those they saw by .008 to .017, and the best of them unseen shapes by .0047."""
SCALE_REACH = {"ln_n": 1.4, "ln_d": 1.4}
SHAPE_REACH = {**SCALE_REACH, "ln_x": 0.7, "ln_r": 1.4, "ln_g": 0.7, "ln_s": 0.7}
"""Length scales of these errors, by feature: a factor of four in size, tokens and MLP ratio, of two
in the others. A run tells about the form this far around it."""
UNSEEN_AXES = ("ln_x", "ln_r", "ln_g", "ln_s")
VAGUE = 3.0
"""Width of what is known, without any run, of a parameter for which a form has no prior."""
LEAST_COMPONENT = 1e-3
"""Of the largest principal component of a law's draws, the least that counts."""
SURE = 1e-6
"""Share of that width left to a parameter that all draws of a law agree on."""


class Observable(Protocol):
    """A trunk that could be trained: one observation a budget."""

    @property
    def trunk(self) -> str: ...
    @property
    def architecture(self) -> Architecture: ...
    @property
    def tokens(self) -> tuple[int, ...]: ...
    @property
    def flops(self) -> float: ...


@dataclass(frozen=True, eq=False)
class Runs:
    """Budgets of shapes: asked about, possible, or done."""

    architectures: ArchitectureBatch
    tokens: Array
    """[n]."""
    trunks: Array
    """Which rows are budgets of one trunk, by any label [n]."""

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(
        cls, pairs: Sequence[tuple[Architecture, float]], trunks: Sequence[str] | None = None
    ) -> "Runs":
        """From pairs of a shape and its tokens; each a trunk of its own where none are named."""
        return cls(
            ArchitectureBatch.of(shape for shape, _ in pairs),
            np.array([float(tokens) for _, tokens in pairs]),
            np.arange(len(pairs)) if trunks is None else np.array(trunks),
        )

    def take(self, rows: Array) -> "Runs":
        """Some of them."""
        return Runs(self.architectures.take(rows), self.tokens[rows], self.trunks[rows])

    def log_loss(self, law: AnyLaw) -> Array:
        """By the law [n]."""
        return np.log(law.loss(self.architectures, self.tokens))


class State(NamedTuple):
    """What the expected errors need to know of the runs had so far, as sums over their rows."""

    information: Array
    """A = H'H + s^2 I [p, p]."""
    score: Array
    """V [p, p]."""
    shared: Array
    """H'K between the runs and the answers [p, q]."""
    pulled: Array
    """K H between every candidate's rows and the runs [m, p]."""


class Best(NamedTuple):
    """The target believed to have the least loss, and with what probability it has."""

    architecture: Architecture
    log_loss: float
    probability: float


@dataclass(frozen=True, eq=False)
class Outlook:
    """Expected errors of the answers to one or more questions, and how each candidate changes them.

    Sizes: p parameters, q answers, n candidates of at most b budgets, m rows of theirs together.
    """

    start: State
    questions: tuple[Goal, ...]
    weights: Array
    """Of each answer's variance in each question's [questions, q]; each question's sum to 1."""
    answer_slopes: Array
    """Z'c [p, q]."""
    alone: Array
    """c'K c, the variance of the form's error in each answer [q]."""
    slopes: Array
    """Of candidates' rows [n, b, p], zero where a candidate has fewer budgets."""
    rows: Array
    """Which of the m rows those are [n, b]; any, where there is none."""
    real: Array
    """Whether there is one [n, b]."""
    kernel: Array
    """Of the form's error between rows [m, m]."""
    to_answers: Array
    """The same from rows to answers [m, q]."""
    noise: float
    """Standard deviation of ln loss of one run."""
    best: Best

    def errors(self, state: State) -> Array:
        """Expected squared error of each question's answers, weighted [..., questions]."""
        slopes = np.broadcast_to(
            self.answer_slopes, state.information.shape[:-2] + self.answer_slopes.shape
        )
        follow = np.linalg.solve(state.information, slopes)
        squares = (
            self.alone
            - 2 * np.sum(follow * state.shared, axis=-2)
            + np.sum(follow * (state.score @ follow), axis=-2)
        )
        found: Array = squares @ self.weights.T
        return found

    def share_left(self, state: State) -> Array:
        """Of the errors at the start, in the mean over the questions [...]."""
        found: Array = np.mean(self.errors(state) / self.errors(self.start), axis=-1)
        return found

    def with_each(self, state: State) -> State:
        """The state after each candidate by itself [n, ...], but for `pulled`, which stays."""
        return self._grown(state, np.arange(len(self.rows)))

    def with_run(self, state: State, number: int) -> State:
        """The state after one candidate."""
        grown = self._grown(state, np.array([number]))
        rows = self.rows[number][self.real[number]]
        added = self.kernel[:, rows] @ self.slopes[number][self.real[number]]
        return State(grown.information[0], grown.score[0], grown.shared[0], state.pulled + added)

    def _grown(self, state: State, chosen: Array) -> State:
        rows, real, slopes = self.rows[chosen], self.real[chosen], self.slopes[chosen]
        turned = slopes.transpose(0, 2, 1)
        cross = turned @ state.pulled[rows]
        pairs = real[:, :, None] & real[:, None, :]
        own = np.where(
            pairs,
            self.kernel[rows[:, :, None], rows[:, None, :]]
            + noise_covariance(np.zeros(rows.shape[1]), self.noise),
            0.0,
        )
        return State(
            information=state.information + turned @ slopes,
            score=state.score + cross + cross.transpose(0, 2, 1) + turned @ own @ slopes,
            shared=state.shared + turned @ self.to_answers[rows],
            pulled=state.pulled,
        )


def outlook_of(
    law: AnyLaw,
    candidates: Sequence[Observable],
    asked: Mapping[Goal, Runs],
    held: Runs | None = None,
    doubt: float = 1.0,
) -> Outlook:
    """What is expected before any candidate is run.

    Args:
        law: fitted so far.
        candidates: what could be run.
        asked: for `best shape`, among which targets the least loss is looked for; for `loss`, the
            targets whose losses are asked. The most promising MOST_TARGETS of each count.
        held: the runs the law was fitted to; without them its draws stand for them.
        doubt: how far the form may be off, in SCALE_ERROR and SHAPE_ERROR; 0: it is right.

    Raises:
        BadInput: the best of fewer than two shapes is asked, or the law has neither runs nor draws.
    """
    if isinstance(law, EvidenceLaw):
        held = None
    elif held is None and len(law.draws) < 2:
        raise BadInput(f"law = {law.label}: has no bootstrap draws; fit it with --bootstrap 200")
    targets = {goal: _promising(law, runs) for goal, runs in asked.items()}
    possible = Runs.of([(one.architecture, t) for one in candidates for t in one.tokens])
    places = [*targets.values(), possible] + ([held] if held is not None else [])
    features = _joined(
        [
            architecture_features(
                one.architectures, one.tokens, "non_embedding", tuple(SHAPE_REACH)
            )
            for one in places
        ]
    )
    if isinstance(law, EvidenceLaw):
        slopes = _slopes_of_draws(law, places)
        spread = np.eye(slopes.shape[1])
    else:
        model, widths = _model(law, places)
        slopes = _slopes(law, model, widths, features)
        spread = _spread(law, model, widths, slopes.shape[1]) if held is None else np.zeros((0, 0))
    kernel = doubt**2 * _form_error(features)
    noise, size = run_noise(law), slopes.shape[1]
    asked_rows = sum(len(runs) for runs in targets.values())
    ends = (asked_rows, asked_rows + len(possible))
    target, row, had = slice(0, ends[0]), slice(*ends), slice(ends[1], None)
    if held is not None:
        information = slopes[had].T @ slopes[had] + noise**2 * np.eye(size)
        missed = kernel[had, had] + noise_covariance(held.trunks, noise)
        score = slopes[had].T @ missed @ slopes[had] + noise**4 * np.eye(size)
    else:
        information = noise**2 * np.linalg.inv(spread + SURE**2 * np.eye(size))
        score = information @ spread @ information
    shared = slopes[had].T @ kernel[had, target]
    follow = np.linalg.solve(information, slopes[target].T)
    covariance = (
        kernel[target, target] - shared.T @ follow - follow.T @ shared + follow.T @ score @ follow
    )
    contrast, weights, best = _stacked(
        targets, [one.log_loss(law) for one in targets.values()], covariance
    )
    numbers, real = _padded([len(one.tokens) for one in candidates])
    return Outlook(
        start=State(information, score, shared @ contrast.T, kernel[row, had] @ slopes[had]),
        questions=tuple(targets),
        weights=weights,
        answer_slopes=(contrast @ slopes[target]).T,
        alone=np.einsum("qt,tu,qu->q", contrast, kernel[target, target], contrast),
        slopes=slopes[row][numbers] * real[:, :, None],
        rows=numbers,
        real=real,
        kernel=kernel[row, row],
        to_answers=kernel[row, target] @ contrast.T,
        noise=noise,
        best=best,
    )


def _stacked(
    targets: Mapping[Goal, Runs], means: Sequence[Array], covariance: Array
) -> tuple[Array, Array, Best]:
    """All questions' answers below each other [q, t], their weights [questions, q], and the best.

    The best is that of the question for it, if it is asked.
    """
    contrasts: list[Array] = []
    weights: list[Array] = []
    found: dict[Goal, Best] = {}
    start = 0
    for (goal, runs), mean in zip(targets.items(), means, strict=True):
        part = slice(start, start + len(runs))
        contrast, share, best, probability = answers_of(mean, covariance[part, part], goal)
        contrasts.append(contrast)
        weights.append(share[None, :])
        found[goal] = Best(runs.architectures[best], float(mean[best]), probability)
        start = part.stop
    best_of = found.get("best shape", next(iter(found.values())))
    return block_diag(*contrasts), block_diag(*weights), best_of


def _promising(law: AnyLaw, runs: Runs) -> Runs:
    return runs.take(np.argsort(runs.log_loss(law))[:MOST_TARGETS])


def _padded(lengths: Sequence[int]) -> tuple[Array, Array]:
    """Rows [n, b] of candidates that stand one after the other, and which of these exist."""
    starts = np.cumsum([0, *lengths[:-1]])
    steps = np.arange(max(lengths))
    real = steps[None, :] < np.array(lengths)[:, None]
    return np.where(real, starts[:, None] + steps[None, :], 0), real


def _model(law: Law, places: Sequence[Runs]) -> tuple[Model, Array]:
    """The law's form at all places; the widths [p] of what is known without runs."""
    form, wanted = law.declaration, wanted_features(law.declaration)
    model = Model(
        form,
        _joined(
            [
                architecture_features(one.architectures, one.tokens, law.count, wanted)
                for one in places
            ]
        ),
    )
    return model, np.array([VAGUE if p.prior is None else p.prior[1] for p in form.parameters])


def _slopes(law: Law, model: Model, widths: Array, features: Mapping[str, Array]) -> Array:
    """Slopes [n, p] of ln loss at all places, parameters measured in their widths.

    A shape axis that the law's runs did not vary counts as one more, of unknown sign: it can be
    fitted once runs vary it.
    """
    seen = model.log_loss_and_jacobian(model.centred(law.inner()[None, :]))[1][0] * widths
    unseen = [
        UNSEEN_EFFECT * features[name][:, None] for name in UNSEEN_AXES if name not in law.features
    ]
    found: Array = np.concatenate([seen, *unseen], axis=1)
    return found


def _slopes_of_draws(law: EvidenceLaw, places: Sequence[Runs]) -> Array:
    """ln loss at all places as a sum of independent unit normals: their coefficients [n, r].

    The principal components of the law's draws there.
    """
    theta = law.theta[:DRAWS]
    drawn = np.concatenate(
        [law.log_loss_of(theta, of_architectures(one.architectures, one.tokens)) for one in places],
        axis=1,
    )
    _, sizes, directions = np.linalg.svd(drawn - drawn.mean(axis=0), full_matrices=False)
    kept = sizes > LEAST_COMPONENT * sizes[0]
    found: Array = (sizes[kept, None] * directions[kept]).T / math.sqrt(len(theta) - 1)
    return found


def _spread(law: Law, model: Model, widths: Array, size: int) -> Array:
    """Covariance [size, size] of the parameters by the law's draws; 1 where it has none."""
    draws = model.centred(to_inner(law.declaration, law.draws[:DRAWS])) / widths
    centred = draws - np.median(draws, axis=0)
    # A draw that ran away would make every candidate look telling: spreads are clipped at four.
    width = 1.4826 * np.median(np.abs(centred), axis=0)
    width = np.where(width > 0, width, np.abs(centred).max(axis=0))
    centred = np.clip(centred, -4 * width, 4 * width)
    found, drawn = np.eye(size), draws.shape[1]
    found[:drawn, :drawn] = centred.T @ centred / (len(centred) - 1)
    return found


def _form_error(features: Mapping[str, Array]) -> Array:
    """Covariance [n, n] of what the form misses ln loss by: a sum of squared exponentials."""
    kernel: Array = np.zeros((1, 1))
    for deviation, reaches in ((SCALE_ERROR, SCALE_REACH), (SHAPE_ERROR, SHAPE_REACH)):
        distance = sum(
            ((features[name][:, None] - features[name][None, :]) / reach) ** 2
            for name, reach in reaches.items()
        )
        kernel = kernel + deviation**2 * np.exp(-0.5 * distance)
    return kernel


def _joined(tables: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def answers_of(mean: Array, covariance: Array, goal: Goal) -> tuple[Array, Array, int, float]:
    """What is asked, as rows of a matrix [q, t] on the targets' ln losses, with weights [q].

    For `loss`: each target's. For `best shape`: the difference of each other target to the one that
    is best on average, weighted by the probability that it is better after all. Also which target
    is best, and the probability that it is.
    """
    size = len(mean)
    best = int(np.argmin(mean))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    sample = mean + np.random.default_rng(0).standard_normal((4000, size)) @ root.T
    probability = float(np.mean(np.argmin(sample, axis=1) == best))
    if goal == "loss":
        return np.eye(size), np.full(size, 1 / size), best, probability
    if size < 2:
        raise BadInput("goal = 'best shape': needs more than one target")
    contrast = np.delete(np.eye(size), best, axis=0)
    contrast[:, best] = -1.0
    deviation = np.sqrt(np.einsum("qt,tu,qu->q", contrast, covariance, contrast)) + 1e-12
    weights = np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in contrast @ mean / deviation])
    # Where nothing comes near, the nearest still counts: a law can be surer than it should be.
    weights = np.maximum(weights, 1e-3)
    return contrast, weights / weights.sum(), best, probability


def run_noise(law: AnyLaw) -> float:
    """Standard deviation of ln loss of one run: from the residuals, shrunk to what is usual.

    Of the evidence, the median over its draws.
    """
    if isinstance(law, EvidenceLaw):
        return float(np.median(np.hypot(*np.exp(law.theta[:, [ROW_NOISE, RUN_NOISE]]).T)))
    fitted = len(law.parameters)
    free = max(law.runs - fitted, 0) if law.residuals.size else 0
    squares = law.runs * float(np.var(law.residuals)) if free else 0.0
    return math.sqrt((squares + NOISE_WORTH * NOISE**2) / (free + NOISE_WORTH))


def noise_covariance(trunks: Array, deviation: float) -> Array:
    """Of ln losses [n, n]: most of a run's noise is its trunk's, the rest each budget's own."""
    same = trunks[:, None] == trunks[None, :]
    return deviation**2 * (SHARED_NOISE * same + (1 - SHARED_NOISE) * np.eye(len(trunks)))
