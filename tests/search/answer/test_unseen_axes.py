"""A law that never saw an axis vary is not sure of a pick along it."""

import numpy as np
import pytest

from shapelaw.scaling.fit import fit_law
from shapelaw.scaling.law import Law
from shapelaw.scaling.run_table import RunTable
from shapelaw.search.answer.query import Budget, query
from shapelaw.search.answer.remarks import BLIND_MOST
from shapelaw.search.space.space import Range, Space

pytestmark = pytest.mark.usefixtures("exact_devices")


@pytest.fixture(scope="module")
def unshared() -> Law:
    """Depth pays in these runs, and no block of theirs is shared."""
    generator = np.random.default_rng(0)
    width = np.repeat(np.geomspace(256, 2048, 6), 12)
    depth = np.tile(np.repeat([4.0, 8.0, 16.0, 32.0], 3), 6)
    n = 12 * width**2 * depth
    d = n * np.tile([10.0, 40.0, 160.0], 24)
    loss = 1.7 + 200 * n**-0.35 + 1.5 * depth**-0.8 + 900 * d**-0.35
    loss = loss * np.exp(0.002 * generator.standard_normal(len(n)))
    table = RunTable(
        n=n,
        d=d,
        loss=loss,
        run=np.arange(len(n)).astype(str),
        shape={"d_model": width, "n_layers": depth, "sharing": np.ones(len(n))},
        count="non_embedding",
    )
    return fit_law(table, "shape", bootstrap=60, holdout=False, starts=6).law


def test_a_query_says_that_sharing_was_never_seen_and_is_not_sure_of_it(unshared: Law) -> None:
    space = Space(
        name="shared",
        d_model=Range(256, 1024, 256),
        n_blocks=Range(4, 24, 4),
        sharing=[1, 2, 3, 4],
        gqa_group=[1],
        mlp_attention_ratio=[2.0],
        weight_bits=[8],
    )
    answer = query("m2", unshared, Budget(memory_bytes="200MB", tokens=1e11), space=space)
    said = [line for line in answer.warnings if "never saw sharing vary" in line]
    assert said
    assert "through the applied depth" in said[0]
    assert answer.probability_best <= BLIND_MOST


@pytest.mark.parametrize(("layers", "told"), [(2, True), (24, False)])
def test_a_pick_outside_the_evidences_depths_says_so(layers: int, told: bool) -> None:
    """Two layers are few for 3e7 parameters by every study that varied depth."""
    space = Space(
        name="one-depth",
        d_model=[384, 1024],
        n_blocks=layers,
        head_dim=64,
        d_ff=Range(512, 4096, 512),
    )
    found = query("iphone-13", "evidence", Budget(tokens=1e11), "chat", space)
    assert any("band of best depths" in line for line in found.warnings) == told
