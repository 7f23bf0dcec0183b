"""`shapelaw query`."""

from pathlib import Path
from typing import Any

import click

from shapelaw.commands.completion import (
    completing,
    devices,
    formats,
    laws,
    objectives,
    spaces,
    workloads,
)
from shapelaw.commands.output import JSON, print_json, say, show
from shapelaw.scaling.atomic_files import check_place
from shapelaw.scaling.terminal_text import note


@click.command()
@click.option(
    "--device",
    required=True,
    help="A catalogued device, this-machine, or a file.",
    shell_complete=completing(devices),
)
@click.option("--engine", help="What runs the model there; the device's usual engine by default.")
@click.option(
    "--law",
    help="A law file, evidence or reference [evidence].",
    shell_complete=completing(laws),
)
@click.option("--memory", help="Most memory, such as 500MB.")
@click.option("--decode", help="Least decode speed, such as 20tok/s.")
@click.option("--ttft", help="Longest time to first token, such as 500ms.")
@click.option("--energy", help="Most energy per token, such as 50mJ.")
@click.option("--tokens", help="Training tokens, such as 1T.")
@click.option("--flops", help="Training FLOPs, such as 1e21, instead of --tokens.")
@click.option("--bits", help="Weight precisions to consider, such as 4,8: the usual formats.")
@click.option(
    "--formats",
    help="Weight formats to consider, such as q8_0,q4_k_m.",
    shell_complete=completing(formats, several=True, files=False),
)
@click.option("--kv-format", help="What keys and values are kept in, such as q8_0.")
@click.option(
    "--workload",
    default="chat",
    show_default=True,
    help="A preset or a file.",
    shell_complete=completing(workloads),
)
@click.option("--batch", type=click.IntRange(min=1), help="Sequences decoded together.")
@click.option("--context", help="Tokens in view of a decoded token, such as 8k.")
@click.option(
    "--space",
    help="The shapes to search: phone, laptop, gpu, or a file.",
    shell_complete=completing(spaces),
)
@click.option(
    "--objectives",
    help="Of the front: loss,decode,energy,ttft,memory,flops.",
    shell_complete=completing(objectives, several=True, files=False),
)
@click.option("--target-loss", type=float, help="Maximise throughput subject to this loss.")
@click.option(
    "--confidence",
    type=float,
    default=0.9,
    show_default=True,
    help="Probability with which the pick meets every budget.",
)
@click.option(
    "--accelerator",
    default="h100",
    show_default=True,
    help="What it is trained on.",
    shell_complete=completing(devices, files=False),
)
@click.option(
    "--utilisation", type=float, default=0.4, show_default=True, help="Share of its peak reached."
)
@click.option("--measure", type=click.IntRange(min=1), help="Time the K best on this machine.")
@click.option("--storage", help="An Optuna storage URL that keeps the study.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the page to this file.")
@JSON
def query(device: str, as_json: bool, html: Path | None, **options: Any) -> None:
    """Which shape is best on DEVICE under the budgets, how sure that is, and what is scarce."""
    from shapelaw.search.answer.query import answer_command

    check_place(html)
    answer = answer_command(device, **options)
    if html is not None:
        from shapelaw.search.page.page import write_answer_page

        write_answer_page(answer, html)
    for warning in answer.warnings:
        say(note(warning))
    if html is not None:
        say(f"page: {html}")
    if as_json:
        print_json(answer.to_dict())
    else:
        from shapelaw.search.answer.answer_tables import answer_tables

        show(*answer_tables(answer))
