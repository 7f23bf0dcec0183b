"""Device profiles by name: those that ship with the package, and the user's own calibrated ones.

A shipped device takes its usual engine, or the one asked for: `m2-max`, `m2-max@mlx`,
`iphone-15-pro@llama.cpp/cpu`. A profile of the user's takes the plain name of a shipped one; every
answer then says so (`own_profile_notes`).
"""

import functools
import os
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shapelaw.scaling.close_names import close_names
from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.home_folder import home_folder
from shapelaw.scaling.user_files import exists, shown
from shapelaw.search.devices.chip_and_engine import Chip, Engine, combine
from shapelaw.search.devices.engines import ENGINES
from shapelaw.search.devices.profile import DeviceProfile
from shapelaw.search.devices.profile_sources import with_sources
from shapelaw.search.devices.shared_blocks import file_keeps_once

Kind = TypeVar("Kind")
NO_ENGINE = "asserted"
"""The file of a device that a paper asserts and no engine ran on."""


def user_folder() -> Path:
    """Where calibrated devices are kept: SHAPELAW_HOME or the user's config folder."""
    home = os.environ.get("SHAPELAW_HOME")
    if home:
        return Path(home) / "devices"
    config = os.environ.get("XDG_CONFIG_HOME")
    folder = Path(config) if config else home_folder("SHAPELAW_HOME") / ".config"
    return folder / "shapelaw" / "devices"


@functools.cache
def _shipped(kind: str) -> dict[str, Traversable]:
    folder = resources.files("shapelaw.search") / "devices" / "profiles" / kind
    return {e.name[:-5]: e for e in folder.iterdir() if e.name.endswith(".toml")}


@functools.cache
def _read(kind: str, name: str) -> Any:
    text = _shipped(kind)[name].read_text(encoding="utf-8")
    document = tomllib.loads(text)
    resolved = with_sources(document, document.pop("sources", {}), f"{kind} {name}")
    return msgspec.convert(resolved, {"chips": Chip, "engines": Engine}[kind])


def chip(name: str) -> Chip:
    """A shipped device without an engine. KeyError where there is none."""
    found: Chip = _read("chips", name)
    return found


def engine(name: str) -> Engine:
    """An engine's file. KeyError where there is none."""
    found: Engine = _read("engines", name)
    return found


def _calibrated() -> dict[str, Path]:
    try:
        return {path.stem: path for path in user_folder().glob("*.toml")}
    except (OSError, RuntimeError):  # it cannot be read, or nobody knows where the user's home is
        return {}


def own_profile_notes(*names: str | Path) -> list[str]:
    """A line for each of the names that a profile of the user's takes from a shipped device."""
    own = _calibrated()
    return [
        f"device {name} is your own profile, {own[name]}, which stands before the shipped one; "
        f"{name}@{engines_of(name)[0].split('/')[0]} asks for that"
        for name in dict.fromkeys(map(str, names))
        if name in own and name in _shipped("chips") and not exists(name)
    ]


def device_names() -> list[str]:
    """Names `load_device` knows: shipped and calibrated, sorted."""
    return sorted({*_shipped("chips"), *_calibrated()})


def engines_of(name: str) -> list[str]:
    """`engine/backend` that a shipped device can run, the usual one first."""
    return list(chip(name).engines)


def sharing_engines() -> str:
    """The engines that keep a block applied several times once, in file and memory, in words."""
    shipped = [engine(name) for name in sorted(_shipped("engines"))]
    able = [
        f"{e.title} on a phone" if any(b.copies_blocks_on for b in e.backends.values()) else e.title
        for e in shipped
        if e.traits.shares_blocks and e.name != NO_ENGINE
    ]
    here = [name for name in ENGINES if name not in _shipped("engines") and file_keeps_once(name)]
    *some, last = [*here, *able]
    return f"{', '.join(some)} or {last}" if some else last


def load_device(name_or_path: str | Path, engine_name: str | None = None) -> DeviceProfile:
    """A calibrated device, a shipped one, or a profile file, looked for in that order.

    Args:
        name_or_path: a name, `name@engine`, or a file.
        engine_name: the engine, with or without its backend; the device's usual one by default.

    Raises:
        BadInput: none of these, the profile does not hold, or the device does not run the engine.
    """
    name, _, asked = str(name_or_path).partition("@")
    if name not in _shipped("chips") or exists(name_or_path):
        name, asked = str(name_or_path), ""
    wanted = engine_name or asked or None
    own = _calibrated()
    if name in own and wanted is None:
        return DeviceProfile.from_file(own[name])
    if name in _shipped("chips"):
        found = chip(name)
        label, backend = _chosen(found, wanted).split("/")
        return combine(found, engine(label), backend)
    if wanted is not None:
        raise BadInput(
            f"engine = {wanted!r}: {name} is no shipped device; a profile file names its own engine"
        )
    if exists(name):
        return DeviceProfile.from_file(name)
    hint = " (run `shapelaw calibrate` first)" if name == "this-machine" else ""
    hint = hint or close_names(name, device_names())
    raise BadInput(f"device = {shown(name)!r}: a file or a name from `shapelaw devices`{hint}")


