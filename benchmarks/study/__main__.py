"""`python -m benchmarks.study` writes results/reference/README.md, its figures and its laws.

`--measure` times the panel on this machine first. `--check` writes nothing and fails if the text
says anything else than the records do.
"""

import argparse
import math
import re
import sys

from benchmarks.study import figures, measure, text
from benchmarks.study.effects import (
    labelled,
    learning_rate_check,
    paired_effects,
    sharing_effects,
)
from benchmarks.study.laws import BOOTSTRAP, compare
from benchmarks.study.loop import judge, panel_of
from benchmarks.study.records import FOLDER, load_study, seed_noise
from benchmarks.study.rollouts import roll_out, roll_out_forms
from shapelaw.scaling.fit import fit_law

INTRODUCTION = """# The reference study

What shape buys in loss, on models small enough to train on two processor cores, and whether the \
tool's own recommendation holds when it is trained. Every number and figure here is written by \
`make study-report` from the records beside this file; nothing is typed by hand.
"""

CAVEATS = """## What this does not say

The models have a hundred thousand parameters and read bytes of Python source; the law that comes \
of them is `reference`, used by `query` inside this range and marked as extrapolating outside it, \
with the pooled evidence's answer beside it. Budgets of 5 to 80 tokens a parameter are short of \
where sharing is reported to pay most. Depth comes in whole blocks, of which the smallest models \
have few, so that width, depth and ratio cannot be varied apart as finely as at scale.
"""


def render(write: bool) -> str:
    """The whole text; with `write`, the figures and law files too."""
    study = load_study()
    runs = labelled(study.records)
    noise = seed_noise()
    effects = paired_effects([run for run in runs if "learning_rate" not in run.label])
    fitted, held_out = study.fitted_table, study.held_out_table
    results, automatic = compare(fitted, held_out)
    # Chosen below the held-out size, among the forms with a term for every axis the study moved:
    # the others, shown beside it, cannot answer a query about those.
    forms = roll_out_forms(study)
    own = next(result for result in results if result.form == next(iter(forms)))
    panel = panel_of(study.held_out, measure.panel_speeds())
    verdicts = judge(panel, own.fit.law, noise.run)
    timings = measure.sharing_timings()
    shared = sharing_effects(effects)
    if write:
        folder = FOLDER / "figures"
        folder.mkdir(exist_ok=True)
        figures.runs_figure(fitted, held_out, folder / "runs.png")
        figures.effects_figure(effects, noise.run, folder / "effects.png")
        figures.held_out_figure(own, held_out, folder / "held-out.png")
        figures.panel_figure(panel, folder / "panel.png")
        figures.sharing_figure(timings, shared, folder / "sharing.png")
        own.fit.law.to_file(FOLDER / "reference-below-held-out.json")
        whole = fit_law(
            study.whole_table,
            form=own.form,
            bootstrap=BOOTSTRAP,
            label="reference",
            source="results/reference, all sizes",
        )
        whole.law.to_file(FOLDER / "laws" / "reference.json")
    return "\n".join(
        [
            INTRODUCTION,
            text.runs_section(study, noise),
            text.effects_section(effects),
            text.learning_rate_section(learning_rate_check(runs)),
            text.law_section(results, automatic, own, noise, roll_out(study), forms),
            text.loop_section(panel, verdicts, measure.spreads()),
            text.sharing_section(timings, shared),
            CAVEATS,
        ]
    )


NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
"""Numbers of the text, with thousands' commas."""


INTERVAL = re.compile(rf"\[({NUMBER.pattern})[ %]*, ({NUMBER.pattern})[ %]*\]")
"""A resampled interval, as the text writes it."""

INTERVAL_PLAY = 0.3
"""Of an interval's width: by how much the number of threads was seen to move an end of one."""


def differences(committed: str, rendered: str) -> list[str]:
    """Where two texts say different things: other words, or numbers apart by more than rounding.

    Numbers may differ by two per cent, or by one in their own last place; the ends of a resampled
    interval by a part of its width, since the order of sums decides which draw an end falls on.
    """
    if NUMBER.sub("#", committed) != NUMBER.sub("#", rendered):
        return ["the words differ"]
    play: dict[int, float] = {}
    for interval in INTERVAL.finditer(committed):
        width = abs(_value(interval[2]) - _value(interval[1]))
        play |= dict.fromkeys((interval.start(1), interval.start(2)), INTERVAL_PLAY * width)
    pairs = zip(NUMBER.finditer(committed), NUMBER.findall(rendered), strict=True)
    return [
        f"{old[0]} is {new} by the records"
        for old, new in pairs
        if not math.isclose(
            _value(old[0]),
            _value(new),
            rel_tol=0.02,
            abs_tol=max(1.1 * _last_place(old[0]), play.get(old.start(), 0.0)),
        )
    ]


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _last_place(number: str) -> float:
    """What one in the last decimal place is worth; 0 for whole numbers, which are counts."""
    decimals = re.search(r"\.(\d+)", number)
    if decimals is None or "e" in number:
        return 0.0
    return float(10.0 ** -len(decimals[1]))


def main() -> int:
    """Exit status: 1 where `--check` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="time the panel here first")
    parser.add_argument("--check", action="store_true", help="compare with the committed text")
    options = parser.parse_args()
    if options.measure:
        measure.measure_all()
    written = render(write=not options.check)
    path = FOLDER / "README.md"
    if options.check:
        found = differences(path.read_text(encoding="utf-8"), written)
        print("\n".join(found) or "the text is what the records say")
        return 1 if found else 0
    path.write_text(written, encoding="utf-8")
    print(f"{path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
