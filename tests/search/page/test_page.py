"""The page, as a file and in a browser: it shows what a query answers, and it is safe."""

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.browser import Browser, axe_core, chromium
from shapelaw.results.shipped_laws import load_law
from shapelaw.scaling.architecture import Architecture
from shapelaw.scaling.errors import BadInput
from shapelaw.search.answer.query import Budget, Infeasible, query
from shapelaw.search.answer.wording import share
from shapelaw.search.devices.catalogue import load_device
from shapelaw.search.page.page import embedded, page, write_page
from shapelaw.search.page.page_data import page_data
from shapelaw.search.pareto.device_cost import DeviceCost
from shapelaw.search.pareto.device_memory import within_device
from shapelaw.search.pareto.exhaustive import points_of
from shapelaw.search.pareto.finalists import best_confident, prepared
from shapelaw.search.pareto.problem import Problem
from shapelaw.search.space.space import Space
from tests.published_law import LITERATURE

SPACE = Space.from_toml(
    """
name = "small </script><script>window.hacked = 1</script>"
d_model = { from = 256, to = 1024, step = 128 }
n_blocks = { from = 4, to = 20, step = 4 }
sharing = [1, 2]
head_dim = 64
gqa_group = [1, 2]
mlp_attention_ratio = { from = 1.0, to = 4.0, step = 1.0 }
weight_bits = [4, 8]
""",
    "test",
)

NASTY = "<img src=x onerror='window.hacked = 1'>\"&amp;</title></script><script>window.hacked=2//"
BUDGET = Budget(memory_bytes="350MB", decode_tokens_per_s=60, tokens="1T")
FIELDS = {"memory": "memory_bytes", "decode": "decode_tokens_per_s", "ttft": "ttft_s"}


@pytest.fixture(scope="module")
def answer() -> Any:
    device = msgspec.structs.replace(load_device("iphone-13"), title=NASTY)
    law = dataclasses.replace(load_law(LITERATURE), label=f"law {NASTY}", source=NASTY)
    return query(device, law, BUDGET, "chat", SPACE)


@pytest.fixture(scope="module")
def data(answer: Any) -> dict[str, Any]:
    return page_data(answer)


