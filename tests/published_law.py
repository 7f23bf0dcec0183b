"""A law file as a user may have it: published coefficients composed into one law, form and all.

Tests of the search take it because its optima are known in closed form.
"""

from pathlib import Path

LITERATURE = str(Path(__file__).parent / "cases" / "laws" / "literature.json")
