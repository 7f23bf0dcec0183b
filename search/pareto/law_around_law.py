"""A law made of another one: it changes the losses, and everything else is as that law has it."""

from typing import Any

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.pareto.problem import LossModel


class LawAroundLaw:
    """What laws made of another one have in common; each adds its own `loss`, draws, interval."""

    law: LossModel

    @property
    def label(self) -> str:
        """The law's."""
        return self.law.label

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
