"""A law with the price of one weight format added: what the stored model is to lose.

Judged by joint draws: a draw of the law meets a draw of the price. Shapes are searched format by
format, each under its own priced law and its own bytes; the best of the bests is the joint optimum.
"""

import dataclasses
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.formats.mixes import Mix
from shapelaw.scaling.formats.price import FormatPrices
from shapelaw.search.pareto.problem import LossModel


@dataclasses.dataclass(frozen=True, eq=False)
class PricedLaw:
    """A law's loss plus what storing the weights in `mix` costs."""

    law: LossModel
    mix: Mix
    prices: FormatPrices

    @property
    def label(self) -> str:
        """The law's."""
        return self.law.label

    def loss(self, architectures: ArchitectureBatch, tokens: float | np.ndarray) -> np.ndarray:
        """Loss and mean price [n], nats per token."""
        price = self.prices.expected(self.mix, architectures, tokens)
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
        return losses + self.prices.draws(
            self.mix, architectures, tokens, numbers % self.prices.count
        )

    def interval(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """The law's interval of one run, moved by the mean price and widened by its spread."""
        low, high = self.law.interval(architectures, tokens, level)
        middle = self.law.loss(architectures, tokens)
        price = self.prices.expected(self.mix, architectures, tokens)
        tail = 0.5 * (1 - level)
        drawn = self.prices.draws(self.mix, architectures, tokens)
        below, above = np.quantile(drawn, [tail, 1 - tail], axis=0)
        # Law and price err independently: half-widths add in squares.
        down = np.hypot(np.maximum(middle - low, 0), np.maximum(price - below, 0))
        up = np.hypot(np.maximum(high - middle, 0), np.maximum(above - price, 0))
        return middle + price - down, middle + price + up

    def extrapolated(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> list[dict[str, float]]:
        """The law's."""
        return self.law.extrapolated(architectures, tokens)

    def __getattr__(self, name: str) -> Any:
        # Range, source, declaration: what only some laws have.
        if name == "law" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.law, name)
