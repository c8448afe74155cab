"""Text is text: no template, no Markdown and no page does what a problem, a model or a name says."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.vcrd.factories import problem
from tests.vcrd.inspect_pages import make_page
from tests.vcrd.made_run import make_run, mend_manifest, rewrite
from tests.vcrd.report_findings import make_findings
from vcrd.domains.demo_math import DOMAIN
from vcrd.hub.card import make_card
from vcrd.hub.contents import collect
from vcrd.hub.facts import gather
from vcrd.inspect import render_page
from vcrd.io.parquet import shard_files
from vcrd.prompts import PromptParams, prompt_ids
from vcrd.report import PAGE, write_report

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>",
    "'><a href=javascript:alert(1)>x</a>",
    "{{ 7*7 }}{% for x in y %}{{ self.__init__.__globals__ }}",
    "<!--", "]]>", "&lt;script&gt;", "\u202e\x00\x1b[2J",
]  # fmt: skip
ALL = " ".join(HOSTILE)
URLS = {"src", "href", "action", "data", "formaction", "srcset"}


class Elements(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(page)
    return parser.found


def shape(page: str) -> list[tuple[str, tuple[str, ...]]]:
    """Elements and the names of their attributes: what a text could only change by being markup."""
    return [(tag, tuple(sorted(attributes))) for tag, attributes in elements(page)]


def test_a_report_has_the_same_elements_whatever_the_text(tmp_path: Path) -> None:
    pages = {}
    for name, text in (("plain", str), ("hostile", lambda text: text + ALL)):
        write_report(tmp_path / name, make_findings(text))
        pages[name] = (tmp_path / name / PAGE).read_text(encoding="utf-8")
    assert shape(pages["hostile"]) == shape(pages["plain"])
    assert "{{ 7*7 }}" in pages["hostile"]


def test_a_page_to_inspect_has_the_same_elements_whatever_the_text() -> None:
    plain, hostile = (render_page(make_page(2, text=text)) for text in (str, lambda text: text + ALL))
    assert shape(hostile) == shape(plain)
    assert not [attributes for _, attributes in elements(hostile) if URLS & set(attributes)]


def card_of(tmp_path: Path, text: str) -> str:
    run = make_run(tmp_path / "made", count=4)
    for name, column in (("models", "name"), ("problems", "source"), ("problems", "licence")):
        rewrite(shard_files(run / name)[0], lambda rows, column=column: [{**row, column: text} for row in rows])
        mend_manifest(run / name)
    contents = collect(run)
    return make_card(contents, gather(contents), "org/made", [text])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_card_shows_names_as_text_and_its_yaml_reads_back(tmp_path: Path, text: str) -> None:
    if not text.isprintable():
        text = text.replace("\x00", "")
    card = card_of(tmp_path, text)
    head, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert yaml.safe_load(head)["license"] == "other"
    outside = "".join(_outside_code(body))
    plain = card_of(tmp_path / "plain", "words").split("\n---\n", 1)[1]
    assert shape(outside.replace("\\<", "")) == shape("".join(_outside_code(plain)))
    assert outside.replace("\\<", "").count("<!--") == plain.count("<!--")
    if "{{" in text:
        assert "7*7" in body
        assert "49" not in outside


def _outside_code(markdown: str) -> Iterator[str]:
    """Lines that are no block of code."""
    fence = ""
    for line in markdown.splitlines():
        if line.startswith("```"):
            fence = "" if fence and line.strip("`") == "" else fence or "`"
        elif not fence and not line.startswith(("<details>", "</details>")):
            yield line


@pytest.mark.parametrize("text", ["{prompt}", "{prompt}{prompt}", "{0.__class__}", "{{prompt}}", "%s{system}", ALL])
def test_a_problem_is_put_into_the_template_once_as_it_is(text: str) -> None:
    seen: list[str] = []

    class Recorder:
        chat_template = "x"

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            seen.append(text)
            return []

    params = PromptParams(style="plain", template="Q: {prompt} {other}\nA:", system=None, think=False)
    prompt_ids(problem(text), Recorder(), params)
    assert seen == [f"Q: {text} {{other}}\nA:"]


def test_a_problem_is_data_to_a_chat_template() -> None:
    tokenizer = DOMAIN.build_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    turns = [{"role": "user", "content": "{{ 7*7 }}{% raw %}"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "[user]{{ 7*7 }}{% raw %}"
