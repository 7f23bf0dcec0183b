"""Laws that ship answer by name; others are refused."""

import pytest

from shapelaw.results.shipped_laws import law_names, load_law
from shapelaw.scaling.errors import BadInput


def test_unknown_laws_are_refused_with_what_exists() -> None:
    assert {"evidence", "reference"} <= set(law_names())
    with pytest.raises(BadInput, match=r"laws by name: .*reference"):
        load_law("nonsense")
