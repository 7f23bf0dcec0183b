"""How fast one model trains, against PyTorch; what bounds the step; what branches save.

    python -m benchmarks.train                      all sections
    python -m benchmarks.train single               one model on this machine's cores, four ways
    python -m benchmarks.train breakdown            where a step's time goes, on one core
    python -m benchmarks.train population           runs side by side in one program, or apart
    python -m benchmarks.train branches             three budgets of one trunk against three runs

Contenders are processes of their own, started together and then timed in turns, round by round, so
that what else the machine does falls on all alike. Medians are printed.
"""

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from shapelaw.results.record import ArchitectureFields
from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.training.trunk import TrunkJob, resolve
from shapelaw.sweeps.worker_environment import default_cache_dir, worker_environment

ROUNDS = 9
ROUND_SECONDS = 2.0
SEEDS = 6
"""Of the branches section: noise between seeds is known to a third from six."""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A model and how it is fed."""

    architecture: Architecture
    batch: int
    length: int

    @property
    def tokens(self) -> int:
        """A step."""
        return self.batch * self.length


CONFIGURATIONS = {
    "d64": Configuration(
        Architecture(
            vocab_size=1024,
            d_model=64,
            n_blocks=4,
            n_heads=4,
            n_kv_heads=2,
            head_dim=16,
            d_ff=192,
        ),
        batch=16,
        length=128,
    ),
    "d128": Configuration(
        Architecture(
            vocab_size=1024,
            d_model=128,
            n_blocks=4,
            n_heads=4,
            n_kv_heads=2,
            head_dim=32,
            d_ff=384,
        ),
        batch=16,
        length=256,
    ),
}


# --- contenders: each serves "steps N" lines with seconds -------------------------------------


def serve(contender: str, name: str) -> None:
    """Build the contender, say so, then time as many steps as each line asks for."""
    configuration = CONFIGURATIONS[name]
    started = time.perf_counter()
    run = (
        _torch(configuration, contender)
        if contender.startswith("torch")
        else _ours(configuration, devices=CORES if contender == "shapelaw" else 1)
    )
    run(8)
    print(time.perf_counter() - started, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        run(int(line))
        print(time.perf_counter() - started, flush=True)


def _ours(configuration: Configuration, devices: int) -> Callable[[int], None]:
    from shapelaw.sweeps.training.step import program_for, use_compilation_cache

    use_compilation_cache(default_cache_dir())
    program = program_for(_setting(configuration, devices))
    state = program.begin(np.zeros(1, np.int32))
    batches, rates = _inputs(configuration, 8)

    def run(steps: int) -> None:
        nonlocal state
        losses = None
        for begin in range(0, steps, 8):
            state, losses = program.advance(state, batches, rates, min(8, steps - begin))
        assert losses is not None
        assert np.isfinite(np.asarray(losses)).all()

    return run


def _torch(configuration: Configuration, contender: str) -> Callable[[int], None]:
    import torch

    from benchmarks.torch_model import Stepper

    torch.set_num_threads(CORES)
    stepper = Stepper(
        configuration.architecture, configuration.length, compiled=contender == "torch.compile"
    )
    sequences = torch.from_numpy(_inputs(configuration, 8)[0][0].astype(np.int64))

    def run(steps: int) -> None:
        loss = None
        for step in range(steps):
            loss = stepper.step(sequences[step % 8])
        assert loss is not None
        assert bool(torch.isfinite(loss))

    return run


def _setting(configuration: Configuration, devices: int = 1, members: int = 1) -> Any:
    from shapelaw.sweeps.training import schedule
    from shapelaw.sweeps.training.step import Setting

    return Setting(
        configuration.architecture,
        "float32",
        schedule.WEIGHT_DECAY,
        configuration.length,
        members=members,
        devices=devices,
    )


def _inputs(configuration: Configuration, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Random batches [1, S, B, T+1] and learning rates [1, S]."""
    shape = (1, steps, configuration.batch, configuration.length + 1)
    tokens = np.random.default_rng(0).integers(0, configuration.architecture.vocab_size, shape)
    return tokens.astype(np.int32), np.full((1, steps), 1e-3, np.float32)


