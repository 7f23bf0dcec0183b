"""A form bound to the rows it is evaluated on: predicted log loss and its exact derivatives.

Everything is batched over a leading axis S (starts, bootstrap draws or hold-outs at once).
Shapes: theta [S, p] inner coordinates, rows m, K power terms.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.features import columns_of
from shapelaw.scaling.terms import Form

Array = np.ndarray

_FEW_TERMS = 5  # up to which derivatives are quicker term by term
_LARGEST_EXPONENT = 500.0  # keeps exp finite while a start is still far away


def looped_feature(phi: Array, features: Mapping[str, Array]) -> tuple[Array, Array]:
    """ln(N_once + sharing^φ·N_recurrent) and its derivative in φ, [S, m] (arXiv 2604.21106)."""
    ln_s = features["ln_s"]
    recurrent = features["ln_n_recurrent"] + phi[:, None] * ln_s
    value = np.logaddexp(features["ln_n_once"], recurrent)
    return value, np.exp(recurrent - value) * ln_s


def bowl(z: Array) -> tuple[Array, Array]:
    """z + e^-z − 1, zero at its minimum z = 0, and its derivative.

    a0 + a1·ln x + a2/x of arXiv 2510.18245 is a constant plus a1·bowl(ln x − ln(a2/a1)).
    """
    decay = np.exp(-np.clip(z, -_LARGEST_EXPONENT, None))
    return z + decay - 1, 1 - decay


@dataclasses.dataclass
class Evaluation:
    """A model at S points: ln L [S, m], and each term's share of L (K arrays [S, m]).

    Where the form is no plain sum of power terms, `parts` is its Jacobian [S, m, p] instead.
    """

    log_loss: Array
    parts: list[Array]

    def take(self, rows: Array) -> "Evaluation":
        """Some of the points."""
        return Evaluation(self.log_loss[rows], [part[rows] for part in self.parts])

    def replace(self, rows: Array, other: "Evaluation") -> None:
        """Overwrite the points in the mask `rows` by those of another evaluation."""
        for mine, theirs in zip(
            [self.log_loss, *self.parts], [other.log_loss, *other.parts], strict=True
        ):
            mine[rows] = theirs[rows]


class Model:
    """`form` on rows with `features` (each [m]).

    Features are measured from their means, which shifts the coefficients; the coefficient named by
    `natural` stays itself, so that it can be held at a value.

    Raises:
        BadInput: the rows lack a feature the form reads.
    """

    def __init__(self, form: Form, features: Mapping[str, Array], *, natural: str = "") -> None:
        needed = list(form.features)
        if form.sharing_exponent is not None:
            needed = [name for name in needed if name != "ln_n_looped"]
            needed += ["ln_s", "ln_n_once", "ln_n_recurrent"]
        missing = [name for name in needed if name not in features]
        if missing:
            raise BadInput(f"form = {form.name}: the table has no column {columns_of(missing)}")
        self.form = form
        self._natural = natural
        self.features = {name: np.asarray(features[name], dtype=float) for name in needed}
        self.rows = len(next(iter(self.features.values()))) if self.features else 0
        self._index = {name: position for position, name in enumerate(form.names)}
        self._looped = None if form.sharing_exponent is None else self._index[form.sharing_exponent]
        self.centring = np.eye(len(form.names))
        """Unit-triangular matrix from inner to centred coordinates (see `centred`)."""
        self._blocks: list[tuple[Array, Array]] = []
        self._build()

    def _build(self) -> None:
        """Design matrix of each term, in centred coordinates, and the centring itself."""
        for term in self.form.terms:
            counts: dict[int, Array] = {}
            for name in term.coefficients:
                counts[self._index[name]] = np.ones(self.rows)
            for power in term.powers:
                if power.feature == "ln_n_looped":
                    continue
                column = self.features[power.feature]
                named = power.owner or term.coefficients[0]
                owner = self._index[named]
                middle = (
                    float(column.mean())
                    if (self.rows and power.centred and named != self._natural)
                    else 0.0
                )
                position = self._index[power.parameter]
                centred = power.sign * (column - middle)
                counts[position] = counts.get(position, 0.0) + centred
                if self.centring[owner, position] == 0.0:
                    self.centring[owner, position] = power.sign * middle
            positions = np.array(list(counts), dtype=int)
            self._blocks.append((positions, np.stack([counts[i] for i in positions], axis=1)))
        self._uncentring = np.linalg.inv(self.centring)
        self._products = (
            {
                (k, other): (
                    self._blocks[k][1][:, :, None] * self._blocks[other][1][:, None, :]
                ).reshape(self.rows, -1)
                for k in range(len(self._blocks))
                for other in range(k + 1)
                if k == other or len(self._blocks) <= _FEW_TERMS
            }
            if self.form.log_linear
            else {}
        )

    # --- coordinates ---------------------------------------------------------------------------

    def centred(self, theta: Array) -> Array:
        """Coordinates in which each feature is measured from its mean: better conditioned."""
        return theta @ self.centring.T

    def natural(self, theta: Array) -> Array:
        """Back from centred coordinates."""
        return theta @ self._uncentring.T

    # --- values and derivatives, centred coordinates ----------------------------------------------

    def _exponents(self, theta: Array) -> list[Array]:
        values = [theta[:, positions] @ design.T for positions, design in self._blocks]
        return [np.minimum(value, _LARGEST_EXPONENT, out=value) for value in values]

    def log_loss(self, theta: Array) -> Array:
        """Predicted ln L, [S, m]."""
        return self.evaluate(theta).log_loss

    def evaluate(self, theta: Array) -> "Evaluation":
        """Predicted ln L with what its derivatives need."""
        if not self.form.log_linear:
            value, jacobian = self.log_loss_and_jacobian(theta)
            return Evaluation(value, [jacobian])
        parts = self._exponents(theta)
        for part in parts:
            np.exp(part, out=part)
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        inverse = 1.0 / total
        for part in parts:
            part *= inverse
        return Evaluation(np.log(total, out=total), parts)

    def log_loss_and_jacobian(self, theta: Array) -> tuple[Array, Array]:
        """ln L [S, m] and its derivative [S, m, p]."""
        draws, size = theta.shape
        jacobian = np.zeros((draws, self.rows, size))
        if self.form.log_linear:
            found = self.evaluate(theta)
            for (positions, design), share in zip(self._blocks, found.parts, strict=True):
                jacobian[:, :, positions] += share[:, :, None] * design
            return found.log_loss, jacobian
        exponents = self._exponents_with_loops(theta)
        total = np.zeros((draws, self.rows))
        for (positions, design), (extra, slopes) in zip(self._blocks, exponents, strict=True):
            part = np.exp(np.minimum(theta[:, positions] @ design.T + extra, _LARGEST_EXPONENT))
            total += part
            jacobian[:, :, positions] += part[:, :, None] * design
            for position, slope in slopes:
                jacobian[:, :, position] += part * slope
        log_factor = np.zeros_like(total)
        factor_slopes: list[tuple[int, Array]] = []
        for piece in self.form.bowls:
            strength_at, optimum_at = self._index[piece.strength], self._index[piece.optimum]
            strength = np.exp(theta[:, strength_at])[:, None]
            height, slope = bowl(self.features[piece.feature] - theta[:, optimum_at][:, None])
            if piece.factor:
                factor = 1 + strength * height
                log_factor += np.log(factor)
                factor_slopes.append((strength_at, strength * height / factor))
                factor_slopes.append((optimum_at, -strength * slope / factor))
            else:
                total += strength * height
                jacobian[:, :, strength_at] += strength * height
                jacobian[:, :, optimum_at] -= strength * slope
        jacobian /= total[:, :, None]
        for position, gradient in factor_slopes:
            jacobian[:, :, position] += gradient
        return np.log(total) + log_factor, jacobian

    def _exponents_with_loops(
        self, theta: Array
    ) -> list[tuple[Array | float, list[tuple[int, Array]]]]:
        """What the looped feature adds to each term's exponent, and its derivatives."""
        if self._looped is None:
            return [(0.0, []) for _ in self.form.terms]
        value, slope = looped_feature(theta[:, self._looped], self.features)
        found: list[tuple[Array | float, list[tuple[int, Array]]]] = []
        for term in self.form.terms:
            extra: Array | float = 0.0
            slopes: list[tuple[int, Array]] = []
            for power in term.powers:
                if power.feature == "ln_n_looped":
                    position = self._index[power.parameter]
                    strength = power.sign * theta[:, position][:, None]
                    extra = extra + strength * value
                    slopes.append((position, power.sign * value))
                    slopes.append((self._looped, strength * slope))
            found.append((extra, slopes))
        return found

    # --- objective -------------------------------------------------------------------------------

    def gradient_and_curvatures(
        self,
        theta: Array,
        evaluation: "Evaluation",
        score: Array,
        newton: Array,
        robust: Array,
    ) -> tuple[Array, Array, Array]:
        """Gradient [S, p], exact Hessian and robust Gauss–Newton matrix [S, p, p] of Σ ρ(residual).

        `score` = weight·ρ', `newton` = weight·ρ'', `robust` = weight·ρ'/residual, each [S, m].
        """
        draws, size = theta.shape
        if self.form.log_linear and len(self._blocks) <= _FEW_TERMS:
            return self._by_pairs_of_terms(draws, size, evaluation.parts, score, newton, robust)
        if self.form.log_linear:
            return self._by_jacobian(draws, size, evaluation.parts, score, newton, robust)
        jacobian = evaluation.parts[0]
        transposed = jacobian.transpose(0, 2, 1)
        gradient = (transposed @ score[:, :, None])[:, :, 0]
        majorant = transposed @ (jacobian * robust[:, :, None])
        exact = transposed @ (jacobian * newton[:, :, None])
        step = 1e-5
        for position in range(size):
            moved = theta.copy()
            moved[:, position] += step
            shifted = self.log_loss_and_jacobian(moved)[1].transpose(0, 2, 1) @ score[:, :, None]
            exact[:, :, position] += (shifted[:, :, 0] - gradient) / step
        exact = 0.5 * (exact + exact.transpose(0, 2, 1))
        return gradient, exact, majorant

    def _by_pairs_of_terms(
        self,
        draws: int,
        size: int,
        shares: list[Array],
        score: Array,
        newton: Array,
        robust: Array,
    ) -> tuple[Array, Array, Array]:
        """Derivatives as products of row weights with fixed matrices: fast for few terms.

        With share p_k and design X_k of term k, ∂ ln L = Σ_k p_k X_k, and the second derivative of
        ln L is Σ_k p_k X_k X_kᵀ − ∂ ln L ∂ ln Lᵀ.
        """
        gradient = np.zeros((draws, size))
        exact, majorant = np.zeros((2, draws, size, size))
        bent = newton - score
        for k, (rows_at, design) in enumerate(self._blocks):
            weighted = score * shares[k]
            gradient[:, rows_at] += weighted @ design
            for l in range(k + 1):  # noqa: E741
                columns_at = self._blocks[l][0]
                both = shares[k] * shares[l]
                left = bent * both
                if l == k:
                    left += weighted
                product = self._products[k, l]
                at = (slice(None), rows_at[:, None], columns_at[None, :])
                shape = (draws, len(rows_at), len(columns_at))
                block = (left @ product).reshape(shape)
                other = ((robust * both) @ product).reshape(shape)
                exact[at] += block
                majorant[at] += other
                if l != k:
                    back = (slice(None), columns_at[:, None], rows_at[None, :])
                    exact[back] += block.transpose(0, 2, 1)
                    majorant[back] += other.transpose(0, 2, 1)
        return gradient, exact, majorant

    def _by_jacobian(
        self,
        draws: int,
        size: int,
        shares: list[Array],
        score: Array,
        newton: Array,
        robust: Array,
    ) -> tuple[Array, Array, Array]:
        """The same through the Jacobian, [S, p, m]: for many terms."""
        jacobian = np.zeros((draws, size, self.rows))
        exact = np.zeros((draws, size, size))
        for k, (positions, design) in enumerate(self._blocks):
            share = shares[k]
            for column, position in enumerate(positions):
                jacobian[:, position] += share * design[:, column]
            block = ((score * share) @ self._products[k, k]).reshape(
                draws, len(positions), len(positions)
            )
            exact[:, positions[:, None], positions[None, :]] += block
        gradient = (jacobian @ score[:, :, None])[:, :, 0]
        transposed = jacobian.transpose(0, 2, 1)
        exact += (jacobian * (newton - score)[:, None, :]) @ transposed
        majorant = (jacobian * robust[:, None, :]) @ transposed
        return gradient, exact, majorant


