"""The page: one self-contained file without a script, in which text of models is text."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from vcrd.io.pages import policy_hash, spelled_out, with_shared_style
from vcrd.report.charts import WIDTH
from vcrd.report.figures import charts_of
from vcrd.report.findings import Findings

ESTIMATE_NAMES = {
    "local_validity": "local validity: all evidence",
    "without_completions": "all evidence but completions",
    "score_prm": "process reward model alone, as it is",
    "score_peer": "peer review alone, as it is",
    "completions": "completions alone, (s + 1/2) / (n + 1)",
}
_SHOWN_CHARACTERS = 2000


def render_page(summary: Mapping[str, Any], findings: Findings) -> str:
    """Return the page as HTML."""
    import jinja2
    from markupsafe import Markup

    room = files("vcrd.report")
    style = with_shared_style(room.joinpath("page.css").read_text(encoding="utf-8"))
    loader = jinja2.FunctionLoader(lambda name: room.joinpath(name).read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    environment.filters["shown"] = shown
    page: str = environment.get_template("page.html.jinja").render(
        summary=summary,
        charts=charts_of(summary),
        width=WIDTH,
        estimates=ESTIMATE_NAMES,
        examples=findings.examples,
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=policy_hash(style),
    )
    return page


def shown(text: str) -> str:
    """Return the beginning of a text with everything unseen spelled out.

    >>> shown("x" * 2001)[-12:]
    'xx… (1 more)'
    """
    more = len(text) - _SHOWN_CHARACTERS
    return spelled_out(text) if more <= 0 else f"{spelled_out(text[:_SHOWN_CHARACTERS])}… ({more:,} more)"
