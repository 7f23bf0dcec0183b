"""The bars that need no engine here: published timings, energies, throughputs, formulas, speed."""

import dataclasses
import os
import time

import numpy as np

from benchmarks import device_rows
from benchmarks.fit_jetson import energy_held_out, fit_mode, template_of
from benchmarks.published_timings import (
    IPHONE_MS,
    IPHONE_TOKEN,
    fit_apple_decode,
    iphone_observations,
)
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.calibration.least_squares import Observation, predict
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.constants import constants
from shapelaw.search.devices.cost import cost_intervals, costs
from shapelaw.search.devices.explain import explain
from shapelaw.search.devices.uncertainty import DRAWS
from shapelaw.search.sparse_attention import (
    BlockSparse,
    Eviction,
    Quest,
    VerticalSlash,
    compression,
)
from shapelaw.search.workload import Workload, load_workload


def percent(value: float) -> str:
    """A signed percentage."""
    return f"{100 * value:+.1f} %"


def verdict(holds: bool) -> str:
    """What a bar came to."""
    return "holds" if holds else "MISSED"


def roofline_seconds(o: Observation, bandwidth: float) -> float:
    """Weight bytes over nominal bandwidth: all that a datasheet says."""
    a = o.architecture
    count = a.applied_parameters + a.vocab_size * a.d_model
    return float(count) * o.weight_bits / 8 / bandwidth


# --- iPhone 13 -----------------------------------------------------------------------------------


def iphone() -> list[str]:
    """Three variants of MobileLLM-125M from one profile."""
    profile = load_device("iphone-13")
    c = constants(profile)
    rows = iphone_observations()
    found = predict(rows, c)
    errors = found / [o.seconds for o in rows] - 1
    flat = [roofline_seconds(o, profile.si("memory.nominal_bandwidth")) for o in rows]
    lines = [
        f"{blocks} blocks × {sharing}: {1e3 * seconds:.2f} ms, published {ms} ({percent(error)}); "
        f"plain roofline {1e3 * roof:.1f} ms"
        for (blocks, sharing, ms), seconds, error, roof in zip(
            IPHONE_MS, found, errors, flat, strict=True
        )
    ]
    lines.append(
        f"float16 weights, {c.bandwidth / 1e9:.1f} GB/s from DRAM, "
        f"{c.cache_bandwidth[0] / 1e9:.0f} GB/s from the system cache, {1e6 * c.per_layer:.1f} us "
        f"a layer, {1e6 * c.per_token:.0f} us a token ({IPHONE_TOKEN.name})"
    )
    good = bool(np.all(np.abs(errors) <= 0.05)) and c.bandwidth <= 34e9
    return [*lines, f"bar: each within 5 %, bandwidth at most 34 GB/s: {verdict(good)}"]


# --- Apple silicon -------------------------------------------------------------------------------


def apple() -> list[str]:
    """Two precisions of a chip predict the third."""
    chips = device_rows.apple_chips()
    if chips is None:
        return ["skipped: the Apple table is not here"]
    template = constants(load_device("m2-pro"))
    per_chip: list[float] = []
    roofs: list[float] = []
    by_bits: dict[float, list[float]] = {16.0: [], 8.0: [], 4.0: []}
    model = load_architecture("llama-2-7b")
    for chip in chips:
        if len(chip.decode) < 3:
            continue
        errors = []
        for left_out, seconds in chip.decode.items():
            rest = {bits: s for bits, s in chip.decode.items() if bits != left_out}
            fitted = fit_apple_decode(template, rest, chip.nominal_bandwidth).constants
            row = Observation(model, device_rows.APPLE_DECODE, "decode", left_out, seconds)
            error = float(predict([row], fitted)[0] / seconds - 1)
            errors.append(abs(error))
            by_bits[left_out].append(abs(error))
            stored = dataclasses.replace(
                row, weight_bits=float(fitted.stored_bits(np.array([left_out]))[0])
            )
            roofs.append(abs(roofline_seconds(stored, chip.nominal_bandwidth) / seconds - 1))
        per_chip.append(float(np.mean(errors)))
    mean = float(np.mean(per_chip))
    return [
        f"{len(per_chip)} chips with three precisions, each predicted from the other two",
        "mean error by left-out precision: "
        + ", ".join(
            f"{bits:g} bits {100 * float(np.mean(e)):.1f} %" for bits, e in by_bits.items()
        ),
        f"mean over chips {100 * mean:.1f} %, worst chip {100 * max(per_chip):.1f} %; plain "
        f"roofline {100 * float(np.mean(roofs)):.1f} %",
        f"bar: mean at most 7 %: {verdict(mean <= 0.07)}",
    ]


# --- Jetson --------------------------------------------------------------------------------------


