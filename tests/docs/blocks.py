"""The fenced blocks of README.md and docs/, and the commands in them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.workspace import ROOT

PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_HEREDOC = re.compile(r"<<'?(\w+)'?")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


@dataclass(frozen=True)
class Block:
    """What stands between two fences; `mark` is the comment above them, `output` the text that it is to print."""

    page: str
    line: int
    language: str
    mark: str
    text: str
    output: str | None = None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Blocks in their order; one marked `output` is put beside the block before it."""
    found: list[Block] = []
    text = text_of(page)
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        block = Block(page, line, match["language"], match["mark"] or "", match["text"])
        if block.mark == "output":
            before = found.pop()
            block = Block(page, before.line, before.language, before.mark, before.text, output=block.text)
        found.append(block)
    return found


def commands(text: str) -> list[str]:
    """Commands of a shell block, each with its continued lines and here-documents; comments are none."""
    found: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        command = line
        while command.endswith("\\"):
            command += "\n" + next(lines)
        if ends := _HEREDOC.findall(command):
            for below in lines:
                command += "\n" + below
                if below == ends[0]:
                    break
        found.append(command)
    return found


def bare(command: str) -> str:
    """A command without what is said about it behind a #."""
    return re.sub(r"\s+#\s.*", "", command) if "\n" not in command else command


def _prose(page: str) -> str:
    return _FENCE.sub("", text_of(page))


def inline_commands(page: str) -> list[str]:
    """Commands that stand in the text, in the page's order."""
    return [code for code in _INLINE.findall(_prose(page)) if code.split()[0] in ("vcrd", "make", "dvc", "python")]


def links(page: str) -> list[str]:
    """Files that a page links to, from the root of the project."""
    found = (link for link in _LINK.findall(_prose(page)) if "://" not in link)
    return [((ROOT / page).parent / link).resolve().relative_to(ROOT).as_posix() for link in found]


def fragments(cell: str) -> list[str]:
    """The quoted parts of a table's cell."""
    return [part for part in _INLINE.findall(cell) if part.strip()]


def exists(where: str) -> bool:
    """Whether `tests/FILE.py::test_name`, `tests/FILE.py::Class::test_name` or `Makefile: target` is there."""
    if where.startswith("Makefile: "):
        return re.search(rf"^{where.removeprefix('Makefile: ')}:", text_of("Makefile"), re.MULTILINE) is not None
    file, *_, name = where.split("::")
    return (ROOT / file).is_file() and re.search(rf"^ *def {name}\(", text_of(file), re.MULTILINE) is not None
