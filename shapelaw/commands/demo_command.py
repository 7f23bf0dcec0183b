"""`shapelaw demo`."""

from pathlib import Path

import click

from shapelaw.commands.output import JSON, print_json, say, show


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@JSON
def demo(out: Path, as_json: bool) -> None:
    """Sweep, fit, measure and query on this machine, in minutes; leaves two pages in a folder."""
    from shapelaw.demo import run_demo

    summary = run_demo(out, say, say if as_json else show)
    if as_json:
        print_json(summary)
