"""The files that a pattern such as `data/**/*.txt` means, found in bounded time.

As the standard library's `glob` finds them, but that `**` enters no folder within itself, so that a
link back to where it stands is no endless tree, and looks into so many folders only.
"""

import contextlib
import os
from collections.abc import Iterator
from glob import escape, iglob

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.user_files import shown

MOST_FOLDERS = 100_000
"""That the `**` of a pattern look into."""

_ANY = "**"


def matching(pattern: str) -> Iterator[str]:
    """Names that the pattern matches, folders among them; names with a leading dot only where the
    pattern says it.

    Raises:
        BadInput: more folders than are looked into.
    """
    left = [MOST_FOLDERS]
    for name in _matching(pattern, left):
        if not left[0]:
            break
        yield name
    if not left[0]:
        raise BadInput(
            f"text = {shown(pattern)!r}: {MOST_FOLDERS:,} folders and more are below it; begin it "
            "with a folder that holds fewer"
        )


def _matching(pattern: str, left: list[int]) -> Iterator[str]:
    parts = pattern.split("/")
    if _ANY not in parts:
        yield from iglob(pattern)
        return
    first = parts.index(_ANY)
    rest = parts[first + 1 :]
    while rest and rest[0] == _ANY:  # says no more than one does
        rest = rest[1:]
    roots = iglob("/".join(parts[:first]) or "/") if first else ["."]
    for root in roots:
        for folder in _below(root, left):
            inside = "" if folder == "." else f"{escape(folder.removeprefix('./'))}/"
            yield from _matching(inside + "/".join(rest or ["*"]), left)


def _below(root: str, left: list[int]) -> Iterator[str]:
    """The folder and all below it but those with a leading dot, parents first."""
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(root, frozenset())]
    while pending and left[0]:
        folder, above = pending.pop()
        inside: list[str] = []
        try:
            found = os.stat(folder)
            with os.scandir(folder) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):  # a link that leads nowhere
                        if entry.is_dir() and not entry.name.startswith("."):
                            inside.append(entry.name)
        except OSError:  # no folder, or not to be read: `glob` passes over it too
            continue
        me = (found.st_dev, found.st_ino)
        if me in above:
            continue
        left[0] -= 1
        yield folder
        below = above | {me}
        pending += [(os.path.join(folder, name), below) for name in sorted(inside, reverse=True)]
