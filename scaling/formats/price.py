"""What a weight format costs in loss, as draws.

Rounding a weight adds noise; the loss rises with the noise's power and with how much each weight
has learned. For a mix that stores the share f_t of the block weights in type t, of a model with N
parameters outside the embedding trained on D tokens,

    z = ln(sum_t f_t rho_t) + gamma ln(D / N / 1000),     ln rho_t = kappa + beta ln(noise_t) + v_t,
    delta = exp(z + u + curvature exp(z))  nats per token,

where noise_t is the type's mean square error on Gaussian weights, relative to their variance. Types
that nobody has published differ from the curve by a v_t as spread as those of the published ones;
u is a model's own deviation (recipe, corpus, shape), the same for all of its formats, and each type
has a deviation of its own within a model. Post-training rounding costs more the longer a model was
trained for its size (arXiv 2411.04330, 2411.17691); that their integer bits do not price formats is
why the noise of the format stands here.

Quantisation-aware training is another thing, with a law of its own (arXiv 2505.14302, W4A16):
delta = .2522 D^.1610 (log2 G)^.3533 / N^.3589 for groups of G weights. Neither is extrapolated to
the other.
"""

from typing import Literal

import msgspec
import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.scaling.formats.stored_tensors import reachable_types, sum_over_weights
from shapelaw.scaling.formats.tensor_types import TENSOR_TYPES

Training = Literal["post-training", "quantisation-aware"]

NOISE: dict[str, float] = {
    "f32": 0.0,
    "f16": 4.32e-8,
    "bf16": 2.77e-6,
    "q8_0": 2.86e-5,
    "q6_k": 3.14e-4,
    "q5_k": 1.306e-3,
    "q5_1": 1.434e-3,
    "q5_0": 1.82e-3,
    "q4_k": 5.10e-3,
    "q4_1": 6.13e-3,
    "q4_0": 7.39e-3,
    "iq4_nl": 5.80e-3,
    "mxfp4": 1.322e-2,
    "q3_k": 2.28e-2,
    "q2_k": 8.80e-2,
    "int8": 6.10e-5,
    "fp8": 6.96e-4,
    "int4_g32_f32": 8.98e-3,
    "int4_g128_f32": 1.223e-2,
    "int4_g128_zero": 1.011e-2,
    "int4_g32_affine": 6.56e-3,
    "int4_g64_affine": 8.28e-3,
    "int4_g128_affine": 1.0e-2,
    "int8_g32_affine": 2.30e-5,
    "int8_g64_affine": 2.92e-5,
    "int8_g128_affine": 3.55e-5,
}
"""Mean square error of a type on Gaussian weights over their variance (`quantisers.rounded`; the
tests measure it again)."""

REFERENCE_RATIO = 1000.0
"""Tokens a parameter at which z is the type's own."""

MOST_EXPONENT = 0.7
"""The curvature is not carried beyond exp(z) = .7 nats: no published model in use lost so much."""

QAT_SPREAD = 0.5
"""Standard deviation, in ln delta, of a recipe of quantisation-aware training from the law: that of
the published 7B and 13B models (EfficientQAT) is .3."""


