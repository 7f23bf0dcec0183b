"""What is installed against what is promised: versions, hashes, known vulnerabilities.

    python -m benchmarks.audit [--vulnerabilities DIR|ZIP] [--json]

Nothing is downloaded. Every package that the project or an extra of it needs, directly or not, must
stand in constraints.txt with one version, and be installed in that version; every installed file
must have the hash that its package's own list gives. Vulnerabilities are looked up in a copy of the
OSV database of PyPI (osv.dev: a folder or zip of JSON files) where one is at hand; where none is,
that is said.
"""

import argparse
import base64
import hashlib
import json
import os
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
AT_HAND = "OSV_PYPI"
"""Environment variable that names the folder or zip of the vulnerability data."""
Problems = list[str]


def constraints(path: Path = ROOT / "constraints.txt") -> dict[str, str]:
    """Canonical name -> version."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text:
            name, _, version = text.partition(";")[0].strip().partition("==")
            found[canonicalize_name(name)] = version.strip()
    return found


def asked_for() -> dict[str, list[Requirement]]:
    """`core` and each extra -> what pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        "core": [Requirement(line) for line in project["dependencies"]],
        **{
            extra: [Requirement(line) for line in lines]
            for extra, lines in project["optional-dependencies"].items()
        },
    }


def needed(requirements: list[Requirement]) -> tuple[set[str], set[str]]:
    """All packages behind some requirements, and those of them that are not installed here.

    What a package needs is read from its installed metadata, so that nothing is known of the needs
    of a package that is not installed.
    """
    found: set[str] = set()
    absent: set[str] = set()
    pending = list(requirements)
    seen: set[tuple[str, frozenset[str]]] = set()
    while pending:
        one = pending.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found.add(name)
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            absent.add(name)
            continue
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *extras)):
                pending.append(requirement)
    return found, absent


def version_problems() -> tuple[Problems, list[str]]:
    """Packages without a constraint, or installed in another version; and extras not installed."""
    pinned, problems, absent = constraints(), [], []
    for part, requirements in asked_for().items():
        packages, missing = needed(requirements)
        problems += [
            f"{part}: {name} has no version in constraints.txt"
            for name in sorted(packages - pinned.keys())
        ]
        if missing:
            absent.append(f"{part}: not installed here: {', '.join(sorted(missing))}")
        for name in sorted((packages - missing) & pinned.keys()):
            version = metadata.version(name)
            if Version(version).public != Version(pinned[name]).public:  # torch's +cpu is one build
                problems.append(f"{name}: {version} is installed, {pinned[name]} is promised")
    return list(dict.fromkeys(problems)), absent


def hash_problems(names: list[str]) -> tuple[Problems, int]:
    """Installed files that are not what their package lists, and how many were looked at."""
    problems: Problems = []
    looked_at = 0
    for name in names:
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue
        for file in files:
            if file.hash is None:
                continue
            looked_at += 1
            try:
                with open(file.locate(), "rb") as content:
                    digest = hashlib.file_digest(content, file.hash.mode).digest()
            except OSError as error:
                problems.append(f"{name}: {file}: {error.strerror}")
                continue
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                problems.append(f"{name}: {file} is not what was published")
    return problems, looked_at


def vulnerability_problems(data: Path, pinned: dict[str, str]) -> tuple[Problems, int]:
    """Promised versions that an advisory names, and how many advisories were read."""
    problems, read = [], 0
    for advisory in _advisories(data):
        read += 1
        for affected in advisory.get("affected", []):
            package = affected.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            if package.get("ecosystem") != "PyPI" or name not in pinned:
                continue
            if _is_affected(pinned[name], affected):
                problems.append(f"{name} {pinned[name]}: {advisory.get('id')}")
    return sorted(set(problems)), read


def _advisories(data: Path) -> Iterator[dict[str, Any]]:
    if data.is_dir():
        for path in sorted(data.rglob("*.json")):
            yield json.loads(path.read_bytes())
        return
    with zipfile.ZipFile(data) as archive:
        for entry in archive.namelist():
            if entry.endswith(".json"):
                yield json.loads(archive.read(entry))


def _is_affected(version: str, affected: dict[str, Any]) -> bool:
    """By the versions listed, or by ranges from `introduced` to before `fixed`."""
    if version in affected.get("versions", []):
        return True
    try:
        mine = Version(version)
        for span in affected.get("ranges", []):
            inside = False
            for event in span.get("events", []):
                if "introduced" in event:
                    inside = (
                        inside or event["introduced"] == "0" or mine >= Version(event["introduced"])
                    )
                elif "fixed" in event:
                    inside = inside and mine < Version(event["fixed"])
                elif "last_affected" in event:
                    inside = inside and mine <= Version(event["last_affected"])
            if inside and span.get("type") == "ECOSYSTEM":
                return True
    except InvalidVersion:
        return False
    return False


def audit(data: Path | None) -> dict[str, Any]:
    """All that was checked: `problems`, `files`, `advisories` (None: no data), `not_checked`."""
    pinned = constraints()
    problems, not_checked = version_problems()
    changed, files = hash_problems(sorted(pinned))
    problems += changed
    advisories = None
    if data is None:
        not_checked.append(
            "vulnerabilities: no data at hand; give a copy of osv.dev's PyPI database with "
            f"--vulnerabilities or ${AT_HAND}"
        )
    else:
        found, advisories = vulnerability_problems(data, pinned)
        problems += found
    return {
        "packages": len(pinned),
        "files": files,
        "advisories": advisories,
        "problems": problems,
        "not_checked": not_checked,
    }


def main() -> None:
    """Print what was found; exit 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    at_hand = os.environ.get(AT_HAND)
    parser.add_argument("--vulnerabilities", type=Path, default=Path(at_hand) if at_hand else None)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    report = audit(asked.vulnerabilities)
    if asked.json:
        print(json.dumps(report))
    else:
        print(f"{report['packages']} packages, {report['files']} files of them looked at")
        for line in report["problems"]:
            print(f"wrong: {line}")
        for line in report["not_checked"]:
            print(f"not checked: {line}")
    sys.exit(1 if report["problems"] else 0)


if __name__ == "__main__":
    main()
