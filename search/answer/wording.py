"""Shapes, numbers and counts as a person at a terminal reads them."""

from collections.abc import Sequence

from shapelaw.scaling.architecture import Architecture

SHAPE_LEGEND = "shape: d_model · blocks×sharing · heads/KV heads · d_ff · weight bits"


def shape_words(a: Architecture) -> list[str]:
    """Two lines: width and depth; attention."""
    stack = f"{a.n_blocks} blocks" + (f", each applied {a.sharing}×" if a.sharing > 1 else "")
    heads = f"{a.n_heads} heads of {a.head_dim}, {plural(a.n_kv_heads, 'key-value head')}"
    if a.window is not None:
        heads += f", window {a.window}"
        heads += f" (every {ordinal(a.global_every)} layer global)" if a.global_every else ""
    return [f"d_model {a.d_model}, {stack}, d_ff {a.d_ff}", heads]


def shape_code(a: Architecture, bits: float) -> str:
    """`1536·16×4·24/3·2304·8b`: as SHAPE_LEGEND says; without a space, so that it never breaks."""
    stack = f"{a.n_blocks}×{a.sharing}" if a.sharing > 1 else f"{a.n_blocks}"
    window = "" if a.window is None else f"·w{a.window}/{a.global_every or 0}"
    return f"{a.d_model}·{stack}·{a.n_heads}/{a.n_kv_heads}·{a.d_ff}{window}·{bits:g}b"


def plural(count: int, one: str, many: str | None = None) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `4th`, `11th`."""
    last = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number}{last or 'th'}"


def share(probability: float) -> str:
    """`91 %`; never all or nothing where the draws are only hundreds."""
    if probability >= 0.995:
        return "> 99 %"
    return "< 1 %" if probability <= 0.005 else f"{probability:.0%}".replace("%", " %")


def nats(value: float) -> str:
    """`+0.13`, `-0.008`: a difference of losses, to what a run could tell."""
    if abs(value) < 0.0005:
        return "0.000"
    return f"{value:+.2f}" if abs(value) >= 0.0995 else f"{value:+.3f}"


def amount(value: float) -> str:
    """The same without a sign."""
    return nats(abs(value))[1:]


def between(interval: Sequence[float]) -> str:
    """`[+0.03, +0.22]`."""
    return f"[{nats(interval[0])}, {nats(interval[1])}]"


def listed(words: Sequence[str], last: str = "and") -> str:
    """`memory`, `memory and decode`, `memory, decode and ttft`."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
