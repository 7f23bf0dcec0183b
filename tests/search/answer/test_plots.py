"""The picture of a front."""

from pathlib import Path

import msgspec

from shapelaw.search.answer.plots import write_front
from shapelaw.search.answer.query import Budget, query
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.space.space import Range, Space
from tests.published_law import LITERATURE


def test_the_front_is_drawn_whatever_the_device_is_called(tmp_path: Path) -> None:
    space = Space(
        name="few",
        d_model=Range(256, 1024, 256),
        n_blocks=[4, 8],
        gqa_group=[1, 4],
        mlp_attention_ratio=[1.0, 3.0],
    )
    device = msgspec.structs.replace(load_device("iphone-13"), title=r"A $\phone_{ with } $ signs")
    answer = query(device, LITERATURE, Budget(tokens=1e12, decode_tokens_per_s=20), "chat", space)
    for name, head in (("front.png", b"\x89PNG"), ("front.svg", b"<?xml")):
        write_front(answer, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(head)
