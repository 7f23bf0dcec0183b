"""A fitted law: predicts, says how sure it is and how far from its data it is asked, saves, loads.

A law is one form, or a stack of several: ln L is then the weighted mean of theirs. Its uncertainty
is draws: each is one form with the parameters of one resample, off by what extrapolation and unseen
axes may add (`scaling.extrapolation`). Imports NumPy and msgspec only: queries load it cold.
"""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.bound_form import Array, predict_log_loss
from shapelaw.scaling.coordinates import to_inner
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.extrapolation import (
    AXES,
    SHAPE_AXES,
    Drift,
    even_picks,
    never_varied,
    reference_of,
    unseen_draws,
)
from shapelaw.scaling.features import (
    architecture_features,
    columns_of,
    in_parts,
    table_features,
    wanted_features,
)
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.law_file import (
    DriftFile,
    FormFile,
    LawFile,
    NewShapesFile,
    NoiseFile,
    draws_array,
    range_lists,
    range_pairs,
    read_law_file,
    write_law_file,
)
from shapelaw.scaling.new_shapes import NewShapes
from shapelaw.scaling.noise import NoiseTrend
from shapelaw.scaling.notebook_display import Displayed
from shapelaw.scaling.run_table import Count, RunTable
from shapelaw.scaling.terms import Form

_MANY_DRAWS = 400  # enough for a 90 % interval; more costs time and changes its third digit
_ROWS_AT_ONCE = 20_000  # of a table, for its intervals: every draw of every row is held at once
_TOLERANCE = 1.001  # a factor beyond the range seen that counts as inside it
_LARGEST_LOG = 600.0  # ln L beyond it is no loss; its exponential is still a number
_NOISE_STEP = 0.6180339887498949

Chosen = int | Array | None
"""Which draws: the first so many, those at these numbers, or all."""


