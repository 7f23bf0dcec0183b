"""The answer for a person at a terminal: what to train, how sure that is, what holds it back."""

import math
from typing import Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from shapelaw.scaling import units
from shapelaw.scaling.architecture import Architecture
from shapelaw.search.answer.answer import Answer, Beside, Candidate
from shapelaw.search.pareto.budget import RELAXED

_FRONT_ROWS = 12

_MORE = {
    "memory": (units.show_bytes, "more memory"),
    "decode": (units.show_speed, "less speed"),
    "ttft": (units.show_seconds, "more to the first token"),
    "energy": (units.show_joules, "more per token"),
    "tokens": (units.show_count, "more training tokens"),
    "flops": (units.show_flops, "more training compute"),
    "target_loss": (lambda value: f"{value:.3g} nats", "more loss"),
}
"""How a person would say that a budget is more generous."""


def shape_words(a: Architecture, bits: float) -> str:
    """`1536 wide, 16 blocks × 4, 24 heads (3 KV) of 64, d_ff 2304, 8 bits`."""
    stack = f"{a.n_blocks} blocks" + (f", each applied {a.sharing}×" if a.sharing > 1 else "")
    window = (
        ""
        if a.window is None
        else f", window {a.window}"
        + (f" (global every {a.global_every})" if a.global_every else "")
    )
    return (
        f"d_model {a.d_model}, {stack}, {a.n_heads} heads ({a.n_kv_heads} KV) of {a.head_dim}, "
        f"d_ff {a.d_ff}{window}, {bits:g}-bit weights"
    )


def shape_code(a: Architecture, bits: float) -> str:
    """`1536·16×4·24/3·2304·8b`: as SHAPE_LEGEND says."""
    stack = f"{a.n_blocks}×{a.sharing}" if a.sharing > 1 else f"{a.n_blocks}"
    window = "" if a.window is None else f"·w{a.window}/{a.global_every or 0}"
    return f"{a.d_model}·{stack}·{a.n_heads}/{a.n_kv_heads}·{a.d_ff}{window}·{bits:g}b"


SHAPE_LEGEND = "shape: d_model · blocks×sharing · heads/KV heads · d_ff · weight bits"


def _loss(candidate: Candidate) -> str:
    low, high = candidate.loss_interval
    return f"{candidate.loss:.4f}  [{low:.4f}, {high:.4f}]"


def _extrapolated(candidate: Candidate) -> str:
    return ", ".join(f"{axis} {factor:.2g}×" for axis, factor in candidate.extrapolated.items())


def _best_panel(answer: Answer) -> Panel:
    best, a = answer.best, answer.best.architecture
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    goal = "least loss" if answer.problem.target_loss is None else "fastest at that loss"
    budget = (
        ", ".join(
            f"{limit.name} {'≥' if limit.at_least else '≤'} {_limit(limit.name, limit.value)}"
            for limit in answer.problem.limits
        )
        or "no limits"
    )
    beyond = _extrapolated(best)
    rows = [
        ("asked", f"{goal} with {budget}"),
        ("train", shape_words(a, best.weight_bits)),
        (
            "parameters",
            f"{units.show_count(a.total_parameters)} stored "
            f"({units.show_count(a.non_embedding_parameters)} in blocks), "
            f"{units.show_count(a.applied_parameters)} applied per token",
        ),
        (
            "ratios",
            f"MLP/attention {a.mlp_attention_ratio:.2f}, GQA group {a.gqa_group}, "
            f"width/√N {a.width_ratio:.3f}",
        ),
        (
            "training",
            f"{units.show_count(best.training_tokens)} tokens, "
            f"{units.show_flops(best.training_flops)}",
        ),
        (
            "loss",
            f"[bold]{_loss(best)}[/] nats/token, 90 % for one run"
            + (f"  [yellow]extrapolated: {beyond}[/]" if beyond else ""),
        ),
        (
            "decode",
            f"[bold]{units.show_speed(best.decode_tokens_per_s)}[/], "
            f"first token in {units.show_seconds(best.ttft_s)}",
        ),
        ("memory", units.show_bytes(best.memory_bytes)),
        *_format_rows(answer),
        (
            "energy",
            f"{units.show_joules(best.energy_per_token_j)} per token"
            if best.energy_per_token_j == best.energy_per_token_j
            else "not known for this device",
        ),
        ("scarce", f"[bold]{best.scarce}[/]"),
        ("how sure", _sureness(answer)),
    ]
    for row in rows:
        table.add_row(*row)
    return Panel(
        table,
        title=f"[bold]{answer.device.title}[/]",
        title_align="left",
        border_style="green",
        subtitle=f"law {answer.law.label}, workload {answer.workload.name}",
        subtitle_align="left",
    )


