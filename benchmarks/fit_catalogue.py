"""Writes search/devices/catalogue/*.toml: figures fitted to public measurements, or datasheets.

Run `python -m benchmarks.devices --fit-catalogue`. Datasheet figures and their sources are in
benchmarks/datasheets.toml; whatever measurements determine replaces them here.
"""

import dataclasses
from pathlib import Path
from typing import Any

from benchmarks import device_rows
from shapelaw.scaling.architecture import Architecture
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.calibration.least_squares import (
    Free,
    Observation,
    Solution,
    cache_field,
    field,
    solve,
)
from shapelaw.search.devices.constants import Constants, constants
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.workload import Workload

CATALOGUE = Path(__file__).resolve().parents[1] / "search" / "devices" / "profiles"
DATASHEETS = Path(__file__).with_name("datasheets.toml")

Document = dict[str, Any]


def figure(value: float, unit: str, source: str, status: str) -> dict[str, Any]:
    """One figure, to four digits: no more is known of any of them."""
    return {"value": float(f"{value:.4g}"), "unit": unit, "source": source, "status": status}


# --- from the datasheet table to a profile --------------------------------------------------------


def datasheet_document(name: str, sheet: dict[str, Any], typical: dict[str, Any]) -> Document:
    """A profile from datasheet figures and the kind's typical efficiencies.

    `sheet` gives numbers in the units of the columns below; `typical` those of its kind.
    """
    source = sheet["source"]
    usual = typical["source"]

    def asserted(value: float, unit: str) -> dict[str, Any]:
        return figure(value, unit, usual, "asserted")

    share = sheet.get("decode_efficiency", typical["decode_efficiency"])
    document: Document = {
        "name": name,
        "title": sheet["title"],
        "kind": sheet["kind"],
        "engine": sheet["engine"],
        "memory": {
            "capacity": figure(sheet["memory_gb"], "GB", source, "datasheet"),
            "app_share": asserted(typical["app_share"], "share"),
            "bandwidth": asserted(sheet["bandwidth_gbps"] * share, "GB/s"),
            "nominal_bandwidth": figure(sheet["bandwidth_gbps"], "GB/s", source, "datasheet"),
            "runtime": asserted(typical["runtime_mb"], "MB"),
        },
        "compute": {
            "peak": {
                bits: figure(rate, "TFLOP/s", source, "datasheet")
                for bits, rate in sheet["tflops"].items()
            },
            "efficiency": asserted(
                sheet.get("prefill_efficiency", typical["prefill_efficiency"]), "share"
            ),
            "attention_efficiency": asserted(typical["attention_efficiency"], "share"),
            "half_tokens": asserted(typical["half_tokens"], "tokens"),
        },
        "overhead": {
            "per_token": asserted(typical["per_token_us"], "us"),
            "per_layer": asserted(typical["per_layer_us"], "us"),
        },
        "weights": {
            bits: {"stored_bits": figure(stored, "bits", typical["formats_source"], "datasheet")}
            for bits, stored in typical["stored_bits"].items()
        },
    }
    if "cache_mb" in sheet:
        document["cache"] = [
            {
                "name": sheet["cache_name"],
                "capacity": figure(sheet["cache_mb"], "MB", source, "datasheet"),
                "bandwidth": asserted(sheet["bandwidth_gbps"] * typical["cache_ratio"], "GB/s"),
            }
        ]
    energy = sheet.get("energy", typical.get("energy"))
    if energy:
        why = energy["source"]
        document["energy"] = {
            "per_dram_byte": figure(energy["per_dram_byte_pj"], "pJ/B", why, "asserted"),
            "per_cache_byte": figure(energy["per_cache_byte_pj"], "pJ/B", why, "asserted"),
            "per_operation": figure(energy["per_operation_pj"], "pJ/OP", why, "asserted"),
            "static_power": figure(energy["static_w"], "W", why, "asserted"),
        }
    if "battery_kj" in sheet:
        document["battery"] = figure(sheet["battery_kj"], "kJ", source, "datasheet")
    if "sustained_share" in typical:
        document["sustained_share"] = asserted(typical["sustained_share"], "share")
    if "price_usd_h" in sheet:
        document["price"] = figure(
            sheet["price_usd_h"], "USD/h", "typical on-demand rental, 2025", "asserted"
        )
    if sheet.get("notes"):
        document["notes"] = list(sheet["notes"])
    return document


