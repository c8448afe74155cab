"""From what the page shows to one self-contained file: no request goes out, and nothing of the data can run.

The data is JSON in a block that no browser executes, with every character escaped that could end it; the script makes
text nodes of it and nothing else. As a second line of defence the page forbids, by hash, every script and style but
its own, and every request.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from vcrd.inspect.view import Page
from vcrd.io.files import write_text
from vcrd.io.pages import policy_hash, spelled_out, with_shared_style

_SCRIPTS = ("text.js", "facts.js", "entries.js", "list.js", "detail.js", "main.js")


def render_page(page: Page) -> str:
    """Return the page as HTML."""
    import jinja2
    from markupsafe import Markup

    room = files("vcrd.inspect").joinpath("page")

    def own(name: str) -> str:
        return room.joinpath(name).read_text(encoding="utf-8")

    script, style = "\n".join(own(name) for name in _SCRIPTS), with_shared_style(own("page.css"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["spelled_out"] = spelled_out
    text: str = environment.from_string(own("page.html.jinja")).render(
        page=page,
        script=Markup(script),  # noqa: S704 - our own file
        style=Markup(style),  # noqa: S704 - our own file
        script_hash=policy_hash(script),
        style_hash=policy_hash(style),
        data=Markup(as_script_data(page)),  # noqa: S704 - no sign of markup is left in it
    )
    return text


def as_script_data(page: Page) -> str:
    """Return the page's data as JSON of ASCII characters that no HTML parser takes for markup."""
    text = json.dumps(asdict(page), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def write_page(path: Path, page: Page) -> None:
    """Write the page; it appears when it is whole."""
    text = render_page(page)
    write_text(path, text)