class FormatPrices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Draws [k] of the price's parameters. What a draw says of a new model is one draw more."""

    source: str
    """Where the evidence is from, in one line."""
    kappa: list[float]
    beta: list[float]
    gamma: list[float]
    curvature: list[float]
    spread: list[float]
    """Standard deviation of u."""
    spread_type: list[float]
    """Standard deviation of a type's deviation within a model."""
    deviations: dict[str, list[float]]
    """v_t of the published types [k]."""
    deviation_spread: float
    """Standard deviation of v_t of the others."""

    def __post_init__(self) -> None:
        k = len(self.kappa)
        columns = [self.beta, self.gamma, self.curvature, self.spread, self.spread_type]
        if k < 1 or any(len(column) != k for column in (*columns, *self.deviations.values())):
            raise BadInput("format prices: every parameter needs as many draws as kappa")

    @property
    def count(self) -> int:
        """Number of draws."""
        return len(self.kappa)

    def rates(self) -> dict[str, np.ndarray]:
        """Type -> rho [k] for a new model, its type's deviation within the model included."""
        rng = np.random.default_rng(0)
        kappa, beta = np.array(self.kappa), np.array(self.beta)
        within = np.array(self.spread_type)
        found = {}
        for name in TENSOR_TYPES:
            own = rng.standard_normal((2, self.count))
            if NOISE[name] == 0:
                found[name] = np.zeros(self.count)
                continue
            deviation = (
                np.array(self.deviations[name])
                if name in self.deviations
                else self.deviation_spread * own[0]
            )
            found[name] = np.exp(kappa + beta * np.log(NOISE[name]) + deviation + within * own[1])
        return found

    def model_deviations(self) -> np.ndarray:
        """u [k]: how a new model deviates, in each draw."""
        return np.array(self.spread) * np.random.default_rng(1).standard_normal(self.count)

    def draws_from_rate(
        self,
        rate: np.ndarray,
        n: np.ndarray,
        d: np.ndarray,
        numbers: np.ndarray | None = None,
    ) -> np.ndarray:
        """Price [k, m], nats per token, where the mix has rate [k, m] (sum of f_t rho_t).

        Args:
            rate: by draw and model.
            n: parameters outside the embedding [m].
            d: training tokens [m].
            numbers: which draws the k rows are; all in order where absent.
        """
        chosen = np.arange(self.count) if numbers is None else numbers
        exposure = np.log(np.asarray(d, dtype=float) / np.asarray(n, dtype=float))
        gamma = np.array(self.gamma)[chosen, None]
        with np.errstate(divide="ignore"):
            z = np.log(rate) + gamma * (exposure - np.log(REFERENCE_RATIO))
        bend = np.array(self.curvature)[chosen, None] * np.minimum(np.exp(z), MOST_EXPONENT)
        return np.exp(z + self.model_deviations()[chosen, None] + bend)

    def draws(
        self,
        mix: Mix,
        architectures: ArchitectureBatch,
        d: np.ndarray | float,
        numbers: np.ndarray | None = None,
    ) -> np.ndarray:
        """Price [k, m] of a format for m shapes trained on d tokens, rounded after training.

        `numbers`: which draws, all where absent.
        """
        shares = type_shares(mix, architectures)
        rates = self.rates()
        chosen = np.arange(self.count) if numbers is None else numbers
        rate = sum(rates[name][chosen, None] * share[None, :] for name, share in shares.items())
        n = np.asarray(architectures.non_embedding_parameters)
        return self.draws_from_rate(np.asarray(rate), n, np.broadcast_to(d, n.shape), chosen)

    def expected(
        self, mix: Mix, architectures: ArchitectureBatch, d: np.ndarray | float
    ) -> np.ndarray:
        """Mean price [m] over the draws, for a million shapes at once.

        The mean is tabulated against tokens a parameter and the mean rate of a mix. Agrees with
        the mean of `draws` within some per cent.
        """
        if NOISE[mix.base] == 0:
            return np.zeros(len(architectures))
        table = _table(self, mix)
        rates = {name: float(value) for name, value in table.rates.items()}
        matrices = _block_weights(architectures)
        rate = sum_over_weights(mix, architectures, rates).blocks / matrices
        n = np.asarray(architectures.non_embedding_parameters, dtype=float)
        exposure = np.log(np.asarray(d, dtype=float) / n)
        return np.exp(_bilinear(table.log_price, _LEVELS, np.log(rate / table.reference), exposure))


def type_shares(mix: Mix, architectures: ArchitectureBatch) -> dict[str, np.ndarray]:
    """Type -> share [m] of the block matrices' weights; the shares of a shape sum to 1."""
    matrices = _block_weights(architectures)
    found = {
        name: sum_over_weights(mix, architectures, {name: 1.0}).blocks / matrices
        for name in reachable_types(mix)
    }
    return {name: share for name, share in found.items() if np.any(share)}


