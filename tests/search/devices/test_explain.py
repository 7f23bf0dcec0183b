"""An explanation is the cost model's numbers, cut into parts that sum."""

import json
from pathlib import Path

import pytest

from shapelaw.scaling.architecture import ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.cost import costs
from shapelaw.search.devices.explain import explain
from shapelaw.search.devices.explain_plot import write_picture
from shapelaw.search.devices.explain_tables import explanation_tables
from shapelaw.search.devices.roofline_parts import RESOURCES
from shapelaw.search.workload import Workload, load_workload

CHAT = load_workload("chat")


@pytest.mark.parametrize("device", ["iphone-13", "jetson-orin-nano-7w", "m2-pro", "h100"])
@pytest.mark.parametrize("model", ["mobilellm-125m", "mobilellm-ls-350m", "gemma-3-1b"])
def test_parts_sum_to_the_totals(device: str, model: str) -> None:
    profile, shape = load_device(device), load_architecture(model)
    found = explain(shape, profile, CHAT, weight_bits=4)
    total = costs(ArchitectureBatch.of([shape]), profile, CHAT, weight_bits=4)
    assert found["decode_s"] == total.decode_s[0]
    assert sum(p["seconds"] for p in found["parts"]) == pytest.approx(found["decode_s"], rel=1e-12)
    assert sum(p["seconds"] for p in found["prefill_parts"]) == pytest.approx(
        found["prefill_s"], rel=1e-12
    )
    assert sum(found["memory"].values()) == pytest.approx(found["memory_bytes"])
    assert sum(found["resources"].values()) == pytest.approx(found["decode_s"])
    if found["energy_per_token_j"] is None:
        assert all(p["joules"] is None for p in found["parts"])
    else:
        assert sum(p["joules"] for p in found["parts"]) == pytest.approx(
            found["energy_per_token_j"], rel=1e-12
        )
    assert found["scarce"] in RESOURCES
    json.dumps(found, allow_nan=False)
    assert explanation_tables(found)


def test_joules_are_per_token_at_any_batch() -> None:
    profile, shape = load_device("h100"), load_architecture("llama-3.2-1b")
    for batch in (1, 32):
        found = explain(shape, profile, Workload(name="w", prompt=64, generated=64, batch=batch))
        assert sum(p["joules"] for p in found["parts"]) == pytest.approx(
            found["energy_per_token_j"]
        )


def test_what_is_scarce_depends_on_the_device() -> None:
    """A tiny deep model waits for launches on a GPU and for memory on a phone."""
    shape = load_architecture("mobilellm-125m")
    assert explain(shape, load_device("iphone-13"), CHAT)["scarce"] == "memory bandwidth"
    assert explain(shape, load_device("h100"), CHAT)["scarce"].endswith("overhead")
    pi = explain(load_architecture("llama-2-7b"), load_device("raspberry-pi-5"), CHAT)
    assert pi["scarce"] == "memory bandwidth"


def test_a_shared_model_is_compared_with_distinct_blocks() -> None:
    profile = load_device("iphone-13")
    short = Workload(name="short", prompt=16, generated=16)
    shared = explain(load_architecture("mobilellm-ls-125m"), profile, short, weight_bits=16)
    twin = shared["distinct_blocks"]
    assert twin["n_blocks"] == 60
    assert twin["decode_s"] > 1.5 * shared["decode_s"]
    assert twin["memory_bytes"] > shared["memory_bytes"]
    assert "distinct_blocks" not in explain(load_architecture("mobilellm-125m"), profile, CHAT)
    names = [part["name"] for part in shared["parts"]]
    assert "cached re-reads" in names


def test_the_picture_is_drawn_or_refused_in_one_line(tmp_path: Path) -> None:
    found = explain(load_architecture("mobilellm-ls-125m"), load_device("iphone-13"), CHAT)
    for name in ("e.png", "e.svg"):
        write_picture(found, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    (tmp_path / "file").write_text("not a folder")
    for bad in (tmp_path / "file" / "e.png", tmp_path / "e.xyz"):
        with pytest.raises(BadInput) as error:
            write_picture(found, bad)
        assert "\n" not in str(error.value)


def test_bad_precisions_are_refused() -> None:
    with pytest.raises(BadInput):
        explain(load_architecture("mobilellm-125m"), load_device("iphone-13"), CHAT, weight_bits=0)
