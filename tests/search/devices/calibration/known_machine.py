"""A machine whose constants are known, and an engine that runs at its speed."""

import dataclasses

import numpy as np

from shapelaw.search.devices.calibration.least_squares import Observation, predict
from shapelaw.search.devices.calibration.timing_shapes import Case
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.constants import constants
from shapelaw.search.workload import Workload

TRUE = dataclasses.replace(
    constants(load_device("iphone-13")),
    bandwidth=2e10,
    kv_bandwidth=2e10,
    cache_capacity=(2e7,),
    cache_bandwidth=(6e10,),
    per_token=2e-4,
    per_layer=4e-5,
    per_layer_feature=1e-8,
    peak=((16.0, 1.3e11),),
    efficiency=1.0,
    half_width=40.0,
    half_tokens=3.0,
    attention_efficiency=0.2,
    per_prompt=1e-3,
    per_prompt_layer=2e-4,
    weights=((4.0, 4.5, 2e-11, 1.2), (8.0, 8.5, 1e-12, 1.0), (16.0, 16.0, 1e-12, 0.8)),
)
"""A machine whose constants are known."""


class Pretend:
    """An engine whose speed follows the known constants, with a little noise."""

    peak_bytes = None
    file_bytes = None

    def __init__(self, case: Case, noise: float, generator: np.random.Generator) -> None:
        self.case, self.noise, self.generator = case, noise, generator

    def run(self, prompt_tokens: int, decode_tokens: int) -> tuple[float, float]:
        work = Workload(name="w", prompt=prompt_tokens, generated=decode_tokens)
        a, bits = self.case.architecture, self.case.weight_bits
        rows = [
            Observation(a, work, "prefill", bits, 1.0),
            Observation(a, work, "decode", bits, 1.0),
        ]
        prefill, decode = predict(rows, TRUE)
        slower = 1 + self.noise * self.generator.exponential(size=2)
        return float(prefill * slower[0]), float(decode * slower[1])

    def close(self) -> None:
        pass
