"""Every case that was handed in has its test in this folder."""

from pathlib import Path

from tests.borders.command_line import CASES


def test_every_case_has_its_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    assert sorted(path.name for path in CASES.iterdir() if path.name not in tests) == []
