"""What stands in a law file. Every version that was ever written is read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.extrapolation import Drift
from shapelaw.scaling.forms import build_form
from shapelaw.scaling.new_shapes import NewShapes
from shapelaw.scaling.noise import NoiseTrend
from shapelaw.scaling.run_table import Count
from shapelaw.scaling.user_files import convert, parse_json, read_bytes, reason_of, refuse, shown

LARGEST_COEFFICIENT = 1e100
LARGEST_EXPONENT = 100.0
"""No loss falls with the hundredth power of anything."""
LARGEST_FACTOR = 1e6
LARGEST_RESIDUAL = 10.0
"""ln(observed / predicted): a run that loses twenty thousand times what it should."""
LARGEST_NOISE = 1e4
"""Times the typical noise of a run: its mean square over the runs is one."""

Ends = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]


class FormFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One more form of a stack."""

    form: str
    weight: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    parameters: dict[str, float]
    draws: list[list[float]]


class NoiseFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the noise of a run changes with N and D."""

    level: Annotated[float, msgspec.Meta(gt=0)]
    slopes: Ends
    range: dict[str, Ends]

    @classmethod
    def of(cls, noise: NoiseTrend) -> "NoiseFile":
        """As it is written."""
        return cls(level=noise.level, slopes=list(noise.slopes), range=range_lists(noise.range))

    def value(self) -> NoiseTrend:
        """As a law has it."""
        return NoiseTrend(self.level, (self.slopes[0], self.slopes[1]), range_pairs(self.range))


class DriftFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What extrapolation adds to each draw."""

    quantiles: Annotated[list[float], msgspec.Meta(min_length=1)]
    """Beyond the sizes seen, a span."""
    budgets: list[float] = []
    """Beyond the tokens and compute seen; of a file of version 2, as beyond the sizes."""
    range: dict[str, Ends]

    @classmethod
    def of(cls, drift: Drift) -> "DriftFile":
        """As it is written."""
        return cls(
            quantiles=drift.sizes.tolist(),
            budgets=drift.budgets.tolist(),
            range=range_lists(drift.range),
        )

    def value(self) -> Drift:
        """As a law has it."""
        return Drift(
            np.array(self.quantiles, dtype=float),
            np.array(self.budgets or self.quantiles, dtype=float),
            range_pairs(self.range),
        )


class NewShapesFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a shape that was not seen adds to the noise of its runs."""

    factor: Annotated[float, msgspec.Meta(ge=1, le=LARGEST_FACTOR)]
    features: list[str]
    seen: list[int]

    @classmethod
    def of(cls, new: NewShapes) -> "NewShapesFile":
        """As it is written."""
        return cls(factor=new.factor, features=list(new.features), seen=new.seen.tolist())

    def value(self) -> NewShapes:
        """As a law has it."""
        return NewShapes(self.factor, tuple(self.features), np.array(self.seen, dtype=np.int64))


class LawFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A law as it stands in a file. Version 1 has one form, and neither trend nor drift; version 2
    knows nothing of new shapes."""

    law_version: Literal[1, 2, 3] = 3
    form: str
    features: list[str]
    """Features the forms were built for."""
    parameters: dict[str, float]
    draws: list[list[float]]
    """Bootstrap draws, in the order of `parameters`."""
    others: list[FormFile] = []
    """The other forms of a stack; the first one's weight is what theirs leave."""
    residuals: list[float]
    """Quantiles of ln(observed / predicted): the noise of one run."""
    noise: NoiseFile | None = None
    drift: DriftFile | None = None
    new_shapes: NewShapesFile | None = None
    range: dict[str, Ends]
    """What was seen: axis -> [least, most], in natural units."""
    count: Count
    fingerprint: str
    runs: Annotated[int, msgspec.Meta(ge=0)]
    label: str
    source: str