def jetson() -> list[str]:
    """Leave one model out, in each power mode; decode, and joules per token."""
    rows = device_rows.jetson_rows()
    if rows is None:
        return ["skipped: the Jetson table is not here"]
    lines, decode_good = [], True
    all_joules: list[float] = []
    for mode, name in device_rows.JETSON_MODES.items():
        chosen = [row for row in rows if row.mode == mode]
        errors, roofs = [], []
        for held in chosen:
            rest = [row.decode for row in chosen if row is not held]
            fitted = fit_mode(rest, template_of(name)).constants
            errors.append(float(predict([held.decode], fitted)[0] / held.decode.seconds - 1))
            roofs.append(abs(held.file_bytes / 102e9 / held.decode.seconds - 1))
        joules = energy_held_out(chosen, template_of(name))
        mean, energy_mean = float(np.mean(np.abs(errors))), float(np.mean(np.abs(joules)))
        decode_good &= mean <= 0.10
        all_joules += [abs(float(error)) for error in joules]
        lines.append(
            f"{mode}: decode {100 * mean:.1f} % (plain roofline {100 * float(np.mean(roofs)):.0f} "
            f"%), joules a token {100 * energy_mean:.1f} %; decode by model "
            + ", ".join(f"{row.model} {percent(e)}" for row, e in zip(chosen, errors, strict=True))
        )
    lines.append(
        "the rows' own noise: SmolLM2-360M decodes 14 % slower in MAXN than at 25 W, "
        "Qwen3-0.6B 9 % faster"
    )
    energy_mean = float(np.mean(all_joules))
    return [
        *lines,
        f"bar: decode at most 10 % in each mode: {verdict(decode_good)}",
        f"bar: joules a token at most 15 % over the rows: {100 * energy_mean:.1f} %: "
        f"{verdict(energy_mean <= 0.15)}",
    ]


# --- energy --------------------------------------------------------------------------------------


def energy() -> list[str]:
    """The budgets of MobileLLM's argument, from a profile marked asserted."""
    profile = load_device("mobilellm-phone")
    chat = load_workload("chat")
    assert profile.energy is not None
    status = profile.energy.per_dram_byte.status
    rate = 10.0
    lines = []
    hours = {}
    for name in ("llama-2-7b", "mobilellm-350m"):
        joules = explain(load_architecture(name), profile, chat)["energy_per_token_j"]
        hours[name] = profile.si("battery") / joules / rate / 3600
        lines.append(
            f"{name} at 8 bits ({status}): {joules:.3f} J a token, "
            f"{hours[name]:.2f} h of {rate:g} tokens/s from "
            f"{profile.si('battery') / 1e3:g} kJ"
        )
    good = hours["llama-2-7b"] < 2 and hours["mobilellm-350m"] >= 24
    return [*lines, f"bar: 7B under 2 h, 350M a day: {verdict(good)}"]


# --- SGLang on H200 ------------------------------------------------------------------------------

SGLANG = {"1b": 0.469, "3b": 0.166}
BATCH = 128


def sglang() -> list[str]:
    """Throughput gain of Surefire over LLaMA-3.2 with 4096 tokens in and 1024 out on an H200."""
    profile = load_device("h200", "sglang")
    work = Workload(name="4096 in, 1024 out", prompt=4096, generated=1024, batch=BATCH)
    lines, good = [], True
    for size, published in SGLANG.items():
        rates = []
        for name in (f"llama-3.2-{size}", f"surefire-{size}"):
            batch = ArchitectureBatch.of([load_architecture(name)])
            artifact = costs(batch, profile, work, weight_bits=16).artifact_s[0]
            rates.append(work.generated / float(artifact))
        gain = rates[1] / rates[0] - 1
        good &= abs(gain - published) <= 0.10
        lines.append(
            f"{size}: {rates[0]:,.0f} → {rates[1]:,.0f} tokens/s, gain {percent(gain)}, "
            f"published {percent(published)}"
        )
    sweep = []
    for size in SGLANG:
        gains = []
        for batch_size in (16, 32, 64, 128, 256):
            other = Workload(name="sweep", prompt=4096, generated=1024, batch=batch_size)
            pair = ArchitectureBatch.of(
                [load_architecture(f"{n}-{size}") for n in ("llama-3.2", "surefire")]
            )
            seconds = costs(pair, profile, other, weight_bits=16).artifact_s
            gains.append(f"{batch_size}: {percent(float(seconds[0] / seconds[1] - 1))}")
        sweep.append(f"{size} by batch {', '.join(gains)}")
    return [*lines, *sweep, f"bar: both gains within 10 points at batch {BATCH}: {verdict(good)}"]


# --- sparse attention ----------------------------------------------------------------------------

PAIRS = (
    ("llama-2-7b", "llama-2-13b", 1, 20.0),
    ("qwen2.5-7b", "qwen2.5-14b", 8, 10.0),
    ("qwen2.5-7b", "qwen2.5-14b", 16, 20.0),
    ("mistral-7b", "qwen2.5-14b", 8, 10.0),
)
PAGE = 16


