"""The answer for a person at a terminal: what to train, how sure that is, what holds it back.

One idea a line, readable at 80 columns. A loss is told as a difference to the familiar choice: its
level is known only by a law fitted to runs of the user's own.
"""

import itertools
import math
from collections.abc import Iterable
from typing import Any

from rich.console import RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shapelaw.scaling import units
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.terminal_text import literal
from shapelaw.search.answer.answer import Answer, Beside, Candidate
from shapelaw.search.answer.edges import BUDGET, FIXED, MODEL, SPACE, Edge
from shapelaw.search.answer.law_choice import FACTOR
from shapelaw.search.answer.wording import (
    SHAPE_LEGEND,
    amount,
    between,
    listed,
    nats,
    ordinal,
    plural,
    shape_code,
    shape_words,
    share,
)
from shapelaw.search.pareto.budget import RELAXED

_FRONT_ROWS = 8

_TOLD, _BELIEFS = 0.05, 3
"""Least probability of a belief that is told, and how many; `--json` has them all."""

_SHOW = {
    "memory": units.show_bytes,
    "decode": units.show_speed,
    "ttft": units.show_seconds,
    "energy": units.show_joules,
    "tokens": units.show_count,
    "flops": units.show_flops,
    "target_loss": lambda value: f"{value:.3g} nats",
}
_MORE = {
    "memory": "more memory",
    "decode": "less speed",
    "ttft": "more to the first token",
    "energy": "more per token",
    "tokens": "more training tokens",
    "flops": "more training compute",
    "target_loss": "more loss",
}
"""How a person would say that a budget is more generous."""

_COSTS = {
    "memory": ("memory", "memory_bytes"),
    "decode": ("decode", "decode_tokens_per_s"),
    "ttft": ("first token", "ttft_s"),
    "energy": ("energy", "energy_per_token_j"),
}
"""Budget -> what it is called, and the candidate's field."""


Rows = list[tuple[str, RenderableType]]
"""Label and text."""


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    return table


def _plain(*columns: str, right: Iterable[str] = (), title: str = "") -> Table:
    table = Table(
        title=title or None, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False
    )
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    return table


# --- the pick ------------------------------------------------------------------------------------


def _best_panel(answer: Answer) -> Panel:
    best, a = answer.best, answer.best.architecture
    goal = "least loss" if answer.problem.target_loss is None else "most speed at that loss"
    table = _grid()
    table.add_row("asked", f"{goal}, every budget met with {share(answer.confidence)} probability")
    for label, line in zip(("train", ""), shape_words(a), strict=True):
        table.add_row(label, literal(line, "bold"))
    table.add_row(
        "size",
        f"{units.show_count(a.total_parameters)} parameters stored "
        f"({units.show_count(a.non_embedding_parameters)} in blocks), "
        f"{units.show_count(a.applied_parameters)} applied per token",
    )
    for row in [*_format_rows(answer), *_loss_rows(answer), *_sure_rows(answer)]:
        table.add_row(*row)
    table.add_row("training", _training(answer, best))
    return Panel(
        table,
        title=literal(answer.device.title, "bold"),
        title_align="left",
        border_style="green",
        subtitle=literal(f"law {answer.law.label}, workload {answer.workload.name}"),
        subtitle_align="left",
    )


def _training(answer: Answer, candidate: Candidate) -> str:
    cost = answer.training
    flops = candidate.training_flops
    price = cost.price(flops)
    money = f", ${price:,.0f}" if math.isfinite(price) else ""
    return (
        f"{units.show_count(candidate.training_tokens)} tokens, {units.show_flops(flops)}: "
        f"{_hours(cost.hours(flops))} of {cost.accelerator} at {share(cost.utilisation)} of its "
        f"peak{money}"
    )


def _hours(hours: float) -> str:
    return f"{hours:,.0f} hours" if hours >= 9.95 else f"{hours:.2g} hours"


