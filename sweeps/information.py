"""What a run would tell: one Gaussian over what is asked and what could be observed.

A fitted law leaves three things open about ln loss, and their covariances add up:

- its parameters: by its bootstrap draws;
- its form, which is only nearly right: by a smooth field on top of it, after Kennedy & O'Hagan
  (2001), section 4.2, that pulls the fit at the runs it holds;
- the effect of a shape axis that its runs never varied.

A run that has not been done tells about the answer as far as its loss varies with it: observing y
with noise R leaves of the answers' covariance

    Var(a | y) = Var(a) - Cov(a, y) [Cov(y) + R]^-1 Cov(y, a)

whatever y turns out to be (sequential design of experiments for a linear model: Chaloner &
Verdinelli 1995, equation 4). Runs are picked one by one; the covariances are updated after each.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np

from scaling.architecture import Architecture, ArchitectureBatch
from scaling.errors import BadInput
from scaling.features import architecture_features
from scaling.law import Law, wanted_features
from scaling.model import Model

Array = np.ndarray
Goal = Literal["best shape", "loss"]

DRAWS = 400
MOST_TARGETS = 64
NOISE_UNKNOWN = 0.008
"""Standard deviation of ln loss between seeds of small runs, where the law does not say."""
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
UNSEEN_EFFECT = 0.02
"""Standard deviation of ln loss per factor e of a shape axis that a law has never seen vary."""
UNSEEN_AXES = ("ln_x", "ln_r", "ln_g", "ln_s")
VAGUE = 3.0
"""Width of what is known, without any run, of a parameter for which a form has no prior."""
RUN_LEAST_GAIN = 1e-12


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


Run = TypeVar("Run", bound=Observable)


@dataclass(frozen=True, eq=False)
class Beliefs:
    """One Gaussian over the answers [q] and, after them, every candidate's log losses [m]."""

    covariance: Array
    """[q + m, q + m]."""
    slices: list[slice]
    """Where each candidate's observations stand."""
    weights: Array
    """Of each answer's variance in what is to be made small [q], of sum 1."""
    best: Architecture
    """The target believed to have the least loss."""
    best_log_loss: float
    best_probability: float

    @property
    def variance(self) -> float:
        """Weighted variance of the answers."""
        return float(self.weights @ np.diag(self.covariance)[: len(self.weights)])


@dataclass(frozen=True, eq=False)
class Runs:
    """Budgets of shapes: asked about, possible, or done."""

    architectures: ArchitectureBatch
    tokens: Array
    """[n]."""

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(cls, pairs: Sequence[tuple[Architecture, float]]) -> "Runs":
        """From pairs of a shape and its tokens."""
        return cls(ArchitectureBatch.of(shape for shape, _ in pairs),
                   np.array([float(tokens) for _, tokens in pairs]))

    def take(self, rows: Array) -> "Runs":
        """Some of them."""
        return Runs(self.architectures.take(rows), self.tokens[rows])

    def draws(self, law: Law) -> Array:
        """ln loss by the law's draws [k, n]."""
        return np.log(law.loss_draws(self.architectures, self.tokens, DRAWS))

    def features(self) -> Mapping[str, Array]:
        """Where they stand."""
        return architecture_features(
            self.architectures, self.tokens, "non_embedding", tuple(SHAPE_REACH))


