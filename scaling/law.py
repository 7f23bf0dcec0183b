"""A fitted law: predicts, says how sure it is and how far from its data it is asked, saves, loads.

Imports NumPy and msgspec only: queries load it cold.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.bound_form import Array, looped_feature, predict_log_loss  # noqa: F401
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.features import architecture_features, columns_of, table_features
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.terms import Form

LAW_VERSION = 1
_MANY_DRAWS = 400  # enough for a 90 % interval; more costs time and changes its third digit
_TOLERANCE = 1.001  # a factor beyond the range seen that counts as inside it

Finite = float
Draw = list[Finite]


class LawFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A law as it stands in a file."""

    law_version: Literal[1] = 1
    form: str
    features: list[str]
    """Features the form was built for."""
    parameters: dict[str, Finite]
    draws: list[Draw]
    """Bootstrap draws, in the order of `parameters`."""
    residuals: list[Finite]
    """Quantiles of ln(observed / predicted): the noise of one run."""
    range: dict[str, Annotated[list[Finite], msgspec.Meta(min_length=2, max_length=2)]]
    """What was seen: axis -> [least, most], in natural units."""
    count: Literal["non_embedding", "total", "as given"]
    fingerprint: str
    runs: Annotated[int, msgspec.Meta(ge=0)]
    label: str
    source: str


