"""Text for a terminal: names and messages from files are shown as they are, never interpreted."""

from typing import TYPE_CHECKING, Any

from shapelaw.scaling.user_files import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

LONGEST_NAME = 120


def terminal(*, stderr: bool = False, **options: Any) -> "Console":
    """A console to which every text is a text: no markup, no names of emoji."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, **options)


def literal(text: object, style: str = "", most: int = LONGEST_NAME) -> "Text":
    """A cell or title with no markup in it: brackets stand, control characters are escaped."""
    from rich.text import Text

    return Text(shown(str(text), most), style=style)


def paragraph(text: str) -> "Text":
    """Lines of text, taken literally."""
    from rich.text import Text

    return Text("\n".join(shown(line, 2000) for line in text.split("\n")))


def note(text: object) -> "Text":
    """`note` in yellow and a remark, taken literally."""
    from rich.text import Text

    return Text.assemble(("note", "yellow"), " ", shown(str(text), 1000))