def _format_rows(answer: Answer) -> Rows:
    """The pick's format with its file and price; the others that were asked for, with theirs."""
    found = answer.weight_format()
    if found["format"] is None:
        return [("weights", f"{answer.best.weight_bits:g} bits")]
    price = found["format_price"]
    low, high = price["interval"]
    costs = f"rounding costs {price['nats']:.3f} nats ({low:.3f} to {high:.3f})"
    costs += "" if price["published"] else ", by its rounding noise alone"
    costs += "" if price["in_loss"] else ", not in the loss"
    costs += _trade(answer)
    file = f"{found['format']}, a file of {units.show_bytes(found['file_bytes'])}"
    rows: Rows = [("weights", f"{file}; {costs}" if high >= 5e-4 else file)]
    cache = answer.kv_cache
    if cache is not None and cache.source is not None:
        low, high = cache.interval
        rows.append(
            (
                "cache",
                f"{cache.format}, {cache.bits:g} bits a value; rounding costs {cache.nats:.3f} "
                f"nats ({low:.4f} to {high:.3f}), from four models",
            )
        )
    for option in answer.formats:
        if option.chosen:
            continue
        if option.architecture is None or option.price is None:
            rows.append((option.format, "nothing fits"))
            continue
        gap = option.loss - answer.best.loss
        says = f"{amount(gap)} nats {'worse' if gap > 0 else 'better'} at its best"
        if option.trade is not None:
            says += (
                f": beside {option.trade.beside} it costs {option.trade.cost:.3f} and gains "
                f"{option.trade.gain:.3f}"
            )
        if not option.price.published:
            says += "; its price is by rounding noise alone"
        rows.append((option.format, says))
    changes = _format_changes(answer)
    if changes:
        rows.append(("by tokens", changes))
    return rows


def _loss_rows(answer: Answer) -> Rows:
    """The loss as a difference to the familiar choice; its level where the law knows it."""
    best = answer.best
    rows: Rows = []
    if answer.baselines:
        familiar = answer.baselines[0]
        low, high = familiar.loss_difference_interval
        gap = -familiar.loss_difference
        rows.append(
            (
                "loss",
                Text.assemble(
                    (f"{nats(gap)} nats", "bold"),
                    f" {between((-high, -low))} against {familiar.why} under these budgets; "
                    f"the lower one in {share(1 - familiar.probability_better)} of the law's draws",
                ),
            )
        )
    if answer.level_known:
        low, high = best.loss_interval
        rows.append(
            ("level", f"{best.loss:.3g} nats/token, one run within {low:.3g} to {high:.3g} (90 %)")
        )
    else:
        rows.append(("level", f"not known: law {answer.law.label} has seen no run on your corpus"))
    if best.extrapolated:
        far = ", ".join(f"{axis} {factor:.2g}×" for axis, factor in best.extrapolated.items())
        rows.append(("", Text(f"extrapolated: {far} beyond what the law saw", "yellow")))
    return rows


def _trade(answer: Answer) -> str:
    """What the pick's format gains beside the widest asked for."""
    trade = next((option.trade for option in answer.formats if option.chosen), None)
    return "" if trade is None else f" and gains {trade.gain:.3f} beside {trade.beside}"


def _format_changes(answer: Answer) -> str:
    """Up to how many tokens a parameter which of the formats is best; nothing for one format."""
    rows = answer.format_by_tokens
    if len(answer.formats) < 2 or not rows:
        return ""
    runs = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row["format"])]
    ends = [run[-1]["tokens_per_parameter"] for run in runs]
    names = [run[0]["format"] for run in runs]
    first, last = rows[0]["tokens_per_parameter"], ends[-1]
    if len(runs) == 1:
        return f"{names[0]} is best from {first} to {last:,} tokens a parameter"
    *before, final = names
    said = ", ".join(f"{name} up to {end:,}" for name, end in zip(before, ends, strict=False))
    return f"best is {said} tokens a parameter, then {final} (from {first} to {last:,} asked)"


def _sure_rows(answer: Answer) -> Rows:
    if answer.problem.target_loss is not None:
        reached = answer.budget_probability.get("target_loss", math.nan)
        return [("how sure", f"reaches that loss with {share(reached)} probability")]
    if math.isnan(answer.probability_best):
        return [("how sure", "not known: the law has no draws")]
    device = max(answer.regret[0] - answer.confident_regret, 0.0)
    return [
        (
            "how sure",
            f"{share(answer.near_best_confident_probability)} to be within .01 nats of the best "
            f"shape that keeps these budgets; {share(answer.near_best_probability)} of the best "
            "that would fit, were the device known",
        ),
        (
            "regret",
            f"{amount(answer.confident_regret)} nats for not knowing the law better, "
            f"{amount(device)} more for not knowing the device; in the worst 5 % "
            f"{amount(answer.regret[1])}",
        ),
    ]


def _budget_table(answer: Answer) -> Table:
    """Every cost: expected, its interval, what was asked, with which probability it is met."""
    limits = {limit.name: limit for limit in answer.problem.limits}
    table = _plain("", "expected", "90 % interval", "asked", "met with", "", right=("expected",))
    for name, (words, field) in _COSTS.items():
        value = float(getattr(answer.best, field))
        if not math.isfinite(value):
            table.add_row(words, "not known")
            continue
        ends = answer.best.intervals.get(field)
        limit = limits.get(name)
        chance = answer.budget_probability.get(name)
        table.add_row(
            words,
            _SHOW[name](value),
            f"{_SHOW[name](ends[0])} to {_SHOW[name](ends[1])}" if ends else "not known",
            f"{'≥' if limit.at_least else '≤'} {_SHOW[name](limit.value)}" if limit else "",
            share(chance) if chance is not None else "",
            Text("binds", "bold") if name in answer.binding else "",
        )
    return table


