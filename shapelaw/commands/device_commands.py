"""`shapelaw explain`, `shapelaw devices` and `shapelaw calibrate`."""

from pathlib import Path
from typing import Literal

import click

from shapelaw.commands.completion import architectures, completing, formats, workloads
from shapelaw.commands.completion import devices as device_names
from shapelaw.commands.output import JSON, print_json, say, show
from shapelaw.scaling.atomic_files import check_place
from shapelaw.scaling.terminal_text import note


@click.command()
@click.argument("arch", shell_complete=completing(architectures))
@click.option(
    "--device",
    required=True,
    help="A catalogued device, this-machine, or a file.",
    shell_complete=completing(device_names),
)
@click.option("--engine", help="What runs the model there; the device's usual engine by default.")
@click.option(
    "--workload",
    default="chat",
    show_default=True,
    help="A preset or a file.",
    shell_complete=completing(workloads),
)
@click.option(
    "--bits", type=float, help="Weight precision: the engine's usual format. [default: 8]"
)
@click.option(
    "--format",
    "weight_format",
    help="Instead, a format such as q4_k_m.",
    shell_complete=completing(formats, files=False),
)
@click.option("--kv-format", help="What keys and values are kept in, such as q8_0.")
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
    kv_format: str | None,
    hot: bool,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Where time, bytes and joules go for ARCH on DEVICE, and which resource is scarce."""
    from shapelaw.search.architectures import load_model
    from shapelaw.search.devices.catalogue import load_device, own_profile_notes
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
        kv_format=kv_format,
        hot=hot,
    )
    explanation |= model.described(explanation["context"])
    if engine is None:
        explanation["warnings"] = [*own_profile_notes(device), *explanation["warnings"]]
    if picture is not None:
        write_picture(explanation, picture)
    for remark in model.notes:
        say(note(f"not expressed: {remark}"))
    for remark in (*model.assumed, *explanation["warnings"]):
        say(note(remark))
    if picture is not None:
        say(f"picture: {picture}")
    print_json(explanation) if as_json else show(*explanation_tables(explanation))


@click.command()
@click.argument("name", required=False, shell_complete=completing(device_names))
@click.option("--engine", help="Of the engines that run there.")
@JSON
def devices(name: str | None, engine: str | None, as_json: bool) -> None:
    """The catalogue of devices; with NAME, each of its figures with source and status."""
    from shapelaw.search.devices.catalogue import describe, describe_all
    from shapelaw.search.devices.device_tables import device_tables

    description = describe(name, engine) if name else describe_all()
    print_json(description) if as_json else show(*device_tables(description))


@click.command()
@click.option("--name", required=True, help="Name of the profile, such as this-machine.")
@click.option(
    "--engine",
    type=click.Choice(["jax", "llama.cpp", "executorch", "mlx"]),
    default="jax",
    show_default=True,
)
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
    engine: Literal["jax", "llama.cpp", "executorch", "mlx"],
    llama_bench: Path | None,
    quick: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Measure this machine (or read a phone's llama-bench) and fit its device profile."""
    from shapelaw.search.devices.calibration.calibrate import calibrate as run_calibration
    from shapelaw.search.devices.catalogue import own_profile_notes, save_device, user_folder
    from shapelaw.search.devices.device_tables import calibration_tables

    check_place(out or user_folder() / f"{Path(name).name}.toml")
    profile, report = run_calibration(
        name, engine=engine, llama_bench=llama_bench, quick=quick, progress=say
    )
    path = save_device(profile, out)
    report = {**report, "profile": str(path)}
    if out is None:
        for remark in own_profile_notes(profile.name):
            say(note(remark))
    print_json(report) if as_json else show(*calibration_tables(report))
