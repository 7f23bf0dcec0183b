"""Every device profile that ships, fitted and written."""

import math
import tomllib
from pathlib import Path

import numpy as np

from benchmarks import device_rows
from benchmarks.fit_catalogue import (
    CATALOGUE,
    DATASHEETS,
    IPHONE_MS,
    datasheet_document,
    fit_apple,
    fit_iphone,
    iphone_observations,
    profile_of,
)
from benchmarks.fit_jetson import jetson_documents
from benchmarks.fit_phones import fit_phone
from shapelaw.search.devices.calibration.least_squares import predict


def write_catalogue(folder: Path = CATALOGUE) -> list[str]:
    """Fit and write every profile. Returns lines of report.

    Raises:
        BadInput: a profile does not hold.
    """
    sheets = tomllib.loads(DATASHEETS.read_text(encoding="utf-8"))
    typical = sheets.pop("typical")
    chips = {chip.name: chip for chip in device_rows.apple_chips() or []}
    lines = []
    for name, sheet in sheets.items():
        document = datasheet_document(name, sheet, typical[sheet["typical"]])
        if name == "iphone-13":
            solution = fit_iphone(document)
            lines.append(
                _report(
                    name,
                    predict(iphone_observations(), solution.constants)
                    / [ms / 1e3 for _, _, ms in IPHONE_MS]
                    - 1,
                )
            )
        elif sheet.get("table_row") in chips:
            fit_apple(document, chips[sheet["table_row"]])
        else:
            fit_phone(name, document)
        profile_of(document).to_file(folder / f"{name}.toml")
    for document in jetson_documents(sheets["jetson-orin-nano-25w"], typical["board"]):
        profile_of(document).to_file(folder / f"{document['name']}.toml")
    lines.append(f"{len(list(folder.glob('*.toml')))} profiles in {folder.name}/")
    return lines


def _report(name: str, errors: np.ndarray) -> str:
    return f"{name}: errors {', '.join(f'{100 * e:+.1f} %' for e in errors)}"


def is_known(value: float) -> bool:
    """Whether a constant was given."""
    return not math.isnan(value)
