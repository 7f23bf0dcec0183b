"""More never costs less: precision, context, batch and layers, on every shipped device."""

import dataclasses
import itertools

import numpy as np
import pytest

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import device_names, engines_of, load_device
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.cost import Costs, costs_from_constants
from shapelaw.search.workload import Workload

SHAPES = ("mobilellm-125m", "smollm2-360m", "llama-3.2-1b")
BASE = Workload(name="base", prompt=512, generated=128)


def shipped() -> list[tuple[str, str]]:
    return [(name, engine) for name in device_names() for engine in engines_of(name)]


@pytest.fixture(scope="module")
def profiles() -> list[tuple[str, Constants]]:
    """Every device with every engine that it runs."""
    return [(f"{n}@{e}", constants(load_device(n, e))) for n, e in shipped()]


def cost(c: Constants, work: Workload = BASE, *, layers: int = 1, bits: float = 16) -> Costs:
    shapes = [load_architecture(name) for name in SHAPES]
    batch = ArchitectureBatch.of(
        dataclasses.replace(a, n_blocks=a.n_blocks * layers) for a in shapes
    )
    return costs_from_constants(batch, c, work, weight_bits=bits)


def never_falls(where: str, series: list[np.ndarray]) -> None:
    for less, more in itertools.pairwise(series):
        assert np.all(more >= less * (1 - 1e-9)), (where, less, more)


def test_more_bits_are_never_read_faster(profiles: list[tuple[str, Constants]]) -> None:
    """At batch 1, where memory decides, every weight at 4, 8 or 16 bits. (A file of 4 bits may keep
    its vocabulary at 16, and then has more to read than one of 8.)"""
    for where, c in profiles:
        plain = dataclasses.replace(c, formats=None)
        each = [cost(plain, bits=bits) for bits in (4, 8, 16)]
        never_falls(where, [e.decode_s for e in each])
        never_falls(where, [e.memory_bytes for e in each])


def test_more_context_batch_and_layers_never_cost_less(
    profiles: list[tuple[str, Constants]],
) -> None:
    for where, c in profiles:
        contexts = [
            cost(c, Workload(name="w", prompt=prompt, generated=128))
            for prompt in (1, 16, 128, 500, 512, 513, 1024, 4096, 32768)
        ]
        batches = [
            cost(c, Workload(name="w", prompt=512, generated=128, batch=batch))
            for batch in (1, 2, 4, 16, 64)
        ]
        deeper = [cost(c, layers=layers) for layers in (1, 2, 3)]
        for series in (contexts, batches, deeper):
            never_falls(where, [e.decode_s for e in series])
            never_falls(where, [e.memory_bytes for e in series])
        for series in (contexts, deeper):
            never_falls(where, [e.ttft_s for e in series])


def test_a_prompt_of_one_token_costs_about_a_decode_step(
    profiles: list[tuple[str, Constants]],
) -> None:
    """At most 1.2 steps: the prefill hands out a token, as a step does."""
    work = Workload(name="one", prompt=1, generated=1, context=1)
    for where, c in profiles:
        found = cost(c, work)
        assert np.all(found.prefill_s <= 1.2 * found.decode_s), where
