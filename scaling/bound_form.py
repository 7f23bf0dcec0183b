"""A form bound to the rows it is evaluated on: predicted log loss and its exact derivatives.

Everything is batched over a leading axis S (starts, bootstrap draws or hold-outs at once).
Shapes: theta [S, p] inner coordinates, rows m, K power terms.
"""

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.features import columns_of
from shapelaw.scaling.terms import Form

Array = np.ndarray

_FEW_TERMS = 6  # up to which derivatives are quicker term by term
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
    """A model at S points: ln L [S, m] and what its derivatives need.

    `parts`: ∂ ln L / ∂ u of each term's exponent u (its share of the loss), then ∂ ln L / ∂ ln q of
    each join; arrays [S, m]. `bends`: for each join, what `Joined.bend` says of its curvature.
    Where the form has pieces of other kinds, `parts` is its Jacobian [S, m, p] instead.
    """

    log_loss: Array
    parts: list[Array]
    bends: list[Array] = dataclasses.field(default_factory=list)

    def _arrays(self) -> list[Array]:
        return [self.log_loss, *self.parts, *self.bends]

    def take(self, rows: Array) -> "Evaluation":
        """Some of the points."""
        return Evaluation(
            self.log_loss[rows],
            [part[rows] for part in self.parts],
            [bend[rows] for bend in self.bends],
        )

    def replace(self, rows: Array, other: "Evaluation") -> None:
        """Overwrite the points in the mask `rows` by those of another evaluation."""
        for mine, theirs in zip(self._arrays(), other._arrays(), strict=True):
            mine[rows] = theirs[rows]


@dataclasses.dataclass(frozen=True)
class JoinPlaces:
    """Where a join's pieces stand: numbers of its terms, and the position of its order q."""

    left: list[int]
    right: list[int]
    order: int

    @property
    def terms(self) -> list[int]:
        """All its terms."""
        return [*self.left, *self.right]