def profile_of(document: Document) -> DeviceProfile:
    """The document as a checked profile."""
    import msgspec

    return msgspec.convert(document, DeviceProfile).validate()


# --- fits -----------------------------------------------------------------------------------------


def with_bandwidth(low: float, high: float, start: float) -> Free:
    """DRAM bandwidth for weights and KV cache together."""
    return Free(
        "bandwidth",
        low,
        high,
        start,
        lambda c, v: dataclasses.replace(c, bandwidth=v, kv_bandwidth=v),
    )


IPHONE_SOURCE = (
    "fitted to MobileLLM-125M on iPhone 13, 15.6 / 16.0 / 29.0 ms for 30 blocks, 30 applied twice, "
    "60 distinct (arXiv 2402.14905, table 7), weights in float16 as ExecuTorch's MPS backend casts "
    "them by default"
)
IPHONE_TOKEN = Workload(name="one token", prompt=1, generated=1, context=1)
IPHONE_MS = ((30, 1, 15.6), (30, 2, 16.0), (60, 1, 29.0))


def iphone_observations() -> list[Observation]:
    """The three variants of table 7."""
    base = load_architecture("mobilellm-125m")
    return [
        Observation(
            dataclasses.replace(base, n_blocks=blocks, sharing=sharing),
            IPHONE_TOKEN,
            "decode",
            16.0,
            ms / 1e3,
        )
        for blocks, sharing, ms in IPHONE_MS
    ]


LEAST_PER_LAYER = 10e-6
LEAST_PER_TOKEN = 200e-6
IPHONE_FLOOR = (
    "the least that is plausible, above what the timings of MobileLLM-125M ask for (arXiv "
    "2402.14905, table 7): {why}"
)
IPHONE_LAYER_WHY = (
    "four dependent kernels of 2.4 us, as 3200 tiny ones in 7.7 ms on a larger Apple GPU "
    "(ml-explore/mlx issue 4521)"
)
IPHONE_TOKEN_WHY = "one Metal command buffer committed and waited for"


def fit_iphone(document: Document) -> Solution:
    """Bandwidth, cache bandwidth and overheads of the A15 from the three timings, within bounds.

    The cache may serve up to 200 GB/s, some six times DRAM, about what Apple system caches
    are credited with; the timings alone would take more, and hardly any overhead.
    """
    template = constants(profile_of(document))
    free = [
        with_bandwidth(8e9, 34e9, 16e9),
        cache_field(0, "bandwidth", 60e9, 200e9, 150e9),
        field("per_layer", LEAST_PER_LAYER, 1e-4, 2e-5),
        field("per_token", LEAST_PER_TOKEN, 3e-3, 5e-4),
    ]
    solution = solve(iphone_observations(), template, free, starts=6, huber=1.0)
    c = solution.constants
    document["memory"]["bandwidth"] = figure(c.bandwidth / 1e9, "GB/s", IPHONE_SOURCE, "fitted")
    document["cache"][0]["bandwidth"] = figure(
        c.cache_bandwidth[0] / 1e9, "GB/s", IPHONE_SOURCE + "; bounded above by 200 GB/s", "fitted"
    )
    for name, why in (("per_layer", IPHONE_LAYER_WHY), ("per_token", IPHONE_TOKEN_WHY)):
        floor = name in solution.at_bound
        document["overhead"][name] = figure(
            getattr(c, name) * 1e6,
            "us",
            IPHONE_FLOOR.format(why=why) if floor else IPHONE_SOURCE,
            "asserted" if floor else "fitted",
        )
    return solution


APPLE_SOURCE = (
    "fitted to Llama-2-7B with llama.cpp (build 8e672ef), ggml-org/llama.cpp discussion 4167, "
    "{chip}"
)
LAYER_PART = 0.9
"""Share of a token's fixed time laid on its layers; one model cannot tell it from the token's."""


