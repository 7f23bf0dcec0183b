"""What the tests of the borders share: the cases, a command's outcome, what a rejection is."""

import sys
from collections.abc import Callable
from pathlib import Path

CASES = Path(__file__).parents[1] / "cases" / "borders"
LINE = [sys.executable, "-m", "shapelaw"]
Run = Callable[..., tuple[int, str, str]]

SPACE = """name = "x"
d_model = [64, 128]
head_dim = 32
n_blocks = [4, 8]
mlp_attention_ratio = 2
vocab_size = 1000
"""


def refused(result: tuple[int, str, str], *named: str) -> None:
    code, out, err = result
    assert code == 2, err
    assert out == ""
    assert err.count("\n") == 1
    assert len(err[:-1]) <= 300
    assert err[:-1].isprintable()
    for name in named:
        assert name in err
