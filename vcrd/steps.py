"""Cutting a solution into steps: on the text, then mapped to tokens. Joining the steps gives the text back.

What a step is depends on the domain:

- math: a paragraph where the text has blank lines, else a line;
- code: a logical line of Python, alone or in the code fences of an explanation, or a line of that explanation. A whole
  function is often the whole solution, and one step per solution would leave nothing to compare, so bodies are cut too.
  Decorators, comments and opening fences join what follows them, a closing fence what it closes;
- instructions: a sentence, a heading or a list item.

Mathematics and instructions are never cut inside a code fence, a display formula or a table, code never inside brackets
or a string. A cut is decided by what comes before it and by the line after it: ending a text behind any of its steps
changes none of the steps before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from vcrd.tokenization import Decode, token_char_ends

Unit = Literal["line", "paragraph", "statement", "sentence"]

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_CLOSERS = {"```": "```", "$$": "$$", r"\[": r"\]"}
# A backslash before `\[` makes it a line break of LaTeX with its height.
_OPENER = re.compile(r"```|\$\$|(?<!\\)\\\[|\\begin\{")
_ENVIRONMENT = re.compile(r"\\(begin|end)\{")

_ITEM = re.compile(r"\s*(?:[-*+•]|[*_]*(?:\d{1,3}|[IVX]{1,5})[.)][*_]*|[a-zA-Z]\))\s")
_HEADING = re.compile(r"\s{0,3}#{1,6}\s")
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=[^\S\n]++(?P<next>\S))|[。！？][\"'”’」』）)]*+(?=\S)")
_WORD = re.compile(r"\w")
_UNFINISHED_LINE = re.compile(r"[\w,;]\s*\Z")
_ABBREVIATION = re.compile(
    r"(?<![^\s(\[\"'“‘*])(?:(?:(?:[A-Za-z]\.)+[A-Za-z]|(?<![a-z] )I|[A-HJ-Za-z]|"
    r"(?i:mr|mrs|ms|mx|dr|prof|rev|gen|sen|rep|gov|capt|lt|col|sgt|hon|st|mt|jr|sr|vs|etc|cf|ca|al|approx|dept|inc|ltd|"
    r"corp|bros|univ|assn|ave|blvd|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|ph\.d))\.\Z|"
    r"(?i:figs?|eqs?|nos?|vols?|ch|sec|eds?|pp|tel|art|ex|para|est)(?P<before_number>\.)\Z)"
)
_LONGEST_ABBREVIATION = 12

_LEXEME = re.compile(
    r"(?P<fence>^[ \t]*```[^\n]*)|(?P<comment>#[^\n]*)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<end>\n)|"
    r"(?P<joined>\\\r?\n)|(?P<blank>[^\S\n]+)|"
    r"(?P<string>'''(?:\\.|[^\\])*?(?:'''|\Z)|\"\"\"(?:\\.|[^\\])*?(?:\"\"\"|\Z)|"
    r"'(?:\\.|[^'\\\n])*+'?|\"(?:\\.|[^\"\\\n])*+\"?)|(?P<other>[^\s#()\[\]{}'\"\\]+|.)",
    re.MULTILINE | re.DOTALL,
)
# What begins a statement and cannot begin a line within brackets: there the program is broken.
_SURELY_STATEMENT = re.compile(
    r"[ \t]*(?:```|@\w|(?:def|class|return|import|while|try|with|assert|raise|del|global|nonlocal|pass|break|continue|"
    r"elif|except|finally)\b(?!\s*[=,)\]}]))"
)


@dataclass(frozen=True, slots=True)
class Steps:
    """Where steps end: exclusive token offsets and the character offsets beside them.

    Attributes:
        token_ends: Into the generated ids.
        char_ends: Into the decoded text.
        complete: Whether the last step is finished.
    """

    token_ends: list[int]
    char_ends: list[int]
    complete: bool


def detect_unit(text: str) -> Unit:
    """Return what a step is in a mathematical text: a paragraph where it has blank lines, else a line."""
    return "paragraph" if re.search(r"\S[^\S\n]*\n[^\S\n]*\n\s*\S", text) else "line"


def unit_for(domain: str, text: str) -> Unit:
    """Return what a step is in a text of a domain ("math", "code" or "instructions").

    >>> unit_for("math", "a=1"), unit_for("code", "a=1"), unit_for("instructions", "a=1")
    ('line', 'statement', 'sentence')
    """
    units: dict[str, Unit] = {"code": "statement", "instructions": "sentence"}
    return units.get(domain) or detect_unit(text)


def segment(text: str, unit: Unit | None = None, before: str = "") -> list[int]:
    r"""Return the exclusive character ends of the steps of a text, the last one being its length.

    Blank lines belong to the step they end, blanks within a line to the sentence that follows them, as tokens have it.

    Args:
        text: Any text; a broken program is cut as far as it can be read.
        unit: What a step is; by default the text is mathematics.
        before: The steps that the text continues: it may begin inside a code fence or a list item.

    >>> segment("a=1\nb=2\n\nc=3")
    [9, 12]
    >>> segment("def f(x):\n    return (x +\n        1)\n", "statement")
    [10, 37]
    >>> segment("Dr. No has 1.5 cats. They sleep.", "sentence")
    [20, 32]
    """
    whole = before + text
    unit = unit or detect_unit(whole)
    if unit == "statement":
        cuts = _statement_cuts(whole)
    else:
        cuts = _outside(_blocks(whole), _sentence_cuts(whole) if unit == "sentence" else _line_cuts(whole, unit))
    first = len(before) + len(text) - len(text.lstrip())
    return [*(cut - len(before) for cut in cuts if first < cut < len(whole)), *([len(text)] if text else [])]


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Spans of code fences and display formulas; one that is never closed reaches to the end."""
    position = 0
    while opener := _OPENER.search(text, position):
        if closer := _CLOSERS.get(opener[0]):
            found = text.find(closer, opener.end())
            position = found + len(closer) if found >= 0 else len(text)
        else:
            position = _environment_end(text, opener.end())
        yield opener.start(), position