def beliefs_of(
    law: Law, candidates: Sequence[Observable], targets: Runs, goal: Goal,
    held: Runs | None = None,
) -> Beliefs:
    """What is believed before any candidate is run.

    Args:
        law: fitted so far, with bootstrap draws.
        candidates: what could be run.
        targets: what the answer is about; the most promising MOST_TARGETS count.
        goal: `best shape`: which target has the least loss; `loss`: each target's loss.
        held: the runs the law was fitted to.
    """
    top = np.argsort(law.loss(targets.architectures, targets.tokens))[:MOST_TARGETS]
    targets = targets.take(top)
    possible = Runs.of([(one.architecture, t) for one in candidates for t in one.tokens])
    parts = [targets, possible] + ([held] if held is not None else [])
    draws = np.concatenate([part.draws(law) for part in parts], axis=1)
    tables = [part.features() for part in parts]
    features = {name: np.concatenate([table[name] for table in tables]) for name in SHAPE_REACH}
    new, t = len(targets) + len(possible), len(targets)
    mean = np.median(draws, axis=0)
    parameters = _parameters(draws, mean)
    covariance = (
        parameters[:new, :new]
        + _form(features, _pull(law, parts, new))
        + _unseen({name: values[:new] for name, values in features.items()}, law.features)
    )
    contrast, weights, best, probability = answers_of(mean[:t], covariance[:t, :t], goal)
    ask = np.zeros((len(contrast) + len(possible), new))
    ask[: len(contrast), :t] = contrast
    ask[len(contrast):, t:] = np.eye(len(possible))
    slices, start = [], len(contrast)
    for one in candidates:
        slices.append(slice(start, start + len(one.tokens)))
        start += len(one.tokens)
    return Beliefs(ask @ covariance @ ask.T, slices, weights, targets.architectures[best],
                   float(mean[best]), probability)


def _parameters(draws: Array, mean: Array) -> Array:
    """Covariance [n, n] of ln losses over bootstrap draws [k, n]."""
    centred = draws - mean
    # A draw that ran away would make every candidate look telling: spreads are clipped at four.
    spread = 1.4826 * np.median(np.abs(centred), axis=0)
    spread = np.where(spread > 0, spread, np.abs(centred).max(axis=0))
    centred = np.clip(centred, -4 * spread, 4 * spread)
    found: Array = centred.T @ centred / (len(centred) - 1)
    return found


def _form(features: Mapping[str, Array], pull: Array) -> Array:
    """Covariance [n, n] of what the form's error makes the law miss new places by.

    The error is a smooth field d, a sum of squared exponentials. A fit takes d at the runs it holds
    for truth: it misses a place z by d(z) - pull(z) · d(held), so that far from its runs a law is
    off by more than its draws say, in a way that more runs of the same kind do not mend.

    Args:
        features: of the n new places and, after them, the h runs held.
        pull: [n, h] how far the law's prediction at each place follows each run.
    """
    kernel: Array = np.zeros((1, 1))
    for deviation, reaches in ((SCALE_ERROR, SCALE_REACH), (SHAPE_ERROR, SHAPE_REACH)):
        distance = sum(((features[name][:, None] - features[name][None, :]) / reach) ** 2
                       for name, reach in reaches.items())
        kernel = kernel + deviation**2 * np.exp(-0.5 * distance)
    missed = np.concatenate([np.eye(len(pull)), -pull], axis=1)
    found: Array = missed @ kernel @ missed.T
    return found


def _pull(law: Law, parts: Sequence[Runs], new: int) -> Array:
    """[n, h]: how far the law's prediction at each of `new` places follows each run after them.

    The hat matrix of least squares about the law, Z (H'H + R P)^-1 H' with slopes Z and H at the
    places and the runs, noise R, and the precision P of what is known of parameters without runs.
    """
    form = law.declaration
    tables = [architecture_features(part.architectures, part.tokens, law.count,
                                    wanted_features(form)) for part in parts]
    model = Model(form, {name: np.concatenate([table[name] for table in tables])
                         for name in wanted_features(form)})
    slopes = model.log_loss_and_jacobian(model.centred(law.inner()[None, :]))[1][0]
    places, held = slopes[:new], slopes[new:]
    widths = np.array([VAGUE if p.prior is None else p.prior[1] for p in form.parameters])
    inner = held.T @ held + run_noise(law) ** 2 * np.diag(widths**-2.0)
    found: Array = places @ np.linalg.solve(inner, held.T)
    return found


