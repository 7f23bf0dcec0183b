"""`shapelaw fit` and `shapelaw predict`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shapelaw.commands.completion import completing, forms, laws
from shapelaw.commands.output import JSON, print_json, say, show
from shapelaw.scaling.atomic_files import check_place
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.terminal_text import note
from shapelaw.scaling.user_files import file_name, shown

if TYPE_CHECKING:
    from shapelaw.scaling.run_table import RunTable

COLUMNS = click.option(
    "--columns", help="The table's names for ours: n=...,d=...,loss=...,d_model=...,run=..."
)


def _columns(text: str | None) -> dict[str, str] | None:
    """`n=params,loss=val_loss` to a mapping."""
    if text is None:
        return None
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, equals, column = part.partition("=")
        if not equals or not name.strip() or not column.strip():
            raise BadInput(f"--columns {part!r}: name=column is needed, such as n=n_params")
        if name.strip() in pairs:
            raise BadInput(f"--columns: {shown(name.strip())!r} stands twice")
        pairs[name.strip()] = column.strip()
    return pairs


def _tables(
    runs: tuple[str, ...], columns: str | None, **options: Any
) -> "tuple[RunTable, list[str]]":
    from shapelaw.results.tables.reader import read_tables

    return read_tables(runs, _columns(columns), **options)


@click.command()
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--form",
    default="auto",
    show_default=True,
    help="A law form, or auto.",
    shell_complete=completing(forms, files=False),
)
@click.option(
    "--prior",
    type=click.Choice(["evidence", "none"]),
    help="What the law falls back on [evidence for few runs and no form named, else none].",
)
@COLUMNS
@click.option("--bootstrap", type=click.IntRange(0, 100_000), default=400, show_default=True)
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
@click.option("--html", type=click.Path(path_type=Path), help="Write the law's page to this file.")
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
    html: Path | None,
    as_json: bool,
) -> None:
    """Fit a scaling law to RUNS: a sweep's folder, or CSV, JSONL or Parquet tables."""
    from shapelaw.results.evidence.shipped_evidence import FEW_RUNS, fit_with_evidence
    from shapelaw.scaling.fit import fit_law

    check_place(out, html, plots / "parity.png" if plots else None)
    table, dropped = _tables(runs, columns, drop_invalid=drop_invalid, allow_mixed=allow_mixed)
    names = ", ".join(map(file_name, runs))
    if prior == "evidence" and form != "auto":
        raise BadInput(f"form = {form}: --prior evidence has its own form; leave --form out")
    few = prior is None and form == "auto" and len(set(table.run)) < FEW_RUNS
    if few:
        prior = "evidence"
    if prior == "evidence":
        from shapelaw.results.evidence.evidence_report import evidence_tables

        law, report = fit_with_evidence(
            table,
            label=file_name(out.with_suffix("")) if out else "runs",
            source=names,
            seed=seed,
            dropped=dropped,
        )
        if out is not None:
            law.to_file(out)
        if html is not None:
            from shapelaw.search.page.law_runs import LawRuns
            from shapelaw.search.page.page import write_law_page

            write_law_page(LawRuns(law, table), html)
        if few:
            say(note(f"fewer than {FEW_RUNS} runs: fitted with --prior evidence"))
        print_json(report) if as_json else show(*evidence_tables(report))
        return
    fitted = fit_law(
        table,
        form=form,
        bootstrap=bootstrap,
        seed=seed,
        holdout=not no_holdout,
        objective=objective,
        label=file_name(out.with_suffix("")) if out else None,
        source=", ".join(map(file_name, runs)),
        dropped=dropped,
    )
    if out is not None:
        fitted.law.to_file(out)
    if plots is not None:
        from shapelaw.scaling.plots.plot_files import write_all

        write_all(fitted, plots)
    if html is not None:
        from shapelaw.search.page.law_runs import LawRuns
        from shapelaw.search.page.page import write_law_page

        write_law_page(LawRuns.of_fit(fitted), html)
    if as_json:
        print_json(fitted.report())
    else:
        from shapelaw.results.report import fit_tables

        show(*fit_tables(fitted.report()))
        for name, value in (("law", out), ("pictures", plots), ("page", html)):
            if value is not None:
                say(f"{name}: {value}")


@click.command()
@click.argument("law", shell_complete=completing(laws))
@click.argument("runs", nargs=-1, required=True)
@COLUMNS
@JSON
def predict(law: str, runs: tuple[str, ...], columns: str | None, as_json: bool) -> None:
    """Predicted loss and interval for each row of RUNS, by LAW (a file, evidence, reference)."""
    from shapelaw.results.shipped_laws import load_law

    fitted = load_law(law)
    table, _ = _tables(runs, columns, loss_needed=False)
    prediction = fitted.predict_table(table)
    for remark in table.remarks:
        say(note(remark))
    if as_json:
        print_json(prediction)
    else:
        from shapelaw.results.report import predict_tables

        show(*predict_tables(prediction, table))
