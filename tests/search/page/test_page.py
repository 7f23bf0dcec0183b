"""The explorer: what it keeps is enough, what it shows is what a query answers, and it is safe."""

import base64
import dataclasses
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.browser import Browser, chromium
from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import Architecture, ArchitectureBatch
from shapelaw.scaling.errors import BadInput
from shapelaw.search.answer.query import Budget, Infeasible, query
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.page.page import embedded, page, write_explorer, write_page
from shapelaw.search.page.page_data import page_data
from shapelaw.search.page.page_points import explored, round_values
from shapelaw.search.page.shape_curves import AXES, _varied, shape_curves
from shapelaw.search.space.space import Space
from tests.published_law import LITERATURE

pytestmark = pytest.mark.usefixtures("exact_devices")

SPACE = Space.from_toml(
    """
name = "small </script><script>window.hacked = 1</script>"
d_model = { from = 256, to = 1536, step = 128 }
n_blocks = { from = 4, to = 28, step = 4 }
sharing = [1, 2, 4]
head_dim = 64
gqa_group = [1, 2, 4]
mlp_attention_ratio = { from = 1.0, to = 4.0, step = 0.5 }
weight_bits = [4, 8]
""",
    "test",
)

NASTY = "<img src=x onerror='window.hacked = 1'>\"&amp;</title></script><script>window.hacked=2//"
BUDGET = Budget(memory_bytes="300MB", decode_tokens_per_s=60)
FIELDS = {
    "memory_bytes": "memory_bytes",
    "decode_tokens_per_s": "decode_tokens_per_s",
    "ttft_s": "ttft_s",
    "energy_per_token_j": "energy_j",
}


@pytest.fixture(scope="module")
def answer() -> Any:
    device = msgspec.structs.replace(load_device("iphone-13"), title=NASTY)
    law = dataclasses.replace(load_law(LITERATURE), label=f"law {NASTY}", source=NASTY)
    return query(device, law, BUDGET, "chat", SPACE)


def answers_of(answer: Any, limits: Any, **more: Any) -> Any:
    """What `query` says for these limits by column; None where nothing fits."""
    budget = Budget(**{FIELDS[column]: value for column, value in limits.items()}, **more)
    try:
        return query(answer.device, answer.law, budget, answer.workload, answer.space)
    except Infeasible:
        return None


# --- what the page holds -------------------------------------------------------------------------


def test_every_slider_position_picks_what_query_answers_and_shows_its_front(answer: Any) -> None:
    kept = explored(answer.problem, SPACE.grid(), 0.9)
    points, rng = kept.points, np.random.default_rng(5)
    assert kept.exact
    assert kept.front_complete
    assert len(points) < SPACE.size() / 3
    infeasible = 0
    for _ in range(25):
        limits = {
            slider.column: float(rng.choice(slider.positions))
            for slider in kept.sliders
            if rng.random() < 0.6
        }
        fits = np.ones(len(points), dtype=bool)
        for slider in kept.sliders:
            if slider.column in limits:
                column, limit = points.columns["bound:" + slider.column], limits[slider.column]
                fits &= column >= limit if slider.at_least else column <= limit
        expected = answers_of(answer, limits)
        if expected is None:
            assert not fits.any()
            infeasible += 1
            continue
        rows = np.flatnonzero(fits)
        assert points.architectures[rows[0]] == expected.best.architecture
        assert points.bits[rows[0]] == expected.best.weight_bits
        front, fastest = [], -np.inf
        for row in rows:  # the order of choice is by rising loss
            if points.columns["decode_tokens_per_s"][row] > fastest:
                fastest = points.columns["decode_tokens_per_s"][row]
                front.append((points.columns["loss"][row], fastest))
        assert front == [(c.loss, c.decode_tokens_per_s) for c in expected.front]
    assert infeasible < 20


