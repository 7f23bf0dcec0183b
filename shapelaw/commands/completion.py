"""What the shell completes: names of devices, laws, forms, workloads, shapes, spaces, designs.

Each falls back on files, which most options take as well. Names are looked up when the shell asks.
"""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Names = Callable[[], Iterable[str]]
Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completing(names: Names, *, several: bool = False, files: bool = True) -> Complete:
    """A completion of known names; of the last one where `several` are joined by commas."""

    def complete(
        context: click.Context, parameter: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        done, comma, begun = incomplete.rpartition(",") if several else ("", "", incomplete)
        found = [CompletionItem(done + comma + name) for name in names() if name.startswith(begun)]
        return found or ([CompletionItem(incomplete, type="file")] if files else [])

    return complete


def devices() -> Iterable[str]:
    """Of the catalogue and of this machine's own calibrations."""
    from shapelaw.search.devices.catalogue import device_names

    return device_names()


def laws() -> Iterable[str]:
    """That ship."""
    from shapelaw.results.shipped_laws import law_names

    return law_names()


def forms() -> Iterable[str]:
    """Of laws, and auto."""
    from shapelaw.scaling.forms import FORMS

    return ["auto", *FORMS]


def workloads() -> Iterable[str]:
    """Presets."""
    from shapelaw.search.workload import workload_names

    return workload_names()


def architectures() -> Iterable[str]:
    """Published shapes."""
    from shapelaw.search.architectures import known_names

    return known_names()


def spaces() -> Iterable[str]:
    """Presets."""
    from shapelaw.search.space.space import space_names

    return space_names()


def designs() -> Iterable[str]:
    """Presets."""
    from shapelaw.sweeps.design.design import presets

    return presets()


def formats() -> Iterable[str]:
    """Weight formats of every family."""
    from shapelaw.scaling.formats.mixes import MIXES

    return dict.fromkeys(name for family in MIXES.values() for name in family)


def objectives() -> Iterable[str]:
    """Of the front."""
    from shapelaw.search.pareto.problem import OBJECTIVES

    return list(OBJECTIVES)
