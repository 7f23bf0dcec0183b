"""Patterns of text files: what the standard library finds, and an end where it has none."""

from glob import glob
from pathlib import Path

import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.sweeps.corpus import file_patterns
from shapelaw.sweeps.corpus.file_patterns import matching


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "x.txt",
        "a/y.txt",
        "a/b/z.txt",
        "a/b/z.md",
        "a/[c]/w.txt",
        ".d/v.txt",
        "a/.u.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to("a/b")
    (tmp_path / "nowhere").symlink_to("absent")
    monkeypatch.chdir(tmp_path)
    return tmp_path


PATTERNS = (
    "*.txt", "**", "**/*", "**/*.txt", "a/**", "a/**/*.txt", "**/b/*", "**/b/**", "**/**/z.*",
    "*/**/z.txt", "a/**/b/**/*.txt", "**/[[]c]/*", ".d/**/*.txt", "**/.u.txt", "./**/*.txt",
    "absent/**", "a**",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_files_are_those_that_glob_finds(tree: Path, pattern: str) -> None:
    for each in (pattern, f"{tree}/{pattern}"):
        mine = {Path(name) for name in matching(each) if Path(name).is_file()}
        theirs = {Path(name) for name in glob(each, recursive=True) if Path(name).is_file()}
        assert mine == theirs


def test_links_into_their_own_folder_are_no_endless_tree(tree: Path) -> None:
    for number in range(6):
        (tree / "a" / f"back{number}").symlink_to("..")
        (tree / "a" / "b" / f"back{number}").symlink_to("..")
    names = list(matching("**/*.txt"))
    assert {"x.txt", "a/y.txt", "a/b/z.txt"} <= set(names)
    assert len(names) < 100


def test_more_folders_than_are_looked_into_are_refused(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_patterns, "MOST_FOLDERS", 3)
    with pytest.raises(BadInput, match="3 folders and more"):
        list(matching("**/absent"))
