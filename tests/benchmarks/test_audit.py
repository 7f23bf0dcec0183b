"""Every package has one version, and what is wrong with one is seen."""

import json
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from benchmarks import audit


def test_every_package_behind_every_extra_has_its_version() -> None:
    pinned = audit.constraints()
    for part, requirements in audit.asked_for().items():
        packages, _ = audit.needed(requirements)
        assert packages <= pinned.keys(), part


def test_a_changed_file_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made-1.0.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
    # sha256 of nothing, in the words of a wheel's own list.
    (made / "RECORD").write_text(
        "made.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\nmade-1.0.dist-info/RECORD,,\n"
    )
    (tmp_path / "made.py").write_bytes(b"")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert audit.hash_problems(["made"]) == ([], 1)
    (tmp_path / "made.py").write_bytes(b"import os")
    assert audit.hash_problems(["made"])[0] == ["made: made.py is not what was published"]


@pytest.mark.parametrize(
    ("affected", "is_so"),
    [
        ({"versions": ["1.0", "1.2"]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [
            {"introduced": "0"}, {"fixed": "1.2"}]}]}, False),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [
            {"introduced": "0"}, {"fixed": "1.1"}, {"introduced": "1.2"}]}]}, True),
        ({"ranges": [{"type": "ECOSYSTEM", "events": [
            {"introduced": "1.0"}, {"last_affected": "1.1"}]}]}, False),
        ({"versions": ["1.1"]}, False),
    ],
)  # fmt: skip
def test_an_advisory_names_the_versions_it_is_about(
    tmp_path: Path, affected: dict[str, object], is_so: bool
) -> None:
    package = {"name": "Some_Package", "ecosystem": "PyPI"}
    (tmp_path / "PYSEC-1.json").write_text(
        json.dumps({"id": "PYSEC-1", "affected": [{"package": package, **affected}]})
    )
    found, read = audit.vulnerability_problems(tmp_path, {"some-package": "1.2"})
    assert read == 1
    assert found == (["some-package 1.2: PYSEC-1"] if is_so else [])


def test_what_could_not_be_checked_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {canonicalize_name(one.name) for one in audit.asked_for()["core"]}
    assert names <= audit.constraints().keys()
    assert metadata.version("numpy") == audit.constraints()["numpy"]
    monkeypatch.setattr(audit, "hash_problems", lambda names: ([], 0))
    assert any("no data at hand" in line for line in audit.audit(None)["not_checked"])