def format_price(
    prices: FormatPrices,
    n: np.ndarray | float,
    d: np.ndarray | float,
    shares: dict[str, float],
    training: Training = "post-training",
) -> np.ndarray:
    """Price [k, m], nats per token, of a mix for models of n parameters and d tokens.

    Args:
        prices: the evidence.
        n: parameters outside the embedding [m].
        d: training tokens [m].
        shares: type -> share of the block weights, as `mix_of_types` gives it.
        training: quantisation-aware needs a mix of groups of four bits.

    Raises:
        BadInput: quantisation-aware training of a mix that nobody has published.
    """
    n, d = np.broadcast_arrays(np.atleast_1d(n).astype(float), np.atleast_1d(d).astype(float))
    if training == "quantisation-aware":
        return _quantisation_aware(prices.count, n, d, shares)
    rates = prices.rates()
    rate = sum(share * rates[name] for name, share in shares.items())
    return prices.draws_from_rate(np.asarray(rate)[:, None] * np.ones_like(n), n, d)


def _quantisation_aware(
    count: int, n: np.ndarray, d: np.ndarray, shares: dict[str, float]
) -> np.ndarray:
    main = max(shares, key=lambda name: shares[name])
    group = {"q4_0": 32, "mxfp4": 32, "int4_g32_f32": 32, "int4_g32_affine": 32}.get(main)
    group = group or {"int4_g64_affine": 64}.get(main) or (128 if "int4_g128" in main else None)
    if group is None:
        raise BadInput(
            f"quantisation-aware training in {main}: nothing is known; groups of four bits are"
        )
    middle = 0.2522 * d**0.1610 * np.log2(group) ** 0.3533 / n**0.3589
    spread = QAT_SPREAD * np.random.default_rng(2).standard_normal(count)
    return middle[None, :] * np.exp(spread)[:, None]


def _block_weights(architectures: ArchitectureBatch) -> np.ndarray:
    """Weights of all block matrices as a GGUF stores them [m]: what shares are shares of."""
    a = architectures
    return np.asarray(a.depth * (a.attention_parameters + a.mlp_parameters), dtype=float)


_LEVELS = np.linspace(-6.0, 4.0, 41)
"""ln of a shape's rate over that of the mix's own type."""

_EXPOSURES = np.linspace(np.log(1e-2), np.log(1e8), 116)
"""ln of tokens a parameter."""


class _Table(msgspec.Struct, frozen=True, kw_only=True):
    rates: dict[str, float]
    reference: float
    log_price: np.ndarray
    """ln of the mean price [levels, exposures]."""


_TABLES: dict[tuple[int, Mix], tuple[FormatPrices, _Table]] = {}


def _table(prices: FormatPrices, mix: Mix) -> _Table:
    """Means of the draws where one type stands for the whole mix."""
    key = (id(prices), mix)
    if key not in _TABLES or _TABLES[key][0] is not prices:
        rates = prices.rates()
        own = rates[mix.base][:, None]
        means = [
            prices.draws_from_rate(
                np.exp(level) * own * np.ones_like(_EXPOSURES),
                np.ones_like(_EXPOSURES),
                np.exp(_EXPOSURES),
            ).mean(axis=0)
            for level in _LEVELS
        ]
        table = _Table(
            rates={name: float(np.mean(value)) for name, value in rates.items()},
            reference=float(np.mean(own)),
            log_price=np.log(means),
        )
        _TABLES[key] = (prices, table)
    return _TABLES[key][1]


def _bilinear(
    table: np.ndarray, rows: np.ndarray, row: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Between the four neighbours on the grids `rows` and `_EXPOSURES`; the edge beyond them."""

    def place(values: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        steps = (values - grid[0]) / (grid[1] - grid[0])
        steps = np.clip(steps, 0, len(grid) - 1.000001)
        below = steps.astype(np.int64)
        return below, steps - below

    i, a = place(row, rows)
    j, b = place(column, _EXPOSURES)
    width = table.shape[1]
    flat, start = table.ravel(), i * width + j
    upper = flat[start] * (1 - b) + flat[start + 1] * b
    lower = flat[start + width] * (1 - b) + flat[start + width + 1] * b
    return upper * (1 - a) + lower * a
