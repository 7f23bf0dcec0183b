"""How a notebook shows the things this package returns, without their modules knowing any view.

A view imports what it shows, never the reverse: so a class inherits `Displayed`, and the front door
registers by name which functions draw it. They are imported when a notebook first asks.
"""

import importlib
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shapelaw.scaling.terminal_text import terminal

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

_VIEWS: dict[str, tuple[str, str]] = {}
_WIDTH = 100
"""Characters of a table in a notebook."""


def register_views(kind: str, *, tables: str, figure: str) -> None:
    """Say how a class is shown.

    Args:
        kind: the class's name.
        tables: `module:function`, from an object to its rich renderables.
        figure: `module:function`, from an object to a matplotlib figure.
    """
    _VIEWS[kind] = (tables, figure)


class Displayed:
    """What a notebook asks of an object: HTML, a data frame, a figure."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """The tables of the terminal as HTML, every text escaped."""
        console = terminal(record=True, file=io.StringIO(), width=_WIDTH)
        console.print(*_view(self, 0)(self), sep="\n")
        return console.export_html(
            inline_styles=True, code_format="<pre style='line-height:1.2'>{code}</pre>"
        )

    def plot(self) -> "Figure":
        """The one figure that says most; save it with `.savefig(path)`."""
        figure: Figure = _view(self, 1)(self)
        return figure

    def to_dataframe(self) -> "pandas.DataFrame":
        """The table behind the object, one row an item. Needs pandas."""
        import pandas

        return pandas.DataFrame(self.to_rows())

    def to_rows(self) -> list[dict[str, Any]]:
        """The rows of `to_dataframe` as plain values."""
        raise TypeError(f"{type(self).__name__} has no table behind it")


def _view(shown: Displayed, which: int) -> Callable[[Any], Any]:
    kind = next(base.__name__ for base in type(shown).__mro__ if base.__name__ in _VIEWS)
    module, _, function = _VIEWS[kind][which].partition(":")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return found
