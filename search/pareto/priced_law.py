"""A law with the price of a weight format, or of a KV format, added: what the stored model loses.

Judged by joint draws: a draw of the law meets a draw of the price. Shapes are searched format by
format, each under its own priced law and its own bytes; the best of the bests is the joint optimum.
"""

import abc
import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.kv_cache import kv_price_draws
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.scaling.formats.price import FormatPrices
from shapelaw.search.pareto.law_around_law import LawAroundLaw
from shapelaw.search.pareto.problem import LossModel


class _Priced(LawAroundLaw, abc.ABC):
    """A law's loss plus a price with draws; everything else as the law has it."""

    @abc.abstractmethod
    def expected_price(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> np.ndarray:
        """Mean price [n], nats per token."""

    @abc.abstractmethod
    def price_draws(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """Price [k, n] by the draws at these numbers, beginning again after the last."""

    def loss(self, architectures: ArchitectureBatch, tokens: float | np.ndarray) -> np.ndarray:
        """Loss and mean price [n], nats per token."""
        price = self.expected_price(architectures, tokens)
        return self.law.loss(architectures, tokens) + price

    def loss_draws(
        self,
        architectures: ArchitectureBatch,
        tokens: float | np.ndarray,
        draws: Any = None,
    ) -> np.ndarray:
        """[k, n]: draw k of the law and draw k (modulo their number) of the price."""
        losses = self.law.loss_draws(architectures, tokens, draws)
        if draws is None or np.ndim(draws) == 0:
            numbers = np.arange(len(losses))
        else:
            numbers = np.asarray(draws)
        return losses + self.price_draws(architectures, tokens, numbers)

    def interval(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """The law's interval of one run, moved by the mean price and widened by its spread."""
        low, high = self.law.interval(architectures, tokens, level)
        middle = self.law.loss(architectures, tokens)
        price = self.expected_price(architectures, tokens)
        tail = 0.5 * (1 - level)
        drawn = self.price_draws(architectures, tokens, np.arange(PRICE_DRAWS))
        below, above = np.quantile(drawn, [tail, 1 - tail], axis=0)
        # Law and price err independently: half-widths add in squares.
        down = np.hypot(np.maximum(middle - low, 0), np.maximum(price - below, 0))
        up = np.hypot(np.maximum(high - middle, 0), np.maximum(above - price, 0))
        return middle + price - down, middle + price + up


PRICE_DRAWS = 256
"""Of a price: as many as the shipped evidence has."""


@dataclasses.dataclass(frozen=True, eq=False)
class PricedLaw(_Priced):
    """A law's loss plus what storing the weights in `mix` costs."""

    law: LossModel
    mix: Mix
    prices: FormatPrices

    def expected_price(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> np.ndarray:
        """Of the mix, by table."""
        return self.prices.expected(self.mix, architectures, tokens)

    def price_draws(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """Of the mix."""
        return self.prices.draws(self.mix, architectures, tokens, numbers % self.prices.count)


@dataclasses.dataclass(frozen=True, eq=False)
class KvPricedLaw(_Priced):
    """A law's loss plus what keeping keys and values in `kv_format` costs, alike for all shapes."""

    law: LossModel
    kv_format: str

    def expected_price(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> np.ndarray:
        """The mean of the draws."""
        drawn = kv_price_draws(self.kv_format, PRICE_DRAWS)
        return np.full(len(architectures), drawn.mean())

    def price_draws(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """The same for each shape."""
        drawn = kv_price_draws(self.kv_format, PRICE_DRAWS)[numbers % PRICE_DRAWS]
        return np.repeat(drawn[:, None], len(architectures), axis=1)
