"""Device profiles by name: those that ship with the package, and the user's own calibrated ones."""

import os
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from shapelaw.scaling.errors import BadInput
from shapelaw.search.devices.profile import DeviceProfile


def user_folder() -> Path:
    """Where calibrated devices are kept: SHAPELAW_HOME or the user's config folder."""
    home = os.environ.get("SHAPELAW_HOME")
    if home:
        return Path(home) / "devices"
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "shapelaw" / "devices"


def _shipped() -> dict[str, Traversable]:
    folder = resources.files("shapelaw.search") / "devices" / "profiles"
    return {e.name[:-5]: e for e in folder.iterdir() if e.name.endswith(".toml")}


def _calibrated() -> dict[str, Path]:
    try:
        return {path.stem: path for path in user_folder().glob("*.toml")}
    except OSError:
        return {}


def device_names() -> list[str]:
    """Names `load_device` knows: shipped and calibrated, sorted."""
    return sorted({*_shipped(), *_calibrated()})


def load_device(name_or_path: str | Path) -> DeviceProfile:
    """A calibrated device, a shipped one, or a profile file, looked for in that order.

    Raises:
        BadInput: none of these, or the profile does not hold.
    """
    name = str(name_or_path)
    own = _calibrated()
    if name in own:
        return DeviceProfile.from_file(own[name])
    shipped = _shipped()
    if name in shipped:
        return DeviceProfile.from_toml(shipped[name].read_text(encoding="utf-8"), f"device {name}")
    path = Path(name)
    try:
        if path.is_file():
            return DeviceProfile.from_file(path)
    except (OSError, ValueError):
        pass
    hint = " (run `shapelaw calibrate` first)" if name == "this-machine" else ""
    raise BadInput(f"device = {name!r}: a profile file or one of {', '.join(device_names())}{hint}")


def describe(name: str | Path) -> dict[str, Any]:
    """One device with each figure's value, unit, source and status, for `shapelaw devices NAME`."""
    profile = load_device(name)
    return {
        "name": profile.name,
        "title": profile.title,
        "kind": profile.kind,
        "engine": profile.engine,
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
        "notes": list(profile.notes),
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
    """Every device in a line: `{"devices": [{"name", "title", "kind", "engine", "summary"}]}`."""
    devices = []
    for name in device_names():
        profile = load_device(name)
        devices.append(
            {
                "name": name,
                "title": profile.title,
                "kind": profile.kind,
                "engine": profile.engine,
                "summary": summary(profile),
            }
        )
    return {"devices": devices}


def save_device(profile: DeviceProfile, out: Path | None = None) -> Path:
    """Write a calibrated profile to `out`, or among the user's devices; returns the path.

    Raises:
        NoAnswer: the place cannot be written. Nothing is left half-written.
    """
    path = Path(out) if out is not None else user_folder() / f"{profile.name}.toml"
    profile.to_file(path)
    return path
