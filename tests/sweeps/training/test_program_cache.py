"""Traces kept between processes: read or made, the same program; a damaged one is made again."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shapelaw.sweeps.training.program_cache import KeptFunction


class Counted:
    """A function of a state and a number that knows how often it was traced."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, state: dict[str, Any], by: Any) -> tuple[dict[str, Any], Any]:
        self.times += 1
        state = {"a": state["a"] + by, "b": jnp.sin(state["b"])}
        return state, jnp.sum(state["a"])


def kept(function: Counted, folder: Path | None, **changes: Any) -> KeptFunction:
    return KeptFunction(
        function, lambda state, by: (state, 0), folder=folder, **({"identity": "test"} | changes)
    )


def state(size: int = 3) -> dict[str, np.ndarray]:
    return {"a": np.arange(size, dtype=np.float32), "b": np.ones((2, size), np.float32)}


def test_a_second_process_reads_what_the_first_traced(tmp_path: Path) -> None:
    first, second = Counted(), Counted()
    made = kept(first, tmp_path)(state(), np.float32(2))
    read = kept(second, tmp_path)(state(), np.float32(2))
    assert (first.times, second.times) == (1, 0)
    assert str(jax.tree.structure(made)) == str(jax.tree.structure(read))
    for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(read), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(made[0]["a"], [2, 3, 4])
    assert float(made[1]) == 9


def test_results_go_back_in_as_arguments_without_another_trace(tmp_path: Path) -> None:
    function = Counted()
    add = kept(function, tmp_path, donate_first=True)
    now: Any = jax.device_put(state())
    for _ in range(3):
        now, _ = add(now, np.float32(1))
    assert function.times == 1
    np.testing.assert_array_equal(now["a"], [3, 4, 5])


def test_another_shape_and_another_identity_are_other_programs(tmp_path: Path) -> None:
    function = Counted()
    kept(function, tmp_path)(state(), np.float32(1))
    kept(function, tmp_path)(state(size=4), np.float32(1))
    kept(function, tmp_path, identity="other")(state(), np.float32(1))
    assert function.times == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_a_torn_file_is_made_again(tmp_path: Path) -> None:
    kept(Counted(), tmp_path)(state(), np.float32(1))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for torn in (whole[:-1], whole[:40], b"", whole[:100] + b"?" + whole[101:]):
        file.write_bytes(torn)
        function = Counted()
        result, _ = kept(function, tmp_path)(state(), np.float32(1))
        assert function.times == 1
        np.testing.assert_array_equal(result["a"], [1, 2, 3])


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    result, _ = kept(Counted(), blocked)(state(), np.float32(1))
    np.testing.assert_array_equal(result["a"], [1, 2, 3])
    assert blocked.read_text() == ""