def log_norm(left: Array, right: Array, order: Array) -> tuple[Array, Array]:
    """ln (e^(q·left) + e^(q·right))^(1/q), and the share of the left side, e^(q·left) / sum."""
    gap = order * (left - right)
    share = 1 / (1 + np.exp(-np.clip(gap, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)))
    return np.logaddexp(0.0, gap) / order + right, share


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
        numbers = {term.name: number for number, term in enumerate(form.terms)}
        self._joins = [
            JoinPlaces(
                [numbers[name] for name in join.left],
                [numbers[name] for name in join.right],
                self._index[join.order],
            )
            for join in form.joins
        ]
        self._joined = {k for join in self._joins for k in join.terms}
        if self._joins and not form.log_linear:
            raise ValueError(f"form {form.name}: joins stand beside power terms alone")
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
        # ln q of a join acts like the exponent of one more term, whose design is 1.
        self._blocks += [(np.array([join.order]), np.ones((self.rows, 1))) for join in self._joins]
        self._uncentring = np.linalg.inv(self.centring)
        self._products = (
            {
                (k, other): (
                    self._blocks[k][1][:, :, None] * self._blocks[other][1][:, None, :]
                ).reshape(self.rows, -1)
                for k in range(len(self._blocks))
                for other in range(k + 1)
                if k == other
                or len(self._blocks) <= _FEW_TERMS
                or any(k in group and other in group for group in self._groups())
            }
            if self.form.log_linear
            else {}
        )

    def _groups(self) -> list[list[int]]:
        """Numbers of the blocks of each join: its terms, then its ln q."""
        first = len(self.form.terms)
        return [[*join.terms, first + number] for number, join in enumerate(self._joins)]

    # --- coordinates ---------------------------------------------------------------------------

    def centred(self, theta: Array) -> Array:
        """Coordinates in which each feature is measured from its mean: better conditioned."""
        return theta @ self.centring.T

    def natural(self, theta: Array) -> Array:
        """Back from centred coordinates."""
        return theta @ self._uncentring.T

    # --- values and derivatives, centred coordinates ----------------------------------------------

    def _exponents(self, theta: Array) -> list[Array]:
        values = [
            theta[:, positions] @ design.T
            for positions, design in self._blocks[: len(self.form.terms)]
        ]
        return [np.minimum(value, _LARGEST_EXPONENT, out=value) for value in values]

    def log_loss(self, theta: Array) -> Array:
        """Predicted ln L, [S, m]."""
        return self.evaluate(theta).log_loss

    def evaluate(self, theta: Array) -> "Evaluation":
        """Predicted ln L with what its derivatives need."""
        if not self.form.log_linear:
            value, jacobian = self.log_loss_and_jacobian(theta)
            return Evaluation(value, [jacobian])
        exponents = self._exponents(theta)
        parts = [np.exp(value) for value in exponents]
        total = np.zeros_like(parts[0])
        for number, part in enumerate(parts):
            if number not in self._joined:
                total += part
        bends: list[Array] = []
        for join in self._joins:
            order = np.exp(theta[:, join.order])[:, None]
            left, right = (
                np.logaddexp.reduce([exponents[k] for k in side], axis=0)
                for side in (join.left, join.right)
            )
            value, share = log_norm(left, right, order)
            joint = np.exp(np.minimum(value, _LARGEST_EXPONENT))
            total += joint
            for side, log_sum, weight in (
                (join.left, left, share),
                (join.right, right, 1 - share),
            ):
                for k in side:
                    parts[k] = joint * weight * np.exp(exponents[k] - log_sum)
            slope = share * left + (1 - share) * right - value
            parts.append(joint * slope)
            bends += [joint * order * share * (1 - share), left - right, share, slope, joint]
        inverse = 1.0 / total
        for part in parts:
            part *= inverse
        for at in range(0, len(bends), 5):
            bends[at] *= inverse
            bends[at + 4] *= inverse
        return Evaluation(np.log(total, out=total), parts, bends)

    def _local_curvature(self, found: "Evaluation") -> dict[tuple[int, int], Array]:
        """(∂²L/∂u_k∂u_l)/L [S, m] for k ≥ l, in the exponents u of terms and the ln q of joins.

        A plain term's is its share. A join's is P·(∇u ∇uᵀ + ∇²u) with P its share, ∇u = (s, 1 − s,
        γ) and ∇²u = q·s(1 − s)·(1, −1, w)(1, −1, w)ᵀ − γ·eeᵀ in (left, right, ln q), where w is
        left − right and γ = ∂u/∂ln q; a side of several terms shares its own among them.
        """
        terms = len(self.form.terms)
        local = {(k, k): found.parts[k] for k in range(terms) if k not in self._joined}
        for number, join in enumerate(self._joins):
            bend, gap, share, slope, whole = found.bends[5 * number : 5 * number + 5]
            inner = [share, 1 - share, slope]  # ∇u
            signs: list[Array | float] = [1.0, -1.0, gap]
            last = terms + number
            sides = [join.left, join.right]
            split = [
                [np.ones(1) if len(side) == 1 else found.parts[k] / (whole * weight) for k in side]
                for side, weight in zip(sides, inner[:2], strict=True)
            ]

            def outer(
                a: int,
                b: int,
                whole: Array = whole,
                bend: Array = bend,
                inner: list[Array] = inner,
                signs: list[Array | float] = signs,
            ) -> Array:
                return whole * inner[a] * inner[b] + bend * signs[a] * signs[b]

            local[last, last] = outer(2, 2) - whole * slope
            for a, side in enumerate(sides):
                for k, part in zip(side, split[a], strict=True):
                    local[last, k] = outer(2, a) * part
                    for b, other in enumerate(sides):
                        for l, second in zip(other, split[b], strict=True):  # noqa: E741
                            if l > k:
                                continue
                            value = outer(a, b) * part * second
                            if a == b:
                                value = value - whole * inner[a] * part * second
                                if k == l:
                                    value = value + whole * inner[a] * part
                            local[k, l] = value
        return local

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
        if self.form.log_linear:
            local = self._local_curvature(evaluation)
            if len(self._blocks) <= _FEW_TERMS:
                return self._by_pairs_of_terms(
                    draws, size, evaluation.parts, local, score, newton, robust
                )
            return self._by_jacobian(draws, size, evaluation.parts, local, score, newton, robust)
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
        local: dict[tuple[int, int], Array],
        score: Array,
        newton: Array,
        robust: Array,
    ) -> tuple[Array, Array, Array]:
        """Derivatives as products of row weights with fixed matrices: fast for few terms.

        With g_k = ∂ ln L/∂u_k, the design X_k of term k and C the `local` curvature of L, ∂ ln L =
        Σ_k g_k X_k, and the second derivative of ln L is Σ_kl (C_kl − g_k g_l) X_k X_lᵀ.
        """
        gradient = np.zeros((draws, size))
        exact, majorant = np.zeros((2, draws, size, size))
        bent = newton - score
        for k, (rows_at, design) in enumerate(self._blocks):
            gradient[:, rows_at] += (score * shares[k]) @ design
            for l in range(k + 1):  # noqa: E741
                columns_at = self._blocks[l][0]
                both = shares[k] * shares[l]
                left = bent * both
                if (k, l) in local:
                    left += score * local[k, l]
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
        local: dict[tuple[int, int], Array],
        score: Array,
        newton: Array,
        robust: Array,
    ) -> tuple[Array, Array, Array]:
        """The same through the Jacobian, [S, p, m]: for many terms."""
        jacobian = np.zeros((draws, size, self.rows))
        exact = np.zeros((draws, size, size))
        for (positions, design), share in zip(self._blocks, shares, strict=True):
            for column, position in enumerate(positions):
                jacobian[:, position] += share * design[:, column]
        for (k, l), bend in local.items():  # noqa: E741
            rows_at, columns_at = self._blocks[k][0], self._blocks[l][0]
            block = ((score * bend) @ self._products[k, l]).reshape(
                draws, len(rows_at), len(columns_at)
            )
            exact[:, rows_at[:, None], columns_at[None, :]] += block
            if k != l:
                exact[:, columns_at[:, None], rows_at[None, :]] += block.transpose(0, 2, 1)
        gradient = (jacobian @ score[:, :, None])[:, :, 0]
        transposed = jacobian.transpose(0, 2, 1)
        exact += (jacobian * (newton - score)[:, None, :]) @ transposed
        majorant = (jacobian * robust[:, None, :]) @ transposed
        return gradient, exact, majorant


