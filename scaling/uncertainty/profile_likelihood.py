"""Intervals of parameters by profile likelihood: what the runs alone say, without any prior.

Each parameter is moved away from the optimum, all others are refitted, and its interval ends where
the objective has risen by what chance explains (see `scaling.sandwich.Local.units`). Such intervals
follow curved valleys and bounds, where a covariance or resampling around a biased optimum does not,
and they stay wide where the runs leave a parameter open. Priors take no part: they keep predictions
sane, but an interval that leaned on one would hold only truths the prior expects.
"""

import dataclasses

import numpy as np

from shapelaw.scaling.bound_form import Array, Model
from shapelaw.scaling.fitting.best_fits import Optimum
from shapelaw.scaling.fitting.newton import Prior, minimise
from shapelaw.scaling.uncertainty.pinned_fits import Pinning
from shapelaw.scaling.uncertainty.sandwich import Local, local

_ROUNDS = 7  # of moving the ends
_CLOSE = 0.06  # in standard errors: near enough to the wanted rise
_FIRST_STEP = 0.1  # of parameters at a bound, where no standard error tells
_LONGEST_FIRST_STEP = 2.0
_PINNED = 1e9  # precision that holds a parameter in place, in units of log likelihood
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
    model: Model,
    log_loss: Array,
    optimum: Optimum,
    starts: Array,
    weights: Array,
    groups: Array,
    *,
    delta: float,
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
    return (
        np.array([p.low for p in model.form.parameters]),
        np.array([p.high for p in model.form.parameters]),
    )


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
    return Profile(
        theta,
        np.maximum(theta - np.where(curved, below, reach), low),
        np.minimum(theta + np.where(curved, above, reach), high),
        near.units,
    )


def _walk(
    model: Model,
    log_loss: Array,
    theta: Array,
    centre: Array,
    near: Local,
    weights: Array,
    delta: float,
) -> tuple[Profile, Array | None]:
    """Both ends of every parameter at once; and a point lower than theta, if one was met."""
    low, high = _limits(model)
    held, side = np.repeat(np.arange(len(theta)), 2), np.tile([-1.0, 1.0], len(theta))
    unit = near.units[held]
    wanted = near.deviate
    # The valley's floor runs along the column of H⁻¹.
    along = (near.inverse / np.maximum(np.diag(near.inverse), 1e-300)).T[held]
    along[np.arange(len(held)), held] = 1.0
    error = np.where(near.free, np.sqrt(np.diag(near.covariance)), _FIRST_STEP)[held]
    room = np.where(side < 0, theta[held] - low[held], high[held] - theta[held])
    brackets = _Brackets.around(
        np.minimum(np.clip(wanted * error, 1e-6, _LONGEST_FIRST_STEP), room), room, wanted
    )
    pinning = Pinning.of_model(model)
    base = float(
        minimise(
            model, log_loss, theta[None, :], weights, delta=delta, warm=True, iterations=1
        ).objective[0]
    )
    least, lowest = base, None
    last, last_distance = np.repeat(theta[None, :], len(held), axis=0), np.zeros(len(held))
    direction = along * side[:, None]
    for _ in range(_ROUNDS):
        on = np.flatnonzero(brackets.running)
        if not len(on):
            break
        distance, own, each = brackets.distance[on], held[on], np.arange(len(on))
        moved = distance - last_distance[on]
        begin = last[on] + direction[on] * moved[:, None]
        begin[each, own] = theta[own] + side[on] * distance
        begin = np.clip(begin, low, high)
        mean, precision = np.zeros((2, *begin.shape))
        mean[each, own] = begin[each, own]
        precision[each, own] = _PINNED * unit[on]
        prior = Prior(mean, precision)
        ends, objective = pinning.minimise(log_loss, begin, own, weights, delta, prior)
        # Before an end is believed, the valley is entered from elsewhere too: far from the optimum
        # it bends, and terms that vanished there have to come back.
        beyond = np.flatnonzero(2 * (objective - base) > wanted**2 * unit[on])
        if len(beyond):
            value = mean[beyond, own[beyond]]
            again = centre + along[on][beyond] * (value - centre[own[beyond]])[:, None]
            again = pinning.projected(log_loss, weights, np.clip(again, low, high), own[beyond])
            other, found = pinning.minimise(
                log_loss, again, own[beyond], weights, delta, prior.take(beyond)
            )
            better = found < objective[beyond]
            ends[beyond[better]], objective[beyond[better]] = other[better], found[better]
        best = int(objective.argmin())
        if objective[best] < least - _BETTER * unit[on][best]:
            least, lowest = float(objective[best]), ends[best]
        stepped = np.flatnonzero(np.abs(moved) > 1e-9)
        direction[on[stepped]] = (ends - last[on])[stepped] / moved[stepped, None]
        last[on], last_distance[on] = ends, distance
        brackets.learn(on, np.sqrt(2 * np.maximum(objective - base, 0.0) / unit[on]))
    end = brackets.ends()
    return Profile(theta, theta - end[0::2], theta + end[1::2], near.units), lowest


@dataclasses.dataclass
class _Brackets:
    """How far each end lies, [k] distances: not below `inside`, not above `outside`.

    Searched by the root of twice the rise of the objective, which is near linear in the distance.
    """

    distance: Array
    """To be tried next."""
    room: Array
    """To the parameter's bound."""
    wanted: float
    """Root at an end."""
    inside: Array
    root_inside: Array
    outside: Array
    root_outside: Array
    running: Array

    @classmethod
    def around(cls, distance: Array, room: Array, wanted: float) -> "_Brackets":
        """Before anything is known."""
        nothing, far = np.zeros(len(room)), np.full(len(room), np.inf)
        return cls(distance, room, wanted, nothing, nothing.copy(), far, far.copy(), room > 1e-9)

    def learn(self, on: Array, root: Array) -> None:
        """Take in the roots found at the distances tried for the ends numbered `on`."""
        at, within = self.distance[on], root <= self.wanted
        self.inside[on[within]] = at[within]
        self.root_inside[on[within]] = root[within]
        self.outside[on[~within]] = at[~within]
        self.root_outside[on[~within]] = root[~within]
        self.running[on] = (np.abs(root - self.wanted) > _CLOSE) & ~(
            within & (at >= self.room[on] - 1e-9)
        )
        bracketed = np.isfinite(self.outside)
        width = np.where(bracketed, self.outside, self.inside) - self.inside
        between = np.clip(self._crossing(), self.inside + 0.1 * width, self.inside + 0.9 * width)
        further = self.distance * np.clip(
            self.wanted / np.maximum(self.root_inside, 1e-3), 1.1, _GROWTH
        )
        self.distance = np.minimum(np.where(bracketed, between, further), self.room)

    def ends(self) -> Array:
        """Distances of the ends; to the bound where no end was found."""
        known = np.isfinite(self.outside) | ~self.running
        return np.where(known, self._crossing(), self.room)

    def _crossing(self) -> Array:
        bracketed = np.isfinite(self.outside)
        width = np.where(bracketed, self.outside, self.inside) - self.inside
        rise = np.where(bracketed, self.root_outside, np.inf) - self.root_inside
        return self.inside + width * (self.wanted - self.root_inside) / np.maximum(rise, 1e-12)