def _environment_end(text: str, position: int) -> int:
    """Return where a LaTeX environment ends that begins before a position; environments nest."""
    depth = 1
    for mark in _ENVIRONMENT.finditer(text, position):
        depth += 1 if mark[1] == "begin" else -1
        if not depth:
            return mark.end()
    return len(text)


def _outside(spans: Iterator[tuple[int, int]], cuts: Iterable[int]) -> Iterator[int]:
    """Leave out the cuts that fall inside a span."""
    start, end = next(spans, (0, 0))
    for cut in cuts:
        while end and end <= cut:
            start, end = next(spans, (0, 0))
        if not (end and start < cut):
            yield cut


def _lines(text: str) -> Iterator[tuple[int, str, str]]:
    """Start of each line, the line, and the one after it (empty after the last)."""
    position = 0
    for line, following in pairwise([*_LINE.findall(text), ""]):
        yield position, line, following
        position += len(line)


def _line_cuts(text: str, unit: Unit) -> Iterator[int]:
    for start, line, following in _lines(text):
        if following.strip() and not _in_table(line, following) and (unit == "line" or not line.strip()):
            yield start + len(line)


def _in_table(line: str, following: str) -> bool:
    return line.lstrip().startswith("|") and following.lstrip().startswith("|")


def _sentence_cuts(text: str) -> Iterator[int]:
    in_item = False
    for start, line, following in _lines(text):
        in_item = bool(_ITEM.match(line)) or (in_item and bool(line.strip()) and line[0].isspace())
        heading = bool(_HEADING.match(line))
        if not in_item and not heading and not line.lstrip().startswith("|"):
            yield from (start + end for end in _sentence_ends(line))
        new_item = bool(_ITEM.match(following))
        if not following.strip() or _in_table(line, following) or (in_item and following[0].isspace() and not new_item):
            continue
        # A hard line break within a sentence; verses and addresses begin their lines with capitals.
        wrapped = following.lstrip()[0].islower() and _UNFINISHED_LINE.search(line[-_LONGEST_ABBREVIATION:])
        if heading or new_item or not wrapped:
            yield start + len(line)


