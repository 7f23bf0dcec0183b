"""Views of results for people: tables for the terminal.

Tables are made of the dictionaries of the command line's contract, so that what a person sees and
what `--json` prints cannot differ.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shapelaw.scaling.fit import Fit
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable
from shapelaw.scaling.terminal_text import literal, note
from shapelaw.scaling.units import show_count

_OUTLIERS_SHOWN = 5


def number(value: Any) -> str:
    """A figure with as many digits as a reader can use."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 1e7 else f"{value:.3g}"
    return f"{value:.4g}"


def interval(bounds: Sequence[float] | None) -> str:
    """`[lo, hi]`, or a dash where there is none."""
    return "–" if bounds is None else f"[{number(bounds[0])}, {number(bounds[1])}]"


def fit_tables(report: Mapping[str, Any]) -> list[Any]:
    """A fit for the terminal: parameters with intervals, what is wrong with it, held-out errors."""
    from rich.table import Table

    diagnostics = report["diagnostics"]
    unsure = {*diagnostics["not_identified"]}
    at_bound = {*diagnostics["at_bound"]}
    parameters = Table(
        title=f"law: {report['form']}   runs: {report['runs']}   rows: {report['rows']}   "
        f"objective: {number(report['objective'])}",
        title_justify="left",
    )
    for column in ("parameter", "value", "90 % interval", ""):
        parameters.add_column(column)
    for name, value in report["parameters"].items():
        remark = "not identified" if name in unsure else "at a bound" if name in at_bound else ""
        parameters.add_row(name, number(value), interval(report["intervals"].get(name)), remark)
    tables: list[Any] = [parameters]
    if report.get("derived"):
        tables.append(_derived_table(report["derived"]))
    if report.get("holdout"):
        tables.append(_holdout_table(report["holdout"]))
    starts = diagnostics["starts"]
    tables.append(
        f"{diagnostics['starts_at_optimum']} of {starts} starts ended at the optimum; gradient "
        f"norm {number(diagnostics['gradient_norm'])}; condition number "
        f"{number(diagnostics['condition_number'])}"
    )
    why = diagnostics.get("not_identified_because", {})
    lines = [
        *_columns_read(report),
        *([diagnostics["chosen"]] if diagnostics.get("chosen") else []),
        *_form_told(diagnostics),
        *_doubts(diagnostics),
        *(f"{name} is not identified: {reason}" for name, reason in why.items()),
        *(f"dropped: {row}" for row in report["dropped"]),
    ]
    return tables + [note(line) for line in lines]


def _form_told(diagnostics: Mapping[str, Any]) -> list[str]:
    """What a stack's table of parameters leaves out, and what the next form would say."""
    found = []
    forms = diagnostics.get("forms", {})
    if len(forms) > 1:
        first = next(iter(forms))
        found.append(f"the parameters above are those of {first}, {forms[first]:.0%} of the stack")
    other = diagnostics.get("runner_up")
    if other:
        found.append(
            f"at 10 times the largest compute (N = {number(other['at']['n'])}, D = "
            f"{number(other['at']['d'])}) {other['form']} would predict {number(other['loss'])}, "
            f"the law {number(other['chosen_loss'])}"
        )
    return found


def _doubts(diagnostics: Mapping[str, Any]) -> list[str]:
    """Lines for a fit that has not converged, has no draws, or hangs on outliers."""
    found = []
    if not diagnostics.get("converged", True):
        found.append("the fit has not converged: no step promised to end it; distrust its digits")
    if diagnostics.get("draws") == 0:
        found.append(
            "no bootstrap draws: the law's intervals leave out how unsure its parameters are, and "
            "a query with it cannot say how sure its pick is"
        )
    far = diagnostics.get("outliers", [])
    if far:
        named = ", ".join(
            f"row {item['row']} ({item['log_residual']:+.1%})" for item in far[:_OUTLIERS_SHOWN]
        )
        more = diagnostics.get("outlier_count", len(far)) - min(len(far), _OUTLIERS_SHOWN)
        found.append(f"outliers: {named}" + (f" and {more} more" if more > 0 else ""))
    without = diagnostics.get("without_outliers")
    if without:
        values = ", ".join(f"{name} {number(v)}" for name, v in without["parameters"].items())
        found.append(f"without the outliers: objective {number(without['objective'])}; {values}")
    return found


_COUNTS = {
    "total": "N counts every parameter",
    "non_embedding": "N counts the parameters outside the embedding",
    "as given": "the column does not say what N counts: a query takes it for the parameters "
    "outside the embedding",
}


def _columns_read(report: Mapping[str, Any]) -> list[str]:
    """What was read from which column, how N counts, and what the reader remarked."""
    columns = report.get("columns") or {}
    read = ", ".join(f"{ours} = {theirs}" for ours, theirs in columns.items())
    counted = _COUNTS.get(report.get("count") or "", "")
    first = "; ".join(part for part in (f"columns: {read}" if read else "", counted) if part)
    return [*([first] if first else []), *report.get("remarks", ())]


