"""The KV cache: bytes by blocks, a price as wide as what was published, what engines keep."""

import numpy as np
import pytest

from shapelaw.scaling.errors import BadInput
from shapelaw.scaling.formats.kv_cache import kv_bits, kv_price_draws
from shapelaw.search.architectures import load_architecture
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.devices.explain import explain
from shapelaw.search.devices.kv_cache import kv_cache
from shapelaw.search.workload import load_workload


@pytest.mark.parametrize(
    ("name", "published"),
    [
        # ln of perplexity over that with f16 keys and values.
        ("q8_0", (np.log(6.234369 / 6.232196), np.log(5.6311 / 5.6258))),
        ("q4_0", (np.log(7.3833 / 7.2256), np.log(47.8404 / 13.5068))),
    ],
)
def test_the_interval_of_the_price_holds_what_was_published(
    name: str, published: tuple[float, float]
) -> None:
    drawn = kv_price_draws(name, 4096)
    low, high = np.quantile(drawn, [0.05, 0.95])
    assert all(low < value < high for value in published)
    assert np.all(kv_price_draws("bf16", 8) == 0)


def test_blocks_lie_within_a_head() -> None:
    assert kv_bits("q8_0", 64) == 8.5
    assert kv_bits("q4_0", np.array([64, 128])) == 4.5
    assert kv_bits("f16", 40) == 16
    with pytest.raises(BadInput, match="do not divide head_dim 40"):
        kv_bits("q8_0", np.array([64, 40]))
    with pytest.raises(BadInput, match=r"'q9'.*q8_0"):
        kv_bits("q9", 64)


def test_an_explanation_holds_the_cache_in_its_format() -> None:
    shape, device = load_architecture("smollm2-135m"), load_device("m2")
    workload = load_workload("long-context")
    wide, narrow = (explain(shape, device, workload, kv_format=name) for name in (None, "q8_0"))
    values = 2 * shape.n_kv_heads * shape.head_dim * shape.depth * workload.final_context
    assert wide["kv_format"] == "f16"
    assert wide["memory"]["KV cache"] == pytest.approx(2 * values)
    assert narrow["memory"]["KV cache"] == pytest.approx(values * 34 / 32)
    assert narrow["decode_s"] < wide["decode_s"]
    assert wide["kv_format_price"] == {"nats": 0.0, "interval": [0.0, 0.0], "source": None}
    low, high = narrow["kv_format_price"]["interval"]
    assert 0 < low < narrow["kv_format_price"]["nats"] < high


def test_what_an_engine_does_not_keep_is_said() -> None:
    with pytest.raises(BadInput, match=r"llama\.cpp Metal keeps f16, q8_0"):
        kv_cache("fp8", load_device("m2"), 64)
    assert kv_cache(None, load_device("iphone-13@executorch/cpu"), 64).bits == 32


def test_both_commands_take_a_format_of_the_cache() -> None:
    from shapelaw.commands.device_commands import explain as explain_command
    from shapelaw.commands.query_command import query as query_command

    for command in (explain_command, query_command):
        assert "--kv-format" in [name for option in command.params for name in option.opts]
