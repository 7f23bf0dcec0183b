"""Intervals of parameters by profile likelihood: what the runs alone say, without any prior.

Each parameter is moved away from the optimum, all others are refitted, and its interval ends where
the objective has risen by what chance explains (see `scaling.sandwich.Local.units`). Such intervals
follow curved valleys and bounds, where a covariance or resampling around a biased optimum does not,
and they stay wide where the runs leave a parameter open. Priors take no part: they keep predictions
sane, but an interval that leaned on one would hold only truths the prior expects.
"""

import dataclasses

import numpy as np

from scaling.model import Array, Model
from scaling.optimum import Optimum
from scaling.sandwich import Local, local
from scaling.solver import Prior, minimise
from scaling.starts import projected

_ROUNDS = 7  # of moving the ends
_CLOSE = 0.06  # in normal deviates: near enough to the wanted rise
_PINNED = 1e9  # precision that holds a parameter in place, in units of log likelihood
_ITERATIONS = 60
_SMOOTHER, _ON_THE_WAY = 4e-3, 15  # delta of a smoother problem on the way, and its iterations
_NEAR = 8  # of the starts that ended near the optimum, to seek the one without prior from
_MOST_ROWS = 2_000  # that intervals are walked on: more make nearly every valley a parabola
_LOPSIDED = 3.0  # ratio of an interval's two sides beyond which it is no parabola's
_GROWTH = 3.0  # at most, of a distance from one round to the next
_BETTER = 1e-3  # units of log likelihood: a lower objective found on the way is a new optimum


@dataclasses.dataclass(frozen=True)
class Profile:
    """Intervals in inner coordinates."""

    theta: Array
    """The optimum without any prior [p]."""
    low: Array
    """Lower ends [p]; a parameter's bound where nothing speaks against it."""
    high: Array
    units: Array
    """See `Local.units`."""


def profile(
    model: Model, log_loss: Array, optimum: Optimum, starts: Array, weights: Array, groups: Array,
    *, delta: float,
) -> Profile:
    """90 % intervals. `starts` [k, p]: where else the optimum without prior may lie (draws)."""
    begin = np.concatenate([optimum.theta[None, :], optimum.near[:_NEAR], starts])
    if model.rows > _MOST_ROWS:
        return _of_many(model, log_loss, begin, weights, groups, delta)
    theta = _least(model, log_loss, begin, weights, delta)
    for _ in range(2):
        near = local(model, log_loss, theta, weights, groups, delta)
        found, lower = _walk(model, log_loss, theta, optimum.theta, near, weights, delta)
        if lower is None:
            break
        theta = minimise(model, log_loss, lower[None, :], weights, delta=delta, warm=True).theta[0]
    return found


def _least(model: Model, log_loss: Array, begin: Array, weights: Array, delta: float) -> Array:
    ends = minimise(model, log_loss, begin, weights, delta=delta, warm=len(begin) == 1)
    return ends.theta[int(ends.objective.argmin())]


def _limits(model: Model) -> tuple[Array, Array]:
    return (np.array([p.low for p in model.form.parameters]),
            np.array([p.high for p in model.form.parameters]))


def _of_many(
    model: Model, log_loss: Array, begin: Array, weights: Array, groups: Array, delta: float
) -> Profile:
    """Normal intervals from all rows; a sample says where the valley is no parabola.

    A parameter whose interval from the sample is lopsided, or open, is given that one: wider.
    """
    some = np.sort(np.random.default_rng(0).choice(model.rows, _MOST_ROWS, replace=False))
    part = Model(model.form, {name: column[some] for name, column in model.features.items()})
    theta = _least(part, log_loss[some], begin, weights[some], delta)
    runs = np.unique(groups[some], return_inverse=True)[1].ravel()
    near = local(part, log_loss[some], theta, weights[some], runs, delta)
    walked = _walk(part, log_loss[some], theta, begin[0], near, weights[some], delta)[0]
    theta = _least(model, log_loss, begin[:1], weights, delta)
    near = local(model, log_loss, theta, weights, groups, delta)
    low, high = _limits(model)
    reach = near.deviate * np.sqrt(np.diag(near.covariance))
    below, above = walked.theta - walked.low, walked.high - walked.theta
    curved = ~near.free | (np.maximum(below, above) > _LOPSIDED * np.minimum(below, above))
    return Profile(theta, np.maximum(theta - np.where(curved, below, reach), low),
                   np.minimum(theta + np.where(curved, above, reach), high), near.units)