def sparse() -> list[str]:
    """Formulas against enumeration, and where a larger sparse model costs what a dense one does."""
    worst = max(
        abs(_block_sparse_count(n, chunk, kept) - BlockSparse(chunk, kept).sparsity(n))
        for n in (64, 100, 256)
        for chunk in (8, 16)
        for kept in (1, 3, 50)
    )
    slash = VerticalSlash(blocks=6, columns=40)
    n = 256
    direct = 1 - (6 * 64 * 64 + 40 * 64) / sum(range(1, n + 1))
    worst = max(
        worst,
        abs(slash.sparsity(n) - direct),
        abs(Quest(64, PAGE).sparsity(n) - (1 - len(range(64)) / n)),
        abs(Eviction(64).sparsity(n) - (1 - 64 / n)),
    )
    lines = [
        f"formulas against enumeration: largest difference {worst:.1e}; compression of .9 is "
        f"{compression(0.9):g}"
    ]
    profile = load_device("a100")
    crossings = []
    for dense, larger, batch, ratio in PAIRS:
        crossing = crossover(load_architecture(dense), load_architecture(larger), batch, ratio)
        crossings.append(crossing)
        lines.append(
            f"{larger} reading 1/{ratio:g} of its context (Quest, pages of {PAGE}) decodes as fast "
            f"as dense {dense} from {crossing / 1024:.0f}K tokens on, batch {batch}, "
            f"{profile.name}, float16"
        )
    good = worst < 1e-12 and all(16 * 1024 <= value <= 128 * 1024 for value in crossings)
    return [*lines, f"bar: exact, crossings within 16K to 128K: {verdict(good)}"]


def _block_sparse_count(n: int, chunk: int, kept: int) -> float:
    """Sparsity by walking over the rows of blocks."""
    rows = -(-n // chunk)
    computed = sum(min(row + 1, kept) for row in range(rows))
    return 1 - computed / sum(row + 1 for row in range(rows))


def crossover(dense: Architecture, larger: Architecture, batch: int, ratio: float) -> float:
    """Context from which the larger sparse model decodes no slower than the dense one."""
    profile = load_device("a100")

    def gap(context: int) -> float:
        plain = Workload(name="dense", prompt=context, generated=1, context=context, batch=batch)
        thin = Workload(
            name="sparse",
            prompt=context,
            generated=1,
            context=context,
            batch=batch,
            decode_attention=Quest(budget=max(1, round(context / ratio)), page=PAGE),
        )
        one = costs(ArchitectureBatch.of([dense]), profile, plain, weight_bits=16).decode_s[0]
        two = costs(ArchitectureBatch.of([larger]), profile, thin, weight_bits=16).decode_s[0]
        return float(two - one)

    low, high = 1, 1 << 22
    if gap(low) <= 0:
        return float(low)
    if gap(high) > 0:
        return float("inf")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if gap(middle) > 0 else (low, middle)
    return float(high)


# --- speed ---------------------------------------------------------------------------------------


def speed() -> list[str]:
    """A million architectures, and the same numbers one at a time."""
    n = 1_000_000
    generator = np.random.default_rng(0)
    kv = generator.integers(1, 9, n)
    batch = ArchitectureBatch(
        vocab_size=np.full(n, 32000),
        d_model=64 * generator.integers(2, 40, n),
        n_blocks=generator.integers(2, 60, n),
        sharing=generator.integers(1, 4, n),
        n_heads=kv * generator.integers(1, 5, n),
        n_kv_heads=kv,
        head_dim=np.full(n, 64),
        d_ff=64 * generator.integers(4, 160, n),
        tied_embeddings=generator.integers(0, 2, n),
        window=generator.choice([0, 512], n),
        global_every=np.full(n, 4),
    )
    bits = generator.choice([4.0, 8.0, 16.0], n)
    profile, chat = load_device("iphone-13"), load_workload("chat")
    best = np.inf
    for _ in range(5):
        started = time.perf_counter()
        found = costs(batch, profile, chat, weight_bits=bits)
        best = min(best, time.perf_counter() - started)
    worst = 0.0
    names = ("decode_s", "prefill_s", "ttft_s", "memory_bytes", "energy_per_token_j", "artifact_s")
    for index in generator.integers(0, n, 200):
        one = costs(batch.take([int(index)]), profile, chat, weight_bits=float(bits[index]))
        for name in names:
            a, b = getattr(found, name)[index], getattr(one, name)[0]
            worst = max(worst, abs(a / b - 1))
        if str(one.scarce[0]) != str(found.scarce[index]):
            worst = np.inf
    started = time.perf_counter()
    cost_intervals(batch, profile, chat, weight_bits=bits)
    with_draws = time.perf_counter() - started
    good = best <= 1.0 and worst <= 1e-9
    return [
        f"1,000,000 architectures in {best:.2f} s on {os.cpu_count()} processors (best of 5); "
        f"largest relative difference to one at a time {worst:.1e}",
        f"bar: 1 s, 1e-9: {verdict(good)}",
        f"bar: 4 s with {DRAWS} draws of their intervals: {with_draws:.2f} s: "
        f"{verdict(with_draws <= 4.0)}",
    ]