def _scarce(answer: Answer) -> Rows:
    budgets = listed([_COSTS[name][0] for name in answer.binding if name in _COSTS])
    binds = f"the {budgets} budget binds" if budgets else "no budget binds"
    if " and " in budgets:
        binds = f"the {budgets} budgets bind"
    waits = Text.assemble((binds, "bold"), "; a token waits for ", (answer.best.scarce, "bold"))
    rows: Rows = [("scarce", waits)]
    unit = "nats" if answer.problem.target_loss is None else "tok/s"
    steps = {limit.name: limit.step for limit in answer.problem.limits}
    steps["tokens"] = answer.best.training_tokens * (RELAXED - 1)
    steps["flops"] = float(answer.problem.budget.flops or 0.0) * (RELAXED - 1)
    for name, gain in answer.relax.items():
        bought = gain * steps[name]
        if bought < 5e-4:
            continue
        buys = amount(bought) if unit == "nats" else f"{bought:.2g}"
        rows.append(("", f"{_SHOW[name](steps[name])} {_MORE[name]} buys {buys} {unit}"))
    return rows


# --- beside the pick -----------------------------------------------------------------------------


def _beside_table(answer: Answer) -> Table:
    """Near-ties and shapes people know, two lines each: how they compare, and what they are."""
    table = _plain("", "loss", "90 %", "decode", "memory", right=("loss", "decode", "memory"))
    table.title = "Beside it: loss less the pick's, nats"
    for beside in [*answer.near_ties, *answer.baselines]:
        candidate = beside.candidate
        table.add_row(
            beside.why,
            nats(beside.loss_difference),
            between(beside.loss_difference_interval),
            units.show_speed(candidate.decode_tokens_per_s),
            units.show_bytes(candidate.memory_bytes),
        )
    return table


def _beside_lines(answer: Answer) -> list[Text]:
    """The shapes of the table's rows, and which budgets they miss."""
    lines = []
    for beside in [*answer.near_ties, *answer.baselines]:
        line = Text("  ")
        line.append(f"{beside.why}  ", style="dim")
        line.append(shape_code(beside.candidate.architecture, beside.candidate.weight_bits))
        missed = _missed(answer, beside)
        if missed:
            line.append(f"  {missed}", style="red")
        lines.append(line)
    return lines


def _missed(answer: Answer, beside: Beside) -> str:
    """Which budgets it does not meet with the confidence asked for."""
    if beside.feasible:
        return ""
    low = {name: p for name, p in beside.budget_probability.items() if p < answer.confidence}
    if not low:
        return "misses the budgets together"
    names = [f"{_COSTS[name][0] if name in _COSTS else name}" for name in low]
    return "meets " + ", ".join(
        f"{name} {share(p)}" for name, p in zip(names, low.values(), strict=True)
    )


def _equal_training(answer: Answer) -> Rows:
    beside, words = answer.equal_flops, "the pick's training FLOPs"
    if beside is None:
        beside, words = answer.equal_tokens, "the pick's training tokens"
    if beside is None:
        return []
    candidate = beside.candidate
    if candidate.architecture == answer.best.architecture:
        return [("equal", f"at {words} the same shape is best")]
    code = shape_code(candidate.architecture, candidate.weight_bits)
    return [
        (
            "equal",
            f"at {words} {code} is best: {nats(beside.loss_difference)} nats "
            f"{between(beside.loss_difference_interval)}",
        ),
        ("", _training(answer, candidate)),
    ]


def _otherwise_table(answer: Answer) -> list[Any]:
    told = [each for each in answer.otherwise if each.belief.probability >= _TOLD][:_BELIEFS]
    if not told:
        return []
    table = _grid()
    for contrary in told:
        belief, shape = contrary.belief, contrary.candidate
        table.add_row(
            share(belief.probability),
            f"{belief.says}: {shape_code(shape.architecture, shape.weight_bits)}",
        )
        table.add_row(
            "",
            Text(
                f"gains {amount(belief.gain)} nats if so; over all draws it is "
                f"{amount(belief.cost)} {'worse' if belief.cost >= 0 else 'better'}",
                "dim",
            ),
        )
        for line in _heard(answer, belief.axis, belief.says):
            table.add_row("", literal(line, "dim", most=400))
    return [Text("If a belief that the pick rests on is settled the other way"), table, Text()]


def _heard(answer: Answer, axis: str, says: str) -> list[str]:
    """What each law says of the rival, a line each."""
    wanted = says.removeprefix("if ")
    return [
        f"{source.source}: {nats(source.difference)} {between(source.interval)}"
        + (", far beyond its runs" if source.beyond > FACTOR else "")
        for source in answer.sources
        if source.axis == axis and source.says.startswith(wanted)
    ]


