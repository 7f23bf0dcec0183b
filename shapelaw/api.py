"""Public functions that take names, files or objects, with the command line's words and units.

Those that need no more than their room's own function are that function, under its public name.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shapelaw.results.shipped_laws import load_law
from shapelaw.results.tables.reader import read_table, read_tables
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.fit import Fit
from shapelaw.scaling.fit import fit_law as fit_table
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.units import parse_seconds
from shapelaw.search.answer.query import answer_command as query
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.calibration.calibrate import calibrate
from shapelaw.search.devices.catalogue import load_device, own_profile_notes
from shapelaw.search.devices.cost import costs
from shapelaw.search.devices.explain import explain as explain_shape
from shapelaw.search.devices.explanation import Explanation
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.export.export import export_command as export
from shapelaw.search.workload import Workload, load_workload

if TYPE_CHECKING:
    from shapelaw.sweeps.design.design import Design
    from shapelaw.sweeps.running.run_sweep import SweepResult

__all__ = [
    "calibrate",
    "costs",
    "explain",
    "export",
    "fit_law",
    "load_device",
    "load_law",
    "predict",
    "query",
    "read_table",
    "run_sweep",
]

Runs = RunTable | str | Path | Sequence[str | Path]


def _table(
    runs: Runs, columns: Mapping[str, str] | None, loss_needed: bool = True
) -> tuple[RunTable, list[str]]:
    if isinstance(runs, RunTable):
        return runs, []
    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    return read_tables(paths, columns, loss_needed=loss_needed)


def fit_law(
    runs: Runs,
    form: str = "auto",
    *,
    columns: Mapping[str, str] | None = None,
    bootstrap: int = 400,
    seed: int = 0,
    holdout: bool = True,
    objective: Literal["huber", "squared"] = "huber",
    label: str | None = None,
) -> Fit:
    """Fit a scaling law: `shapelaw fit`.

    Args:
        runs: a table, or files and sweep folders to read.
        form: a law form, or `auto` to choose by held-out error.
        columns: our name -> the table's: n, d, loss, run, d_model, n_layers, ...
        bootstrap: refits on resampled runs, for intervals and draws.
        seed: of the resampling.
        holdout: whether to score the form on held-out shapes and sizes.
        objective: of the log residuals.
        label: the law's name.

    Raises:
        BadInput: a file, column or number that cannot be used, or too few rows for the form.
    """
    table, dropped = _table(runs, columns)
    return fit_table(
        table,
        form,
        bootstrap=bootstrap,
        seed=seed,
        holdout=holdout,
        objective=objective,
        label=label,
        dropped=dropped,
    )


def predict(
    law: Law | str | Path, runs: Runs, *, columns: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Loss and 90 % interval of each run by a law: the contract of `predict --json`.

    Raises:
        BadInput: a law or table that cannot be read, or a column the law needs and the table lacks.
    """
    judge = law if isinstance(law, Law) else load_law(law)
    return judge.predict_table(_table(runs, columns, loss_needed=False)[0])


def explain(
    architecture: Architecture | str,
    device: DeviceProfile | str,
    workload: Workload | str = "chat",
    *,
    bits: float | None = None,
    weight_format: str | None = None,
    engine: str | None = None,
) -> Explanation:
    """Where time, bytes and joules of one token go: `shapelaw explain`.

    Args:
        architecture: an `Architecture`, a known name, or a file.
        device: a profile, a catalogued name, or a file.
        workload: a workload, a preset's name, or a file.
        bits: weight precision, in the engine's usual format; 8 where neither is given.
        weight_format: instead, a format such as `q4_k_m`.
        engine: what runs the model; the device's usual engine by default.

    Raises:
        BadInput: a name or file that cannot be used.
    """
    found = explain_shape(
        load_architecture(architecture) if isinstance(architecture, str) else architecture,
        load_device(device, engine) if isinstance(device, str) else device,
        load_workload(workload) if isinstance(workload, str) else workload,
        weight_bits=bits,
        weight_format=weight_format,
    )
    if isinstance(device, str) and engine is None:
        found["warnings"] = [*own_profile_notes(device), *found["warnings"]]
    return found


def run_sweep(
    design: "Design | str | Path",
    out: str | Path | None = None,
    *,
    workers: int | None = None,
    engine: Literal["local", "ray", "slurm"] = "local",
    address: str = "auto",
    trainer: str | None = None,
    trainer_name: str | None = None,
    silence: str | float = "30min",
    resources: Mapping[str, str] | None = None,
    devices_per_run: int = 1,
    fully_sharded: bool = False,
    keep_weights: bool = False,
) -> "SweepResult":
    """Train the runs of a design that the folder does not hold yet: `shapelaw sweep`.

    Args:
        design: a design, a preset's name, or a TOML file.
        out: the folder, made or resumed; `runs/NAME` where None.
        workers: processes at once; one a core where None.
        engine: `local`, or `ray` or `slurm` on the cluster at `address`.
        address: of the cluster; `auto` finds a running one, `local` starts one here.
        trainer: train each run by this command instead; see docs/external-trainers.md.
        trainer_name: what stands for that command in the runs' keys.
        silence: without a word or a file for so long, that command counts as hung.
        resources: of each SLURM job: partition, account, gpus, memory, time, ...
        devices_per_run: split the batch of each run among so many devices.
        fully_sharded: with several devices: split parameters and the optimiser's moments too.
        keep_weights: keep each run's weights beside its record.

    Raises:
        BadInput: a design, corpus or folder that cannot be used. NoAnswer: workers cannot start.
    """
    from shapelaw.sweeps.design.design import Design, load_design
    from shapelaw.sweeps.running.run_sweep import run_sweep as run

    chosen = design if isinstance(design, Design) else load_design(design)
    folder = Path(out) if out is not None else Path("runs") / chosen.name
    return run(
        chosen,
        folder,
        workers=workers,
        engine=engine,
        address=address,
        command=trainer,
        trainer_name=trainer_name,
        silence_seconds=parse_seconds(silence, "silence"),
        resources=resources,
        devices_per_run=devices_per_run,
        fully_sharded=fully_sharded,
        keep_weights=keep_weights,
    )
