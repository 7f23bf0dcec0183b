"""`shapelaw demo`: sweep, fit, measure, query and two pages, on this machine, in minutes.

Part of the front door, because only the front door knows all the rooms. Every step is what its own
command does; run again, each step reuses what the folder already holds.
"""

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shapelaw.scaling.fit import Fit
    from shapelaw.search.answer.query import Answer
    from shapelaw.search.devices.profile import DeviceProfile

Say = Callable[..., None]

PHONE = "iphone-13"
PHONE_BUDGET: dict[str, Any] = {"memory": "400MB", "decode": 30.0, "tokens": 1e12}


def run_demo(out: Path, say: Say, show: Say) -> dict[str, Any]:
    """All steps; returns what `shapelaw demo --json` prints.

    Args:
        out: folder for the runs, law, device profile, pictures and pages.
        say: progress for the person at the terminal.
        show: the answer.
    """
    from rich.text import Text

    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    first = Text.assemble(
        ("1/4 sweep", "bold"),
        "  training small models of different shapes on Python's own source",
    )
    sweep_summary = _sweep(out, lambda: say(first))
    say(Text.assemble(("2/4 fit", "bold"), "    a law of loss that knows about shape"))
    fitted = _fit(out, show)
    say(Text.assemble(("3/4 measure", "bold"), " what this machine can do"))
    profile = _measure(out, say)
    say(Text.assemble(("4/4 query", "bold"), "  the best shape here, and on a phone"))
    here, phone = _query(out, fitted, profile)
    answers = _answers(out, here, phone)
    pages = _pages(out, fitted, here, phone)

    seconds = time.perf_counter() - start
    memory = peak_memory_bytes()

    from shapelaw.search.answer.answer_tables import answer_tables

    show(*answer_tables(here), *answer_tables(phone))
    show(f"time {seconds:.0f} s, peak memory {memory / 2**30:.2f} GiB (driver and largest worker)")
    show(f"pages: {', '.join(map(str, pages))}")
    show(f"before you spend on the phone's: shapelaw verify {answers[1]} --plan")
    return {
        "sweep": sweep_summary,
        "fit": fitted.report(),
        "answers": [here.to_dict(), phone.to_dict()],
        "pages": [str(page) for page in pages],
        "seconds": seconds,
        "peak_memory_bytes": memory,
    }


def peak_memory_bytes() -> int:
    """Largest resident size of this process plus that of its largest child so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * sum(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )


def _sweep(out: Path, begun: Callable[[], None]) -> dict[str, Any]:
    from shapelaw.sweeps.design.design import load_design
    from shapelaw.sweeps.running.run_sweep import run_sweep

    design = load_design("demo")
    result = run_sweep(design, out, begun=begun)
    return {
        "design": design.name,
        "finished": result.finished,
        "reused": result.reused,
        "diverged": result.diverged,
        "failed": result.failed,
    }


def _fit(out: Path, show: Say) -> "Fit":
    from shapelaw.results.report import fit_tables
    from shapelaw.results.tables.reader import read_table
    from shapelaw.scaling.fit import fit_law
    from shapelaw.scaling.plots.plot_files import write_all

    table, dropped = read_table(out)
    # The form that has a term for every axis the sweep moved; `auto` may prefer a plainer one.
    fitted = fit_law(table, form="shape", label="demo", source="shapelaw demo", dropped=dropped)
    fitted.law.to_file(out / "law.json")
    show(*fit_tables(fitted.report()))
    write_all(fitted, out / "plots")
    return fitted


def _measure(out: Path, say: Say) -> "DeviceProfile":
    from shapelaw.search.devices.calibration.calibrate import calibrate
    from shapelaw.search.devices.profile import DeviceProfile

    path = out / "this-machine.toml"
    if path.exists():
        return DeviceProfile.from_file(path)
    profile, _ = calibrate("this-machine", engine="jax", quick=True, progress=say)
    profile.to_file(path)
    return profile


def _query(out: Path, fitted: "Fit", profile: "DeviceProfile") -> "tuple[Answer, Answer]":
    """Here, by the law just fitted and in the sizes it saw; on the phone, by the shipped law."""
    from shapelaw.search.answer.query import Budget, answer_command, query
    from shapelaw.search.space.space import Space

    tokens = fitted.law.range["tokens"][1]
    space = Space.around(fitted.law, factor=2.0, vocab_size=256, weight_bits=(32.0,))
    here = query(profile, fitted.law, Budget(tokens=tokens), space=space)
    phone = answer_command(PHONE, **PHONE_BUDGET)
    return here, phone


def _answers(out: Path, here: "Answer", phone: "Answer") -> list[Path]:
    """Each answer as `query --json` prints it, for `verify` and for scripts."""
    from shapelaw.scaling.atomic_files import write_atomically
    from shapelaw.scaling.json_text import json_text

    files = [out / "this-machine.json", out / "phone.json"]
    return [
        write_atomically(path, json_text(answer.to_dict()) + "\n")
        for path, answer in zip(files, (here, phone), strict=True)
    ]


def _pages(out: Path, fitted: "Fit", here: "Answer", phone: "Answer") -> list[Path]:
    """The page of each answer, and each front as a picture."""
    from shapelaw.search.answer.plots import write_front
    from shapelaw.search.page.law_runs import LawRuns
    from shapelaw.search.page.page import write_answer_page

    pages = [out / "this-machine.html", out / "phone.html"]
    write_answer_page(here, pages[0], LawRuns.of_fit(fitted))
    write_answer_page(phone, pages[1])
    write_front(here, out / "plots" / "pareto-this-machine.png")
    write_front(phone, out / "plots" / "pareto-phone.png")
    return pages
