"""Finding the final answer in a solution."""

from __future__ import annotations

import re
from fractions import Fraction

_MARKS = (
    re.compile(r"####[ \t]*([^\n]*)"),
    re.compile(r"(?im)^[^\S\n]*(?:\*\*)?(?:final answer|answer|a)(?:\*\*)?[^\S\n]*:[ \t]*([^\n]+)$"),
    re.compile(r"(?i)the (?:final )?answer is:?[ \t]*([^\n]+)"),
)
_BOLD = re.compile(r"^\*\*\s*|\s*\*\*(?=[.\s]*$)")
_UNBRACED = re.compile(r"\\boxed\s*(\d+)")
# A single line without a word of prose; LaTeX commands and units are none.
_BARE = re.compile(r"(?:(?!(?<![\\{A-Za-z])[A-Za-z]{3,}\s)[^\n]){1,200}")
_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")


def extract_answer(text: str) -> str | None:
    r"""Return the last boxed or marked answer of a solution, or a text that is nothing else; None where there is none.

    >>> extract_answer("2+2=4\n#### 4")
    '4'
    >>> extract_answer("so \\boxed{\\frac{1}{2}} it is")
    '\\frac{1}{2}'
    """
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    for mark in _MARKS:
        found = mark.findall(text)
        if found and (answer := _BOLD.sub("", str(found[-1]).strip())):
            return answer
    bare = text.strip()
    return bare if _BARE.fullmatch(bare) and "\\boxed" not in bare else None


def _last_boxed(text: str) -> str | None:
    start = text.rfind(r"\boxed{")
    if start < 0:
        digits = _UNBRACED.findall(text)
        return str(digits[-1]) if digits else None
    depth = 0
    for position in range(start + len(r"\boxed"), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start + len(r"\boxed{") : position].strip()
    return None


def as_number(answer: str) -> Fraction | None:
    """Read a plain number, with a currency sign, thousands commas or a final full stop around it; None for all else.

    >>> as_number("$1,250.50.")
    Fraction(2501, 2)
    """
    text = answer.strip().removesuffix(".").strip("$€£ ").replace(r"\$", "")
    if len(text) > 64 or not any(character.isdigit() for character in text) or not _NUMBER.fullmatch(text):
        return None
    return Fraction(text.replace(",", ""))
