"""How long a reader of `vcrd inspect` waits for a page of 2,000 examples, and for its answers."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.claims import claim
from scripts.browser import Browser
from tests.vcrd.browsing import READY
from tests.vcrd.inspect_pages import make_page
from vcrd.inspect import write_page

PROBLEMS, ROUNDS = 200, 7
LOAD_S, MORE_WORK = 3.0, 3.0
# From an event to the layout that shows its effect.
_ANSWERS = """(async () => {
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const set = (name, value) => () => {
    form.elements[name].value = value;
    form.elements[name].dispatchEvent(new Event("input", { bubbles: true }));
  };
  const press = (key) => () => list.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const acts = [
    set("listed", "prefixes"), set("order", "teacher"), set("order", "lightest"), set("search", "t"),
    set("search", "th"), set("search", ""), set("domain", "code"), set("gap-from", "0.1"), set("outcome", "1"),
    set("domain", ""), ...["ArrowDown", "PageDown", "End", "ArrowUp", "Home"].map(press),
  ];
  const times = [];
  for (const act of acts) {
    await new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
    const start = performance.now();
    act();
    document.body.offsetHeight;
    times.push((performance.now() - start) / 1000);
  }
  return times;
})()"""


def main() -> bool:
    """Open both pages in a fresh browser each round."""
    loads: list[float] = []
    answers: list[list[float]] = []
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.html", Path(folder) / "small.html"
        page = make_page(PROBLEMS)
        write_page(large, page)
        write_page(small, make_page(PROBLEMS // 10))
        for _ in range(ROUNDS):
            with Browser() as browser:
                browser.open(large, ready=READY)
                loads.append(browser.evaluate("performance.getEntriesByName('ready')[0].startTime") / 1000)
                answers.append(browser.evaluate(_ANSWERS))
                browser.open(small, ready=READY)
                ratios.append(sum(answers[-1]) / sum(browser.evaluate(_ANSWERS)))
        told = {"examples": page.examples, "bytes": large.stat().st_size, "slowest_answer_s": _slowest(answers)}
    sys.stderr.write(json.dumps(told) + "\n")
    held = [
        claim(
            f"seconds from navigation to the first frame of a page of {page.examples} examples", loads, LOAD_S, "lower"
        ),
        claim("15 filters, orders and keys with 2,000 examples, against the same with 200", ratios, MORE_WORK, "lower"),
    ]
    return all(held)


def _slowest(answers: list[list[float]]) -> float:
    """Return the median over the rounds of the act that takes longest."""
    slowest: float = max(statistics.median(times) for times in zip(*answers, strict=True))
    return round(slowest, 4)


if __name__ == "__main__":
    sys.exit(not main())