class Contender:
    """A process that times steps when told to."""

    def __init__(self, name: str, configuration: str) -> None:
        environment = dict(os.environ)
        if name == "shapelaw":
            # One device a core, each with one thread, and the batch split among them: two threads
            # that meet once a step wait for each other less than two that meet at every multiply.
            environment = worker_environment(environment=environment)
            count = f"--xla_force_host_platform_device_count={CORES}"
            environment["XLA_FLAGS"] = f"{count} {environment['XLA_FLAGS']}"
        elif name.startswith("shapelaw"):
            environment["JAX_PLATFORMS"] = "cpu"
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.train", "--serve", name, configuration],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.ready_seconds = self._answer()

    def _answer(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        return float(line)

    def seconds(self, steps: int) -> float:
        """Time of that many steps."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        return self._answer()

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def single() -> None:
    """Tokens a second of one model on all cores: ours two ways, PyTorch two ways."""
    names = ("shapelaw", "shapelaw, XLA's threads", "torch", "torch.compile")
    for key, configuration in CONFIGURATIONS.items():
        a = configuration.architecture
        print(
            f"\nOne model, d={a.d_model} L={a.depth} V={a.vocab_size} T={configuration.length} "
            f"B={configuration.batch}, float32, {CORES} cores; medians of {ROUNDS} rounds"
        )
        with ExitStack() as stack:
            contenders = [stack.enter_context(Contender(name, key)) for name in names]
            steps = [
                max(1, round(ROUND_SECONDS / (contender.seconds(8) / 8)))
                for contender in contenders
            ]
            times: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(ROUNDS):
                for contender, count in zip(contenders, steps, strict=True):
                    times[contender.name].append(contender.seconds(count) / count)
        rate = {name: configuration.tokens / statistics.median(times[name]) for name in names}
        peer = rate["torch.compile"]
        print(f"{'':26}{'tokens/s':>10}{'of compile':>12}{'GFLOP/s':>10}{'ready in s':>12}")
        flops = a.training_flops_per_token(configuration.length)
        for contender in contenders:
            speed = rate[contender.name]
            print(
                f"{contender.name:26}{speed:10.0f}{speed / peer:12.2f}{speed * flops / 1e9:10.1f}"
                f"{contender.ready_seconds:12.1f}"
            )


# --- what bounds a step ------------------------------------------------------------------------


def _best_seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Best of several calls of a jitted function, compiled before."""
    import jax

    jax.block_until_ready(function(*arguments))
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        taken.append(time.perf_counter() - started)
    return min(taken)


def breakdown_here(key: str) -> None:
    """Parts of a step timed alone, forward and backward, each repeated as the step repeats it."""
    import jax
    import jax.numpy as jnp

    from shapelaw.sweeps.training.attention import causal_attention
    from shapelaw.sweeps.training.model import times, token_losses
    from shapelaw.sweeps.training.step import (
        ATTENTION_CHUNK,
        optimizer,
        program_for,
        use_compilation_cache,
    )

    use_compilation_cache(default_cache_dir())
    configuration = CONFIGURATIONS[key]
    a, batch, length = configuration.architecture, configuration.batch, configuration.length
    program = program_for(_setting(configuration))
    state = program.begin(np.zeros(1, np.int32))
    batches, rates = _inputs(configuration, 4)
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        state, losses = program.advance(state, batches, rates, 4)
        losses.block_until_ready()
        taken.append((time.perf_counter() - started) / 4)
    whole = min(taken[1:])

    draw = np.random.default_rng(0)

    def array(*shape: int) -> jax.Array:
        return jnp.asarray(draw.normal(size=shape), jnp.float32)

    def with_slopes(function: Callable[..., jax.Array]) -> Callable[..., Any]:
        def both(slope: jax.Array, *arguments: jax.Array) -> Any:
            out, pull = jax.vjp(function, *arguments)
            return out, pull(slope)

        return jax.jit(both)

    rows = batch * length
    query = array(batch, a.n_kv_heads, a.gqa_group, length, a.head_dim)
    keys = array(batch, a.n_kv_heads, length, a.head_dim)
    chunk = max(ATTENTION_CHUNK, length // 4)
    attention = _best_seconds(
        with_slopes(lambda q, k, v: causal_attention(q, k, v, chunk=chunk)),
        query,
        query,
        keys,
        keys,
    )
    heads = (a.n_heads + 2 * a.n_kv_heads) * a.head_dim
    shapes = [
        (a.d_model, heads),
        (a.n_heads * a.head_dim, a.d_model),
        (a.d_model, 2 * a.d_ff),
        (a.d_ff, a.d_model),
    ]
    matrices = sum(
        _best_seconds(
            with_slopes(jnp.matmul), array(rows, out), array(rows, into), array(into, out)
        )
        for into, out in shapes
    )
    targets = jnp.asarray(batches[0, 0, :, 1:])

    def head(x_BxTxD: jax.Array, embedding_VxD: jax.Array) -> jax.Array:
        return token_losses(times(x_BxTxD, embedding_VxD.T, jnp.float32), targets)

    loss = _best_seconds(
        with_slopes(head),
        array(batch, length),
        array(batch, length, a.d_model),
        array(a.vocab_size, a.d_model),
    )
    adam = optimizer(0.1)
    update = _best_seconds(jax.jit(adam.update), state.parameters, state.moments, state.parameters)
    parts = {
        "attention": attention * a.depth,
        "matrices of the blocks": matrices * a.depth,
        "LM head and loss": loss,
        "optimizer": update,
    }
    parts["norms, RoPE, SiLU, embedding, rest"] = whole - sum(parts.values())
    work = 6 * rows * sum(into * out for into, out in shapes)
    print(
        f"\nA step of d={a.d_model} T={length} B={batch} on one core: {whole * 1e3:.1f} ms, "
        f"{configuration.tokens / whole:.0f} tokens/s"
    )
    for name, seconds in parts.items():
        print(f"  {name:36}{seconds * 1e3:8.2f} ms{seconds / whole:7.0%}")
    print(
        f"  The blocks' matrices run at {work / matrices / 1e9:.0f} GFLOP/s, the whole step at "
        f"{a.training_flops_per_token(length) * configuration.tokens / whole / 1e9:.0f}."
    )


def population_here(key: str) -> None:
    """Tokens a second of several runs in one program against the same runs one after another."""
    from shapelaw.sweeps.training.seed_population import tokens_per_second
    from shapelaw.sweeps.training.step import use_compilation_cache

    use_compilation_cache(default_cache_dir())
    configuration = CONFIGURATIONS[key]
    job = TrunkJob(
        architecture=ArchitectureFields.of(configuration.architecture),
        tokens=(1_000_000,),
        batch_sequences=configuration.batch,
        sequence_length=configuration.length,
    )
    plan = resolve(job)
    rates = {members: tokens_per_second(job, plan, members) for members in (1, 2, 4)}
    print(
        f"\nRuns of d={configuration.architecture.d_model} in one program, tokens/s in all: "
        + ", ".join(
            f"{members}: {rate:.0f} ({rate / rates[1]:.2f}x)" for members, rate in rates.items()
        )
    )


# --- branches ----------------------------------------------------------------------------------


def branches_here() -> None:
    """Three budgets of one trunk against three runs of their own; losses beside the seeds' spread.

    The same shape, text and recipe: a branch differs from its own run by what the budget sets, the
    warmup, and by nothing else. `seed sd` is that between seeds of runs of their own; a difference
    within two of its standard errors is none.
    """
    from shapelaw.sweeps.training.trainer import train_trunk

    shape = ArchitectureFields(
        vocab_size=256, d_model=32, n_blocks=3, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=96
    )
    budgets = (200_000, 400_000, 800_000)
    together, apart = [], []
    for seed in range(SEEDS):
        trunk, *alone = (
            TrunkJob(architecture=shape, tokens=tokens, seed=seed)
            for tokens in (budgets, *((budget,) for budget in budgets))
        )
        together.append(list(train_trunk(trunk, cache_dir=default_cache_dir())))
        apart.append(
            [record for job in alone for record in train_trunk(job, cache_dir=default_cache_dir())]
        )
    spent = sum(record.flops - record.trunk_flops_shared for record in together[0])
    separate = sum(record.flops for record in apart[0])
    print(
        f"\nThree budgets of one trunk: {spent / separate:.3f} of the FLOPs of three runs; "
        f"{SEEDS} seeds"
    )
    print(
        f"{'tokens':>10}{'branch':>10}{'own run':>10}{'difference':>12}{'its error':>11}"
        f"{'seed sd':>10}"
    )
    for place, record in enumerate(together[0]):
        branch = np.array([_loss(records[place]) for records in together])
        own = np.array([_loss(records[place]) for records in apart])
        paired = branch - own
        print(
            f"{record.tokens:10}{branch.mean():10.4f}{own.mean():10.4f}{paired.mean():+12.4f}"
            f"{paired.std(ddof=1) / SEEDS**0.5:11.4f}{own.std(ddof=1):10.4f}"
        )


def _loss(record: Any) -> float:
    assert record.loss is not None, record.reason
    return float(record.loss)


# --- command -----------------------------------------------------------------------------------


def _here(arguments: Sequence[str]) -> Iterator[str]:
    """Run a section in a process of its own with a worker's surroundings: one core, one thread."""
    with tempfile.TemporaryFile("w+") as said:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.train", *arguments],
            check=True,
            env=worker_environment(),
            stdout=said,
            cwd=Path.cwd(),
        )
        said.seek(0)
        yield from said


def main(arguments: Sequence[str]) -> None:
    """Run the sections named, or all."""
    match arguments:
        case ["--serve", contender, name]:
            serve(contender, name)
            return
        case ["--here", section, *rest]:
            from shapelaw.sweeps.worker_environment import pin_to_core

            pin_to_core(0)
            parts: dict[str, Callable[..., Any]] = {
                "breakdown": breakdown_here,
                "population": population_here,
                "branches": branches_here,
            }
            parts[section](*rest)
            return
    sections = arguments or ["single", "breakdown", "population", "branches"]
    for section in sections:
        if section == "single":
            single()
            continue
        if section not in ("breakdown", "population", "branches"):
            raise SystemExit(f"section = {section!r}: single, breakdown, population, branches")
        for key in [None] if section == "branches" else list(CONFIGURATIONS):
            for line in _here(["--here", section, *([key] if key else [])]):
                print(line, end="", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
