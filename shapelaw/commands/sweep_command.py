"""`shapelaw sweep`: train the runs of a design, plan them, watch them, propose the next."""

from pathlib import Path
from typing import Any, Literal

import click

from shapelaw.commands.completion import completing, designs, devices
from shapelaw.commands.output import JSON, print_json, say, show
from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.terminal_text import note


@click.command()
@click.argument("design", required=False, shell_complete=completing(designs))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the runs; resumes it.")
@click.option(
    "--engine", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True
)
@click.option("--address", default="auto", help="Of the Ray or SLURM cluster; local starts one.")
@click.option(
    "--resource", "resources", multiple=True, metavar="NAME=VALUE", help="Of each SLURM job."
)
@click.option("--trainer", "command", metavar="COMMAND", help="Train each run by a command.")
@click.option("--trainer-name", help="What stands for the command in the runs' keys.")
@click.option("--silence", default="30min", show_default=True, help="After it, a command is hung.")
@click.option(
    "--devices-per-run",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Split the batch of each run among so many devices.",
)
@click.option("--fully-sharded", is_flag=True, help="With it: split parameters and moments too.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes [one per core].")
@click.option("--plan", is_flag=True, help="Show the runs, FLOPs, time and what they identify.")
@click.option(
    "--accelerator",
    default="h100",
    show_default=True,
    help="With --plan: GPU-hours and dollars on it.",
    shell_complete=completing(devices, files=False),
)
@click.option(
    "--utilisation",
    type=float,
    default=0.4,
    show_default=True,
    help="With --plan: the share of its peak that training reaches; less for small models.",
)
@click.option("--status", type=click.Path(path_type=Path), help="Show how far the sweep in DIR is.")
@click.option(
    "--next", "next_runs", type=click.IntRange(1, 10_000), help="Propose the next N runs."
)
@click.option("--law", help="With --next: the law so far.")
@click.option("--device", help="With --next: the device whose best shape is the question.")
@click.option("--memory", help="With --next: the memory budget of that question.")
@click.option("--decode", help="With --next: the tokens per second of that question.")
@click.option("--flops", help="With --next: FLOPs the new runs may cost.")
@click.option("--track", type=click.Choice(["trackio", "wandb"]), help="Send metrics to a tracker.")
@click.option("--keep-weights", is_flag=True, help="Keep each run's weights beside its record.")
@click.option("--wait", help="How long for another sweep that writes to the folder, such as 5min.")
@JSON
def sweep(
    design: str | None,
    out: Path | None,
    engine: Literal["local", "ray", "slurm"],
    address: str,
    resources: tuple[str, ...],
    command: str | None,
    trainer_name: str | None,
    silence: str,
    devices_per_run: int,
    fully_sharded: bool,
    workers: int | None,
    plan: bool,
    accelerator: str,
    utilisation: float,
    status: Path | None,
    next_runs: int | None,
    law: str | None,
    device: str | None,
    memory: str | None,
    decode: str | None,
    flops: str | None,
    track: str | None,
    keep_weights: bool,
    wait: str | None,
    as_json: bool,
) -> None:
    """Train the runs of DESIGN (a TOML file or a preset: smoke, demo, reference, gpu)."""
    if status is not None:
        from shapelaw.sweeps.running.status import status_table, sweep_status

        report = sweep_status(status)
        print_json(report) if as_json else show(status_table(report))
        return
    if design is None:
        raise BadInput("sweep: a DESIGN file or preset is needed (or --status DIR)")
    from shapelaw.sweeps.design.design import load_design, naming

    loaded = load_design(design)
    if next_runs is not None:
        _propose(loaded, next_runs, out, law, device, memory, decode, flops, as_json)
        return
    if plan:
        from shapelaw.search.answer.training_cost import training_cost
        from shapelaw.search.devices.catalogue import own_profile_notes
        from shapelaw.sweeps.design.plan import plan as plan_of
        from shapelaw.sweeps.design.plan_table import plan_table

        with naming(design):
            outline = plan_of(loaded, by_command=command is not None)
        outline["cost"] = training_cost(accelerator, utilisation).of(
            outline["flops_of_separate_runs" if command is not None else "flops"]
        )
        for remark in own_profile_notes(accelerator):
            say(note(remark))
        print_json(outline) if as_json else show(plan_table(outline))
        return
    from shapelaw.scaling.units import parse_seconds
    from shapelaw.sweeps.design.corpus_notes import corpus_notes
    from shapelaw.sweeps.design.layout import layout
    from shapelaw.sweeps.running.run_sweep import run_sweep

    with naming(design):
        remarks = corpus_notes(loaded, layout(loaded)[0])
    folder = out or Path("runs") / loaded.name
    result = run_sweep(
        loaded,
        folder,
        engine=engine,
        workers=workers,
        devices_per_run=devices_per_run,
        fully_sharded=fully_sharded,
        address=address,
        track=track,
        keep_weights=keep_weights,
        wait_seconds=0.0 if wait is None else parse_seconds(wait, "wait"),
        command=command,
        trainer_name=trainer_name,
        silence_seconds=parse_seconds(silence, "silence"),
        resources=dict(_resource(text) for text in resources),
        begun=lambda: say(*map(note, remarks)),
    )
    summary = {
        "design": loaded.name,
        "out": str(folder),
        "finished": result.finished,
        "reused": result.reused,
        "diverged": result.diverged,
        "failed": result.failed,
    }
    if as_json:
        print_json(summary)
    else:
        say(
            f"{result.finished} runs finished, {result.reused} reused, {result.diverged} diverged, "
            f"{result.failed} failed: {folder}/runs.jsonl"
        )
    if result.failed:
        raise NoAnswer(
            f"{result.failed} runs failed; their records say why; the same command tries them again"
        )


def _resource(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise BadInput(f"--resource {text!r}: NAME=VALUE is needed, such as partition=gpu")
    return name.strip(), value.strip()


def _propose(
    design: Any,
    count: int,
    out: Path | None,
    law_name: str | None,
    device: str | None,
    memory: str | None,
    decode: str | None,
    flops: str | None,
    as_json: bool,
) -> None:
    """The adaptive step: search says what is feasible on the device, sweeps which runs teach."""
    from shapelaw.results.shipped_laws import load_law
    from shapelaw.scaling.units import parse_flops
    from shapelaw.sweeps.adaptive.proposals import proposal_table, propose

    if law_name is None:
        raise BadInput("--next: needs --law, the law fitted so far")
    fitted = load_law(law_name)
    targets = None
    if device is not None:
        from shapelaw.search.answer.query import feasible_architectures

        targets = feasible_architectures(fitted, device=device, memory=memory, decode=decode)
    held: list[Any] = []
    if out is not None and (out / "runs.jsonl").exists():
        from shapelaw.results.store import read_records

        held = read_records(out)
    afforded = None if flops is None else parse_flops(flops)
    proposal = propose(design, fitted, count, flops=afforded, targets=targets, held=held)
    if device is not None:
        from shapelaw.search.devices.catalogue import own_profile_notes

        for remark in own_profile_notes(device):
            say(note(remark))
    print_json(proposal) if as_json else show(proposal_table(proposal))