def fit_apple(document: Document, chip: device_rows.AppleChip) -> None:
    """Bandwidth and fixed time of one chip from its precisions, and its prefill efficiency."""
    template = constants(profile_of(document))
    solution = fit_apple_decode(template, chip.decode, chip.nominal_bandwidth)
    source = APPLE_SOURCE.format(chip=chip.name)
    c = solution.constants
    document["memory"]["bandwidth"] = figure(c.bandwidth / 1e9, "GB/s", source, "fitted")
    split = "; one model: its split between token and layers is assumed (1 : 9)"
    document["overhead"]["per_layer"] = figure(c.per_layer * 1e6, "us", source + split, "fitted")
    document["overhead"]["per_token"] = figure(c.per_token * 1e6, "us", source + split, "fitted")
    if chip.prefill:
        rows = [
            Observation(
                load_architecture("llama-2-7b"), device_rows.APPLE_PREFILL, "prefill", bits, seconds
            )
            for bits, seconds in chip.prefill.items()
        ]
        found = solve(rows, c, [field("efficiency", 0.05, 1.0, 0.6)], starts=1).constants
        document["compute"]["efficiency"] = figure(found.efficiency, "share", source, "fitted")


def fit_apple_decode(template: Constants, decode: dict[float, float], nominal: float) -> Solution:
    """Bandwidth below the nominal one and a fixed time per token, from two or three precisions."""
    model = load_architecture("llama-2-7b")
    rows = [
        Observation(model, device_rows.APPLE_DECODE, "decode", bits, seconds)
        for bits, seconds in decode.items()
    ]

    def put(c: Constants, value: float) -> Constants:
        return dataclasses.replace(
            c, per_token=(1 - LAYER_PART) * value, per_layer=LAYER_PART * value / model.n_blocks
        )

    fixed = Free("fixed time", 1e-5, 3e-2, 2e-3, put)
    return solve(
        rows, template, [with_bandwidth(0.3 * nominal, nominal, 0.85 * nominal), fixed], starts=2
    )


def fit_rows(
    document: Document, observations: list[Observation], free: list[Free], source: str
) -> Solution:
    """Any decode fit whose free constants are the bandwidth, the overheads and the unpacking."""
    solution = solve(observations, constants(profile_of(document)), free, starts=4)
    c = solution.constants
    names = {f.name for f in free}
    if "bandwidth" in names:
        document["memory"]["bandwidth"] = figure(c.bandwidth / 1e9, "GB/s", source, "fitted")
    for name in ("per_token", "per_layer"):
        if name in names:
            document["overhead"][name] = figure(getattr(c, name) * 1e6, "us", source, "fitted")
    for bits, _, unpack, _ in c.weights:
        if f"weights.{bits:g}.unpack" in names:
            document["weights"][f"{bits:g}"]["unpack"] = figure(
                unpack * 1e12, "ps/weight", source, "fitted"
            )
    return solution


ONE_TOKEN = Workload(name="decode", prompt=64, generated=128)


def decode_row(name: str | Architecture, bits: float, tokens_per_s: float) -> Observation:
    """A published decode speed as an observation."""
    shape = load_architecture(name) if isinstance(name, str) else name
    return Observation(shape, ONE_TOKEN, "decode", bits, 1 / tokens_per_s)


def prefill_row(name: str, prompt: int, bits: float, tokens_per_s: float) -> Observation:
    """A published prefill speed as an observation."""
    work = Workload(name="prefill", prompt=prompt, generated=1)
    return Observation(load_architecture(name), work, "prefill", bits, prompt / tokens_per_s)


def fit_prefill(document: Document, observations: list[Observation], source: str) -> None:
    """The share of the peak that prefill reaches."""
    found = solve(
        observations,
        constants(profile_of(document)),
        [field("efficiency", 0.01, 1.0, 0.3)],
        starts=1,
    ).constants
    document["compute"]["efficiency"] = figure(found.efficiency, "share", source, "fitted")


def weighted_unpack(bits: float, low: float, high: float, start: float) -> Free:
    """Unpacking cost of one precision."""
    from shapelaw.search.devices.calibration.least_squares import weight_field

    return weight_field(bits, "unpack", low, high, start)