def _walk(
    model: Model, log_loss: Array, theta: Array, centre: Array, near: Local, weights: Array,
    delta: float,
) -> tuple[Profile, Array | None]:
    """Both ends of every parameter at once; and a point lower than theta, if one was met."""
    size = len(theta)
    low, high = _limits(model)
    which, side = np.repeat(np.arange(size), 2), np.tile([-1.0, 1.0], size)
    rows = np.arange(2 * size)
    room = np.where(side < 0, theta[which] - low[which], high[which] - theta[which])
    unit = near.units[which]
    # The valley's floor runs along the column of H⁻¹.
    own = np.maximum(np.diag(near.inverse), 1e-300)
    slope = (near.inverse / own).T[which]
    slope[rows, which] = 1.0
    reach = np.where(near.free, near.deviate * np.sqrt(np.diag(near.covariance)), 0.1)[which]
    distance = np.minimum(np.clip(reach, 1e-6, 2.0), room)
    inside, root_inside = np.zeros((2, len(rows)))
    outside, root_outside = np.full((2, len(rows)), np.inf)
    last, last_distance = np.repeat(theta[None, :], len(rows), axis=0), np.zeros(len(rows))
    direction = slope * side[:, None]
    pinning = _Pinning.of_model(model)
    base = float(minimise(model, log_loss, theta[None, :], weights, delta=delta, warm=True,
                          iterations=1).objective[0])
    least, lowest = base, None
    running = room > 1e-9
    for _ in range(_ROUNDS):
        on = np.flatnonzero(running)
        if not len(on):
            break
        begin = last[on] + direction[on] * (distance - last_distance)[on, None]
        begin[np.arange(len(on)), which[on]] = (theta[which] + side * distance)[on]
        begin = np.clip(begin, low, high)
        mean, precision = np.zeros((2, *begin.shape))
        mean[np.arange(len(on)), which[on]] = begin[np.arange(len(on)), which[on]]
        precision[np.arange(len(on)), which[on]] = _PINNED * unit[on]
        prior = Prior(mean, precision)
        ends, objective = pinning.minimise(log_loss, begin, which[on], weights, delta, prior)
        # Before an end is believed, the valley is entered from elsewhere too: far from the optimum
        # it bends, and terms that vanished there have to come back.
        beyond = np.flatnonzero(2 * (objective - base) > near.deviate**2 * unit[on])
        if len(beyond):
            again = np.repeat(centre[None, :], len(beyond), axis=0)
            held = which[on][beyond]
            again[np.arange(len(beyond)), held] = begin[beyond, held]
            again = pinning.projected(log_loss, weights, again, held)
            other, value = pinning.minimise(log_loss, again, held, weights, delta,
                                            prior.take(beyond))
            better = value < objective[beyond]
            ends[beyond[better]], objective[beyond[better]] = other[better], value[better]
        best = int(objective.argmin())
        if objective[best] < least - _BETTER * unit[on][best]:
            least, lowest = float(objective[best]), ends[best]
        moved = distance[on] - last_distance[on]
        direction[on] = np.where(
            (np.abs(moved) > 1e-9)[:, None],
            (ends - last[on]) / np.where(np.abs(moved) > 1e-9, moved, 1.0)[:, None],
            direction[on])
        last[on], last_distance[on] = ends, distance[on]
        root = np.sqrt(2 * np.maximum(objective - base, 0.0) / unit[on])
        within = root <= near.deviate
        inside[on] = np.where(within, np.maximum(inside[on], distance[on]), inside[on])
        root_inside[on] = np.where(within, root, root_inside[on])
        outside[on] = np.where(within, outside[on], distance[on])
        root_outside[on] = np.where(within, root_outside[on], root)
        running[on] = (np.abs(root - near.deviate) > _CLOSE) & ~(
            within & (distance[on] >= room[on] - 1e-9))
        distance = _next(distance, inside, root_inside, outside, root_outside, room,
                         near.deviate)
    end = np.where(np.isfinite(outside),
                   _crossing(inside, root_inside, outside, root_outside, near.deviate),
                   np.where(running, room, inside))
    end = np.where(room > 1e-9, end, 0.0)
    return Profile(theta, theta - end[0::2], theta + end[1::2], near.units), lowest