_GROWTH = {"ln_n": 1.0, "ln_width": 1 / 3, "ln_depth": 1 / 3}
"""How features grow with ln N when width and depth grow alike (N ~ width²·depth)."""


def _least_at_smaller_size(
    terms: list[tuple[Array | float, float]], growing: Array, growth: float, rows: Array
) -> Array:
    """Loss of the same shape, shrunk to where growing it would begin to hurt, for rows [k].

    A term that grows with N says that larger models are further behind at equal tokens. So few
    tokens that a larger model would end up worse are outside what such a term was fitted to: there
    the larger model is taken to be as good as the smaller one, which keeps a law monotone in N.
    Shrinking N by e^u multiplies each term by e^(rate·u) and the growing one by e^(-growth·u).
    """
    values = [
        (
            np.broadcast_to(
                value, (int(rows.max()) + 1,) if np.ndim(value) == 0 else np.shape(value)
            )[rows],
            rate,
        )
        for value, rate in terms
    ]
    low = np.zeros(len(rows))
    high = np.full(len(rows), 60.0)
    for _ in range(50):
        middle = 0.5 * (low + high)
        slack = -growth * growing * np.exp(-growth * middle)
        for value, rate in values:
            slack = slack + rate * value * np.exp(np.minimum(rate * middle, _LARGEST_EXPONENT))
        low, high = np.where(slack < 0, middle, low), np.where(slack < 0, high, middle)
    total = growing * np.exp(-growth * low)
    for value, rate in values:
        total = total + value * np.exp(np.minimum(rate * low, _LARGEST_EXPONENT))
    return total


