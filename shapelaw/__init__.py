"""Measure what a language model's shape buys in loss and costs on a device; then choose the shape.

>>> import shapelaw
>>> answer = shapelaw.query(device="iphone-13", memory="400MB", decode=20, tokens="1T")
>>> sorted(answer.to_dict()["best"]["architecture"])[:3]
['d_ff', 'd_model', 'global_every']

Public names take the words and the units of the command line. They are imported when first used, so
that `import shapelaw` costs nothing; `shapelaw.scaling`, `shapelaw.results`, `shapelaw.sweeps` and
`shapelaw.search` are the rooms behind them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from shapelaw.notebook_views import register_all
from shapelaw.version import VERSION as __version__

if TYPE_CHECKING:
    from shapelaw.api import (
        calibrate,
        costs,
        explain,
        export,
        fit_law,
        load_device,
        load_law,
        predict,
        query,
        read_table,
        run_sweep,
    )
    from shapelaw.results.store import read_records
    from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
    from shapelaw.scaling.errors import BadInput, NoAnswer
    from shapelaw.scaling.fit import Fit
    from shapelaw.scaling.law import Law
    from shapelaw.scaling.run_table import RunTable
    from shapelaw.search.answer.answer import Answer
    from shapelaw.search.architectures import load_architecture
    from shapelaw.search.devices.explanation import Explanation
    from shapelaw.search.devices.profile import DeviceProfile
    from shapelaw.search.workload import Workload, load_workload
    from shapelaw.sweeps.design.design import Design, load_design

__all__ = [
    "Answer",
    "Architecture",
    "ArchitectureBatch",
    "BadInput",
    "Design",
    "DeviceProfile",
    "Explanation",
    "Fit",
    "Law",
    "NoAnswer",
    "RunTable",
    "Workload",
    "__version__",
    "calibrate",
    "costs",
    "explain",
    "export",
    "fit_law",
    "load_architecture",
    "load_design",
    "load_device",
    "load_law",
    "load_workload",
    "predict",
    "query",
    "read_records",
    "read_table",
    "run_sweep",
]

_ELSEWHERE = {
    "Answer": "shapelaw.search.answer.answer",
    "Architecture": "shapelaw.scaling.architecture",
    "ArchitectureBatch": "shapelaw.scaling.architecture",
    "BadInput": "shapelaw.scaling.errors",
    "Design": "shapelaw.sweeps.design.design",
    "DeviceProfile": "shapelaw.search.devices.profile",
    "Explanation": "shapelaw.search.devices.explanation",
    "Fit": "shapelaw.scaling.fit",
    "Law": "shapelaw.scaling.law",
    "NoAnswer": "shapelaw.scaling.errors",
    "RunTable": "shapelaw.scaling.run_table",
    "Workload": "shapelaw.search.workload",
    "load_architecture": "shapelaw.search.architectures",
    "load_design": "shapelaw.sweeps.design.design",
    "load_workload": "shapelaw.search.workload",
    "read_records": "shapelaw.results.store",
}
"""Where a public name lives; the others are in `shapelaw.api`."""

register_all()


def __getattr__(name: str) -> Any:
    """Public names, imported when first used."""
    if name in __all__:
        return getattr(importlib.import_module(_ELSEWHERE.get(name, "shapelaw.api")), name)
    raise AttributeError(f"module 'shapelaw' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