def _measure_first(answer: Answer) -> Rows:
    if math.isnan(answer.probability_best):
        return []
    if not answer.measurements:
        return [("measure", "no single measurement looked at is worth .0005 nats")]
    rows: Rows = []
    for label, each in zip(("measure", "then"), answer.measurements, strict=False):
        rows.append((label, each.says))
        price = "no training"
        if each.runs:
            money = f", ${each.usd:,.0f}" if math.isfinite(each.usd) else ""
            price = (
                f"{plural(each.runs, 'run')}, {_hours(each.gpu_hours)} of "
                f"{answer.training.accelerator}{money}"
            )
        tells = each.settles.replace("if ", "whether ", 1)
        rows.append(("", f"worth {amount(each.value)} nats; {price}; tells {tells}"))
    return rows


def _walls(answer: Answer) -> Rows:
    by_wall: dict[str, list[Edge]] = {}
    for edge in answer.edges:
        by_wall.setdefault(edge.wall, []).append(edge)
    told: list[Text] = []
    for wall, words in ((SPACE, "the space stops it"), (BUDGET, "no gain beyond")):
        style = "yellow" if wall == SPACE else "dim"
        for edge in by_wall.get(wall, []):
            side = {"most": "at most", "least": "at least"}[edge.side]
            found = edge.reason if edge.loss_difference is None else nats(edge.loss_difference)
            found += "" if edge.loss_difference is None or wall == BUDGET else " nats one step on"
            told.append(Text(f"{words}: {edge.axis} {side} {edge.value:g} ({found})", style))
    for wall, words in ((MODEL, "no model goes further"), (FIXED, "held by the space")):
        named = [f"{edge.axis} {edge.value:g}" for edge in by_wall.get(wall, [])]
        if named:
            told.append(Text(f"{words}: {listed(named)}", "dim"))
    return [("" if place else "walls", line) for place, line in enumerate(told)]


def _front_table(answer: Answer) -> Table:
    front = answer.front
    step = max(1, -(-len(front) // _FRONT_ROWS))
    shown = front[::step]
    every = f", every {ordinal(step)} shown" if step > 1 else ""
    known = answer.level_known
    table = _plain(
        "loss", "decode", "first", "memory", "shape",
        right=("loss", "decode", "first", "memory"),
        title=f"Front: {plural(len(front), 'shape')}{every}"
        + ("" if known else "; loss less the pick's"),
    )  # fmt: skip
    for candidate in shown:
        loss = candidate.loss if known else candidate.loss - answer.best.loss
        table.add_row(
            f"{loss:.3f}" if known else nats(loss),
            units.show_speed(candidate.decode_tokens_per_s),
            units.show_seconds(candidate.ttft_s),
            units.show_bytes(candidate.memory_bytes),
            shape_code(candidate.architecture, candidate.weight_bits),
        )
    return table


def _measured_table(rows: list[dict[str, Any]]) -> Table:
    table = _plain(
        "", "measured", "spread", "modelled", "shape",
        right=("measured", "spread", "modelled"),
        title="Measured on this machine",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            ("chosen" if row["chosen"] else "") if row["feasible"] else Text("too slow", "red"),
            units.show_speed(row["measured_tokens_per_s"]),
            f"±{row['spread']:.0%}",
            units.show_speed(row["modelled_tokens_per_s"]),
            shape_code(Architecture.from_dict(row["architecture"]), row["weight_bits"]),
        )
    return table


def _closing(answer: Answer) -> Text:
    """The legend, and what is certain."""
    c = answer.certificate
    certain = (
        f"Exact: all {c.space_size:,} shapes of space {answer.space.name} were looked at."
        if c.exact
        else f"Not exact: {c.evaluated:,} of {c.space_size:.3g} shapes were looked at; two "
        f"independent searches agree on {c.hypervolume_ratio:.2%} of the front's volume."
    )
    return Text(f"{SHAPE_LEGEND}.\n{certain}", style="dim")


def answer_tables(answer: Answer) -> list[Any]:
    """Renderables in the order to print them."""
    why = _grid()
    for row in (
        *_scarce(answer), *_equal_training(answer), *_measure_first(answer), *_walls(answer),
    ):  # fmt: skip
        why.add_row(*row)
    found: list[Any] = [_best_panel(answer), _budget_table(answer), Text(), why, Text()]
    if answer.near_ties or answer.baselines:
        found += [_beside_table(answer), *_beside_lines(answer), Text()]
    found += _otherwise_table(answer)
    if answer.measured is not None:
        found += [_measured_table(answer.measured), Text()]
    return [*found, _front_table(answer), Text(), _closing(answer)]
