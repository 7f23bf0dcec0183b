"""`shapelaw verify`."""

from pathlib import Path
from typing import Literal

import click

from shapelaw.commands.output import JSON, print_json, show


@click.command()
@click.argument("answer", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs; resumes it.")
@click.option("--flops", default="1e14", show_default=True, help="FLOPs the proxies may cost.")
@click.option("--plan", is_flag=True, help="Show the proxies, their cost and what they can tell.")
@click.option(
    "--engine", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True
)
@click.option("--trainer", metavar="COMMAND", help="Train each run by a command.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes [one per core].")
@JSON
def verify(
    answer: Path,
    out: Path | None,
    flops: str,
    plan: bool,
    engine: Literal["local", "ray", "slurm"],
    trainer: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Train small proxies of the shapes in ANSWER (query --json); say whether its pick stands."""
    from shapelaw.scaling.units import parse_flops
    from shapelaw.verification import verify as verification
    from shapelaw.verification.verify_tables import verification_tables

    afforded = parse_flops(flops)
    if plan:
        report = verification.plan_verification(answer, afforded).report()
    else:
        report = verification.verify(
            answer, out=out, flops=afforded, workers=workers, engine=engine, trainer=trainer
        )
    print_json(report) if as_json else show(*verification_tables(report))
