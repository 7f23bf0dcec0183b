"""What is installed: a wheel holds one package with all its data, and every room inside it."""

import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.long
def test_the_wheel_holds_one_package(tmp_path: Path) -> None:
    # Looked up, not imported: setuptools refuses to be imported after the standard distutils.
    if not (find_spec("pip") and find_spec("setuptools")):
        pytest.skip("pip and setuptools build the wheel")
    source = tmp_path / "source"  # a build leaves folders behind where it runs
    source.mkdir()
    for name in ("shapelaw", "src", "scaling", "results", "sweeps", "search"):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"),
        )  # fmt: skip
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", str(tmp_path / "wheel"), str(source)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "wheel").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert {n.split("/")[0] for n in names if ".dist-info" not in n} == {"shapelaw"}
        archive.extractall(tmp_path / "site")
    for needed in (
        "shapelaw/py.typed",
        "shapelaw/results/reference/laws/reference.json",
        "shapelaw/search/devices/profiles/chips/iphone-13.toml",
        "shapelaw/search/workloads/chat.toml",
        "shapelaw/search/space/presets/phone.toml",
        "shapelaw/search/page/assets/page.html",
        "shapelaw/sweeps/design/presets/smoke.toml",
        "shapelaw/search/export/remote_code/modeling_shapelaw.py",
    ):
        assert needed in names, needed
    sources = {
        f"shapelaw/{path.relative_to(ROOT)}"
        for room in ("scaling", "results", "sweeps", "search")
        for path in (ROOT / room).rglob("*.py")
    }
    assert sources <= set(names)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import shapelaw.scaling.law, shapelaw.search.devices.catalogue as c\n"
        "print(shapelaw.scaling.law.__file__); c.load_device('iphone-13')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.startswith(str(tmp_path / "site"))