def test_with_a_loss_to_reach_the_first_that_fits_is_the_fastest(answer: Any) -> None:
    target = answer.best.loss + 0.1
    reaching = query(
        answer.device,
        answer.law.law,
        Budget(memory_bytes="300MB"),
        answer.workload,
        SPACE,
        target_loss=target,
    )
    points = explored(reaching.problem, SPACE.grid(), 0.9).points
    fits = (points.columns["bound:loss"] <= target) & (points.columns["memory_bytes"] <= 300e6)
    assert points.architectures[int(np.flatnonzero(fits)[0])] == reaching.best.architecture


def test_sliders_stand_where_the_query_was_asked(answer: Any) -> None:
    sliders = {slider["name"]: slider for slider in page_data(answer)["sliders"]}
    assert set(sliders) == {"memory", "decode", "ttft", "energy"}
    assert sliders["memory"]["asked"] == 300e6
    assert 300e6 in sliders["memory"]["positions"]
    assert sliders["ttft"]["asked"] is None


def test_round_values_are_the_floats_people_type() -> None:
    assert {0.006, 0.05, 1.2, 30.0, 5e8} <= set(round_values(-3, 9).tolist())


def test_a_device_without_energy_has_no_energy_slider(answer: Any) -> None:
    bare = msgspec.structs.replace(load_device("m2-pro"), energy=None)
    silent = query(bare, answer.law, Budget(), "chat", SPACE)
    names = [slider["name"] for slider in page_data(silent)["sliders"]]
    assert names == ["memory", "decode", "ttft"]


