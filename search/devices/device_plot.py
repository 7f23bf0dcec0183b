"""A device as a figure: decode speed against model size."""

from typing import TYPE_CHECKING

import numpy as np

from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.search.devices.cost import costs
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.workload import load_workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
"""d_model of the shapes drawn: LLaMA's proportions, d_model / 64 layers, heads of 64."""


def speed_against_size(profile: DeviceProfile) -> "Figure":
    """Tokens per second of LLaMA-proportioned models at 8 bits, workload chat."""
    from matplotlib.figure import Figure

    shapes = [
        Architecture(
            vocab_size=32_000,
            d_model=width,
            n_blocks=max(2, width // 64),
            n_heads=width // 64,
            n_kv_heads=width // 64,
            head_dim=64,
            d_ff=64 * round(width * 8 / 3 / 64),
        )
        for width in WIDTHS
    ]
    batch = ArchitectureBatch.of(shapes)
    speed = costs(batch, profile, load_workload("chat"), weight_bits=8).decode_tokens_per_s
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog(np.asarray(batch.total_parameters), speed, marker="o", color="#2b6777")
    axes.set_xlabel("stored parameters")
    axes.set_ylabel("decode speed, tokens/s")
    title = f"{profile.title}: LLaMA-like shapes at 8 bits".replace("$", r"\$")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, alpha=0.25)
    return figure
