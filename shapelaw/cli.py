"""The command line: each command reads its options, calls one public function, and prints.

No command computes. Rooms are imported inside the commands, so that `shapelaw --help` answers at
once.
"""

import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click

from shapelaw.scaling.errors import BadInput, NoAnswer
from shapelaw.scaling.terminal_text import note, paragraph
from shapelaw.version import VERSION

if TYPE_CHECKING:
    from shapelaw.scaling.run_table import RunTable

# --- what every command shares -------------------------------------------------------------------


def print_json(value: Any) -> None:
    """One JSON object on stdout; a number that is not finite has no JSON and becomes null."""
    click.echo(json.dumps(_plain(value), allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return _plain(value.item())
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def say(*lines: Any) -> None:
    """To the person at the terminal: stderr, so that stdout holds the answer alone."""
    from rich.console import Console

    console = Console(stderr=True)
    for line in lines:
        console.print(paragraph(line) if isinstance(line, str) else line)


def show(*renderables: Any) -> None:
    """The answer itself, for people: stdout."""
    from rich.console import Console

    console = Console()
    for item in renderables:
        console.print(paragraph(item) if isinstance(item, str) else item)


def _columns(text: str | None) -> dict[str, str] | None:
    """`n=params,loss=val_loss` to a mapping."""
    if text is None:
        return None
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = part.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise BadInput(f"--columns {part!r}: name=column is needed, such as n=n_params")
        pairs[name.strip()] = column.strip()
    return pairs


def _tables(
    runs: tuple[str, ...], columns: str | None, **options: Any
) -> "tuple[RunTable, list[str]]":
    from shapelaw.results.tables.reader import read_tables

    return read_tables(runs, _columns(columns), **options)


JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
COLUMNS = click.option(
    "--columns", help="The table's names for ours: n=...,d=...,loss=...,d_model=...,run=..."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="shapelaw")
def cli() -> None:
    """Measure what a language model's shape buys in loss and costs on a device; then choose it.

    sweep trains small models across shapes; fit makes a law of them; query answers which shape to
    use on a device under a budget. `shapelaw demo` does all three on this machine, in minutes.
    """


# --- demo ----------------------------------------------------------------------------------------


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True)
@JSON
def demo(out: Path, as_json: bool) -> None:
    """Sweep, fit, measure and query on this machine, in minutes; leaves a report in a folder."""
    from shapelaw.demo import run_demo

    summary = run_demo(out, say, say if as_json else show)
    if as_json:
        print_json(summary)


# --- sweep ---------------------------------------------------------------------------------------


@cli.command()
@click.argument("design", required=False)
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
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes [one per core].")
@click.option("--plan", is_flag=True, help="Show the runs, FLOPs, time and what they identify.")
@click.option("--status", type=click.Path(path_type=Path), help="Show how far the sweep in DIR is.")
@click.option("--next", "next_runs", type=click.IntRange(min=1), help="Propose the next N runs.")
@click.option("--law", help="With --next: the law so far.")
@click.option("--device", help="With --next: the device whose best shape is the question.")
@click.option("--memory", help="With --next: the memory budget of that question.")
@click.option("--decode", help="With --next: the tokens per second of that question.")
@click.option("--flops", help="With --next: FLOPs the new runs may cost.")
@click.option("--track", type=click.Choice(["trackio", "wandb"]), help="Send metrics to a tracker.")
@click.option("--keep-weights", is_flag=True, help="Keep each run's weights beside its record.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Seconds to wait for another sweep that writes to the folder.",
)
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
    workers: int | None,
    plan: bool,
    status: Path | None,
    next_runs: int | None,
    law: str | None,
    device: str | None,
    memory: str | None,
    decode: str | None,
    flops: str | None,
    track: str | None,
    keep_weights: bool,
    wait: float,
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
    from shapelaw.sweeps.design.design import load_design

    loaded = load_design(design)
    if next_runs is not None:
        _propose(loaded, next_runs, out, law, device, memory, decode, flops, as_json)
        return
    if plan:
        from shapelaw.sweeps.design.plan import plan as plan_of
        from shapelaw.sweeps.design.plan import plan_table

        outline = plan_of(loaded)
        print_json(outline) if as_json else show(plan_table(outline))
        return
    from shapelaw.scaling.units import parse_seconds
    from shapelaw.sweeps.design.corpus_notes import corpus_notes
    from shapelaw.sweeps.design.layout import layout
    from shapelaw.sweeps.running.run_sweep import run_sweep

    for remark in corpus_notes(loaded, layout(loaded)[0]):
        say(note(remark))
    folder = out or Path("runs") / loaded.name
    result = run_sweep(
        loaded,
        folder,
        engine=engine,
        workers=workers,
        address=address,
        track=track,
        keep_weights=keep_weights,
        wait_seconds=wait,
        command=command,
        trainer_name=trainer_name,
        silence_seconds=parse_seconds(silence, "silence"),
        resources=dict(_resource(text) for text in resources),
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
    from shapelaw.scaling.law import Law
    from shapelaw.scaling.units import parse_flops
    from shapelaw.sweeps.adaptive.proposals import proposal_table, propose

    if law_name is None:
        raise BadInput("--next: needs --law, the law fitted so far")
    fitted = load_law(law_name)
    if not isinstance(fitted, Law):
        raise BadInput(f"law = {law_name}: proposals need a law of one form; fit with --prior none")
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
    print_json(proposal) if as_json else show(proposal_table(proposal))


# --- fit and predict -----------------------------------------------------------------------------


@cli.command()
@click.argument("runs", nargs=-1, required=True)
@click.option("--form", default="auto", show_default=True, help="A law form, or auto.")
@click.option(
    "--prior",
    type=click.Choice(["evidence", "none"]),
    help="What the law falls back on [evidence for few runs and no form named, else none].",
)
@COLUMNS
@click.option("--bootstrap", type=click.IntRange(min=0), default=400, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@click.option("--drop-invalid", is_flag=True, help="Leave out rows with an unusable value.")
@click.option("--allow-mixed", is_flag=True, help="Allow rows of different tokenizers or corpora.")
@click.option("--no-holdout", is_flag=True, help="Skip the held-out errors.")
@click.option(
    "--objective",
    type=click.Choice(["huber", "squared"]),
    default="huber",
    show_default=True,
    help="Of the log residuals.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the law to this file.")
@click.option("--plots", type=click.Path(path_type=Path), help="Write the pictures to this folder.")
@JSON
def fit(
    runs: tuple[str, ...],
    form: str,
    prior: str | None,
    columns: str | None,
    bootstrap: int,
    seed: int,
    drop_invalid: bool,
    allow_mixed: bool,
    no_holdout: bool,
    objective: str,
    out: Path | None,
    plots: Path | None,
    as_json: bool,
) -> None:
    """Fit a scaling law to RUNS: a sweep's folder, or CSV, JSONL or Parquet tables."""
    from shapelaw.results.evidence.shipped_evidence import FEW_RUNS, fit_with_evidence
    from shapelaw.scaling.fit import fit_law

    table, dropped = _tables(runs, columns, drop_invalid=drop_invalid, allow_mixed=allow_mixed)
    names = ", ".join(Path(path).name for path in runs)
    if prior == "evidence" and form != "auto":
        raise BadInput(f"form = {form}: --prior evidence has its own form; leave --form out")
    if prior is None and form == "auto" and len(set(table.run)) < FEW_RUNS:
        prior = "evidence"
        say(note(f"fewer than {FEW_RUNS} runs: fitted with --prior evidence"))
    if prior == "evidence":
        from shapelaw.results.evidence.evidence_report import evidence_tables

        law, report = fit_with_evidence(
            table, label=out.stem if out else "runs", source=names, seed=seed, dropped=dropped
        )
        if out is not None:
            law.to_file(out)
        print_json(report) if as_json else show(*evidence_tables(report))
        return
    fitted = fit_law(
        table,
        form=form,
        bootstrap=bootstrap,
        seed=seed,
        holdout=not no_holdout,
        objective=objective,
        label=out.stem if out else None,
        source=", ".join(Path(path).name for path in runs),
        dropped=dropped,
    )
    if out is not None:
        fitted.law.to_file(out)
    if plots is not None:
        from shapelaw.scaling.plots import write_all

        write_all(fitted, plots)
    if as_json:
        print_json(fitted.report())
    else:
        from shapelaw.results.report import fit_tables

        show(*fit_tables(fitted.report()))
        for name, value in (("law", out), ("pictures", plots)):
            if value is not None:
                say(f"{name}: {value}")


@cli.command()
@click.argument("law")
@click.argument("runs", nargs=-1, required=True)
@COLUMNS
@JSON
def predict(law: str, runs: tuple[str, ...], columns: str | None, as_json: bool) -> None:
    """Predicted loss and interval for each row of RUNS, by LAW (a file, evidence, reference)."""
    from shapelaw.results.shipped_laws import load_law

    fitted = load_law(law)
    table, _ = _tables(runs, columns, loss_needed=False)
    for remark in table.remarks:
        say(note(remark))
    prediction = fitted.predict_table(table)
    if as_json:
        print_json(prediction)
    else:
        from shapelaw.results.report import predict_tables

        show(*predict_tables(prediction, table.run))


# --- query, explain, devices, calibrate, export --------------------------------------------------


@cli.command()
@click.option("--device", required=True, help="A catalogued device, this-machine, or a file.")
@click.option("--law", help="A law file, evidence or reference [evidence].")
@click.option("--memory", help="Most memory, such as 500MB.")
@click.option("--decode", help="Least decode speed, such as 20tok/s.")
@click.option("--ttft", help="Longest time to first token, such as 500ms.")
@click.option("--energy", help="Most energy per token, such as 50mJ.")
@click.option("--tokens", help="Training tokens, such as 1T.")
@click.option("--flops", help="Training FLOPs, such as 1e21, instead of --tokens.")
@click.option("--bits", help="Weight precisions to consider, such as 4,8: the usual formats.")
@click.option("--formats", help="Weight formats to consider, such as q8_0,q4_k_m.")
@click.option("--workload", default="chat", show_default=True, help="A preset or a file.")
@click.option("--space", help="The shapes to search: phone, laptop, gpu, or a file.")
@click.option("--objectives", help="Of the front: loss,decode,energy,ttft,memory,flops.")
@click.option("--target-loss", type=float, help="Maximise throughput subject to this loss.")
@click.option(
    "--confidence",
    type=float,
    default=0.9,
    show_default=True,
    help="Probability with which the pick meets every budget.",
)
@click.option("--accelerator", default="h100", show_default=True, help="What it is trained on.")
@click.option(
    "--utilisation", type=float, default=0.4, show_default=True, help="Share of its peak reached."
)
@click.option("--measure", type=click.IntRange(min=1), help="Time the K best on this machine.")
@click.option("--storage", help="An Optuna storage URL that keeps the study.")
@click.option("--html", type=click.Path(path_type=Path), help="Write the explorer to this file.")
@JSON
def query(device: str, as_json: bool, html: Path | None, **options: Any) -> None:
    """Which shape is best on DEVICE under the budgets, how sure that is, and what is scarce."""
    from shapelaw.search.answer.query import answer_command

    answer = answer_command(device, **options)
    for warning in answer.warnings:
        say(note(warning))
    if html is not None:
        from shapelaw.search.page.page import write_explorer

        write_explorer(answer, html)
        say(f"explorer: {html}")
    if as_json:
        print_json(answer.to_dict())
    else:
        from shapelaw.search.answer.answer_tables import answer_tables

        show(*answer_tables(answer))


@cli.command()
@click.argument("arch")
@click.option("--device", required=True, help="A catalogued device, this-machine, or a file.")
@click.option("--engine", help="What runs the model there; the device's usual engine by default.")
@click.option("--workload", default="chat", show_default=True, help="A preset or a file.")
@click.option(
    "--bits", type=float, help="Weight precision: the engine's usual format. [default: 8]"
)
@click.option("--format", "weight_format", help="Instead, a format such as q4_k_m.")
@click.option("--hot", is_flag=True, help="At the device's sustained speed.")
@click.option("--picture", type=click.Path(path_type=Path), help="Draw it to this file.")
@JSON
def explain(
    arch: str,
    device: str,
    engine: str | None,
    workload: str,
    bits: float | None,
    weight_format: str | None,
    hot: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Where time, bytes and joules go for ARCH on DEVICE, and which resource is scarce."""
    from shapelaw.search.architectures import load_model
    from shapelaw.search.devices.catalogue import load_device
    from shapelaw.search.devices.explain import explain as explain_architecture
    from shapelaw.search.devices.explain_plot import write_picture
    from shapelaw.search.devices.explain_tables import explanation_tables
    from shapelaw.search.workload import load_workload

    model = load_model(arch)
    explanation = explain_architecture(
        model.architecture,
        load_device(device, engine),
        load_workload(workload),
        weight_bits=bits,
        weight_format=weight_format,
        hot=hot,
    )
    explanation |= model.described(explanation["context"])
    for remark in model.notes:
        say(note(f"not expressed: {remark}"))
    for warning in explanation["warnings"]:
        say(note(warning))
    if picture is not None:
        write_picture(explanation, picture)
        say(f"picture: {picture}")
    print_json(explanation) if as_json else show(*explanation_tables(explanation))


@cli.command()
@click.argument("name", required=False)
@click.option("--engine", help="Of the engines that run there.")
@JSON
def devices(name: str | None, engine: str | None, as_json: bool) -> None:
    """The catalogue of devices; with NAME, each of its figures with source and status."""
    from shapelaw.search.devices.catalogue import describe, describe_all
    from shapelaw.search.devices.device_tables import device_tables

    description = describe(name, engine) if name else describe_all()
    print_json(description) if as_json else show(*device_tables(description))


@cli.command()
@click.option("--name", required=True, help="Name of the profile, such as this-machine.")
@click.option("--engine", type=click.Choice(["jax", "llama.cpp"]), default="jax", show_default=True)
@click.option(
    "--llama-bench",
    type=click.Path(path_type=Path),
    help="Read llama-bench output (JSON, JSONL, CSV, SQL) instead of measuring here.",
)
@click.option("--quick", is_flag=True, help="Fewer shapes: seconds instead of minutes.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the profile here.")
@JSON
def calibrate(
    name: str,
    engine: Literal["jax", "llama.cpp"],
    llama_bench: Path | None,
    quick: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure this machine (or read a phone's llama-bench) and fit its device profile."""
    from shapelaw.search.devices.calibration.calibrate import calibrate as run_calibration
    from shapelaw.search.devices.catalogue import save_device
    from shapelaw.search.devices.device_tables import calibration_tables

    profile, report = run_calibration(
        name, engine=engine, llama_bench=llama_bench, quick=quick, progress=say
    )
    path = save_device(profile, out)
    report = {**report, "profile": str(path)}
    print_json(report) if as_json else show(*calibration_tables(report))


@cli.command()
@click.argument("arch")
@click.option("--to", "target", type=click.Choice(["hf", "gguf"]), required=True)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path), help="Trained weights (safetensors).")
@click.option("--tokenizer", type=click.Path(path_type=Path), help="The tokenizer.json of weights.")
@click.option(
    "--format",
    "weight_format",
    help="With --to gguf: f16, q8_0, q4_k_m ...; the answer's own format, else f16.",
)
@click.option(
    "--keep-sharing",
    is_flag=True,
    help="With --to hf: custom model code that keeps shared blocks shared.",
)
@JSON
def export(
    arch: str,
    target: str,
    directory: Path,
    weights: Path | None,
    weight_format: str | None,
    tokenizer: Path | None,
    keep_sharing: bool,
    as_json: bool,
) -> None:
    """Write ARCH (a file, a query's answer, or a known name) for another tool."""
    from shapelaw.search.export.export import export_command

    report = export_command(
        arch,
        target,
        directory,
        weights=weights,
        weight_format=weight_format,
        tokenizer=tokenizer,
        keep_sharing=keep_sharing,
    )
    if as_json:
        print_json(report)
    else:
        for remark in report["notes"]:
            say(note(remark))
        show(*report["files"])


def main() -> NoReturn:
    """Run the command line; every way to end has its exit code and at most one line."""
    # Matrices here are small: one thread is as fast, and the same digits come out on any number of
    # cores. Read when NumPy is first imported, which no command has done yet.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except BadInput as error:
        _end(str(error), 2)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        _end(error.format_message(), 2)
    except NoAnswer as error:
        _end(str(error), 1)
    except OSError as error:
        _end(f"{error.filename or 'file'}: {error.strerror or error}", 2)
    except (KeyboardInterrupt, click.Abort):
        _end("interrupted; the same command resumes what was finished", 130)


def _end(message: str, code: int) -> NoReturn:
    click.echo(f"shapelaw: {' '.join(message.split())}", err=True)
    sys.exit(code)