@dataclasses.dataclass(frozen=True, eq=False)
class Law:
    """Loss of a shape trained on so many tokens, in nats per token."""

    form: str
    parameters: dict[str, float]
    """Fitted values, by name, in natural units."""
    draws: Array
    """[k, p] bootstrap draws in natural units, in the order of `parameters`; k may be 0."""
    range: dict[str, tuple[float, float]]
    """What the fit saw: axis -> (least, most)."""
    count: str
    """Which parameters N counts: `non_embedding`, `total`, `as given` (read as non-embedding)."""
    fingerprint: str
    """Hash of the runs it was fitted on."""
    label: str
    source: str
    features: tuple[str, ...]
    residuals: Array
    """Quantiles of ln(observed / predicted)."""
    runs: int = 0

    def __post_init__(self) -> None:
        names = self.declaration.names
        if tuple(self.parameters) != names:
            raise BadInput(f"law {self.label}: form {self.form} has parameters {', '.join(names)}")
        if self.draws.size and self.draws.shape[1] != len(names):
            raise BadInput(f"law {self.label}: each draw needs {len(names)} numbers")
        if any(p.log and not self.parameters[p.name] > 0 for p in self.declaration.parameters):
            raise BadInput(f"law {self.label}: its coefficients must be more than 0")

    @property
    def declaration(self) -> Form:
        """The form, as terms."""
        return build_form(self.form, frozenset(self.features))

    # --- inner coordinates ---------------------------------------------------------------------

    def inner(self) -> Array:
        """Parameters in the solver's coordinates, [p]."""
        return to_inner(self.declaration, np.array(list(self.parameters.values())))

    def _wanted(self) -> tuple[str, ...]:
        return wanted_features(self.declaration)

    # --- predictions -----------------------------------------------------------------------------

    def loss(self, architectures: ArchitectureBatch, tokens: float | Array) -> Array:
        """Predicted loss [n], nats per token, after `tokens` tokens (one number or [n])."""
        features = architecture_features(architectures, tokens, self.count, self._wanted())
        return np.exp(predict_log_loss(self.declaration, self.inner(), features))

    def loss_draws(
        self, architectures: ArchitectureBatch, tokens: float | Array, draws: int | None = None
    ) -> Array:
        """Predicted loss by each of the first `draws` bootstrap draws [k, n]; no noise of a run."""
        features = architecture_features(architectures, tokens, self.count, self._wanted())
        return np.exp(self._log_draws(features, draws))

    def _log_draws(self, features: Mapping[str, Array], draws: int | None) -> Array:
        form = self.declaration
        chosen = self.draws if draws is None else self.draws[:draws]
        if not len(chosen):
            return predict_log_loss(form, self.inner(), features)[None, :]
        inner = to_inner(form, chosen)
        return np.stack([predict_log_loss(form, theta, features) for theta in inner])

    def interval(
        self, architectures: ArchitectureBatch, tokens: float | Array, level: float = 0.9
    ) -> tuple[Array, Array]:
        """Interval [n], [n] that a new run's loss falls in with probability `level`."""
        features = architecture_features(architectures, tokens, self.count, self._wanted())
        return self.interval_of(features, level)

    def interval_of(self, features: Mapping[str, Array], level: float) -> tuple[Array, Array]:
        """The same from features: spread of the draws and noise of a run together."""
        middle = predict_log_loss(self.declaration, self.inner(), features)
        spread = self._log_draws(features, _MANY_DRAWS)
        if self.residuals.size:
            # Each draw meets several quantiles of the noise, in an order that pairs them evenly.
            picks = (np.arange(len(spread)) * 0.6180339887498949) % 1.0
            noise = np.quantile(self.residuals, picks)
            spread = np.concatenate(
                [spread + np.roll(noise, shift)[:, None] for shift in (0, 7, 31)]
            )
        tail = 0.5 * (1 - level)
        low, high = np.quantile(spread, [tail, 1 - tail], axis=0)
        return np.exp(np.minimum(low, middle)), np.exp(np.maximum(high, middle))

    # --- range -----------------------------------------------------------------------------------

    def extrapolated(
        self, architectures: ArchitectureBatch, tokens: float | Array
    ) -> list[dict[str, float]]:
        """For each architecture: axis -> factor beyond the range the fit saw; {} inside it."""
        axes = tuple(feature for feature in AXES if AXES[feature] in self.range)
        if not axes:
            return [{} for _ in range(len(architectures))]
        features = architecture_features(architectures, tokens, self.count, axes)
        return self.beyond(features)

    def beyond(self, features: Mapping[str, Array]) -> list[dict[str, float]]:
        """The same from features."""
        rows = len(next(iter(features.values()), ()))
        found: list[dict[str, float]] = [{} for _ in range(rows)]
        for feature, axis in AXES.items():
            if axis not in self.range or feature not in features:
                continue
            low, high = self.range[axis]
            value = np.exp(features[feature])
            factor = np.maximum(value / high, low / value)
            for row in np.flatnonzero(factor > _TOLERANCE):
                found[row][axis] = float(factor[row])
        return found

    def predict_table(self, table: RunTable) -> dict[str, Any]:
        """Predictions for each row of a table: exactly the contract of `predict --json`.

        Raises:
            BadInput: the table lacks a column the law reads.
        """
        features = table_features(table)
        form = self.declaration
        missing = [name for name in self._wanted() if name not in features]
        if missing:
            raise BadInput(f"law = {self.label}: the table has no column {columns_of(missing)}")
        log_loss = predict_log_loss(form, self.inner(), features)
        low, high = self.interval_of(features, 0.9)
        beyond = self.beyond(features)
        rows = [
            {
                "loss": float(np.exp(value)),
                "interval": [float(a), float(b)],
                "extrapolated": list(axes),
                "extrapolated_by": axes,
            }
            for value, a, b, axes in zip(log_loss, low, high, beyond, strict=True)
        ]
        answer: dict[str, Any] = {"law": self.label, "rows": rows}
        known = np.isfinite(table.loss) & (table.loss > 0)
        if known.any():
            from shapelaw.scaling.holdout.scores import scores

            answer["error"] = scores(log_loss[known], np.log(table.loss[known]))
        return answer

    # --- files -----------------------------------------------------------------------------------

    def to_file(self, path: str | Path) -> None:
        """Write as JSON."""
        file = LawFile(
            form=self.form,
            features=list(self.features),
            parameters=self.parameters,
            draws=self.draws.tolist(),
            residuals=self.residuals.tolist(),
            range={axis: list(ends) for axis, ends in self.range.items()},
            count=self.count,  # type: ignore[arg-type]
            fingerprint=self.fingerprint,
            runs=self.runs,
            label=self.label,
            source=self.source,
        )
        write_atomically(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")

    @classmethod
    def from_file(cls, path: str | Path) -> "Law":
        """Read a law file, strictly.

        Raises:
            BadInput: no such file, not a law file, or an unknown field.
        """
        try:
            file = msgspec.json.decode(Path(path).read_bytes(), type=LawFile)
        except OSError as error:
            raise BadInput(f"law = {path}: {error.strerror or error}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadInput(f"law = {path}: not a law file ({error})") from None
        sizes = {len(draw) for draw in file.draws}
        if len(sizes) > 1:
            raise BadInput(f"law = {path}: its draws differ in length")
        return cls(
            form=file.form,
            parameters=file.parameters,
            draws=np.array(file.draws, dtype=float).reshape(len(file.draws), -1),
            range={axis: (ends[0], ends[1]) for axis, ends in file.range.items()},
            count=file.count,
            fingerprint=file.fingerprint,
            label=file.label,
            source=file.source,
            features=tuple(file.features),
            residuals=np.array(file.residuals, dtype=float),
            runs=file.runs,
        )


AXES: dict[str, str] = {
    "ln_n": "N",
    "ln_d": "tokens",
    "ln_width": "d_model",
    "ln_depth": "depth",
    "ln_aspect": "aspect_ratio",
    "ln_x": "width_ratio",
    "ln_r": "mlp_attention_ratio",
    "ln_g": "gqa_group",
    "ln_s": "sharing",
}
"""Feature -> axis, as range and warnings name it."""


def wanted_features(form: Form) -> tuple[str, ...]:
    """Plain features a form reads, with those behind the looped one."""
    wanted = [name for name in form.features if name != "ln_n_looped"]
    if form.sharing_exponent is not None:
        wanted += ["ln_s", "ln_n_once", "ln_n_recurrent"]
    return tuple(wanted)


def to_inner(form: Form, values: Array) -> Array:
    """Natural values [..., p] to the solver's coordinates."""
    logs = np.array([p.log for p in form.parameters])
    return np.where(logs, np.log(np.where(logs, np.maximum(values, 1e-300), 1.0)), values)


def to_natural(form: Form, theta: Array) -> Array:
    """The solver's coordinates [..., p] to natural values."""
    logs = np.array([p.log for p in form.parameters])
    return np.where(logs, np.exp(np.where(logs, theta, 0.0)), theta)


def fingerprint_of(table: RunTable) -> str:
    """Hash of a table's contents, whatever the order of its rows."""
    columns = [table.n, table.d, table.loss, *(table.shape[name] for name in sorted(table.shape))]
    order = np.lexsort(columns)
    rows = np.stack([np.asarray(column)[order] for column in columns], axis=1).astype("<f8")
    return hashlib.sha256(rows.tobytes()).hexdigest()[:16]