def read_law_file(path: str | Path) -> LawFile:
    """Read a law file, strictly.

    Raises:
        BadInput: no such file, not a law file, or an unknown field.
    """
    content = read_bytes(path, "law")
    try:
        file = convert(parse_json(content, "law", path), LawFile, "law", path)
    except BadInput as error:
        refuse("law", path, f"not a law file ({reason_of(error)})")
    if sum(other.weight for other in file.others) >= 1:
        refuse("law", path, "others: their weights leave nothing for the first form")
    _check_numbers(path, "", file, file.features)
    for place, other in enumerate(file.others):
        _check_numbers(path, f"others[{place}].", other, file.features)
    for row, value in enumerate(file.residuals):
        if abs(value) > LARGEST_RESIDUAL:
            refuse("law", path, f"residuals[{row}] = {value:g}: at most {LARGEST_RESIDUAL:g}")
    trends = [] if file.noise is None else [("noise.slopes", v) for v in file.noise.slopes]
    if file.drift is not None:
        trends += [("drift.quantiles", v) for v in file.drift.quantiles]
        trends += [("drift.budgets", v) for v in file.drift.budgets]
    for where, value in trends:
        if abs(value) > LARGEST_RESIDUAL:
            refuse("law", path, f"{where} = {value:g}: at most {LARGEST_RESIDUAL:g}")
    for where, extra, axes in (
        ("noise", file.noise, ("N", "tokens")),
        ("drift", file.drift, ("N", "tokens", "compute")),
    ):
        missing = [] if extra is None else [axis for axis in axes if axis not in extra.range]
        if missing:
            refuse("law", path, f"{where}.range.{missing[0]}: least and most are needed")
    for part in (file.range, *(extra.range for extra in (file.noise, file.drift) if extra)):
        for axis, (low, high) in part.items():
            if not 0 < low <= high < LARGEST_COEFFICIENT:
                refuse(
                    "law",
                    path,
                    f"range.{shown(axis, 30)} = [{low:g}, {high:g}]: least and most, above 0, are "
                    "needed",
                )
    if file.noise is not None:
        _check_noise(path, file.noise)
    return file


def _check_noise(path: str | Path, noise: NoiseFile) -> None:
    """Raises BadInput where the noise of a run within the range is beyond reason."""
    most = math.log(noise.level) + sum(
        max(slope * math.log(end) for end in noise.range[axis])
        for slope, axis in zip(noise.slopes, ("N", "tokens"), strict=True)
    )
    if most > math.log(LARGEST_NOISE):
        refuse(
            "law",
            path,
            f"noise.level = {noise.level:g}: with its slopes the noise of a run comes to more than "
            f"{LARGEST_NOISE:g} times the typical one",
        )


def _check_numbers(
    path: str | Path, where: str, one: LawFile | FormFile, features: list[str]
) -> None:
    """Raises BadInput where the numbers of one form cannot be those of a law."""
    form = build_form(one.form, frozenset(features))
    for position, parameter in enumerate(form.parameters):
        least = 0.0 if parameter.log else -LARGEST_EXPONENT
        most = LARGEST_COEFFICIENT if parameter.log else LARGEST_EXPONENT
        values = [(f"{where}parameters", one.parameters.get(parameter.name, 0.0))]
        values += [
            (f"{where}draws[{row}]", draw[position])
            for row, draw in enumerate(one.draws)
            if position < len(draw)
        ]
        for named, value in values:
            if not least <= value <= most:
                refuse(
                    "law",
                    path,
                    f"{named}.{parameter.name} = {value:g}: {least:g} to {most:g} is needed",
                )
    for row, draw in enumerate(one.draws):
        if len(draw) != len(form.parameters):
            refuse(
                "law",
                path,
                f"{where}draws[{row}] has {len(draw)} numbers: one for each of the "
                f"{len(form.parameters)} parameters is needed",
            )


def range_lists(ranges: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    """Ranges as they are written."""
    return {axis: list(ends) for axis, ends in ranges.items()}


def range_pairs(ranges: Mapping[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Ranges as a law has them."""
    return {axis: (ends[0], ends[1]) for axis, ends in ranges.items()}


def draws_array(rows: list[list[float]], parameters: int) -> np.ndarray:
    """Draws [k, p]; k may be 0."""
    return np.array(rows, dtype=float) if rows else np.empty((0, parameters))


def write_law_file(path: str | Path, file: LawFile) -> None:
    """Write as JSON, whole or not at all."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