@dataclasses.dataclass(frozen=True, eq=False)
class OtherForm:
    """One more form of a stack."""

    form: str
    weight: float
    parameters: dict[str, float]
    draws: Array
    """[k, p], as `Law.draws`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
    """A form of a law with its numbers, in the solver's coordinates."""

    form: Form
    weight: float
    theta: Array
    """[p]"""
    draws: Array
    """[k, p]"""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Law(Displayed):
    """Loss of a shape trained on so many tokens, in nats per token."""

    form: str
    """Its form, or the best one of its stack."""
    parameters: dict[str, float]
    """Fitted values, by name, in natural units."""
    draws: Array
    """[k, p] bootstrap draws in natural units, in the order of `parameters`; k may be 0."""
    range: dict[str, tuple[float, float]]
    """What the fit saw: axis -> (least, most)."""
    count: Count
    """Which parameters N counts: `non_embedding`, `total`, `as given` (read as non-embedding)."""
    fingerprint: str
    """Hash of the runs it was fitted on."""
    label: str
    source: str
    features: tuple[str, ...]
    residuals: Array
    """Quantiles of ln(observed / predicted), of a run of typical noise."""
    runs: int = 0
    others: tuple[OtherForm, ...] = ()
    """The other forms of a stack. Theirs are draws as well, as many as their weight says."""
    noise: NoiseTrend | None = None
    """How the noise of a run changes with N and D; None: not at all."""
    drift: Drift | None = None
    """What extrapolation adds; None: nothing beyond what the draws say."""
    new_shapes: NewShapes | None = None
    """By how much runs of shapes not seen spread further; None: not at all."""

    def __post_init__(self) -> None:
        for one in self._each():
            form = build_form(one.form, frozenset(self.features))
            if tuple(one.parameters) != form.names:
                raise BadInput(
                    f"law {self.label}: form {one.form} has parameters {', '.join(form.names)}"
                )
            if one.draws.size and one.draws.shape[1] != len(form.names):
                raise BadInput(f"law {self.label}: each draw needs {len(form.names)} numbers")
            if any(p.log and not one.parameters[p.name] > 0 for p in form.parameters):
                raise BadInput(f"law {self.label}: its coefficients must be more than 0")

    def _each(self) -> tuple[OtherForm, ...]:
        """All its forms as they stand in a file."""
        left = 1.0 - sum(other.weight for other in self.others)
        return (OtherForm(self.form, left, self.parameters, self.draws), *self.others)

    def __repr__(self) -> str:
        draws = f"{len(self.draws)} draws" if len(self.draws) else "no draws"
        return f"<Law {self.label!r}: form {self.form}, {self.runs} runs, {draws}>"

    def to_rows(self) -> list[dict[str, Any]]:
        """Each parameter with its 90 % interval by the draws (None where there are none)."""
        ends = np.quantile(self.draws, [0.05, 0.95], axis=0) if len(self.draws) else None
        return [
            {
                "parameter": name,
                "value": value,
                "low": None if ends is None else float(ends[0, place]),
                "high": None if ends is None else float(ends[1, place]),
            }
            for place, (name, value) in enumerate(self.parameters.items())
        ]

    @property
    def declaration(self) -> Form:
        """The form, as terms; of a stack, its best one's."""
        return build_form(self.form, frozenset(self.features))

    @functools.cached_property
    def members(self) -> tuple[Member, ...]:
        """Its forms, the best one first; their weights sum to one."""
        found = []
        for one in self._each():
            form = build_form(one.form, frozenset(self.features))
            found.append(
                Member(
                    form=form,
                    weight=one.weight,
                    theta=to_inner(form, np.array(list(one.parameters.values()))),
                    draws=to_inner(form, one.draws.reshape(-1, len(form.names))),
                )
            )
        return tuple(found)

    # --- inner coordinates ---------------------------------------------------------------------

    def inner(self) -> Array:
        """Parameters in the solver's coordinates, [p]; of a stack, its best form's."""
        return self.members[0].theta

    def _wanted(self) -> tuple[str, ...]:
        names = [name for member in self.members for name in wanted_features(member.form)]
        return tuple(dict.fromkeys(names))

    def _asked(self, architectures: ArchitectureBatch, tokens: float | Array) -> dict[str, Array]:
        """Features that the draws read: the forms' own, and those of unseen axes."""
        more = [SHAPE_AXES[axis][0] for axis in self.never_varied]
        wanted = dict.fromkeys((*self._wanted(), "ln_n", "ln_d", *more))
        return architecture_features(architectures, tokens, self.count, tuple(wanted))

    # --- predictions -----------------------------------------------------------------------------

    def loss(self, architectures: ArchitectureBatch, tokens: float | Array) -> Array:
        """Predicted loss [n], nats per token, after `tokens` tokens (one number or [n])."""
        features = architecture_features(architectures, tokens, self.count, self._wanted())
        return np.exp(self.log_loss_of(features))

    def log_loss_of(self, features: Mapping[str, Array]) -> Array:
        """Predicted ln L [n] from features."""
        first, *others = (
            member.weight * predict_log_loss(member.form, member.theta, features)
            for member in self.members
        )
        return sum(others, first)

    def loss_draws(
        self, architectures: ArchitectureBatch, tokens: float | Array, draws: Chosen = None
    ) -> Array:
        """Predicted loss by each draw [k, n]; no noise of a run.

        A law without draws answers with the one loss it predicts, [1, n].

        Args:
            draws: only the first so many, or those at these numbers; all where not given.
        """
        return np.exp(self.log_draws_of(self._asked(architectures, tokens), draws))

    @functools.cached_property
    def _order(self) -> list[tuple[int, int]]:
        """(member, its draw) of each draw of the law: members evenly mixed."""
        places = [
            ((k + 0.5) / len(member.draws), number, k)
            for number, member in enumerate(self.members)
            for k in range(len(member.draws))
        ]
        return [(number, k) for _, number, k in sorted(places)]

    def log_draws_of(self, features: Mapping[str, Array], draws: Chosen = None) -> Array:
        """Predicted ln L by each draw [k, n] from features, as `loss_draws` has it."""
        if not self._order:
            return self.log_loss_of(features)[None, :]
        numbers = np.arange(len(self._order))
        numbers = numbers[:draws] if draws is None or isinstance(draws, int) else numbers[draws]
        chosen = [self._order[number] for number in numbers.tolist()]
        found = np.stack(
            [
                predict_log_loss(self.members[number].form, self.members[number].draws[k], features)
                for number, k in chosen
            ]
        )
        return found + self._ignorance(features, len(self._order))[numbers]

    def _ignorance(self, features: Mapping[str, Array], count: int) -> Array:
        """What extrapolation and unseen axes add to ln L of `count` draws, [count, n]."""
        added = np.zeros((count, 1)) + unseen_draws(features, self.range, count)
        return added if self.drift is None else added + self.drift.draws(features, count)

    def interval(
        self, architectures: ArchitectureBatch, tokens: float | Array, level: float = 0.9
    ) -> tuple[Array, Array]:
        """Interval [n], [n] that a new run's loss falls in with probability `level`."""
        return self.interval_of(self._asked(architectures, tokens), level)

    def interval_of(self, features: Mapping[str, Array], level: float) -> tuple[Array, Array]:
        """The same from features: spread of the draws and noise of a run together.

        Without draws, the forms of a stack, extrapolation and the noise of a run are left.
        """
        middle = self.log_loss_of(features)
        if self._order:
            spread = self.log_draws_of(features, _MANY_DRAWS)
        else:
            points = np.stack(
                [predict_log_loss(one.form, one.theta, features) for one in self.members]
            )
            shares = np.cumsum([member.weight for member in self.members])
            chosen = np.searchsorted(shares[:-1], even_picks(_MANY_DRAWS, 4))
            spread = points[chosen] + self._ignorance(features, _MANY_DRAWS)
        if self.residuals.size:
            # Each draw meets several quantiles of the noise, in an order that pairs them evenly.
            picks = (np.arange(len(spread)) * _NOISE_STEP) % 1.0
            noise = np.quantile(self.residuals, picks)
            scale: Array | float = 1.0 if self.noise is None else self.noise.scale(features)
            if self.new_shapes is not None:
                scale = scale * self.new_shapes.scale(features)
            spread = np.concatenate(
                [spread + np.roll(noise, shift)[:, None] * scale for shift in (0, 7, 31)]
            )
        tail = 0.5 * (1 - level)
        low, high = np.quantile(spread, [tail, 1 - tail], axis=0)
        ends = np.minimum(low, middle), np.minimum(np.maximum(high, middle), _LARGEST_LOG)
        return np.exp(ends[0]), np.exp(ends[1])

    # --- range -----------------------------------------------------------------------------------

    @functools.cached_property
    def never_varied(self) -> tuple[str, ...]:
        """Axes of shape that its runs never varied: what it says of them is extrapolation."""
        return never_varied(self.range)

    def unseen(
        self, architectures: ArchitectureBatch, tokens: float | Array = 1.0
    ) -> list[tuple[str, ...]]:
        """For each architecture: the axes of shape on which it differs from every run seen, and
        which the runs never varied."""
        return self._unseen_of(self._asked(architectures, tokens))

    def _unseen_of(self, features: Mapping[str, Array]) -> list[tuple[str, ...]]:
        rows = len(next(iter(features.values()), ()))
        found: list[tuple[str, ...]] = [() for _ in range(rows)]
        for axis in self.never_varied:
            feature = SHAPE_AXES[axis][0]
            # What the runs had is known where the table told it, and of sharing by convention.
            if feature not in features or (AXES[feature] not in self.range and axis != "sharing"):
                continue
            away = np.abs(features[feature] - reference_of(self.range, axis))
            for row in np.flatnonzero(away > np.log(_TOLERANCE)):
                found[row] = (*found[row], axis)
        return found

    def extrapolated(
        self, architectures: ArchitectureBatch, tokens: float | Array
    ) -> list[dict[str, float]]:
        """For each architecture: axis -> factor beyond the range the fit saw; {} inside it."""
        axes = tuple(feature for feature in AXES if AXES[feature] in self._seen)
        if not axes:
            return [{} for _ in range(len(architectures))]
        features = architecture_features(architectures, tokens, self.count, axes)
        return self.beyond(features)

    @functools.cached_property
    def _seen(self) -> dict[str, tuple[float, float]]:
        """The range, with sharing of runs that do not tell theirs: none."""
        if not self.range or "sharing" in self.range:
            return self.range
        return {**self.range, "sharing": (1.0, 1.0)}

    def beyond(self, features: Mapping[str, Array]) -> list[dict[str, float]]:
        """The same from features."""
        rows = len(next(iter(features.values()), ()))
        found: list[dict[str, float]] = [{} for _ in range(rows)]
        for feature, axis in AXES.items():
            if axis not in self._seen or feature not in features:
                continue
            low, high = self._seen[axis]
            value = np.exp(features[feature])
            factor = np.maximum(value / high, low / value)
            for row in np.flatnonzero(factor > _TOLERANCE):
                found[row][axis] = float(factor[row])
        return found

    @property
    def remarks(self) -> list[str]:
        """What whoever uses a prediction should know, a line each."""
        found = []
        if not self._order:
            found.append(
                f"law {self.label} has no draws (fitted with --bootstrap 0): its intervals leave "
                "out how unsure its parameters are, and a query cannot say how sure its pick is"
            )
        return found

    def predict_table(self, table: RunTable) -> dict[str, Any]:
        """Predictions for each row of a table: exactly the contract of `predict --json`.

        Raises:
            BadInput: the table lacks a column the law reads.
        """
        features = table_features(table)
        missing = [name for name in self._wanted() if name not in features]
        if missing:
            raise BadInput(f"law = {self.label}: the table has no column {columns_of(missing)}")
        log_loss = self.log_loss_of(features)
        low, high = np.concatenate(
            [self.interval_of(part, 0.9) for part in in_parts(features, _ROWS_AT_ONCE)], axis=1
        )
        unseen = self._unseen_of(features)
        rows = [
            {
                "loss": float(np.exp(value)),
                "interval": [float(a), float(b)],
                "extrapolated": list(axes),
                "extrapolated_by": axes,
                "never_varied": list(blind),
            }
            for value, a, b, axes, blind in zip(
                log_loss, low, high, self.beyond(features), unseen, strict=True
            )
        ]
        answer: dict[str, Any] = {"law": self.label, "rows": rows}
        axes_met = dict.fromkeys(axis for row in unseen for axis in row)
        answer["remarks"] = [*self.remarks, *(never_seen(self, axis) for axis in axes_met)]
        known = np.isfinite(table.loss) & (table.loss > 0)
        if known.any():
            from shapelaw.scaling.holdout.scores import scores

            observed = np.log(table.loss[known])
            inside = (np.log(low[known]) <= observed) & (observed <= np.log(high[known]))
            answer["error"] = {
                **scores(log_loss[known], observed),
                "coverage": float(np.mean(inside)),
            }
        return answer

    # --- files -----------------------------------------------------------------------------------

    def to_file(self, path: str | Path) -> None:
        """Write as JSON."""
        noise, drift, new = self.noise, self.drift, self.new_shapes
        file = LawFile(
            form=self.form,
            features=list(self.features),
            parameters=self.parameters,
            draws=self.draws.tolist(),
            others=[
                FormFile(
                    form=other.form,
                    weight=other.weight,
                    parameters=other.parameters,
                    draws=other.draws.tolist(),
                )
                for other in self.others
            ],
            residuals=self.residuals.tolist(),
            noise=None if noise is None else NoiseFile.of(noise),
            drift=None if drift is None else DriftFile.of(drift),
            new_shapes=None if new is None else NewShapesFile.of(new),
            range=range_lists(self.range),
            count=self.count,
            fingerprint=self.fingerprint,
            runs=self.runs,
            label=self.label,
            source=self.source,
        )
        write_law_file(path, file)

    @classmethod
    def from_file(cls, path: str | Path) -> "Law":
        """Read a law file, strictly.

        Raises:
            BadInput: no such file, not a law file, or an unknown field.
        """
        file = read_law_file(path)
        noise, drift, new = file.noise, file.drift, file.new_shapes
        return cls(
            form=file.form,
            parameters=file.parameters,
            draws=draws_array(file.draws, len(file.parameters)),
            others=tuple(
                OtherForm(
                    one.form,
                    one.weight,
                    one.parameters,
                    draws_array(one.draws, len(one.parameters)),
                )
                for one in file.others
            ),
            range=range_pairs(file.range),
            count=file.count,
            fingerprint=file.fingerprint,
            label=file.label,
            source=file.source,
            features=tuple(file.features),
            residuals=np.array(file.residuals, dtype=float),
            noise=None if noise is None else noise.value(),
            drift=None if drift is None else drift.value(),
            new_shapes=None if new is None else new.value(),
            runs=file.runs,
        )


def never_seen(law: "Law", axis: str) -> str:
    """A line that says that a law's runs never varied an axis, and what that means."""
    name = AXES[SHAPE_AXES[axis][0]]
    had = f" (all had {law.range[name][0]:g})" if name in law.range else ""
    through = (
        ", through the applied depth,"
        if axis == "sharing" and any("ln_depth" in member.form.features for member in law.members)
        else ""
    )
    return (
        f"law {law.label} never saw {axis} vary{had}: what it says of it{through} is "
        "extrapolation, and its draws carry an effect of unknown sign"
    )
