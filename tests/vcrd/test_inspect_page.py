"""The page of `vcrd inspect` in a real browser: quick hands, no way out, no way in, and usable by everybody."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scripts.browser import Browser
from scripts.screenshots import take
from tests.vcrd.browsing import DESK, HOSTILE, PHONE, barriers, open_at
from tests.vcrd.inspect_pages import make_page, write_run
from vcrd.inspect import Page, PrefixView, ProblemView, gather_page, write_page

PAGE = make_page(200)
CHOSEN = "document.querySelector('#list [aria-selected=true]')?.innerText"
FOCUS = "document.activeElement.id || document.activeElement.className"
NODES = "document.querySelectorAll('*').length"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "large.html"
    write_page(path, PAGE)
    return path


@pytest.fixture
def page(browser: Browser, large: Path) -> Browser:
    open_at(browser, large, DESK)
    return browser


def choose(browser: Browser, **values: str | float) -> None:
    for name, value in values.items():
        field = json.dumps(name.replace("_", "-"))
        browser.evaluate(
            f"(() => {{ const field = document.getElementById('filters').elements[{field}]; "
            f"field.value = {json.dumps(str(value))}; "
            "field.dispatchEvent(new Event('input', { bubbles: true })); })()"
        )


def status(browser: Browser) -> str:
    return str(browser.evaluate("document.getElementById('status').textContent"))


def examples(page: Page) -> list[tuple[ProblemView, int | None, PrefixView]]:
    return [
        (problem, rollout.outcome, prefix)
        for problem in page.problems
        for rollout in problem.rollouts
        for prefix in rollout.prefixes
    ]


def gap(example: tuple[ProblemView, int | None, PrefixView]) -> float:
    return example[2].gap or 0.0


def test_2000_examples_load_quietly_and_ask_for_nothing(page: Browser, large: Path) -> None:
    assert PAGE.examples == 2000
    assert page.requests == [large.as_uri()]
    assert page.problems == []
    assert status(page) == "200 of 200 problems"
    assert page.evaluate(CHOSEN).startswith("Problem 0:")


def test_the_page_holds_no_more_elements_for_more_examples(browser: Browser, large: Path, tmp_path: Path) -> None:
    nodes = []
    for count in (20, 2000):
        write_page(tmp_path / "page.html", make_page(count, steps=1, tokens=8))
        open_at(browser, tmp_path / "page.html", DESK)
        choose(browser, listed="prefixes")
        nodes.append(browser.evaluate(NODES))
    assert nodes[0] == nodes[1]


def test_filters_keep_what_they_say(page: Browser) -> None:
    all_of_them = examples(PAGE)
    choose(page, listed="prefixes")
    assert status(page) == "2,000 of 2,000 prefixes"
    choose(page, domain="code", outcome=1, target="student")
    kept = [item for item in all_of_them if (item[0].domain, item[1], item[2].target) == ("code", 1, "student")]
    assert status(page) == f"{len(kept)} of 2,000 prefixes"
    choose(page, gap_from=0.25, gap_to=0.75, weight_from=1)
    kept = [item for item in kept if 0.25 <= gap(item) <= 0.75 and item[2].weights[0] >= 1]
    assert kept
    assert status(page) == f"{len(kept):,} of 2,000 prefixes"
    choose(page, listed="problems")
    assert status(page) == f"{len({item[0].id for item in kept})} of 200 problems"
    choose(page, search="no such text")
    assert status(page) == "0 of 200 problems"
    assert page.evaluate("document.getElementById('detail').innerText").endswith("Nothing is chosen.")
    page.evaluate("document.querySelector('[type=reset]').click()")
    page.wait("document.getElementById('status').textContent === '200 of 200 problems'")


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("teacher", lambda item: -gap(item)),
        ("student", gap),
        ("heaviest", lambda item: -item[2].weights[0]),
        ("lightest", lambda item: item[2].weights[0]),
        ("domain", lambda item: item[0].domain),
        ("outcome", lambda item: -(item[1] or 0)),
    ],
)
def test_orders_bring_first_what_they_name(page: Browser, order: str, key: Any) -> None:
    choose(page, listed="prefixes", order=order)
    page.evaluate("document.getElementById('list').focus()")
    ranked = sorted(examples(PAGE), key=key)
    for press, expected in (("Home", ranked[0]), ("ArrowDown", ranked[1]), ("End", ranked[-1])):
        page.press(press)
        assert page.evaluate("decodeURIComponent(location.hash)") == f"#{expected[2].id}"


def test_the_keyboard_alone_gets_everywhere(page: Browser) -> None:
    for _ in range(30):
        page.press("Tab")
        if page.evaluate(FOCUS) == "list":
            break
    assert page.evaluate(FOCUS) == "list"
    for keys, number in ((("ArrowDown", "ArrowDown"), 2), (("End",), 199), (("PageUp", "Home", "ArrowUp"), 0)):
        page.press(*keys)
        assert page.evaluate(CHOSEN).startswith(f"Problem {number}:")
        active = page.evaluate("document.getElementById('list').getAttribute('aria-activedescendant')")
        assert active == f"entry-{number}"
    page.press("Enter")
    assert page.evaluate(FOCUS) == "problem-title"
    page.press("j", "j")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Step 2 of 5"
    page.press("k", "Escape", "/")
    assert page.evaluate("document.activeElement.name") == "search"
    page.press(*"Problem 42")
    assert status(page) == "1 of 200 problems"
    page.press("Escape")
    assert page.evaluate(FOCUS) == "list"


def test_an_address_leads_to_its_prefix(browser: Browser, large: Path) -> None:
    open_at(browser, large, DESK, fragment="#p7%2Fr1%2Fs3")
    assert browser.evaluate("document.querySelector('.prefix.current').dataset.id") == "p7/r1/s3"
    assert browser.evaluate(CHOSEN).startswith("Problem 7:")


def test_a_run_is_told_side_by_side(browser: Browser, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", gather_page(write_run(tmp_path / "run")))
    open_at(browser, tmp_path / "page.html", DESK)
    cards = browser.evaluate("[...document.querySelectorAll('.card')].slice(0, 2).map((card) => card.innerText)")
    assert ["★ target" in card for card in cards] == [False, True]
    for said in ("0.75 ± 0.13", "– abstains: 2 equalities hold", "0.70", "none (not asked)", "1 of 3 right"):
        assert said in cards[1], said
    assert "a 1+2=3 3+0=3" in cards[0]
    assert browser.evaluate("document.querySelector('[role=img]').getAttribute('aria-label')") == (
        "local validity 0.25, standard deviation 0.13"
    )
    assert "no example: too_long" in browser.evaluate("document.getElementById('detail').innerText")


@pytest.mark.usefixtures("browser")
def test_the_pictures_of_the_readme_are_made_by_a_command(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run").parent
    (run / "report").mkdir()
    (run / "report/report.html").write_text("<!doctype html><title>report</title><h1>A report</h1>")
    made = take(run, tmp_path / "images")
    assert [path.name for path in made] == ["inspect.png", "inspect-dark.png", "report.png"]
    light, dark, report = (Image.open(path).convert("L") for path in made)
    assert {light.size, dark.size, report.size} == {(1280, 800)}
    assert light.resize((1, 1)).getpixel((0, 0)) > 200 > 60 > dark.resize((1, 1)).getpixel((0, 0))
    assert all(path.stat().st_size < 200_000 for path in made)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "hostile.html"
    write_page(path, make_page(len(HOSTILE), rollouts=1, steps=2, tokens=3, text=lambda text: text + "".join(HOSTILE)))
    return path


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_a_hostile_corpus_renders_as_text(browser: Browser, hostile: Path, size: tuple[int, int]) -> None:
    open_at(browser, hostile, size)
    made = "[...new Set([...document.querySelectorAll('*')].map((node) => node.localName))].sort()"
    hostile_elements = set(browser.evaluate(made))
    shown = browser.evaluate("document.body.innerText")
    for said in HOSTILE[:7]:
        assert said in shown, said
    assert "U+202Egnirts desreverU+202C" in shown
    assert "nul U+0000, escape U+001B[31m, line separator U+2028, joined \U0001f469\u200d\U0001f52c, U+E0041" in shown
    assert "filler U+3164, selector U+E0154 end" in shown
    assert not set("\x00\x1b\u202e\u2066\u200f\u2028") & set(browser.evaluate("document.documentElement.textContent"))
    write_page(hostile.with_name("tame.html"), make_page(3, rollouts=1, steps=2, tokens=3))
    assert browser.evaluate("document.scripts.length") == 2
    assert browser.evaluate("typeof pwned") == "undefined"
    assert (browser.problems, browser.dialogs, len(browser.requests)) == ([], [], 1)
    open_at(browser, hostile.with_name("tame.html"), size)
    assert hostile_elements == set(browser.evaluate(made))


def test_a_line_of_a_megabyte_is_shown_in_parts(browser: Browser, tmp_path: Path) -> None:
    line = "x" * 999_999 + "<"
    write_page(tmp_path / "page.html", make_page(1, rollouts=1, steps=1, tokens=3, text=lambda text: f"{text} {line}"))
    open_at(browser, tmp_path / "page.html", PHONE)
    assert browser.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    block = "document.querySelector('.problem .text')"
    before = browser.evaluate(f"{block}.textContent.length")
    assert before < 10_000
    browser.evaluate(f"{block}.querySelector('button').click()")
    assert before < browser.evaluate(f"{block}.textContent.length") < 20_000
    assert browser.problems == []


def test_what_would_run_all_the_same_is_stopped_by_the_policy(page: Browser) -> None:
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"pwned = 1\"><b onclick=pwned=1>')"
    )
    page.evaluate("document.querySelector('b').click()")
    page.wait("performance.now() > performance.getEntriesByName('ready')[0].startTime + 300")
    assert page.evaluate("typeof pwned") == "undefined"
    assert page.problems
    assert all("Content Security Policy" in said for said in page.problems)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("corpus", "size"), [("large", DESK), ("large", PHONE), ("hostile", PHONE)])
def test_there_is_no_serious_barrier(
    browser: Browser, request: pytest.FixtureRequest, corpus: str, size: tuple[int, int], scheme: str
) -> None:
    open_at(browser, request.getfixturevalue(corpus), size, scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert browser.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
    assert barriers(browser) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heavier_tokens_are_told_apart_without_any_colour(browser: Browser, large: Path, scheme: str) -> None:
    open_at(browser, large, DESK, scheme)
    places = browser.evaluate(
        "[...document.querySelectorAll('#legend .t')].map((level) => level.getBoundingClientRect())"
        ".map(({ left, top }) => [Math.round(left) + 3, Math.round(top) + 2])"
    )
    browser.send("Emulation.setEmulatedVisionDeficiency", type="achromatopsia")
    picture = Image.open(io.BytesIO(browser.screenshot())).convert("RGB")
    browser.send("Emulation.setEmulatedVisionDeficiency", type="none")
    shades = [picture.getpixel((left, top)) for left, top in places]
    assert len(shades) == 9
    assert all(max(shade) - min(shade) <= 2 for shade in shades)
    greys = [shade[0] for shade in shades]
    assert greys == sorted(set(greys), reverse=scheme == "light")
