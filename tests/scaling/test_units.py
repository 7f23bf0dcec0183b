"""Quantities as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shapelaw.scaling import units
from shapelaw.scaling.errors import BadInput


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500MB", 500_000_000),
        ("2GiB", 2**31),
        ("400 MB", 400_000_000),
        ("1.5gb", 1_500_000_000),
        (4e8, 400_000_000),
        ("1e9", 10**9),
        ("64k", 64_000),
        ("7", 7),
    ],
)
def test_memory_is_decimal_unless_it_says_binary(text: str | float, size: int) -> None:
    assert units.parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "-4MB",
        "0",
        "0MB",
        "",
        "MB",
        "five",
        "1 parsec",
        "nan",
        "inf",
        "1e999",
        "--",
        "1,5GB",
        True,
        float("nan"),
        -1,
        "0.4",
        "１２",
    ],
)
def test_what_is_no_amount_of_memory_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="memory") as caught:
        units.parse_bytes(text)
    assert "\n" not in str(caught.value)


def test_other_quantities_know_their_units() -> None:
    assert units.parse_seconds("500ms") == pytest.approx(0.5)
    assert units.parse_joules("50mJ") == pytest.approx(0.05)
    assert units.parse_count("1T") == 1e12
    assert units.parse_count("300B") == 3e11
    assert units.parse_speed("30 tok/s") == 30
    assert units.parse_bits("8,4,8") == (4.0, 8.0)
    assert units.parse_bits(8) == (8.0,)
    assert units.parse_bits([4, 16]) == (4.0, 16.0)


@pytest.mark.parametrize("bits", ["", ",", "0", "64", "four", "-8", "4;8"])
def test_bits_nobody_stores_are_refused(bits: str) -> None:
    with pytest.raises(BadInput, match="bits"):
        units.parse_bits(bits)


@given(st.floats(1.0, 1e15))
def test_a_size_shown_and_read_again_is_the_same_to_three_digits(size: float) -> None:
    assert units.parse_bytes(units.show_bytes(size)) == pytest.approx(size, rel=0.006, abs=1)


def test_shown_quantities_carry_their_unit() -> None:
    assert units.show_bytes(412_345_678) == "412 MB"
    assert units.show_seconds(0.0382) == "38.2 ms"
    assert units.show_joules(0.0351) == "35.1 mJ"
    assert units.show_count(124_635_456) == "125M"
    assert units.show_speed(31.42) == "31.4 tok/s"
    assert units.show_bytes(float("nan")) == "unknown"
    assert units.show_bytes(999_900) == "1.00 MB"