def predict_log_loss(form: Form, theta: Array, features: Mapping[str, Array]) -> Array:
    """ln L for inner coordinates theta [p] and features [n]; no centring, for a law's hot path."""
    rows = len(next(iter(features.values())))
    total = np.zeros(rows)
    index = {name: position for position, name in enumerate(form.names)}
    looped: Array | None = None
    if form.sharing_exponent is not None:
        phi = np.array([theta[index[form.sharing_exponent]]])
        looped = looped_feature(phi, features)[0][0]
    joined = {name for join in form.joins for name in (*join.left, *join.right)}
    exponents: dict[str, Array] = {}
    for term in form.terms:
        value: Array | float = sum(float(theta[index[name]]) for name in term.coefficients)
        for power in term.powers:
            column = looped if power.feature == "ln_n_looped" else features[power.feature]
            assert column is not None
            value = value + power.sign * float(theta[index[power.parameter]]) * column
        value = np.minimum(value, _LARGEST_EXPONENT)
        if term.name in joined:
            exponents[term.name] = np.broadcast_to(value, (rows,))
        else:
            total = total + np.exp(value)
    for join in form.joins:
        left, right = (
            functools.reduce(np.logaddexp, [exponents[name] for name in side])
            for side in (join.left, join.right)
        )
        order = np.exp(theta[index[join.order]])
        total = total + np.exp(np.logaddexp(0.0, order * (left - right)) / order + right)
    log_factor: Array | float = 0.0
    for piece in form.bowls:
        height, _ = bowl(features[piece.feature] - float(theta[index[piece.optimum]]))
        strength = float(np.exp(theta[index[piece.strength]]))
        if piece.factor:
            log_factor = log_factor + np.log1p(strength * height)
        else:
            total = total + strength * height
    return np.log(total) + log_factor