def tables_of_fit(fit: Fit) -> list[Any]:
    """`fit_tables` of a fit itself."""
    return fit_tables(fit.report())


def tables_of_law(law: Law) -> list[Any]:
    """Parameters of a law with their 90 % intervals by its draws."""
    from rich.table import Table

    table = Table(title=literal(repr(law).strip("<>")), title_justify="left")
    for column in ("parameter", "value", "90 % interval"):
        table.add_column(column)
    for row in law.to_rows():
        ends = None if row["low"] is None else (row["low"], row["high"])
        table.add_row(row["parameter"], number(row["value"]), interval(ends))
    return [table]


def _derived_table(derived: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="what follows", title_justify="left")
    for column in ("value", "90 % interval", "meaning"):
        table.add_column(column)
    for quantity in derived.values():
        table.add_row(
            number(quantity["value"]), interval(quantity.get("interval")), quantity["meaning"]
        )
    return table


def _holdout_table(holdout: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(title="held out", title_justify="left")
    for column in ("split", "losses", "mean abs log error", "bias", "rank correlation"):
        table.add_column(column)
    for split, figures in holdout.items():
        if isinstance(figures, Mapping) and "mean_abs_log" in figures:
            table.add_row(
                split,
                number(figures.get("rows")),
                number(figures["mean_abs_log"]),
                number(figures.get("bias_log")),
                number(figures.get("spearman")),
            )
    return table


_LONGEST_RUN = 14
"""Characters of a run's name that a row of predictions has room for; longer ones are numbered."""


def predict_tables(prediction: Mapping[str, Any], table: RunTable) -> list[Any]:
    """Predictions for the terminal, a row a run: what it is, what was seen, what was predicted."""
    from rich.table import Table

    shapes = [_shape_of(table, row) for row in range(len(table))]
    observed = np.isfinite(table.loss) & (table.loss > 0)
    short = all(len(str(name)) <= _LONGEST_RUN for name in table.run)
    columns = {
        "run" if short else "row": "left",
        **({"shape": "left"} if any(shapes) else {}),
        "N": "right",
        "D": "right",
        **({"observed": "right"} if observed.any() else {}),
        "predicted": "right",
        **({"error": "right"} if observed.any() else {}),
        "90 %": "left",
    }
    shown = Table(
        title=literal(f"law: {prediction['law']}"), title_justify="left",
        box=None, padding=(0, 2, 0, 0), pad_edge=False,
    )  # fmt: skip
    for name, side in columns.items():
        shown.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for place, (name, row) in enumerate(zip(table.run, prediction["rows"], strict=True)):
        low, high = row["interval"]
        cells: dict[str, Any] = {
            "run": literal(name),
            "row": str(place + 1),
            "shape": shapes[place],
            "N": show_count(table.n[place]),
            "D": show_count(table.d[place]),
            "observed": f"{table.loss[place]:.4f}" if observed[place] else "–",
            "predicted": f"{row['loss']:.4f}{'*' if row['extrapolated'] else ' '}",
            "error": f"{np.log(row['loss']) - np.log(table.loss[place]):+.2%}"
            if observed[place]
            else "–",
            "90 %": f"{low:.3f}–{high:.3f}",
        }
        shown.add_row(*(cells[column] for column in columns))
    tables: list[Any] = [shown]
    if any(shapes):
        tables.append(
            "shape: d_model × layers, r MLP over attention, g heads per KV head, s sharing"
        )
    beyond = Counter(axis for row in prediction["rows"] for axis in row["extrapolated"])
    if beyond:
        axes = ", ".join(f"{axis} in {count:,}" for axis, count in beyond.items())
        tables.append(f"*: beyond what the law saw; by axis and number of rows: {axes}")
    if prediction.get("error"):
        error = prediction["error"]
        tables.append(
            f"mean abs log error {number(error['mean_abs_log'])}, bias "
            f"{number(error['bias_log'])}, rank correlation {number(error['spearman'])}"
        )
    tables += [note(line) for line in prediction.get("remarks", ())]
    return tables


def _shape_of(table: RunTable, row: int) -> str:
    """`64×4 r1.9 g2 s2`, as far as the table tells."""

    def told(name: str) -> float:
        column = table.shape.get(name)
        return math.nan if column is None else float(column[row])

    d_model, layers, sharing = told("d_model"), told("n_layers"), told("sharing")
    ratio, group = told("mlp_attention_ratio"), told("gqa_group")
    heads, kv_heads = told("n_heads"), told("n_kv_heads")
    if math.isnan(group):
        group = heads / kv_heads
    if math.isnan(ratio):
        ratio = 3 * told("d_ff") / (2 * told("head_dim") * (heads + kv_heads))
    parts = [
        "" if math.isnan(d_model) or math.isnan(layers) else f"{d_model:g}×{layers:g}",
        "" if math.isnan(ratio) else f"r{ratio:.2g}",
        "" if math.isnan(group) or group == 1 else f"g{group:g}",
        "" if math.isnan(sharing) or sharing == 1 else f"s{sharing:g}",
    ]
    return " ".join(part for part in parts if part)
