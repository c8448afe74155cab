"""What tests of pages share: window sizes, a hostile corpus, and the barriers that axe-core finds."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from scripts.browser import Browser

PHONE, DESK = (360, 740), (1280, 800)
HOSTILE = (
    "<script>pwned = 1</script>",
    "</script><script>pwned = 2</script>",
    "<!--<script>",
    "]]><img src=x onerror='pwned = 3'>",
    '"><svg onload=pwned=4>',
    "javascript:pwned=5",
    "{{ 7 * 7 }} {% raw %}",
    "\u202egnirts desrever\u202c \u2066isolate\u2069 \u200fmark",
    "nul \x00, escape \x1b[31m, line separator \u2028, joined \U0001f469\u200d\U0001f52c, \U000e0041 tag",
    "filler \u3164, selector \U000e0154 end",
)
READY = "performance.getEntriesByName('ready').length > 0"
"""True in the browser once a page of `vcrd inspect` has drawn itself."""


def open_at(
    browser: Browser,
    path: Path,
    size: tuple[int, int],
    scheme: str = "light",
    fragment: str = "",
    ready: str = READY,
) -> None:
    """Open a page anew and wait until it is there."""
    browser.resize(*size, mobile=size == PHONE)
    browser.prefer(scheme)
    browser.problems.clear()
    browser.open(path, fragment, ready)


def barriers(browser: Browser) -> list[tuple[str, str]]:
    """Return the serious and critical violations on the page, by rule and first element."""
    browser.evaluate(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8") + "; 0")
    found = browser.evaluate("axe.run(document)")
    assert len(found["passes"]) > 20
    serious = [item for item in found["violations"] if item["impact"] in ("serious", "critical")]
    return [(item["id"], item["nodes"][0]["html"]) for item in serious]
