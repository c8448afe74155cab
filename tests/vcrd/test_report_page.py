"""The report in a real browser: it asks for nothing, runs nothing, and is usable by everybody."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from scripts.browser import Browser
from tests.vcrd.browsing import DESK, HOSTILE, PHONE, barriers, open_at
from tests.vcrd.report_findings import make_findings
from vcrd.report import PAGE, PLOTS, write_report

LOADED = "document.readyState === 'complete'"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, make_findings())
    return folder / PAGE


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_report(folder, make_findings(lambda text: "".join([text, *HOSTILE, "x" * 1_000_000])))
    return folder / PAGE


@pytest.mark.parametrize(
    ("corpus", "size", "scheme"),
    [("report", DESK, "light"), ("report", PHONE, "dark"), ("hostile", DESK, "dark"), ("hostile", PHONE, "light")],
)
def test_there_is_no_serious_barrier_and_nothing_is_asked_for(
    browser: Browser, request: pytest.FixtureRequest, corpus: str, size: tuple[int, int], scheme: str
) -> None:
    path = request.getfixturevalue(corpus)
    open_at(browser, path, size, scheme, ready=LOADED)
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    browser.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
    assert browser.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert barriers(browser) == []
    assert browser.requests == [path.as_uri()]
    assert (browser.problems, browser.dialogs) == ([], [])


def test_text_of_models_is_text(browser: Browser, report: Path, hostile: Path) -> None:
    made = "[...new Set([...document.querySelectorAll('*')].map((node) => node.localName))].sort()"
    open_at(browser, report, DESK, ready=LOADED)
    elements = browser.evaluate(made)
    open_at(browser, hostile, DESK, ready=LOADED)
    assert browser.evaluate(made) == elements
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.evaluate("typeof pwned") == "undefined"
    shown = browser.evaluate("document.body.textContent")
    assert all(said in shown for said in HOSTILE[:7])
    assert "[U+202E]gnirts desrever[U+202C]" in shown
    assert not set("\x00\x1b\u202e\u2066\u200f\u2028") & set(shown)
    assert hostile.stat().st_size < 2_000_000


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_no_words_of_a_chart_lie_on_others_or_outside(browser: Browser, report: Path, size: tuple[int, int]) -> None:
    open_at(browser, report, size, ready=LOADED)
    charts = browser.evaluate(
        """[...document.querySelectorAll('figure svg[role=img]')].map((chart) =>
          [chart, ...chart.querySelectorAll('text')].map((node) => {
            const { left, right, top, bottom } = node.getBoundingClientRect();
            return { left, right, top, bottom, words: node.textContent };
          }))"""
    )
    assert len(charts) == len(PLOTS)
    for frame, *boxes in charts:
        outside = [box["words"] for box in boxes if box["left"] < frame["left"] or box["right"] > frame["right"]]
        assert outside == []
        assert [(one["words"], other["words"]) for one, other in combinations(boxes, 2) if overlap(one, other)] == []


def overlap(one: dict[str, float], other: dict[str, float]) -> bool:
    """By more than the empty rim of a line of text."""
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return across > 1 and down > 3