@dataclasses.dataclass(frozen=True)
class _Pinning:
    """Models in which each parameter is a coordinate of its own, so that it can be held."""

    models: list[Model]
    of: Array
    """Which of them each parameter is held in [p]."""

    @classmethod
    def of_model(cls, model: Model) -> "_Pinning":
        """Exponents are coordinates of the centred model; a coefficient it shifts is not."""
        shifted = np.abs(model.centring - np.eye(len(model.centring))).sum(axis=1) > 0
        models, of = [model], np.zeros(len(shifted), dtype=int)
        for position in np.flatnonzero(shifted):
            of[position] = len(models)
            models.append(Model(model.form, model.features, natural=model.form.names[position]))
        return cls(models, of)

    def minimise(
        self, log_loss: Array, begin: Array, held: Array, weights: Array, delta: float,
        prior: Prior,
    ) -> tuple[Array, Array]:
        """Ends [k, p] and objectives [k] with parameter held[k] kept in place by the prior."""
        ends, objective = begin.copy(), np.zeros(len(begin))
        for number in np.unique(self.of[held]):
            some = np.flatnonzero(self.of[held] == number)
            model, pins = self.models[number], prior.take(some)
            start = begin[some]
            if delta < _SMOOTHER:  # first a problem without the corners of an L1 norm
                start = minimise(model, log_loss, start, weights, delta=_SMOOTHER, prior=pins,
                                 warm=True, iterations=_ON_THE_WAY).theta
            solved = minimise(model, log_loss, start, weights, delta=delta, prior=pins, warm=True,
                              iterations=_ITERATIONS)
            ends[some], objective[some] = solved.theta, solved.objective
        return ends, objective

    def projected(self, log_loss: Array, weights: Array, theta: Array, held: Array) -> Array:
        """Points [k, p] with the coefficients that suit them best, but for the held ones."""
        found, loss = theta.copy(), np.exp(log_loss)
        names = self.models[0].form.names
        for position in np.unique(held):
            some = held == position
            found[some] = projected(self.models[0], loss, weights, theta[some], names[position])
        return found


def _crossing(
    inside: Array, root_inside: Array, outside: Array, root_outside: Array, wanted: float
) -> Array:
    """Where the signed root, near linear in a parameter, passes the wanted deviate."""
    with np.errstate(invalid="ignore"):
        share = (wanted - root_inside) / np.maximum(root_outside - root_inside, 1e-12)
        return np.where(np.isfinite(outside), inside + share * (outside - inside), inside)


def _next(
    distance: Array, inside: Array, root_inside: Array, outside: Array, root_outside: Array,
    room: Array, wanted: float,
) -> Array:
    """The next distance to try: interpolated inside a bracket, else extrapolated."""
    bracketed = np.isfinite(outside)
    between = _crossing(inside, root_inside, outside, root_outside, wanted)
    with np.errstate(invalid="ignore"):
        width = np.where(bracketed, outside - inside, 0.0)
    between = np.clip(between, inside + 0.1 * width, inside + 0.9 * width)
    further = distance * np.clip(wanted / np.maximum(root_inside, 1e-3), 1.1, _GROWTH)
    return np.minimum(np.where(bracketed, between, further), room)
