"""Refits with one parameter held at a value: the steps of a profile likelihood."""

import dataclasses

import numpy as np

from shapelaw.scaling.bound_form import Array, Model
from shapelaw.scaling.fitting.newton import Prior, minimise
from shapelaw.scaling.fitting.starting_points import projected

_ITERATIONS = 60
_SMOOTHER, _ON_THE_WAY = 4e-3, 15  # delta of a smoother problem on the way, and its iterations


@dataclasses.dataclass(frozen=True)
class Pinning:
    """Models in which each parameter is a coordinate of its own, so that it can be held."""

    models: list[Model]
    of: Array
    """Which of them each parameter is held in [p]."""

    @classmethod
    def of_model(cls, model: Model) -> "Pinning":
        """Exponents are coordinates of the centred model; a coefficient it shifts is not."""
        shifted = np.abs(model.centring - np.eye(len(model.centring))).sum(axis=1) > 0
        models, of = [model], np.zeros(len(shifted), dtype=int)
        for position in np.flatnonzero(shifted):
            of[position] = len(models)
            models.append(Model(model.form, model.features, natural=model.form.names[position]))
        return cls(models, of)

    def minimise(
        self,
        log_loss: Array,
        begin: Array,
        held: Array,
        weights: Array,
        delta: float,
        prior: Prior,
    ) -> tuple[Array, Array]:
        """Ends [k, p] and objectives [k] with parameter held[k] kept in place by the prior."""
        ends, objective = begin.copy(), np.zeros(len(begin))
        for number in np.unique(self.of[held]):
            some = np.flatnonzero(self.of[held] == number)
            model, pins = self.models[number], prior.take(some)
            start = begin[some]
            if delta < _SMOOTHER:  # first a problem without the corners of an L1 norm
                start = minimise(
                    model,
                    log_loss,
                    start,
                    weights,
                    delta=_SMOOTHER,
                    prior=pins,
                    warm=True,
                    iterations=_ON_THE_WAY,
                ).theta
            solved = minimise(
                model,
                log_loss,
                start,
                weights,
                delta=delta,
                prior=pins,
                warm=True,
                iterations=_ITERATIONS,
            )
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