def with_engine(name: str, engine_name: str) -> str:
    """A device's name with an engine's: `m2-max` and `mlx` give `m2-max@mlx/metal`.

    Raises:
        BadInput: as `load_device`; or the name says another engine already.
    """
    device, _, said = name.partition("@")
    if said and said != engine_name:
        raise BadInput(f"engine = {engine_name[:40]!r}: the device's name says {said[:40]!r}")
    load_device(device, engine_name)
    return f"{device}@{_chosen(chip(device), engine_name)}"


def with_each_engine(name_or_path: str | Path) -> list[DeviceProfile]:
    """A shipped device with each engine it runs, the usual one first; else the profile alone.

    Where the name says the engine (`m2@mlx`), a file is named, or the device was calibrated here,
    there is no choice.

    Raises:
        BadInput: as `load_device`.
    """
    name = str(name_or_path)
    if name not in _shipped("chips") or exists(name) or name in _calibrated():
        return [load_device(name)]
    return [load_device(name, label) for label in engines_of(name)]


def _chosen(found: Chip, wanted: str | None) -> str:
    """`engine/backend` of a device."""
    if wanted is None:
        return found.engines[0]
    asked = wanted.lower()
    for known in found.engines:
        if asked in (known, known.split("/")[0]):
            return known
    close = close_names(asked, [known.split("/")[0] for known in found.engines])
    raise BadInput(f"engine = {wanted[:40]!r}: {found.name} runs {', '.join(found.engines)}{close}")


def describe(name: str | Path, engine_name: str | None = None) -> dict[str, Any]:
    """One device with each figure's value, unit, source and status, for `shapelaw devices NAME`."""
    profile = load_device(name, engine_name)
    shipped = str(name).partition("@")[0]
    return {
        "name": profile.name,
        "title": profile.title,
        "kind": profile.kind,
        "engine": profile.engine,
        "engines": engines_of(shipped) if shipped in _shipped("chips") else [profile.engine],
        "app_memory_bytes": profile.app_memory,
        "shares_blocks": profile.engine_traits().shares_blocks,
        "summary": summary(profile),
        "figures": [
            {
                "name": dotted,
                "value": f.value,
                "unit": f.unit,
                "status": f.status,
                "source": f.source,
            }
            for dotted, _, f in profile.figures()
        ],
        "uncertainty": None
        if profile.uncertainty is None
        else msgspec.to_builtins(profile.uncertainty),
        "notes": [*own_profile_notes(*([] if engine_name else [name])), *profile.notes],
    }


def summary(profile: DeviceProfile) -> str:
    """One line: title, memory, bandwidth, and how far the decode figures can be trusted."""
    memory = profile.si("memory.capacity") / 1e9
    rate = profile.si("memory.bandwidth") / 1e9
    return (
        f"{profile.title}: {memory:.3g} GB, reads weights at {rate:,.0f} GB/s "
        f"({profile.memory.bandwidth.status})"
    )


def describe_all() -> dict[str, Any]:
    """Every device in a line: `{"devices": [{"name", "title", "kind", "engine", "engines",
    "summary"}], "unusable": [{"name", "why"}], "notes": [...]}`; `engines` are what `--engine`
    takes, the usual one first; `unusable` are profiles of the user's that do not hold."""
    devices, unusable = [], []
    for name in device_names():
        try:
            profile = load_device(name)
        except BadInput as error:
            unusable.append({"name": name, "why": str(error)})
            continue
        devices.append(
            {
                "name": name,
                "title": profile.title,
                "kind": profile.kind,
                "engine": profile.engine,
                "engines": engines_of(name) if name in _shipped("chips") else [profile.engine],
                "summary": summary(profile),
            }
        )
    notes = own_profile_notes(*(name for name in device_names() if name in _shipped("chips")))
    return {"devices": devices, "unusable": unusable, "notes": notes}


def save_device(profile: DeviceProfile, out: Path | None = None) -> Path:
    """Write a calibrated profile to `out`, or among the user's devices; returns the path.

    Raises:
        NoAnswer: the place cannot be written. Nothing is left half-written.
    """
    path = Path(out) if out is not None else user_folder() / f"{profile.name}.toml"
    profile.to_file(path)
    return path
