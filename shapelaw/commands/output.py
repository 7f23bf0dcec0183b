"""Where words go: the answer to stdout, remarks to stderr, and one option for JSON."""

from typing import Any

import click

from shapelaw.scaling.json_text import json_text
from shapelaw.scaling.terminal_text import paragraph, terminal

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


def print_json(value: Any) -> None:
    """One JSON object on stdout; a number that is not finite has no JSON and becomes null."""
    click.echo(json_text(value))


def say(*lines: Any) -> None:
    """To the person at the terminal: stderr, so that stdout holds the answer alone."""
    console = terminal(stderr=True)
    for line in lines:
        console.print(paragraph(line) if isinstance(line, str) else line)


def show(*renderables: Any) -> None:
    """The answer itself, for people: stdout."""
    console = terminal()
    for item in renderables:
        console.print(paragraph(item) if isinstance(item, str) else item)
