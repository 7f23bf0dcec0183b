"""Which engines keep a shared block once: their files say it, and every sentence asks them."""

from importlib import resources

import pytest

from shapelaw.search.devices.catalogue import engine, sharing_engines
from shapelaw.search.devices.profile import STORE_EVERY_APPLICATION
from shapelaw.search.export.exchange_weights import SHARING_ENGINES

SHIPPED = sorted(
    entry.name.removesuffix(".toml")
    for entry in (resources.files("shapelaw.search") / "devices" / "profiles" / "engines").iterdir()
    if entry.name.endswith(".toml")
)


@pytest.mark.parametrize("name", SHIPPED)
def test_names_and_files_say_the_same(name: str) -> None:
    """A profile file without traits is judged by its engine's name: as the engine's own file."""
    found = engine(name)
    unable = found.title.lower().startswith(STORE_EVERY_APPLICATION)
    assert unable is not found.traits.shares_blocks


def test_the_sentence_names_those_that_can_and_no_other() -> None:
    said = sharing_engines()
    assert "jax" in said
    for name in SHIPPED:
        found = engine(name)
        able = bool(found.traits.shares_blocks) and name != "asserted"
        assert (found.title in said) is able, name


def test_the_exports_sentence_is_the_engines_own() -> None:
    assert sharing_engines() == SHARING_ENGINES
