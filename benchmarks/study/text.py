"""The study's README: every number is put into the text by this module, from the records."""

import math
from typing import Any

import numpy as np

from benchmarks.study.effects import Effect
from benchmarks.study.laws import HeldOut
from benchmarks.study.loop import CLEAR, LEAST_FEASIBLE, PanelShape, Verdict
from benchmarks.study.measure import SharingTiming
from benchmarks.study.records import LEAST_STEPS, SeedNoise, Study
from benchmarks.study.rollouts import NAMES, RollOut
from shapelaw.scaling.architecture import Architecture

PUBLISHED_RATIO = "1.03 to 1.23 (arXiv 2510.18245); LLaMA-3.2-1B uses 4.8"
PUBLISHED_PHI = "0.46 [0.41, 0.53] (arXiv 2604.21106)"


def percent(value: float, digits: int = 2) -> str:
    """`+1.23 %`."""
    return f"{100 * value:+.{digits}f} %"


def bounds(interval: Any, form: str = ".3g") -> str:
    """`[lo, hi]`, or a dash."""
    if interval is None or not np.all(np.isfinite(interval)):
        return "–"
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]"


def shape_words(a: Architecture) -> str:
    """A shape in a few words."""
    shared = f", each applied {a.sharing} times" if a.sharing > 1 else ""
    return (
        f"{a.d_model} wide, {a.n_blocks} blocks{shared}, d_ff {a.d_ff}, "
        f"{a.n_heads}/{a.n_kv_heads} heads"
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def runs_section(study: Study, noise: SeedNoise) -> str:
    """What was trained, where, and what it cost."""
    records = study.records
    count = {
        status: sum(record.status == status for record in records)
        for status in ("finished", "diverged", "failed")
    }
    flops = sum(record.flops - record.trunk_flops_shared for record in records)
    dates = sorted(record.finished_at[:10] for record in records)
    hardware = sorted({record.hardware for record in records})
    software = records[0].software
    sizes = sorted({round(record.n_parameters.non_embedding, -3) for record in records})
    seeds = sorted({record.seed for record in records})
    return f"""## What was run

`shapelaw sweep reference`: {len(records)} runs ({count["finished"]} finished, \
{count["diverged"]} diverged, {count["failed"]} failed) of \
{len({record.trunk_key for record in records})} trunks, {sizes[0]:,} to {sizes[-1]:,} \
non-embedding parameters, {min(r.tokens for r in records):,} to \
{max(r.tokens for r in records):,} tokens (bytes of the running Python's standard library), seeds \
{", ".join(map(str, seeds))}; {flops:.2e} FLOPs. Hardware: {"; ".join(hardware)}. \
Software: {", ".join(f"{name} {version}" for name, version in sorted(software.items()))}. \
Dates: {dates[0]} to {dates[-1]}.

{len(study.fitted)} runs are fitted, {len(study.held_out)} runs of the largest size are held out \
from all fitting. {len(study.learning_rate_checks)} runs at other learning rates check the rule \
and enter no fit; nor do {len(study.short)} runs of fewer than {LEAST_STEPS} optimizer steps, \
which have hardly left the warmup.

The panel of 128,000 parameters was the held-out size once, and was looked at several times while \
the design, the form and the rule for budgets below were settled. It is fitted now. The size held \
out here was trained after all of these were fixed and entered no choice; its panel is the same, \
less one shape whose name asks for another's at that size.

Seeds of one shape and budget differ by {100 * noise.run:.2f} % of loss (standard deviation, \
{noise.freedom} degrees of freedom). Every shape of a seed reads the same text in the same order; \
between shapes of one seed, {100 * noise.paired:.2f} % of noise is left.

![loss against compute](figures/runs.png)
"""


def effects_section(effects: list[Effect]) -> str:
    """Paired contrasts."""
    rows = [
        [
            effect.axis,
            percent(effect.mean),
            "–"
            if not np.isfinite(effect.interval[0])
            else f"[{percent(effect.interval[0])}, {percent(effect.interval[1])}]",
            str(effect.trunks),
            ", ".join(
                f"{size // 1000}k {percent(value, 1)}" for size, value in effect.per_size.items()
            ),
        ]
        for effect in effects
    ]
    return f"""## What shape does to the loss, run against run

Each shape against the base of its own size, budget and seed; no law in between. A design point \
is named by what it asks for: `d_model 0.7` is 0.7 of the base width at the same parameters.

{table(["shape", "loss", "90 %", "trunks", "by size"], rows)}

![paired effects](figures/effects.png)
"""


def learning_rate_section(checks: dict[tuple[int, int, str], dict[float, float]]) -> str:
    """Was the rule near the optimum?"""
    multiples = sorted({multiple for losses in checks.values() for multiple in losses})
    rows = [
        [
            f"{size // 1000}k",
            f"{tokens:,}",
            shape,
            *(f"{losses[m]:.4f}" if m in losses else "–" for m in multiples),
        ]
        for (size, tokens, shape), losses in checks.items()
    ]
    return f"""## Was the learning rate right?

Loss at multiples of the rule's learning rate, one seed:

{table(["size", "tokens", "shape", *(f"× {m:g}" for m in multiples)], rows)}
"""


def derived(fit: Any, name: str, seen: str | None = None) -> str:
    """A derived quantity with its interval, in words; an optimum outside `seen` is none."""
    found = fit.derived.get(name)
    if found is None:
        return "not determined by these runs"
    if seen is not None:
        low, high = fit.law.range[seen]
        if not low <= found["value"] <= high:
            side = "above" if found["value"] > high else "below"
            return f"none inside the range seen ({low:.2g} to {high:.2g}); the law puts it {side}"
    return f"{found['value']:.3g} {bounds(found.get('interval'))}"


def disagreements(fit: Any, results: list[HeldOut]) -> str:
    """Where the law and the published figures part, and where the runs cannot tell."""
    found = []
    by_form = [
        f"{one.form} {derived(one.fit, 'sharing_phi')}"
        for one in results
        if one.fit.derived.get("sharing_phi") is not None
    ]
    if by_form:
        found.append(
            "On sharing these runs cannot settle the exponent: none of them compares shared with "
            "distinct blocks at equal parameters and equal applied depth, so φ takes up whatever "
            f"a form says of depth ({'; '.join(by_form)}; published {PUBLISHED_PHI}), and no "
            "interval here holds that choice. `shapelaw sweep sharing` makes the comparison "
            "(`results/sharing`)."
        )
    ratio = fit.derived.get("best_mlp_attention_ratio")
    low, high = fit.law.range["mlp_attention_ratio"]
    if ratio is None or not low <= ratio["value"] <= high:
        found.append(
            "On the best MLP-to-attention ratio it cannot tell: at equal parameters and "
            "width another ratio is another depth, and these models have one to a dozen "
            "blocks."
        )
    return " ".join(found)


def law_section(
    results: list[HeldOut],
    automatic: str,
    own: HeldOut,
    noise: SeedNoise,
    rollouts: list[RollOut],
    own_forms: dict[str, tuple[float, ...]],
) -> str:
    """Forms on the held-out size, and what the law says about shape."""
    ordered = sorted(results, key=lambda one: one.mean_abs_log)
    rows = [
        [
            f"{result.form}{' (auto)' if result.form == automatic else ''}",
            f"{result.mean_abs_log:.4f}",
            f"{result.mean_abs_log_of_means:.4f}",
            f"{result.bias_log:+.4f}",
            "–" if result.rank is None else f"{result.rank:.2f}",
            bounds(result.rank_interval, ".2f"),
            f"{100 * result.coverage:.0f} %",
        ]
        for result in ordered
    ]
    best = ordered[0]
    chinchilla = next(one for one in results if one.form == "chinchilla")

    def exponent(name: str) -> str:
        value = own.fit.law.parameters.get(name)
        return "–" if value is None else f"{value:.3g} {bounds(own.fit.intervals.get(name))}"

    return f"""## Which law predicts the size it never saw

Which runs are too short to fit was decided below that size: mean absolute log error of the \
`shape` form, fitted on runs of at least so many steps and asked about the next size.

{
        table(
            ["least steps", "runs left out", *NAMES],
            [
                [str(r.floor), str(r.left_out), *(f"{error:.4f}" for error in r.errors)]
                for r in rollouts
            ],
        )
    }

So was the form that the tool uses here: `{own.form}`, among those with a term for every axis of \
the study the one with the least error in the mean over these splits.

{
        table(
            ["form", *NAMES, "mean"],
            [
                [name, *(f"{error:.4f}" for error in errors), f"{float(np.mean(errors)):.4f}"]
                for name, errors in own_forms.items()
            ],
        )
    }

Fitted below the largest size, asked about it. Over seeds: error of the mean loss of a shape's \
seeds. Rank: Spearman among shapes at fixed N and D, seeds averaged. Coverage: of 90 % \
prediction intervals.

{table(["form", "mean abs log error", "over seeds", "bias", "rank", "90 %", "coverage"], rows)}

Best: `{best.form}`, {best.mean_abs_log:.4f}, which is \
{best.mean_abs_log / chinchilla.mean_abs_log:.2f} of Chinchilla's {chinchilla.mean_abs_log:.4f}; \
of the means over seeds, {best.mean_abs_log_of_means:.4f} against \
{chinchilla.mean_abs_log_of_means:.4f}. A perfect law would be off by the noise of one run, \
{noise.run * math.sqrt(2 / math.pi):.4f} if that is normal. \
From the smaller sizes alone `auto` takes `{automatic}`. The law that the tool uses below is \
`{own.form}`.

![held out](figures/held-out.png)

What the `{own.form}` form, fitted below the held-out size, says beside the published figures:

{
        table(
            ["quantity", "here, 90 %", "published"],
            [
                [
                    "best d_model / layers, smallest N",
                    derived(own.fit, "best_aspect_ratio_smallest"),
                    "",
                ],
                [
                    "best d_model / layers, largest N",
                    derived(own.fit, "best_aspect_ratio_largest"),
                    "",
                ],
                ["its drift: grows as N to the", derived(own.fit, "best_aspect_ratio_drift"), ""],
                [
                    "best MLP-to-attention ratio",
                    derived(own.fit, "best_mlp_attention_ratio", "mlp_attention_ratio"),
                    PUBLISHED_RATIO,
                ],
                [
                    "sharing exponent φ, at equal depth",
                    derived(own.fit, "sharing_phi"),
                    PUBLISHED_PHI,
                ],
                ["GQA: parameter term grows as g to the", exponent("gamma"), ""],
                ["token term grows as N to the", exponent("kappa"), ""],
                ["token term grows as depth to the", exponent("psi"), ""],
            ],
        )
    }

{disagreements(own.fit, results)}
"""


def loop_section(
    panel: list[PanelShape], verdicts: list[Verdict], spreads: tuple[float, float]
) -> str:
    """Regret of the pick."""
    rows = [
        [
            f"{v.tokens:,}",
            f"{v.decode_tokens_per_s:,.0f}" if v.decode_tokens_per_s else "–",
            f"{v.memory_bytes / 1e6:.2f} MB" if np.isfinite(v.memory_bytes) else "–",
            str(v.feasible),
            "–" if v.pick is None else shape_words(v.pick),
            "–" if v.best is None else shape_words(v.best),
            f"{v.regret:.4f}" if np.isfinite(v.regret) else "missed",
            f"{v.regret_in_noise:.1f}" if np.isfinite(v.regret) else "missed",
        ]
        for v in verdicts
    ]
    good = sum(bool(np.isfinite(v.regret_in_noise) and v.regret_in_noise <= 2) for v in verdicts)
    error = float(
        np.mean([abs(s.predicted_tokens_per_s / s.measured_tokens_per_s - 1) for s in panel])
    )
    return f"""## The closed loop

{len(panel)} shapes of the held-out size, trained and timed on this machine; the law has not seen \
the size, the device profile has not seen the shapes. The tool picks by predicted loss and \
predicted speed; regret is the trained loss of the pick (mean over {min(s.seeds for s in panel)} \
seeds) less that of the best shape whose measured speed meets the budget. Budgets lie halfway \
between neighbouring shapes, near the fastest 60, 40 and 20 % and the smaller half; decode budgets \
stay {100 * CLEAR:.0f} % clear of every shape's own speed, since nearer than that the error of the \
predicted speed decides alone. (That rule was made when a budget at the earlier held-out size lay \
so, and its picks missed it.) Budgets that fewer than {LEAST_FEASIBLE} shapes meet are left out.

{
        table(
            [
                "tokens",
                "decode ≥",
                "memory ≤",
                "feasible",
                "pick",
                "best",
                "regret (nats)",
                "in seed noise",
            ],
            rows,
        )
    }

Regret within two standard deviations of seed noise on {good} of {len(verdicts)} budgets; \
the picks are {
        len({v.pick for v in verdicts if v.pick is not None})
    } different shapes and the best \
ones {len({v.best for v in verdicts if v.best is not None})}, so these budgets ask few questions. \
Predicted against measured decode speed: mean error {100 * error:.1f} %. The two best rounds of a \
timing differ by {100 * spreads[0]:.1f} % in the median, {100 * spreads[1]:.1f} % at most.

![the panel](figures/panel.png)
"""


def sharing_section(timings: list[SharingTiming], losses: list[tuple[str, Effect]]) -> str:
    """Recompute or move."""
    if not timings:
        return ""
    rows = [
        [
            t.family,
            t.kind,
            f"{1e3 * t.measured_s:.2f}",
            f"{1e3 * t.predicted_s:.2f}",
            percent(t.predicted_s / t.measured_s - 1, 1),
            f"{t.bytes_moved / 1e6:.1f}",
            f"{t.bytes_cached / 1e6:.1f}",
        ]
        for t in timings
    ]
    loss_rows = [
        [
            words,
            percent(effect.mean),
            f"[{percent(effect.interval[0])}, {percent(effect.interval[1])}]",
            str(effect.trunks),
        ]
        for words, effect in losses
    ]
    families = dict.fromkeys(t.family for t in timings)
    sentences = []
    for family in families:
        one, twice, distinct = (t.measured_s for t in timings if t.family == family)
        sentences.append(
            f"At {family}, 30 more applications of cached blocks cost "
            f"{1e3 * (twice - one):.1f} ms a token, 30 more distinct blocks "
            f"{1e3 * (distinct - one):.1f} ms."
        )
    return f"""## Recompute or move

One token, float32, batch 1, on the machine of the study (no counters of bytes or energy there: \
the bytes are the cost model's).

{
        table(
            [
                "width",
                "model",
                "measured ms",
                "predicted ms",
                "error",
                "MB from memory",
                "MB from cache",
            ],
            rows,
        )
    }

{" ".join(sentences)}

The loss both reach, run against run in the study:

{table(["model", "loss", "90 %", "trunks"], loss_rows)}

![recompute or move](figures/sharing.png)
"""