def predict_log_loss(form: Form, theta: Array, features: Mapping[str, Array]) -> Array:
    """ln L for inner coordinates theta [p] and features [n]; no centring, for a law's hot path."""
    rows = len(next(iter(features.values())))
    total = np.zeros(rows)
    index = {name: position for position, name in enumerate(form.names)}
    looped: Array | None = None
    if form.sharing_exponent is not None:
        phi = np.array([theta[index[form.sharing_exponent]]])
        looped = looped_feature(phi, features)[0][0]
    growing: Array | None = None
    growth = 0.0  # of the growing term, per unit of ln N at fixed shape
    rises: dict[str, float] = {"ln_n": 0.0, "ln_width": 0.0, "ln_depth": 0.0}
    terms: list[tuple[Array | float, float]] = []  # value, fall per unit of ln N at fixed shape
    falls: dict[str, Array | float] = {"ln_n": 0.0, "ln_width": 0.0, "ln_depth": 0.0}
    for term in form.terms:
        value: Array | float = sum(float(theta[index[name]]) for name in term.coefficients)
        rate = 0.0
        slopes: list[tuple[str, float]] = []
        for power in term.powers:
            column = looped if power.feature == "ln_n_looped" else features[power.feature]
            assert column is not None
            slope = power.sign * float(theta[index[power.parameter]])
            value = value + slope * column
            rate -= slope * _GROWTH.get(power.feature, 0.0)
            if power.feature in falls:
                slopes.append((power.feature, slope))
        value = np.exp(value)
        if form.monotone is not None and term.name == form.monotone:
            growing, growth = np.asarray(value), -rate
            for feature, slope in slopes:
                rises[feature] += slope
            continue
        total = total + value
        if form.monotone is not None:
            terms.append((value, rate))
            for feature, slope in slopes:
                falls[feature] = falls[feature] - slope * value
    if growing is not None:
        total = total + growing
        if growth > 0:
            # Growing width (N ~ width²) or depth (N ~ depth) alone must lower the other terms by
            # more than it raises this one.
            wider = (rises["ln_n"] + 0.5 * rises["ln_width"]) * growing > (
                falls["ln_n"] + 0.5 * falls["ln_width"]
            )
            deeper = (rises["ln_n"] + rises["ln_depth"]) * growing > (
                falls["ln_n"] + falls["ln_depth"]
            )
            over = np.flatnonzero(wider | deeper)
            if over.size:
                total[over] = _least_at_smaller_size(terms, growing[over], growth, over)
    log_factor: Array | float = 0.0
    for piece in form.bowls:
        height, _ = bowl(features[piece.feature] - float(theta[index[piece.optimum]]))
        strength = float(np.exp(theta[index[piece.strength]]))
        if piece.factor:
            log_factor = log_factor + np.log1p(strength * height)
        else:
            total = total + strength * height
    return np.log(total) + log_factor
