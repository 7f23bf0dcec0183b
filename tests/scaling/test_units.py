"""Quantities as people type them."""

from collections.abc import Callable

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


@pytest.mark.parametrize(
    ("parse", "text", "plain"),
    [
        (units.parse_bytes, "0.4GB", 400_000_000),
        (units.parse_seconds, "500ms", 0.5),
        (units.parse_seconds, "0.1 µs", 1e-7),
        (units.parse_seconds, "1 h 05 min", 3900.0),
        (units.parse_seconds, "3 min 20 s", 200.0),
        (units.parse_seconds, "2h30min", 9000.0),
        (units.parse_joules, "50mJ", 0.05),
        (units.parse_joules, "35 mJ/token", 0.035),
        (units.parse_speed, "20tok/s", 20.0),
        (units.parse_speed, "1,234 tok/s", 1234.0),
        (units.parse_count, "0.3B", 300_000_000.0),
        (units.parse_count, "1.00e+08 tokens", 1e8),
        (units.parse_count, "1.2 × 10^8", 1.2e8),
        (units.parse_count, "5 million", 5e6),
        (units.parse_flops, "3.2 ZFLOPs", 3.2e21),
    ],
)
def test_a_unit_is_the_plain_number_to_the_last_digit(
    parse: Callable[[str], float], text: str, plain: float
) -> None:
    assert parse(text) == plain


def test_case_tells_milli_from_mega() -> None:
    with pytest.raises(BadInput, match="energy"):
        units.parse_joules("50MJ")
    with pytest.raises(BadInput, match="ttft"):
        units.parse_seconds("500Ms")


@given(st.floats(1e-6, 1e15))
def test_what_is_shown_can_be_typed(value: float) -> None:
    for show, parse in (
        (units.show_seconds, units.parse_seconds),
        (units.show_joules, units.parse_joules),
        (units.show_count, units.parse_count),
        (units.show_flops, units.parse_flops),
        (units.show_speed, units.parse_speed),
    ):
        assert parse(show(value)) == pytest.approx(value, rel=0.006)


@given(st.floats(1.0, 1e9))
def test_a_duration_that_is_shown_can_be_typed(seconds: float) -> None:
    off = 1.0 if seconds < 3600 else 60.0
    assert units.parse_seconds(units.show_duration(seconds)) == pytest.approx(seconds, abs=off)


@given(st.text(max_size=60))
def test_any_text_is_a_quantity_or_one_line(text: str) -> None:
    for parse in (units.parse_bytes, units.parse_seconds, units.parse_count, units.parse_flops):
        try:
            value, refused = parse(text), ""
        except BadInput as error:
            value, refused = 1.0, str(error)
        assert value > 0
        assert len(refused) <= 300
        assert refused.isprintable()
