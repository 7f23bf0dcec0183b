"""The shell completes names, and names that are nearly known are told."""

import pytest
from click.shell_completion import BashComplete

from shapelaw.cli import cli
from shapelaw.scaling.close_names import close_names


def completed(*words: str) -> list[str]:
    """What bash is offered after these words, the last one half written."""
    shell = BashComplete(cli, {}, "shapelaw", "_SHAPELAW_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "among"),
    [
        (("query", "--device", "iphone-1"), "iphone-13"),
        (("query", "--device", "m2"), "m2-max"),
        (("query", "--law", ""), "evidence"),
        (("predict", "ref"), "reference"),
        (("fit", "--form", "chin"), "chinchilla"),
        (("query", "--workload", "sum"), "summarise"),
        (("query", "--space", "ph"), "phone"),
        (("query", "--formats", "q8_0,q4_k"), "q8_0,q4_k_m"),
        (("explain", "smollm2-1"), "smollm2-135m"),
        (("export", "qwen3"), "qwen3-0.6b"),
        (("sweep", "smo"), "smoke"),
        (("devices", "rasp"), "raspberry-pi-5"),
        (("qu",), "query"),
    ],
)
def test_names_are_completed(words: tuple[str, ...], among: str) -> None:
    found = completed(*words)
    assert among in found
    assert all(name.startswith(words[-1]) for name in found)


def test_a_name_that_is_none_may_be_a_file() -> None:
    shell = BashComplete(cli, {}, "shapelaw", "_SHAPELAW_COMPLETE")
    found = shell.get_completions(["query", "--device"], "./my-pho")
    assert [item.type for item in found] == ["file"]


def test_close_names_are_offered_and_far_ones_are_not() -> None:
    known = ["iphone-13", "iphone-11", "m2-max", "h100"]
    assert close_names("iPhone13", known).startswith("; did you mean iphone-13")
    assert "iphone-13" in close_names("iphone", known)
    assert close_names("abacus", known) == ""
