"""Sending runs to an experiment tracker: trackio or Weights & Biases, where one is installed."""

import importlib
from typing import Any, Protocol

import msgspec

from shapelaw.results.record import RunRecord
from shapelaw.scaling.errors import BadInput

TRACKERS = ("trackio", "wandb")


class Tracker(Protocol):
    """Takes records as they finish."""

    def send(self, record: RunRecord) -> None:
        """One run: its settings, its curve, its loss."""

    def close(self) -> None:
        """No more are coming."""


class _Module:
    """trackio speaks wandb's language, so both are the same three calls."""

    def __init__(self, module: Any, project: str) -> None:
        self.module, self.project = module, project

    def send(self, record: RunRecord) -> None:
        """One run: its settings, its curve, its loss."""
        settings = {
            **msgspec.structs.asdict(record.architecture),
            "seed": record.seed,
            "tokens": record.tokens,
            "flops": record.flops,
            "non_embedding_parameters": record.n_parameters.non_embedding,
            "learning_rate": record.recipe.learning_rate,
            "status": record.status,
        }
        self.module.init(project=self.project, name=record.run_key, config=settings)
        for point in record.curve:
            self.module.log({"tokens": point.tokens, "train_loss": point.loss})
        final = {
            "tokens": record.tokens,
            "loss": record.loss,
            "bits_per_byte": record.bits_per_byte,
            "tokens_per_second": record.tokens_per_second,
        }
        self.module.log({name: value for name, value in final.items() if value is not None})
        self.module.finish()

    def close(self) -> None:
        """Every run was ended as it was sent."""


def tracker_for(name: str | None, project: str) -> Tracker | None:
    """The tracker of that name. Raises BadInput where it is unknown or not installed."""
    if name is None:
        return None
    if name not in TRACKERS:
        raise BadInput(f"track = {name!r}: {' or '.join(TRACKERS)}")
    try:
        return _Module(importlib.import_module(name), project)
    except ImportError:
        raise BadInput(f"track = {name!r}: is not installed; pip install {name}") from None