def _format_rows(answer: Answer) -> list[tuple[str, str]]:
    """The pick's format with its file and price; the others that were asked for, with theirs."""
    found = answer.weight_format()
    if found["format"] is None:
        return []
    price = found["format_price"]
    low, high = price["interval"]
    rows = [
        (
            "format",
            f"{found['format']}, a file of {units.show_bytes(found['file_bytes'])}; costs "
            f"{price['nats']:.3f} nats ({low:.3f} to {high:.3f})"
            + ("" if price["published"] else ", by its rounding noise alone"),
        )
    ]
    for option in answer.formats:
        if option.chosen:
            continue
        if option.architecture is None or option.price is None:
            rows.append((option.format, "nothing fits"))
            continue
        gap = option.loss - answer.best.loss
        rows.append(
            (
                option.format,
                f"{abs(gap):.3f} nats {'worse' if gap > 0 else 'better'} at its best, of which "
                f"the format costs {option.price.nats:.3f}",
            )
        )
    return rows


def _limit(name: str, value: float) -> str:
    return {
        "memory": units.show_bytes,
        "decode": units.show_speed,
        "ttft": units.show_seconds,
        "energy": units.show_joules,
        "target_loss": lambda loss: f"{loss:.4f}",
    }[name](value)


def _sureness(answer: Answer) -> str:
    if math.isnan(answer.probability_best):
        return "not known: the law has no bootstrap draws"
    if answer.problem.target_loss is not None:
        return f"reaches that loss in {answer.probability_best:.0%} of the law's draws"
    return (
        f"best in {answer.probability_best:.0%} of the law's draws; choosing it gives up "
        f"{answer.regret[0]:.4f} nats on average, {answer.regret[1]:.4f} in the worst 5 %"
    )


def _beside_table(answer: Answer) -> Table:
    table = Table(title="Beside it", title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("shape", overflow="fold")
    for name in ("loss", "decode", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("90 %", no_wrap=True)
    rows: list[Beside] = [*answer.near_ties, *answer.baselines]
    for beside in rows:
        low, high = beside.loss_difference_interval
        candidate = beside.candidate
        table.add_row(
            beside.why + ("" if beside.feasible else " [red](does not fit)[/]"),
            shape_code(candidate.architecture, candidate.weight_bits),
            f"{beside.loss_difference:+.4f}",
            units.show_speed(candidate.decode_tokens_per_s),
            units.show_bytes(candidate.memory_bytes),
            f"{low:+.3f} to {high:+.3f}",
        )
    return table


def _front_table(answer: Answer) -> Table:
    front = answer.front
    step = max(1, -(-len(front) // _FRONT_ROWS))
    shown = front[::step]
    table = Table(
        title=f"Front ({len(front)} shapes" + (f", every {step}th shown)" if step > 1 else ")"),
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
    )
    for name in ("loss", "decode", "first", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("shape", overflow="fold")
    for candidate in shown:
        table.add_row(
            f"{candidate.loss:.4f}",
            units.show_speed(candidate.decode_tokens_per_s),
            units.show_seconds(candidate.ttft_s),
            units.show_bytes(candidate.memory_bytes),
            shape_code(candidate.architecture, candidate.weight_bits),
        )
    return table


def _measured_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(
        title="Measured on this machine", title_justify="left", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("")
    for name in ("loss", "measured", "spread", "modelled"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("shape")
    for row in rows:
        table.add_row(
            ("chosen" if row["chosen"] else "") if row["feasible"] else "[red]too slow[/]",
            f"{row['loss']:.4f}",
            units.show_speed(row["measured_tokens_per_s"]),
            f"±{row['spread']:.0%}",
            units.show_speed(row["modelled_tokens_per_s"]),
            shape_code(Architecture.from_dict(row["architecture"]), row["weight_bits"]),
        )
    return table


def _closing(answer: Answer) -> Text:
    """What binds and what relaxing buys; what is certain."""
    lines = [f"{SHAPE_LEGEND}; losses in nats per token."]
    unit = "nats" if answer.problem.target_loss is None else "tok/s"
    steps = {limit.name: limit.step for limit in answer.problem.limits}
    steps["tokens"] = answer.best.training_tokens * (RELAXED - 1)
    steps["flops"] = float(answer.problem.budget.flops or 0.0) * (RELAXED - 1)
    buys = [
        f"{_MORE[name][0](steps[name])} {_MORE[name][1]} buys {gain * steps[name]:.4f} {unit}"
        for name, gain in answer.relax.items()
        if gain > 0
    ]
    if buys:
        lines.append(f"At the margin: {'; '.join(buys)}.")
    idle = [limit.name for limit in answer.problem.limits if limit.name not in answer.binding]
    if idle:
        lines.append(f"Not binding: {', '.join(idle)}.")
    c = answer.certificate
    lines.append(
        f"Exact: all {c.space_size:,} shapes of space {answer.space.name} were looked at, "
        f"{c.feasible:,} fit."
        if c.exact
        else f"Not exact: {c.evaluated:,} of {c.space_size:.3g} shapes were looked at; two "
        f"independent searches agree on {c.hypervolume_ratio:.2%} of the front's volume."
    )
    return Text("\n".join(lines), style="dim")


def answer_tables(answer: Answer) -> list[Any]:
    """Renderables in the order to print them."""
    found: list[Any] = [_best_panel(answer)]
    if answer.near_ties or answer.baselines:
        found += [_beside_table(answer), Text()]
    if answer.measured is not None:
        found += [_measured_table(answer.measured), Text()]
    return [*found, _front_table(answer), Text(), _closing(answer)]
