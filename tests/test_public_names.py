"""Every public name works with keyword arguments, has types, and shows itself in a notebook."""

import inspect
import os
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shapelaw
from shapelaw.scaling.errors import BadInput

ROOT = Path(__file__).parents[1]
PHONE: dict[str, Any] = {"device": "iphone-13", "memory": "400MB", "decode": 20, "tokens": "1T"}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty noiseless runs of Chinchilla's published law."""
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    rows = [
        f"{n},{d},{1.817 + 477.8 * n**-0.347 + 2143.0 * d**-0.367}"
        for n in np.geomspace(1e8, 1e10, 8)
        for d in np.geomspace(1e9, 1e12, 5)
    ]
    path.write_text("\n".join(["n,d,loss", *rows]))
    return path


@pytest.fixture(scope="module")
def answer() -> shapelaw.Answer:
    return shapelaw.query(**PHONE)


def test_every_public_name_is_there_and_typed() -> None:
    for name in shapelaw.__all__:
        found = getattr(shapelaw, name)
        if inspect.isfunction(found):
            hints = typing.get_type_hints(found, vars(typing) | _deferred(found))
            assert {*inspect.signature(found).parameters, "return"} <= {*hints}, name
            assert found.__doc__, name
        elif inspect.isclass(found):
            assert found.__doc__, name
    assert set(dir(shapelaw)) >= set(shapelaw.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = shapelaw.nothing


def _deferred(function: typing.Any) -> dict[str, typing.Any]:
    """Names that a module imports for type checkers alone."""
    from shapelaw.sweeps.design.design import Design
    from shapelaw.sweeps.running.run_sweep import SweepResult

    return {"Design": Design, "SweepResult": SweepResult, **vars(sys.modules[function.__module__])}


def test_query_is_a_function_to_a_type_checker(tmp_path: Path) -> None:
    """What a user's mypy says, with the package as it is installed: `py.typed` counts."""
    pytest.importorskip("mypy")
    source = tmp_path / "user.py"
    source.write_text("import shapelaw\nreveal_type(shapelaw.query)\nreveal_type(shapelaw.query())")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir",
         str(tmp_path / "cache"), str(source)],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert 'Revealed type is "def (device: ' in done.stdout, done.stdout
    assert "shapelaw.search.answer.answer.Answer" in done.stdout


def test_query_takes_the_command_lines_words(answer: shapelaw.Answer) -> None:
    found = answer.to_dict()
    assert found["budget"]["memory_bytes"] == 400e6
    assert found["best"]["memory_bytes"] <= 400e6
    assert "iphone-13" in repr(answer)
    assert len(repr(answer)) < 200


def test_fit_law_reads_a_table_and_finds_its_law(table: Path, tmp_path: Path) -> None:
    fit = shapelaw.fit_law(table, form="chinchilla", bootstrap=50, label="mine")
    assert fit.law.parameters["E"] == pytest.approx(1.817, abs=0.005)
    fit.law.to_file(tmp_path / "law.json")
    predicted = shapelaw.predict(tmp_path / "law.json", table)
    assert predicted["error"]["mean_abs_log"] < 1e-3
    assert shapelaw.load_law(tmp_path / "law.json").label == "mine"
    frame = fit.to_dataframe()
    assert len(frame) == 40
    assert np.abs(frame["log_error"]).max() < 1e-3
    assert list(fit.law.to_dataframe()["parameter"]) == list(fit.law.parameters)


def test_explain_agrees_with_costs() -> None:
    shape = shapelaw.load_architecture("mobilellm-125m")
    explained = shapelaw.explain(architecture=shape, device="iphone-13", workload="chat", bits=16)
    batch = shapelaw.ArchitectureBatch.of([shape])
    whole = shapelaw.costs(
        batch, shapelaw.load_device("iphone-13"), shapelaw.load_workload("chat"), weight_bits=16
    )
    assert explained["decode_s"] == pytest.approx(float(whole.decode_s[0]))
    assert explained.to_dataframe()["seconds"].sum() == pytest.approx(explained["decode_s"])
    assert "iphone-13" in repr(explained)


def test_read_table_and_records(table: Path) -> None:
    runs, dropped = shapelaw.read_table(table)
    assert (len(runs), dropped) == (40, [])
    records = shapelaw.read_records(ROOT / "results" / "reference")
    assert len(records) > 100


def test_a_preset_is_a_design() -> None:
    assert isinstance(shapelaw.load_design("smoke"), shapelaw.Design)


@pytest.mark.parametrize("kind", ["Answer", "Fit", "Law", "Explanation", "DeviceProfile"])
def test_a_notebook_shows_it(kind: str, answer: shapelaw.Answer, table: Path) -> None:
    shown: Any = {
        "Answer": lambda: answer,
        "Fit": lambda: shapelaw.fit_law(table, form="chinchilla", bootstrap=20),
        "Law": lambda: shapelaw.load_law("reference"),
        "Explanation": lambda: shapelaw.explain("mobilellm-125m", "iphone-13"),
        "DeviceProfile": lambda: shapelaw.load_device("iphone-13"),
    }[kind]()
    assert repr(shown).startswith(f"<{kind}")
    page = shown._repr_html_()
    assert page.startswith("<pre")
    assert "<script" not in page
    assert len(shown.to_dataframe()) > 0
    assert len(shown.plot().axes) >= 1


def test_bad_words_are_refused_in_one_line() -> None:
    with pytest.raises(BadInput) as error:
        shapelaw.query(device="iphone-13", memory="lots")
    assert "\n" not in str(error.value)
    assert "lots" in str(error.value)


def test_readme_examples_run() -> None:
    """Python examples of the README and of the package's docstring, as doctests."""
    import doctest

    results = doctest.testmod(shapelaw)
    assert results.attempted
    assert not results.failed
    readme = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert readme.attempted
    assert not readme.failed


def test_export_writes_what_the_architecture_counts(tmp_path: Path) -> None:
    shape = tmp_path / "shape.json"
    shape.write_text(
        '{"vocab_size": 256, "d_model": 64, "n_blocks": 2, "n_heads": 1, "n_kv_heads": 1, '
        '"head_dim": 64, "d_ff": 128}'
    )
    report = shapelaw.export(arch=str(shape), target="hf", directory=tmp_path / "out")
    assert report["architecture"]["d_model"] == 64
    assert (tmp_path / "out" / "config.json").is_file()


@pytest.mark.long
def test_run_sweep_and_calibrate(tmp_path: Path) -> None:
    result = shapelaw.run_sweep(design="smoke", out=tmp_path / "sweep", workers=2)
    assert result.finished == len(shapelaw.read_records(tmp_path / "sweep")) > 0
    pytest.importorskip("xllamacpp")
    profile, report = shapelaw.calibrate(name="here", engine="llama.cpp", quick=True)
    assert isinstance(profile, shapelaw.DeviceProfile)
    assert report["timings"]
