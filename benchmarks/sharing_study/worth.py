"""What applying blocks twice buys in loss and costs in time, put together, by device.

The shapes are MobileLLM-125M's (arXiv 2402.14905): A, its 30 blocks; B, the same blocks applied
twice; C, 60 narrower blocks of as many parameters; D, 60 distinct blocks as wide. Loss is the
evidence law's, of studies nobody has run; time is one decoded token by the device's profile. Both
are draws, and intervals are 90 %. What the question comes to is B against as many distinct blocks,
as wide, as the device decodes in B's time.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from benchmarks.published_timings import IPHONE_MS, IPHONE_TOKEN
from benchmarks.study.effects import labelled, paired_effects
from benchmarks.study.measure import PROFILE, read_measured
from benchmarks.study.records import load_study
from shapelaw.results.evidence.shipped_evidence import evidence_law
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.constants import constants
from shapelaw.search.devices.cost import cost_draws
from shapelaw.search.devices.profile import DeviceProfile

TOKENS = 1e12
BLOCKS = 30
DISTINCT = tuple(range(BLOCKS, 2 * BLOCKS + 1))
"""Numbers of distinct blocks as wide as A's, timed beside B."""
DRAWS = 800
LEVEL = 0.9
SURE = 0.9
"""Probability from which a sign is said to be told."""
DEVICES = (("iPhone 13", "iphone-13", 16.0), ("this machine", "", 32.0), ("H100", "h100", 16.0))
"""Title, profile (the one calibrated for the reference study where empty), bits of a weight."""


def shapes() -> dict[str, Architecture]:
    """A, B, C and D."""
    a = load_architecture("mobilellm-125m")
    return {
        "A": a,
        "B": dataclasses.replace(a, sharing=2),
        "C": dataclasses.replace(
            a, n_blocks=2 * BLOCKS, d_model=384, n_heads=6, n_kv_heads=2, d_ff=1184
        ),
        "D": dataclasses.replace(a, n_blocks=2 * BLOCKS),
    }


def _interval(values: np.ndarray) -> dict[str, float]:
    low, middle, high = np.quantile(values, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2])
    return {"value": float(middle), "low": float(low), "high": float(high)}


def _log_losses(architectures: list[Architecture]) -> np.ndarray:
    """ln L [k, n] by draws of a new study."""
    law = evidence_law()
    return np.log(law.loss_draws(ArchitectureBatch.of(architectures), TOKENS)[:DRAWS])


def _measured(title: str) -> dict[str, float]:
    """ln(time / A's) of B and D where somebody timed them."""
    if title == "iPhone 13":
        a, b, d = (ms for _, _, ms in IPHONE_MS)
    elif title == "this machine":
        trio = [one.decode_s for one in read_measured() if one.family == "d_model 576"]
        a, b, d = trio
    else:
        return {}
    return {"B": float(np.log(b / a)), "D": float(np.log(d / a))}


def _blocks_in_time(measured: dict[str, float]) -> int:
    """Place in DISTINCT of the stack that takes B's time, between A's and D's as measured."""
    more, most = (np.expm1(measured[cell]) for cell in "BD")
    return int(np.clip(np.floor(more / most * BLOCKS), 0, BLOCKS))


def _equal_time(shared: np.ndarray, of_stacks: np.ndarray, place: np.ndarray) -> dict[str, Any]:
    """B [k] against the stack of DISTINCT that each draw [k] has at B's time."""
    better = shared - np.take_along_axis(of_stacks, place[:, None], axis=1)[:, 0]
    return {
        "blocks": _interval(np.array(DISTINCT, float)[place]),
        "loss": _interval(better),
        "probability_sharing_better": float(np.mean(better < 0)),
    }


@functools.cache
def worth() -> dict[str, Any]:
    """All figures: logarithms of loss and of time, over A's, and the comparison at equal time."""
    four = shapes()
    stacks = [dataclasses.replace(four["A"], n_blocks=n) for n in DISTINCT]
    names = list(four)
    losses = _log_losses([*four.values(), *stacks])
    of_cells, of_stacks = losses[:, :4], losses[:, 4:]
    gain = of_cells - of_cells[:, :1]
    devices = []
    for title, name, bits in DEVICES:
        profile = load_device(name) if name else DeviceProfile.from_file(PROFILE)
        batch = ArchitectureBatch.of([*four.values(), *stacks])
        seconds = cost_draws(
            batch, profile, IPHONE_TOKEN, count=len(losses), weight_bits=bits
        ).decode_s.T
        ratio = np.log(seconds[:, :4] / seconds[:, :1])
        place = np.maximum((seconds[:, 4:] <= seconds[:, 1:2]).sum(axis=1) - 1, 0)
        measured = _measured(title)
        devices.append(
            {
                "device": title,
                "engine": profile.engine if name else "jax",
                "bits": bits,
                "copies": not constants(profile).shares_blocks,
                "cells": {
                    cell: {"time": _interval(ratio[:, at]), "loss": _interval(gain[:, at])}
                    for at, cell in enumerate(names)
                    if cell != "A"
                },
                "measured": measured,
                "equal_time": _equal_time(of_cells[:, 1], of_stacks, place),
                "equal_measured_time": _equal_time(
                    of_cells[:, 1], of_stacks, np.full(len(losses), _blocks_in_time(measured))
                )
                if measured
                else None,
            }
        )
    runs = [one for one in labelled(load_study().records) if "learning_rate" not in one.label]
    effects = {one.axis: one for one in paired_effects(runs)}
    shared = effects["sharing 2"]
    low, high = shared.interval
    return {
        "tokens": TOKENS,
        "devices": devices,
        "reference": {"value": shared.mean, "low": low, "high": high, "trunks": shared.trunks},
    }


def sources(figures: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """What says what B loses less than A, ln(loss B / loss A): label and interval."""
    found = [
        ("evidence law, 125M, 1T tokens", figures["worth"]["devices"][0]["cells"]["B"]["loss"]),
        ("reference study, 12k to 80k", figures["worth"]["reference"]),
    ]
    for one in figures["contrasts"]:
        if (one["of"], one["against"]) == ("twice", "distinct") and len(one["base_depths"]) == 1:
            label = (
                f"sharing study, {one['base_depths'][0]} layers, {one['tokens'] / 1e6:.1f}M tokens"
            )
            found.append((label, one))
    return found