def test_where_the_space_was_only_searched_sliders_tighten_and_do_not_loosen(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shapelaw.search.page.page_data.can_enumerate", lambda grid: False)
    data = page_data(answer)
    assert not data["exact"]
    assert data["points"]["n"] >= len(answer.front)
    sliders = {slider["name"]: slider for slider in data["sliders"]}
    assert max(sliders["memory"]["positions"]) == sliders["memory"]["asked"] == 300e6
    assert min(sliders["decode"]["positions"]) == sliders["decode"]["asked"] == 60
    assert sliders["memory"]["bounded"]
    assert not sliders["ttft"]["bounded"]
    first = np.frombuffer(base64.b64decode(data["points"]["numbers"]["loss"]), "<f8")[0]
    assert first == answer.best.loss


def test_curves_hold_parameters_and_start_from_the_shape_itself(answer: Any) -> None:
    best = answer.best.architecture
    for axis, curve in zip(AXES, shape_curves(answer.law, best, 1e12), strict=True):
        varied = _varied(axis, best, np.array(curve["x"]))
        np.testing.assert_allclose(
            varied.non_embedding_parameters, best.non_embedding_parameters, rtol=1e-9
        )
        value = (
            varied.n_heads / varied.n_kv_heads
            if axis.name == "gqa_group"
            else getattr(varied, axis.name)
        )
        np.testing.assert_allclose(value, curve["x"], rtol=1e-9)
        here = int(np.argmin(np.abs(np.log(np.array(curve["x"]) / curve["here"]))))
        assert curve["loss"][here] == pytest.approx(0, abs=1e-6)
        assert all(
            low <= middle <= high
            for low, middle, high in zip(curve["low"], curve["loss"], curve["high"], strict=True)
        )


def test_the_packed_columns_are_exact(answer: Any) -> None:
    data = page_data(answer)
    raw = base64.b64decode(data["points"]["numbers"]["loss"])
    columns = data["points"]["shape"]
    first = ArchitectureBatch(
        **{name: np.frombuffer(base64.b64decode(columns[name]), "<i4") for name in columns}
    )[0]
    found = answers_of(answer, {})
    assert np.frombuffer(raw, "<f8")[0] == found.best.loss
    assert first == found.best.architecture


# --- the file ------------------------------------------------------------------------------------


def test_data_cannot_end_the_element_it_stands_in() -> None:
    text = embedded({"name": NASTY, "loss": float("nan")})
    assert "<" not in text
    assert ">" not in text
    assert json.loads(text) == {"name": NASTY, "loss": None}


def test_the_page_names_no_address_to_fetch_from(answer: Any) -> None:
    found: list[tuple[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: Any, attributes: Any) -> None:
            found.extend(
                (tag, value)
                for name, value in attributes
                if name in ("src", "href", "srcset", "action", "data", "poster")
            )

    Reader().feed(page(page_data(answer)))
    assert dict(found) == {"a": "#pick", "link": "data:,"}
    assert "content=\"default-src 'none'" in page(page_data(answer))


def test_an_unwritable_place_is_one_line_and_leaves_nothing(answer: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be written") as caught:
        write_page({**page_data(answer)}, tmp_path / "file" / "page.html")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(answer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return write_explorer(answer, tmp_path_factory.mktemp("page") / "explorer.html")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("websocket")
    if chromium() is None:
        pytest.skip("no chromium")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def opened(browser: Any, written: Any) -> Any:
    browser.events.clear()
    browser.resize(1280, 900)
    browser.open(written)
    return browser


def shown(browser: Any) -> tuple[str, str]:
    """(shape in words, loss) of the pick on the screen."""
    return (
        browser.run("document.getElementById('words').textContent"),
        browser.run("document.querySelector('#figures dd').firstChild.textContent"),
    )


def words_of(candidate: Any) -> str:
    a = candidate.architecture
    repeated = f" each applied {a.sharing}×" if a.sharing > 1 else ""
    return (
        f"d_model {a.d_model}, {a.n_blocks} blocks{repeated}, {a.n_heads} heads "
        f"({a.n_kv_heads} KV) of {a.head_dim}, d_ff {a.d_ff}, vocabulary 32,000 tied, "
        f"{candidate.weight_bits:g}-bit weights"
    )


def test_the_page_opens_at_the_answer_without_a_request_or_an_error(
    opened: Any, written: Any, answer: Any
) -> None:
    assert shown(opened) == (words_of(answer.best), f"{answer.best.loss:.4f}")
    asked = {
        event["params"]["request"]["url"].split(",")[0]
        for event in opened.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked <= {written.as_uri(), "data:"}
    troubles = [
        event
        for event in opened.events
        if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert troubles == []


def test_text_from_files_stays_text(opened: Any) -> None:
    assert opened.run("typeof window.hacked") == "undefined"
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert opened.run("document.querySelector('#device').textContent") == NASTY
    assert SPACE.name in opened.run("document.querySelector('#space').textContent")
    assert NASTY in opened.run("document.querySelector('#certificate').textContent")


def test_it_loads_within_two_seconds(browser: Any, written: Any) -> None:
    seconds = []
    for _ in range(3):
        browser.open(written)
        seconds.append(
            browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
        )
    assert min(seconds) < 2


def test_keys_on_the_sliders_move_the_pick_to_what_query_answers(opened: Any, answer: Any) -> None:
    data = page_data(answer)
    stands = {}
    for slider in data["sliders"]:
        places = (
            ([None] if slider["at_least"] else [])
            + slider["positions"]
            + ([] if slider["at_least"] else [None])
        )
        stands[slider["name"]] = [places, places.index(slider["asked"]), slider["column"]]
    moves = [
        ("memory", "ArrowRight", 2),
        ("ttft", "ArrowLeft", 12),
        ("decode", "ArrowLeft", 3),
        ("energy", "ArrowLeft", 14),
        ("decode", "Home", 1),
        ("memory", "ArrowLeft", 1),
    ]
    checked = 0
    for name, key, times in moves:
        opened.run(f"document.getElementById('slider-{name}').focus()")
        opened.press(key, times)
        places, at, _ = stands[name]
        at = 0 if key == "Home" else at + (times if key == "ArrowRight" else -times)
        stands[name][1] = min(max(at, 0), len(places) - 1)
        limits = {
            column: places[at] for places, at, column in stands.values() if places[at] is not None
        }
        expected = answers_of(answer, limits)
        if expected is None:
            assert not opened.run("document.getElementById('infeasible').hidden")
            continue
        assert shown(opened) == (words_of(expected.best), f"{expected.best.loss:.4f}")
        drawn = json.loads(opened.run("document.getElementById('pick').dataset.architecture"))
        assert Architecture.from_dict(drawn) == expected.best.architecture
        checked += 1
    assert checked >= 4


def test_impossible_budgets_say_what_to_relax(opened: Any) -> None:
    opened.run("document.getElementById('slider-memory').focus()")
    opened.press("Home")
    opened.run("document.getElementById('slider-decode').focus()")
    opened.press("End")
    said = opened.run("document.getElementById('infeasible').textContent")
    assert said.startswith("Nothing in this space fits")
    opened.run("document.getElementById('reset').click()")
    assert opened.run("document.getElementById('infeasible').hidden")


def test_the_copied_config_is_the_pick(opened: Any, answer: Any) -> None:
    opened.run(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async text => "
        "{ window.copied = text; }}})"
    )
    opened.run("document.getElementById('copy').click()")
    opened.settle()
    copied = json.loads(opened.run("window.copied"))
    assert Architecture.from_dict(copied) == answer.best.architecture
    assert opened.run("document.getElementById('copy').textContent") == "Copied"


def test_the_table_sorts_and_a_row_shows_its_shape(opened: Any) -> None:
    def column(index: Any) -> Any:
        return [
            float(text)
            for text in opened.run(
                f"[...document.querySelectorAll('#rows tr td:nth-child({index})')]"
                ".map(cell => cell.textContent)"
            )
        ]

    assert column(1) == sorted(column(1))
    opened.run("document.querySelector('th[data-column=d_model] button').click()")
    opened.run("document.querySelector('th[data-column=d_model] button').click()")
    assert column(7) == sorted(column(7), reverse=True)
    heading = "document.querySelector('th[data-column=d_model]').getAttribute('aria-sort')"
    assert opened.run(heading) == "descending"
    opened.run("document.querySelector('th[data-column=decode] button').click()")
    opened.run("[...document.querySelectorAll('#rows tr')].at(-1).focus()")
    opened.press("Enter")
    assert opened.run("document.getElementById('pick-title').textContent") != "The pick"
    wide = int(column(7)[-1])
    assert f"d_model {wide}," in shown(opened)[0]
    opened.run("document.getElementById('back').click()")
    assert opened.run("document.getElementById('pick-title').textContent") == "The pick"


def test_it_fits_a_phone_and_follows_dark_mode(opened: Any, written: Any) -> None:
    light = opened.run("getComputedStyle(document.body).backgroundColor")
    opened.resize(390, 844, phone=True)
    opened.open(written)
    opened.run("document.getElementById('curves').scrollIntoView()")
    opened.settle()
    assert opened.run("document.documentElement.scrollWidth") <= 390
    opened.call(
        "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    opened.settle()
    assert opened.run("getComputedStyle(document.body).backgroundColor") != light
    accent = opened.run(
        "getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()"
    )
    lines = opened.run(
        "[...document.querySelectorAll('#front .lines .js-line')].map(line => line.style.stroke)"
    )
    red, green, blue = (int(accent[at : at + 2], 16) for at in (1, 3, 5))
    assert f"rgb({red}, {green}, {blue})" in lines
    opened.call("Emulation.setEmulatedMedia", features=[])


def test_every_control_has_a_name_and_shows_its_focus(opened: Any) -> None:
    unnamed = opened.run(
        "[...document.querySelectorAll('button, input')].filter(control => "
        "!(control.textContent.trim() || control.labels?.length)).length"
    )
    assert unnamed == 0
    opened.run("document.getElementById('slider-memory').focus()")
    opened.press("Tab")
    assert opened.run("document.activeElement.id") == "slider-decode"
    assert opened.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