@pytest.fixture(scope="module")
def written(data: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(data, tmp_path_factory.mktemp("page") / "answer.html")


# --- the file ------------------------------------------------------------------------------------


def test_data_cannot_end_the_element_it_stands_in() -> None:
    text = embedded({"name": NASTY, "loss": float("nan")})
    assert "<" not in text
    assert ">" not in text
    assert json.loads(text) == {"name": NASTY, "loss": None}


def test_the_page_names_no_address_to_fetch_from(data: dict[str, Any]) -> None:
    found: list[tuple[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: Any, attributes: Any) -> None:
            found.extend(
                (tag, value)
                for name, value in attributes
                if name in ("src", "href", "srcset", "action", "data", "poster")
            )

    text = page(data)
    Reader().feed(text)
    assert dict(found) == {"a": "#pick", "link": "data:,"}
    assert "content=\"default-src 'none'" in text


def test_an_unwritable_place_is_one_line_and_leaves_nothing(
    data: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be written") as caught:
        write_page(data, tmp_path / "file" / "page.html")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    pytest.importorskip("websocket")
    if chromium() is None:
        pytest.skip("no chromium")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def opened(browser: Browser, written: Path) -> Browser:
    browser.events.clear()
    browser.resize(1400, 900)
    browser.open(written)
    return browser


def shown(browser: Browser) -> Architecture | None:
    """The pick on the screen."""
    text = browser.run("document.getElementById('pick').dataset.architecture")
    return Architecture.from_dict(json.loads(text)) if text else None


def put(browser: Browser, name: str, stop: int) -> None:
    """Move a slider, as a finger would."""
    browser.run(
        f"(() => {{ const it = document.getElementById('slider-{name}'); it.value = {stop}; "
        "it.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def limits(browser: Browser) -> dict[str, str]:
    """What every slider stands for."""
    found = browser.run(
        "Object.fromEntries([...document.querySelectorAll('input[type=range]')]"
        ".map(it => [it.id.slice(7), it.dataset.limit]))"
    )
    return dict(found)


def asked_of_query(
    answer: Any, stands: dict[str, str], *, whole: bool = False
) -> Architecture | None:
    """The pick of `query` for the same budgets; None where nothing fits.

    By its rule alone, or `whole`, with the composing of the answer.
    """
    named: dict[str, Any] = {FIELDS[name]: float(stands[name]) for name in FIELDS if stands[name]}
    if stands.get("energy"):
        named["energy_j"] = float(stands["energy"])
    workload = answer.workload.served(
        int(stands["batch"]), int(stands["context"]) if stands["context"] else None
    )
    budget = Budget(**named, tokens=float(stands["training"]))
    if not whole:
        cost = DeviceCost(answer.device, workload)
        budget = within_device(budget, answer.device)
        asked = Problem(answer.law.law, cost, budget, answer.problem.objectives)
        problem, grid = prepared(asked, SPACE.grid(), answer.confidence), SPACE.grid()
        key, _ = best_confident(problem, grid, answer.confidence)
        return None if key is None else points_of(problem, grid, np.array([key])).architectures[0]
    try:
        return query(answer.device, answer.law.law, budget, workload, SPACE).best.architecture
    except Infeasible:
        return None


def troubles(browser: Browser) -> list[dict[str, Any]]:
    """What the page's scripts raised."""
    wanted = ("Runtime.exceptionThrown", "Log.entryAdded")
    return [event for event in browser.events if event["method"] in wanted]


def test_the_page_opens_at_the_answer_without_a_request_or_an_error(
    opened: Browser, written: Path, answer: Any
) -> None:
    assert shown(opened) == answer.best.architecture
    asked = {
        event["params"]["request"]["url"].split(",")[0]
        for event in opened.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked <= {written.as_uri(), "data:", "about:blank"}
    assert troubles(opened) == []
    seconds = opened.run("performance.getEntriesByType('navigation')[0].loadEventEnd / 1000")
    assert seconds < 2


def test_the_page_says_how_sure_it_is_as_the_terminal_does(opened: Browser, answer: Any) -> None:
    said = opened.run("document.getElementById('sure').textContent")
    kept = share(answer.near_best_confident_probability)
    assert f"{kept} to be within .01 nats of the best shape that keeps these budgets" in said
    known = re.search(r"(\d+) % of the best that would fit, were the device known", said)
    assert known is not None
    # The two round a half to different sides.
    assert abs(float(known[1]) - 100 * answer.near_best_probability) <= 0.5 + 1e-9
    assert f"give up {answer.confident_regret:.3f} nats for not knowing the law better" in said


def test_text_from_files_stays_text(opened: Browser) -> None:
    assert opened.run("typeof window.hacked") == "undefined"
    assert opened.run("document.querySelectorAll('img').length") == 0
    assert NASTY in opened.run("document.getElementById('title').textContent")
    assert SPACE.name in opened.run("document.getElementById('space').textContent")
    assert NASTY in opened.run("document.getElementById('law-note').textContent")


def test_sliders_move_the_pick_to_what_query_answers(opened: Browser, answer: Any) -> None:
    stops = opened.run(
        "Object.fromEntries([...document.querySelectorAll('input[type=range]')]"
        ".map(it => [it.id.slice(7), Number(it.max)]))"
    )
    assert {"memory", "decode", "ttft", "energy", "training", "batch", "context"} == set(stops)
    rng, answered, shapes = np.random.default_rng(3), 0, set()
    for turn in range(24):
        opened.run("document.getElementById('reset').click()")
        for name in rng.choice(sorted(stops), 3, replace=False):
            # From the generous half of each budget, so that most combinations have an answer.
            stop = int(rng.integers(stops[name] + 1))
            if name in FIELDS or name == "energy":
                stop = stop // 2 if name == "decode" else stops[name] - stop // 2
            put(opened, name, stop)
        opened.settle()
        expected = asked_of_query(answer, limits(opened), whole=turn < 3)
        assert shown(opened) == expected, f"turn {turn}: {limits(opened)}"
        assert opened.run("document.getElementById('infeasible').hidden") == (expected is not None)
        answered += expected is not None
        shapes.add(expected)
    assert answered >= 20
    assert len(shapes) >= 5


def test_every_difference_that_is_shown_is_there(opened: Browser) -> None:
    # The page holds differences of the pairs it compares alone, and raises at any other pair.
    stops = opened.run(
        "[...document.querySelectorAll('input[type=range]')]"
        ".map(it => [it.id.slice(7), Number(it.max)])"
    )
    rng = np.random.default_rng(5)
    for _ in range(80):
        for name, last in stops:
            put(opened, name, int(rng.integers(last + 1)))
        opened.settle()
        rows = opened.run("document.querySelectorAll('#rows button').length")
        if rows:
            opened.run(f"document.querySelectorAll('#rows button')[{rng.integers(rows)}].click()")
    assert troubles(opened) == []


def test_the_shapes_people_know_are_the_ones_query_names(opened: Browser, answer: Any) -> None:
    known = opened.run(
        "[...document.getElementById('known').children]"
        ".map(({dataset}) => [dataset.architecture, dataset.fits === 'true'])"
    )
    assert [(Architecture.from_dict(json.loads(text)), fits) for text, fits in known] == [
        (each.candidate.architecture, each.feasible) for each in answer.baselines
    ]


def test_keys_move_a_slider_and_every_end_is_labelled(opened: Browser) -> None:
    opened.run("document.getElementById('slider-training').focus()")
    before = limits(opened)["training"]
    opened.press("ArrowRight")
    assert float(limits(opened)["training"]) > float(before)
    ends = opened.run(
        "[...document.querySelectorAll('.ends')].map(it => [it.firstChild.textContent, "
        "it.lastChild.textContent])"
    )
    assert len(ends) == 7
    assert all(first and last and first != last for first, last in ends)


def test_a_shared_link_restores_the_state(opened: Browser, written: Path) -> None:
    put(opened, "decode", 4)
    put(opened, "training", 1)
    put(opened, "batch", 1)
    opened.settle()
    before, pick = limits(opened), shown(opened)
    fragment = opened.run("window.location.hash")
    assert "tokens=" in fragment
    opened.open(written, fragment)
    assert limits(opened) == before
    assert shown(opened) == pick
    opened.open(written, "#memory=7&tokens=zebra&decode=<b>&shape=1")
    assert shown(opened) is not None
    opened.run("document.getElementById('reset').click()")
    opened.settle()
    assert opened.run("window.location.hash") == ""


def test_impossible_budgets_say_what_to_relax(opened: Browser) -> None:
    put(opened, "memory", 0)
    put(opened, "ttft", 0)
    put(opened, "decode", 99)
    opened.settle()
    said = opened.run("document.getElementById('infeasible').textContent")
    assert said.startswith("Nothing in this space meets these budgets with probability 0.9")
    assert opened.run("document.getElementById('chosen').hidden")


def test_what_is_copied_is_a_config_and_a_command_that_ask_the_same(
    opened: Browser, answer: Any
) -> None:
    opened.run(
        "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async text => "
        "{ window.copied = text; }}})"
    )
    opened.run("document.getElementById('copy-config').click()")
    opened.settle()
    config, best = json.loads(opened.run("window.copied")), answer.best.architecture
    assert config["hidden_size"] == best.d_model
    assert config["num_hidden_layers"] == best.depth
    assert config["intermediate_size"] == best.d_ff
    put(opened, "batch", 1)
    opened.settle()
    opened.run("document.getElementById('copy-command').click()")
    opened.settle()
    words = opened.run("window.copied")
    assert words.startswith("shapelaw query --device iphone-13 ")
    assert "--memory 350MB --decode 60 --tokens 1000000000000 --batch 4" in words
    assert f"'{SPACE.name}'" in words


def test_a_row_shows_its_shape_beside_the_table(opened: Browser) -> None:
    rows = opened.run("document.querySelectorAll('#rows tr').length")
    assert rows > 2
    assert opened.run("document.querySelectorAll('#rows tr.pick').length") == 1
    opened.run("document.querySelector('#rows button[tabindex=\"0\"]').focus()")
    opened.press("ArrowDown")
    opened.press("Enter")
    assert not opened.run("document.getElementById('selected').hidden")
    said = opened.run("document.getElementById('selected-words').textContent")
    assert "nats against the pick" in said
    # Its shape stands in words, so that the reader need not go back to the top.
    assert said.startswith("d_model ")


def test_the_keyboard_reaches_the_end_in_forty_steps(opened: Browser) -> None:
    opened.run("document.activeElement.blur(); window.scrollTo(0, 0)")
    seen, unmarked = [], []
    for _ in range(60):
        opened.press("Tab")
        where = opened.run(
            "(() => { const it = document.activeElement; return it === document.body ? '' : "
            "`${it.tagName} ${it.id} ${it.textContent.slice(0, 20)}`; })()"
        )
        if not where or where in seen:
            break
        seen.append(where)
        if opened.run("getComputedStyle(document.activeElement).outlineStyle") == "none":
            unmarked.append(where)
    assert 10 < len(seen) <= 40
    assert seen[-1].startswith("SUMMARY")
    assert unmarked == []
    # The visual order agrees: the answer's buttons come before the sliders.
    assert seen.index("BUTTON copy-config Copy Hugging Face co") < seen.index(
        "INPUT slider-memory "
    )


@pytest.mark.parametrize("width", [1400, 768, 390])
def test_each_screen_light_and_dark(browser: Browser, written: Path, width: int) -> None:
    rules = axe_core()
    backgrounds = []
    for scheme in ("light", "dark"):
        browser.resize(width, 900, phone=width < 500)
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", features=media)
        browser.open(written)
        assert browser.run("document.documentElement.scrollWidth") <= width
        backgrounds.append(browser.run("getComputedStyle(document.body).backgroundColor"))
        if width < 800:
            tops = [
                browser.run(f"document.getElementById('{name}').getBoundingClientRect().top")
                for name in ("pick", "controls")
            ]
            assert tops[0] < tops[1]
        if rules is not None:
            browser.run(f"{rules}; void 0")
            found = browser.run(
                "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations"
                ".filter(each => ['serious', 'critical'].includes(each.impact))"
                ".map(each => `${each.id}: ${each.nodes[0].html.slice(0, 200)}`))"
            )
            assert found == []
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert backgrounds[0] != backgrounds[1]
    if rules is None:
        pytest.skip("axe-core is not here: its rules were not looked at")


def test_on_paper_there_are_no_controls(opened: Browser) -> None:
    opened.call("Emulation.setEmulatedMedia", media="print")
    displays = opened.run(
        "[...document.querySelectorAll('button, input')]"
        ".filter(it => getComputedStyle(it).display !== 'none').length"
    )
    budgets = opened.run("document.querySelectorAll('.slider output').length")
    shapes = opened.run(
        "[...document.querySelectorAll('#rows td[data-words]')]"
        ".map(it => getComputedStyle(it, '::after').content)"
    )
    rows = opened.run("document.querySelectorAll('#rows tr').length")
    opened.call("Emulation.setEmulatedMedia", media="")
    # A shape that is a button on the screen is read on paper all the same.
    assert len(shapes) == rows
    assert all(re.fullmatch(r'"\d+ × \d+.*"', each) for each in shapes)
    assert displays == 0
    assert budgets == 7
