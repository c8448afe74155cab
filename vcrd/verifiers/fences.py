"""Code fences in a response: which blocks are Python, and which are output, shell or text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})([^\n`]*)\n", re.MULTILINE)
_TAG = re.compile(r"[\s{.]*([^\s{}.:,]*)")
_PYTHON = frozenset({"python", "python3", "py", "py3"})
# Without a tag only a start that no printed line has is taken for code: `Result: 3` is an annotation in Python.
SURELY_CODE = re.compile(
    r"(?:[ \t]*(?:#.*)?\n)*"
    r"(?:(?:async +)?def +\w+ *\(|class +\w+ *[(:]|from +[\w.]+ +import\b|import +[\w., ]+$|@[\w.]+ *(?:\(|$))",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences, without the indentation of its fence; `tag` in lower case, empty for none."""

    code: str
    tag: str

    @property
    def is_python(self) -> bool:
        """Whether this is surely meant as a program: tagged so, or untagged and with the start of one."""
        if self.tag:
            return self.tag in _PYTHON and not self.code.lstrip().startswith(">>>")
        return bool(SURELY_CODE.match(self.code))


def fenced_blocks(text: str) -> Iterator[Block]:
    r"""Yield the blocks in order; the last one may be open.

    As in Markdown a fence is closed by one of its own kind that is no shorter, has no tag, and is indented by less
    than four columns more, so that fences within a docstring close nothing.

    >>> list(fenced_blocks("- So:\n  ~~~python\n  x = 1\n  ~~~\n"))
    [Block(code='x = 1\n', tag='python')]
    """
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text if text.endswith("\n") else f"{text}\n"):
        if opened is None:
            opened = fence
        elif _closes(fence, opened):
            yield _block(text, opened, fence.start())
            opened = None
    if opened is not None:
        yield _block(text, opened, len(text))


def _closes(fence: re.Match[str], opened: re.Match[str]) -> bool:
    return (
        fence[2].startswith(opened[2])
        and not fence[3].strip()
        and len(fence[1].expandtabs(4)) < len(opened[1].expandtabs(4)) + 4
    )


def _block(text: str, opened: re.Match[str], end: int) -> Block:
    code, indent = text[opened.end() : end], opened[1]
    if indent and code.lstrip("\n").startswith(indent):
        code = textwrap.dedent(re.sub(rf"^[ \t]{{1,{len(indent)}}}", "", code, flags=re.MULTILINE))
    tag = _TAG.match(opened[3])
    return Block(code, tag[1].lower() if tag else "")
