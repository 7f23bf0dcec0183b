"""`shapelaw export`."""

from pathlib import Path

import click

from shapelaw.commands.completion import architectures, completing
from shapelaw.commands.output import JSON, print_json, say, show
from shapelaw.scaling.terminal_text import note


@click.command()
@click.argument("arch", shell_complete=completing(architectures))
@click.option("--to", "target", type=click.Choice(["hf", "gguf"]), required=True)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights (safetensors).")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="The tokenizer.json of weights.")
@click.option(
    "--format",
    "weight_formats",
    multiple=True,
    help="Of the weights; give it twice for a second one beside the first. With --to gguf: f16, "
    "q8_0, q4_k_m ... [the answer's own, else f16]; with --to hf: f32, f16, bf16 [f32], further "
    "ones as variants.",
)
@click.option(
    "--keep-sharing/--expand",
    default=None,
    help="With --to hf: shared blocks stored once, by custom model code [the default where there "
    "are any], or written as often as they are applied, for stock classes.",
)
@JSON
def export(
    arch: str,
    target: str,
    directory: Path,
    weights: Path | None,
    weight_formats: tuple[str, ...],
    tokenizer: Path | None,
    keep_sharing: bool | None,
    as_json: bool,
) -> None:
    """Write ARCH (a file, a query's answer, or a known name) for another tool."""
    from shapelaw.search.export.export import export_command

    report = export_command(
        arch,
        target,
        directory,
        weights=weights,
        weight_formats=weight_formats,
        tokenizer=tokenizer,
        keep_sharing=keep_sharing,
        progress=lambda text: say(note(text)),
    )
    if as_json:
        print_json(report)
    else:
        for remark in report["notes"]:
            say(note(remark))
        show(*report["files"])