def _unseen(features: Mapping[str, Array], seen: Sequence[str]) -> Array:
    """Covariance [n, n] of effects of unknown sign along axes that the law's runs did not vary."""
    found: Array = np.zeros((1, 1))
    for name in UNSEEN_AXES:
        if name not in seen:
            found = found + UNSEEN_EFFECT**2 * np.outer(features[name], features[name])
    return found


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


def run_noise(law: Law) -> float:
    """Standard deviation of ln loss of one run."""
    if law.residuals.size < 3:
        return NOISE_UNKNOWN
    return max(float(np.std(law.residuals)), 1e-4)


def noise_covariance(budgets: int, deviation: float) -> Array:
    """Of the ln losses of one trunk's budgets: most of it is the trunk's, the rest their own."""
    shared = SHARED_NOISE * np.ones((budgets, budgets))
    return deviation**2 * (shared + (1 - SHARED_NOISE) * np.eye(budgets))


# --- picking -----------------------------------------------------------------------------------


def pick(
    beliefs: Beliefs, candidates: Sequence[Run], deviation: float, count: int, flops: float,
    *, again: bool = True,
) -> tuple[list[Run], list[float]]:
    """The runs, in order, and the weighted variance of the answers left after each.

    A trunk may be picked `again`, to be trained with another seed.

    Greedy by gain and greedy by gain per FLOP each fail where the other does well (a budget, and a
    number of runs); both are tried, and a third that spends the budget evenly, and the best kept.
    """
    costs = np.array([one.flops for one in candidates])
    rules: list[Callable[[Array, float, int], Array]] = [
        lambda gains, left, runs: gains,
        lambda gains, left, runs: gains / costs,
        lambda gains, left, runs: np.where(costs <= 1.5 * left / runs, gains, gains * 1e-3 / costs),
    ]
    best: tuple[list[Run], list[float]] = ([], [math.inf])
    for rule in rules:
        found = _greedy(beliefs, candidates, costs, deviation, count, flops, rule, again)
        if found[0] and found[1][-1] < best[1][-1]:
            best = found
    return best if best[0] else ([], [])


def _greedy(
    beliefs: Beliefs, candidates: Sequence[Run], costs: Array, deviation: float, count: int,
    flops: float, rule: Callable[[Array, float, int], Array], again: bool,
) -> tuple[list[Run], list[float]]:
    covariance, weights = beliefs.covariance.copy(), beliefs.weights
    left, picks, after = flops, [], []
    allowed = np.ones(len(candidates), dtype=bool)
    for number in range(count):
        gains = np.array([_gain(covariance, place, weights, deviation)
                          for place in beliefs.slices])
        scores = np.where(allowed & (costs <= left), rule(gains, left, count - number), -math.inf)
        chosen = int(np.argmax(scores))
        if not scores[chosen] > -math.inf or gains[chosen] < RUN_LEAST_GAIN:
            break
        covariance = _observe(covariance, beliefs.slices[chosen], deviation)
        left -= costs[chosen]
        if not again:
            allowed &= np.array([one.trunk != candidates[chosen].trunk for one in candidates])
        picks.append(candidates[chosen])
        after.append(float(weights @ np.diag(covariance)[: len(weights)]))
    return picks, after


def _gain(covariance: Array, place: slice, weights: Array, deviation: float) -> float:
    """Weighted variance of the answers that observing `place` removes."""
    inner = covariance[place, place] + noise_covariance(place.stop - place.start, deviation)
    cross = covariance[place, : len(weights)]
    solved = np.linalg.solve(inner, cross)
    return float(weights @ np.sum(cross * solved, axis=0))


def _observe(covariance: Array, place: slice, deviation: float) -> Array:
    """The covariance after `place` has been observed."""
    inner = covariance[place, place] + noise_covariance(place.stop - place.start, deviation)
    cross = covariance[place, :]
    reduced: Array = covariance - cross.T @ np.linalg.solve(inner, cross)
    return reduced
