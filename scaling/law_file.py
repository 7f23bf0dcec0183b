"""What stands in a law file. Every version that was ever written is read."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from shapelaw.scaling.atomic_files import write_atomically
from shapelaw.scaling.errors import BadInput

Ends = Annotated[list[float], msgspec.Meta(min_length=2, max_length=2)]
Count = Literal["non_embedding", "total", "as given"]


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


class DriftFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What extrapolation adds to each draw."""

    quantiles: list[float]
    range: dict[str, Ends]


class LawFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A law as it stands in a file. Version 1 has one form, and neither trend nor drift."""

    law_version: Literal[1, 2] = 2
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
    try:
        file = msgspec.json.decode(Path(path).read_bytes(), type=LawFile)
    except OSError as error:
        raise BadInput(f"law = {path}: {error.strerror or error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInput(f"law = {path}: not a law file ({error})") from None
    for draws in (file.draws, *(other.draws for other in file.others)):
        if len({len(draw) for draw in draws}) > 1:
            raise BadInput(f"law = {path}: its draws differ in length")
    if sum(other.weight for other in file.others) >= 1:
        raise BadInput(f"law = {path}: the weights of its other forms leave nothing for the first")
    for axis, (low, high) in file.range.items():
        if not 0 < low <= high:
            raise BadInput(
                f"law = {path}: range {axis} = [{low:g}, {high:g}]: least and most, "
                "above 0, are needed"
            )
    return file


def write_law_file(path: str | Path, file: LawFile) -> None:
    """Write as JSON, whole or not at all."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(file), indent=1) + b"\n")
