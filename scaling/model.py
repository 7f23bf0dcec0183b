"""A form bound to the rows it is evaluated on: predicted log loss and its exact derivatives.

Everything is batched over a leading axis S (starts, bootstrap draws or hold-outs at once).
Shapes: theta [S, p] inner coordinates, rows m, K power terms.
"""

from collections.abc import Mapping

import numpy as np

from scaling.errors import BadInput
from scaling.terms import Form

Array = np.ndarray

_LARGEST_EXPONENT = 500.0  # keeps exp finite while a start is still far away


def looped_feature(phi: Array, features: Mapping[str, Array]) -> tuple[Array, Array]:
    """ln(N_once + sharing^φ·N_recurrent) and its derivative in φ, [S, m] each (arXiv 2604.21106)."""
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


class Model:
    """`form` on rows with `features` (each [m]).

    Raises:
        BadInput: the rows lack a feature the form reads.
    """

    def __init__(self, form: Form, features: Mapping[str, Array]) -> None:
        needed = list(form.features)
        if form.sharing_exponent is not None:
            needed = [name for name in needed if name != "ln_n_looped"]
            needed += ["ln_s", "ln_n_once", "ln_n_recurrent"]
        missing = [name for name in needed if name not in features]
        if missing:
            raise BadInput(
                f"form = {form.name}: the table has no column for {', '.join(missing)}"
            )
        self.form = form
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
                middle = float(column.mean()) if self.rows else 0.0
                position = self._index[power.parameter]
                centred = power.sign * (column - middle)
                counts[position] = counts.get(position, 0.0) + centred
                owner = self._index[power.owner or term.coefficients[0]]
                if self.centring[owner, position] == 0.0:
                    self.centring[owner, position] = power.sign * middle
            positions = np.array(list(counts), dtype=int)
            self._blocks.append((positions, np.stack([counts[i] for i in positions], axis=1)))
        self._uncentring = np.linalg.inv(self.centring)
        self._products = {
            (k, l): (self._blocks[k][1][:, :, None] * self._blocks[l][1][:, None, :]).reshape(
                self.rows, -1)
            for k in range(len(self._blocks)) for l in range(k + 1)
        } if self.form.log_linear else {}

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
        return [np.minimum(value, _LARGEST_EXPONENT) for value in values]

    def log_loss(self, theta: Array) -> Array:
        """Predicted ln L, [S, m]."""
        if self.form.log_linear:
            total = np.zeros((len(theta), self.rows))
            for value in self._exponents(theta):
                total += np.exp(value, out=value)
            return np.log(total, out=total)
        return self.log_loss_and_jacobian(theta)[0]

    def shares(self, theta: Array) -> tuple[Array, list[Array]]:
        """ln L [S, m] and each term's share of L, K arrays [S, m]; log-linear forms only."""
        parts = [np.exp(value, out=value) for value in self._exponents(theta)]
        total = parts[0].copy()
        for part in parts[1:]:
            total += part
        inverse = 1.0 / total
        for part in parts:
            part *= inverse
        return np.log(total, out=total), parts

    def log_loss_and_jacobian(self, theta: Array) -> tuple[Array, Array]:
        """ln L [S, m] and its derivative [S, m, p]."""
        draws, size = theta.shape
        jacobian = np.zeros((draws, self.rows, size))
        if self.form.log_linear:
            value, shares = self.shares(theta)
            for (positions, design), share in zip(self._blocks, shares, strict=True):
                jacobian[:, :, positions] += share[:, :, None] * design
            return value, jacobian
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
        self, theta: Array, score: Array, newton: Array, robust: Array
    ) -> tuple[Array, Array, Array]:
        """Gradient [S, p], exact Hessian and robust Gauss–Newton matrix [S, p, p] of Σ ρ(residual).

        `score` = weight·ρ', `newton` = weight·ρ'', `robust` = weight·ρ'/residual, each [S, m].
        """
        draws, size = theta.shape
        if self.form.log_linear:
            _, shares = self.shares(theta)
            gradient = np.zeros((draws, size))
            exact, majorant = np.zeros((2, draws, size, size))
            bent = newton - score
            for k, (rows_at, design) in enumerate(self._blocks):
                weighted = score * shares[k]
                gradient[:, rows_at] += weighted @ design
                for l in range(k + 1):
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
        _, jacobian = self.log_loss_and_jacobian(theta)
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


def predict_log_loss(form: Form, theta: Array, features: Mapping[str, Array]) -> Array:
    """ln L for inner coordinates theta [p] and features [n]; no centring, for a law's hot path."""
    total: Array | float = 0.0
    index = {name: position for position, name in enumerate(form.names)}
    looped: Array | None = None
    if form.sharing_exponent is not None:
        phi = np.array([theta[index[form.sharing_exponent]]])
        looped = looped_feature(phi, features)[0][0]
    for term in form.terms:
        value: Array | float = sum(float(theta[index[name]]) for name in term.coefficients)
        for power in term.powers:
            column = looped if power.feature == "ln_n_looped" else features[power.feature]
            assert column is not None
            value = value + power.sign * float(theta[index[power.parameter]]) * column
        total = total + np.exp(value)
    log_factor: Array | float = 0.0
    for piece in form.bowls:
        height, _ = bowl(features[piece.feature] - float(theta[index[piece.optimum]]))
        strength = float(np.exp(theta[index[piece.strength]]))
        if piece.factor:
            log_factor = log_factor + np.log1p(strength * height)
        else:
            total = total + strength * height
    return np.log(total) + log_factor
