"""Cutting a solution into steps: on the text, then mapped to tokens. Joining the steps gives the text back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vcrd.tokenization import Decode, token_char_ends

Unit = Literal["line", "paragraph"]

_OPENERS = (("```", "```"), ("$$", "$$"), (r"\[", r"\]"), (r"\begin{", r"\end{"))


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


def segment(text: str, unit: Unit | None = None) -> list[int]:
    r"""Return the exclusive character ends of the steps of a mathematical text, the last one being its length.

    Blank lines belong to the step they end. Never cut inside a code fence, a display formula or a table.

    >>> segment("a=1\nb=2\n\nc=3")
    [9, 12]
    >>> segment("a=1\nb=2\n")
    [4, 8]
    """
    unit = unit or detect_unit(text)
    lines = text.splitlines(keepends=True)
    ends: list[int] = []
    position = 0
    closer: str | None = None
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        position += len(line)
        closer = _closer_after(line, closer)
        if not following.strip() or not text[:position].strip() or closer is not None:
            continue
        if line.lstrip().startswith("|") and following.lstrip().startswith("|"):
            continue
        if unit == "line" or not line.strip():
            ends.append(position)
    if text:
        ends.append(len(text))
    return ends


def _closer_after(line: str, closer: str | None) -> str | None:
    """Return what would close the protected block that is open at the end of `line`, if one is."""
    rest = line
    while True:
        if closer is not None:
            _, found, rest = rest.partition(closer)
            if not found:
                return closer
            closer = None
        openings = [(rest.find(opener), opener, end) for opener, end in _OPENERS if opener in rest]
        if not openings:
            return None
        at, opener, closer = min(openings)
        rest = rest[at + len(opener) :]


def cut_steps(token_ids: Sequence[int], decode: Decode, *, ended: bool, unit: Unit | None = None) -> Steps:
    """Cut generated ids into steps; a token that straddles a cut belongs to the step that it ends.

    Args:
        token_ids: What the model generated, its EOS included.
        decode: Ids to text.
        ended: Whether the model ended by itself; else the last step counts as unfinished and is left out.
        unit: Of the text, where it is known.
    """
    text = decode(token_ids)
    chars = token_char_ends(token_ids, decode)
    token_ends: list[int] = []
    char_ends: list[int] = []
    token = 0
    for char_end in segment(text, unit):
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


def first_step(token_ids: Sequence[int], decode: Decode, *, ended: bool, unit: Unit) -> tuple[list[int], str] | None:
    """Return ids and text of the first step of a proposal; None where it is unfinished or empty.

    Args:
        token_ids: What was generated under the prefix.
        decode: Ids to text.
        ended: Whether the model ended by itself or at a stop string that ends a step.
        unit: Of the rollout that the prefix is from.
    """
    steps = cut_steps(token_ids, decode, ended=ended, unit=unit)
    if not steps.token_ends:
        return None
    text = decode(token_ids)[: steps.char_ends[0]]
    return (list(token_ids[: steps.token_ends[0]]), text) if text.strip() else None
