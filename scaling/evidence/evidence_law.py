"""The law of a new study as draws: what the search asks, and what `predict` prints."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.atomic_files import replacing
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.evidence.refuted_studies import refuted
from shapelaw.scaling.evidence.study_features import (
    Features,
    of_architectures,
    of_table,
    plain_features,
)
from shapelaw.scaling.evidence.study_law import (
    INDEX,
    PARAMETERS,
    SLOPES,
    log_loss,
    of_draws,
)
from shapelaw.scaling.evidence.study_population import NO_RUN_NOISE, RUN_NOISE, Population
from shapelaw.scaling.features import in_parts
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.user_files import convert, read_json, refuse, shown

_MANY_DRAWS = 400
_ROWS_AT_ONCE = 20_000  # of a table: every draw of every row is held at once
SMALLEST_LOSS, LARGEST_LOSS = 1e-3, 1e4
LARGEST_PARAMETER = 40.0
"""Of a draw: logarithms and exponents, of which none is a tenth of it."""
_SPARE = 1.5
"""Studies drawn for each that is wanted: some are refuted."""
_TOLERANCE = 1.001
_BLOCK = 65_536
"""Numbers a block of draws × shapes holds: as many as stay in a core's cache."""

_AXES = {
    "ln_n": "N",
    "ln_d": "tokens",
    "ln_depth": "depth",
    "ln_mlp_ratio": "mlp_attention_ratio",
    "ln_gqa": "gqa_group",
    "ln_attention_width": "attention_width",
    "ln_sharing": "sharing",
}
"""Feature -> axis, as range and warnings name it. `attention_width` is heads·head_dim / d_model."""


_IN_FILES = [*PARAMETERS, "ln_noise", "ln_run_noise"]
_OLD_NAMES = dict(zip(SLOPES, ("ln_alpha", "ln_beta"), strict=True))
"""Files that hold exponents and not slopes are read as what they say."""

_far_beyond = np.errstate(over="ignore", under="ignore", invalid="ignore")
"""Far beyond what was seen a draw may give no finite loss: it is shown as none."""


class EvidenceLawFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A law of a study as it stands in a file."""

    evidence_law_version: Literal[1] = 1
    parameters: list[str]
    draws: list[list[float]]
    range: dict[str, tuple[float, float]]
    label: str
    source: str
    runs: int


@dataclasses.dataclass(frozen=True, eq=False)
class EvidenceLaw:
    """Loss of a shape in a study of the population, in nats per token of that study."""

    theta: np.ndarray
    """[k, p + 2] draws of the study: PARAMETERS, ln noise of a row, ln noise of a run."""
    range: dict[str, tuple[float, float]]
    """What the studies behind it varied: axis -> (least, most)."""
    label: str
    source: str
    runs: int = 0
    """Runs of the user's own in it."""

    level_known: bool = dataclasses.field(init=False)
    """Whether runs of the study's own fix its level; else only differences of loss mean much."""

    def __post_init__(self) -> None:
        if self.theta.ndim != 2 or self.theta.shape[1] != len(PARAMETERS) + 2:
            raise BadInput(f"law {self.label}: each draw needs {len(PARAMETERS) + 2} numbers")
        object.__setattr__(self, "level_known", self.runs > 0)

    @property
    def middle(self) -> np.ndarray:
        """[1, p + 2] the mean study: one law for what needs a single number a shape."""
        return np.asarray(self.theta.mean(axis=0, keepdims=True))

    @_far_beyond
    def loss(self, architectures: ArchitectureBatch, tokens: float | np.ndarray) -> np.ndarray:
        """Loss [n] by the mean study."""
        return np.exp(self.log_loss_of(self.middle, of_architectures(architectures, tokens))[0])

    @_far_beyond
    def loss_draws(
        self,
        architectures: ArchitectureBatch,
        tokens: float | np.ndarray,
        draws: int | np.ndarray | None = None,
    ) -> np.ndarray:
        """Loss [k, n] by each draw, the first so many or those at these numbers; without noise."""
        whole = draws is None or isinstance(draws, int)
        theta = self.theta[:draws] if whole else self.theta[draws]
        return np.exp(self.log_loss_of(theta, of_architectures(architectures, tokens)))

    def interval(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray, level: float = 0.9
    ) -> tuple[np.ndarray, np.ndarray]:
        """Interval [n], [n] of a new run's loss: study, form and run together."""
        return self._interval(of_architectures(architectures, tokens), level)

    @_far_beyond
    def _interval(self, features: Features, level: float) -> tuple[np.ndarray, np.ndarray]:
        theta = self.theta[:_MANY_DRAWS]
        generator = np.random.default_rng(0)
        spread = np.hypot(np.exp(theta[:, -2]), np.exp(theta[:, -1]))[:, None]
        noise = spread * generator.standard_t(4.0, (len(theta), 1))
        values = self.log_loss_of(theta, features) + noise
        tail = 0.5 * (1 - level)
        low, high = np.quantile(values, [tail, 1 - tail], axis=0)
        middle = self.log_loss_of(self.middle, features)[0]
        return np.exp(np.minimum(low, middle)), np.exp(np.maximum(high, middle))

    @staticmethod
    @_far_beyond
    def log_loss_of(theta: np.ndarray, features: Features) -> np.ndarray:
        """ln L [k, n], in blocks of rows."""
        rows = len(features["ln_n"])
        step = max(1, _BLOCK // len(theta))
        found = np.empty((len(theta), rows))
        for start in range(0, rows, step):
            part = {name: column[start : start + step] for name, column in features.items()}
            found[:, start : start + step] = log_loss(np, of_draws(theta), part)
        return found

    def best_depth(self, n: np.ndarray) -> np.ndarray:
        """Best number of layers [k, n] at non-embedding sizes `n`, by each draw."""
        drift = self.theta[:, INDEX["depth_drift"]][:, None]
        return np.exp(self.theta[:, INDEX["ln_best_depth"]][:, None]) * (n / 1e8) ** drift

    def extrapolated(
        self, architectures: ArchitectureBatch, tokens: float | np.ndarray
    ) -> list[dict[str, float]]:
        """For each architecture: axis -> factor beyond what any study varied; {} inside it."""
        features = of_architectures(architectures, tokens)
        features["ln_depth"] = np.log(np.asarray(architectures.depth, dtype=float))
        return self._beyond(features)

    def _beyond(self, features: Mapping[str, np.ndarray]) -> list[dict[str, float]]:
        found: list[dict[str, float]] = [{} for _ in range(len(features["ln_n"]))]
        for feature, axis in _AXES.items():
            if axis not in self.range:
                continue
            low, high = self.range[axis]
            value = np.exp(features[feature])
            factor = np.maximum(value / high, low / value)
            for row in np.flatnonzero(factor > _TOLERANCE):
                found[row][axis] = float(factor[row])
        return found

    @_far_beyond
    def predict_table(self, table: RunTable) -> dict[str, Any]:
        """Predictions for each row of a table: the contract of `predict --json`."""
        from shapelaw.scaling.holdout.scores import scores

        features = of_table(table)
        parts = list(in_parts(features, _ROWS_AT_ONCE))
        draws = self.theta[:_MANY_DRAWS]
        log_middle = np.concatenate(
            [np.median(self.log_loss_of(draws, part), axis=0) for part in parts]
        )
        low, high = np.concatenate([self._interval(part, 0.9) for part in parts], axis=1)
        beyond = self._beyond(
            {"ln_n": features["ln_n"], "ln_d": features["ln_d"], **_shape(features)}
        )
        answer: dict[str, Any] = {
            "law": self.label,
            "rows": [
                {
                    "loss": float(np.exp(value)),
                    "interval": [float(a), float(b)],
                    "extrapolated": list(axes),
                    "extrapolated_by": axes,
                }
                for value, a, b, axes in zip(log_middle, low, high, beyond, strict=True)
            ],
        }
        known = np.isfinite(table.loss) & (table.loss > 0)
        if known.any():
            seen = np.log(table.loss[known])
            answer["error"] = scores(log_middle[known], seen)
            inside = (low[known] <= table.loss[known]) & (table.loss[known] <= high[known])
            answer["error"]["coverage"] = float(np.mean(inside))
        return answer

    def to_file(self, path: str | Path) -> None:
        """Write as JSON."""
        file = EvidenceLawFile(
            parameters=_IN_FILES,
            draws=[[float(f"{value:.7g}") for value in draw] for draw in self.theta],
            range=self.range,
            label=self.label,
            source=self.source,
            runs=self.runs,
        )
        with replacing(path) as temporary:
            temporary.write_bytes(msgspec.json.encode(file) + b"\n")

    @classmethod
    def from_file(cls, path: str | Path) -> "EvidenceLaw":
        """Read such a file, strictly.

        Raises:
            BadInput: no such file, or not a law of a study.
        """
        file = convert(read_json(path, "law"), EvidenceLawFile, "law", path)
        if {len(draw) for draw in file.draws} != {len(PARAMETERS) + 2}:
            raise BadInput(f"law = {path}: each draw needs {len(PARAMETERS) + 2} numbers")
        theta = np.array(file.draws)
        if file.parameters == [_OLD_NAMES.get(name, name) for name in _IN_FILES]:
            slopes = [INDEX[name] for name in SLOPES]
            theta[:, slopes] -= np.logaddexp(0.0, theta[:, [INDEX["floor"]]])
        elif file.parameters != _IN_FILES:
            refuse("law", path, f"parameters: {', '.join(_IN_FILES[:3])}, … are needed, in order")
        if not np.all(np.abs(theta) <= LARGEST_PARAMETER):
            row, column = (int(place[0]) for place in np.nonzero(np.abs(theta) > LARGEST_PARAMETER))
            refuse(
                "law",
                path,
                f"draws[{row}][{column}] = {theta[row, column]:g}: -{LARGEST_PARAMETER:g} to "
                f"{LARGEST_PARAMETER:g} is needed",
            )
        for axis, (low, high) in file.range.items():
            if not 0 < low <= high < 1e100:
                refuse(
                    "law",
                    path,
                    f"range.{shown(axis, 30)} = [{low:g}, {high:g}]: least and most, above 0, are "
                    "needed",
                )
        if file.runs < 0:
            refuse("law", path, f"runs = {file.runs}: 0 or more is needed")
        law = cls(theta, dict(file.range), file.label, file.source, file.runs)
        law._check_sense(path)
        return law

    def _check_sense(self, path: str | Path) -> None:
        """Raises BadInput where a draw's loss is none at the least and most that was seen."""
        low, high = self.range.get("N", (1e8, 1e8)), self.range.get("tokens", (1e10, 1e10))
        features = plain_features(2)
        features["ln_n"], features["ln_d"] = np.log(low), np.log(high)
        losses = np.exp(np.clip(self.log_loss_of(self.theta, features), -50.0, 50.0))
        wrong = ~((losses > SMALLEST_LOSS) & (losses < LARGEST_LOSS))
        if wrong.any():
            row, column = (int(place[0]) for place in np.nonzero(wrong))
            refuse(
                "law",
                path,
                f"draws[{row}]: a loss of {losses[row, column]:.3g} nats at N = {low[column]:.3g} "
                f"and {high[column]:.3g} tokens; {SMALLEST_LOSS:g} to {LARGEST_LOSS:g} is needed",
            )


def _shape(features: Features) -> Features:
    """Features of axes beyond N and D; 0 (a factor of 1) where the table does not tell them."""
    return {name: features[name] for name in _AXES if name not in ("ln_n", "ln_d", "ln_depth")} | {
        "ln_depth": features["ln_depth"] + features["ln_sharing"]
    }


def new_study(
    population: Population,
    range_: dict[str, tuple[float, float]],
    label: str,
    source: str,
    draws: int = 1000,
) -> EvidenceLaw:
    """The law of a study nobody has run yet, on a corpus read in nats per token.

    Of the population's studies those are left out that no training could have shown.
    """
    asked = round(draws * _SPARE)
    theta, _ = population.new_studies(asked, np.random.default_rng(0), unit_known=True)
    theta[:, RUN_NOISE] = NO_RUN_NOISE
    every = EvidenceLaw(theta, range_, label, source)
    return dataclasses.replace(every, theta=theta[~refuted(every.loss_draws)][:draws])
