"""Budgets in the words of people are the plain numbers."""

from shapelaw.search.answer.query import answer_command


def test_units_equal_plain_numbers() -> None:
    said = answer_command(
        "iphone-15-pro", tokens="1T", ttft="500ms", energy="50mJ", decode="20tok/s", memory="0.4GB"
    )
    plain = answer_command(
        "iphone-15-pro", tokens=1e12, ttft=0.5, energy=0.05, decode=20, memory=400_000_000
    )
    assert said.to_dict() == plain.to_dict()