def _sentence_ends(line: str) -> Iterator[int]:
    """Ends within a line; what has no word, such as a smiley, belongs to the sentence before."""
    word = _WORD.search(line)
    for match in _SENTENCE_END.finditer(line):
        if not word or word.start() > match.start() or not (next_word := _WORD.search(line, match.end())):
            continue
        after, stop = match["next"] or "", match.start() + 1
        short = _ABBREVIATION.search(line[max(stop - _LONGEST_ABBREVIATION, 0) : stop])
        if not after.islower() and not (short and (after.isdigit() or not short["before_number"])):
            word = next_word
            yield match.end()


def _statement_cuts(text: str) -> Iterator[int]:
    """Ends of logical lines, by a lexer that, unlike `tokenize`, never gives up."""
    depth = 0
    fenced = False
    kind = ""
    for lexeme in _LEXEME.finditer(text):
        name = str(lexeme.lastgroup)
        depth = max(depth + {"open": 1, "close": -1}.get(name, 0), 0)
        if name == "fence":
            fenced, depth, kind = not fenced, 0, "other" if fenced else "fence"
        elif name not in ("end", "joined", "blank") and not kind:
            kind = "decorator" if lexeme[0].startswith("@") else name
        if name != "end":
            continue
        following = text[lexeme.end() : (text.find("\n", lexeme.end()) + 1) or len(text)]
        if depth and _SURELY_STATEMENT.match(following):
            depth = 0
        if depth or not following.strip():
            continue
        joins_next = kind in ("decorator", "comment", "fence")
        if not joins_next and not (fenced and following.lstrip().startswith("```")):
            yield lexeme.end()
        kind = ""


def cut_steps(
    token_ids: Sequence[int], decode: Decode, *, ended: bool, unit: Unit | None = None, before: str = ""
) -> Steps:
    """Cut generated ids into steps; a token that straddles a cut belongs to the step that it ends.

    Args:
        token_ids: What the model generated, its EOS included.
        decode: Ids to text.
        ended: Whether the model ended by itself; else the last step counts as unfinished and is left out.
        unit: Of the text, where it is known.
        before: Text of the steps that the ids continue.
    """
    text = decode(token_ids)
    chars = token_char_ends(token_ids, decode)
    token_ends: list[int] = []
    char_ends: list[int] = []
    token = 0
    for char_end in segment(text, unit, before):
        while token < len(chars) and chars[token] < char_end:
            token += 1
        if token_ends and token + 1 <= token_ends[-1]:
            char_ends[-1] = char_end  # two cuts inside one token: one step
        else:
            token_ends.append(min(token + 1, len(token_ids)))
            char_ends.append(char_end)
    if token_ends:
        token_ends[-1] = len(token_ids)
    if not ended and token_ends:
        token_ends.pop()
        char_ends.pop()
    return Steps(token_ends, char_ends, ended)


def first_step(
    token_ids: Sequence[int], decode: Decode, *, ended: bool, unit: Unit, before: str = ""
) -> tuple[list[int], str] | None:
    """Return ids and text of the first step of a proposal; None where it is unfinished or empty.

    Args:
        token_ids: What was generated under the prefix.
        decode: Ids to text.
        ended: Whether the model ended by itself or at a stop string that ends a step.
        unit: Of the rollout that the prefix is from.
        before: Text of the steps of the prefix.
    """
    steps = cut_steps(token_ids, decode, ended=ended, unit=unit, before=before)
    if not steps.token_ends:
        return None
    text = decode(token_ids)[: steps.char_ends[0]]
    return (list(token_ids[: steps.token_ends[0]]), text) if text.strip() else None
