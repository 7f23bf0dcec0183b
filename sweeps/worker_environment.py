"""The surroundings of one training process: cores, threads and caches. Imports no framework.

Losses must not depend on how many workers run, so every worker computes with one thread on the
CPU, alone or beside others; two pinned processes also beat one process on two cores.
"""

import importlib.util
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shapelaw.scaling.home_folder import home_folder

SHARED_ACCELERATOR = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Of a worker that is not alone on its accelerator: JAX would take three quarters of its memory."""
WORKERS_PER_ACCELERATOR = 2
"""One compiles while the other trains."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ONE_THREAD_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def default_cache_dir() -> Path:
    """Where tokens and compiled programs are kept: $XDG_CACHE_HOME/shapelaw, ~/.cache/shapelaw."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home_folder("XDG_CACHE_HOME") / ".cache") / "shapelaw"


def accelerator_expected() -> bool:
    """Whether JAX would compute on an accelerator here, judged without importing it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms.split(",")[0] not in ("cpu", "")
    plugins = (
        "jax_cuda12_plugin",
        "jax_cuda13_plugin",
        "libtpu",
        "jax_rocm7_plugin",
        "jax_rocm60_plugin",
    )
    if not any(importlib.util.find_spec(name) for name in plugins):
        return False
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible_accelerators(visible):
        return False
    return bool(nvidia_nodes()) or any(
        Path(node).exists() for node in ("/dev/accel0", "/dev/vfio/0", "/dev/kfd")
    )


def nvidia_nodes() -> list[Path]:
    """One for each NVIDIA device there is; a container may be shown number 3 and no other."""
    return [node for node in Path("/dev").glob("nvidia*") if node.name[6:].isdecimal()]


def visible_accelerators(setting: str) -> list[str]:
    """Names in CUDA_VISIBLE_DEVICES, up to the first that hides the rest."""
    names = [name.strip() for name in setting.split(",")]
    hidden = [place for place, name in enumerate(names) if name in ("", "-1")]
    return names[: hidden[0]] if hidden else names


def accelerators() -> list[str]:
    """Names of the accelerators JAX would find here, without importing it."""
    if not accelerator_expected():
        return []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return visible_accelerators(visible)
    return [str(number) for number in range(max(1, len(nvidia_nodes())))]


def nvidia_gpus() -> list[str]:
    """Names of the NVIDIA GPUs a program of the user's would find here, whatever it computes with.

    JAX may be installed without its plugin, and PyTorch for them.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [str(number) for number in range(len(nvidia_nodes()))]
    return visible_accelerators(visible) if visible is not None and found else found


def usable_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_trainer_workers() -> int:
    """Of a program of the user's: one per GPU, or per core."""
    return len(nvidia_gpus()) or usable_cores()


def default_workers(devices_per_run: int = 1) -> int:
    """One per core; with accelerators, two for each, or one for each group that a run takes."""
    if devices_per_run > 1:
        return max(1, jax_devices() // devices_per_run)
    return len(accelerators()) * WORKERS_PER_ACCELERATOR or usable_cores()


def jax_devices() -> int:
    """Devices JAX would find here, without importing it: accelerators, or the CPU's.

    XLA shows the CPU as several devices where XLA_FLAGS says so, for trying out.
    """
    asked = re.search(
        r"xla_force_host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", "")
    )
    return len(accelerators()) or (int(asked[1]) if asked else 1)


def worker_environment(
    accelerator: str | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment of a worker process; must be set before the process imports JAX.

    Args:
        accelerator: name of the accelerator the worker computes on, beside others, or names with
            commas between them; None: it computes on the CPU with one thread.
        environment: what to start from; the current one where None.
    """
    result = dict(os.environ if environment is None else environment)
    if accelerator is not None:
        result["CUDA_VISIBLE_DEVICES"] = accelerator
        result |= SHARED_ACCELERATOR
        return result
    flags = result.get("XLA_FLAGS", "")
    if ONE_THREAD_FLAGS not in flags:
        result["XLA_FLAGS"] = f"{flags} {ONE_THREAD_FLAGS}".strip()
    result |= ONE_THREAD
    result["JAX_PLATFORMS"] = "cpu"
    return result


def trainer_environment(
    gpus: Sequence[str], names: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Environment of a program of the user's: these GPUs, or one thread on the CPU."""
    result = dict(os.environ if names is None else names)
    if gpus:
        result["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    else:
        result |= ONE_THREAD
    return result


def same_packages() -> dict[str, str]:
    """What makes another process import this very package: the folder that holds it, and no other.

    Nothing where it is installed among the interpreter's own packages. Other entries of this
    process's path (the user's current folder, a script's) are never handed on: a file there named
    like one of our dependencies would be run.
    """
    holder = Path(__file__).parents[2]
    if holder.name in ("site-packages", "dist-packages"):
        return {}
    given = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(holder), *([given] if given else [])])}


def pin_to_core(worker: int) -> None:
    """Keep this process on one core, the `worker`-th of those it may use; no-op where unsupported.

    XLA sizes its thread pool by the cores it may use, so a pinned process is single-threaded too.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[worker % len(cores)]})


def machine_identity() -> str:
    """Processor and its features: a program compiled for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "Features", "CPU part")
    seen = dict.fromkeys(line for line in lines if line.startswith(wanted))
    return "\n".join([platform.machine(), *seen])


def processor_name() -> str:
    """What the machine calls its processor."""
    for line in machine_identity().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
