"""Arithmetic in a step: a chain of equalities with a wrong result proves the step wrong; a right one proves nothing.

Sides that are not plain arithmetic, or that prose may continue, are left alone: a veto must be sure.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

from vcrd.verifiers.base import ABSTAIN, INVALID, Verdict
from vcrd.verifiers.expressions import calculates, evaluate, leading, plain, readings, shown, trailing

_MAX_LINE = 4000
_EQUALS = re.compile(r"(?<![<>=!:~])=(?![=>])")
_MARK = re.compile(r"<<([^<>]*)>>")
_NEXT_ROW = re.compile(r"(?:\\\\)?[^\S\n]*\n\s*&?\s*=")
_BULLET = re.compile(r"^\s*(?:[-*•+]|\d+[.)])\s+")
_OTHER_RULES = re.compile(r"\bmod(?:ulo)?\b|\\p?mod\b|\\bmod\b|\bbase[- ]\w+|[≡°′]|\\(?:equiv|circ|binom)|\b\d+_")
_ROUNDED = re.compile(r"(?i)\bround|approx|\babout\b|nearest|≈|\bestimat|\bwhole\b")
_DEFINITION = re.compile(r"(?<![A-Za-z\d])([A-Z])\s*$")
_MAY_PRECEDE = re.compile(r"(?:^|[\s$(,;{\"'“‘>])$")
_CONTINUES = re.compile(r"(?:[-+*/^!_%@#\\]|\b(?:of|times|by|plus|minus|over|per|and))\s*$")
_LOOSE_SIGN = re.compile(r"^(?:\+|-\s)")
_VARIABLE = re.compile(r"(?<![A-Za-z])[A-Za-z]\s*$")
_SHARE = re.compile(r"\d+\s*/\s*\d+|[\d.]+%")
_GREAT = re.compile(r"(?i)\b(?:thousand|million|billion)")
_MULTIPLIER = (
    r"(?:hundred|thousand|million|billion|trillion|dozens?|percent|cents?|pi|times|of|and a half|squared|cubed)\b"
)
_JOINED_AFTER = re.compile(
    rf"(?:\s*[-+*/^!_%:°\\(√π]|[A-Za-z\d]|\.\d|\s+{_MULTIPLIER}|\s*[a-zA-Z]\s*[-+*/^=)]|\s+[a-z](?![a-z]))"
)
_UNIT = re.compile(r"^\s*([A-Za-z]{2,})(?:\s+[A-Za-z]{2,})?\s*$")


@dataclass(frozen=True, slots=True)
class _Side:
    """One side of an equality: the expression, and the unit written behind it."""

    text: str
    unit: str = ""


def check_arithmetic(text: str, modulus: int | None = None, prefix: str = "") -> Verdict:
    """Look for chains of equalities between literal expressions and compare what stands at their ends.

    A slip within a chain that the chain itself repairs, or a run-on (`2*3 = 6 + 1 = 7`), leaves its result right.

    Args:
        text: A step.
        modulus: Compare modulo this integer, for a domain that calculates so.
        prefix: The solution so far: definitions such as `A = (3 - 1) = 2` are known from there, as it writes them.

    >>> check_arithmetic("16 - 3 - 4 = 9 eggs").reason
    '1 equality holds'
    >>> check_arithmetic("so 2*9 = 19").reason
    '2*9 is 18, not 19'
    """
    names = _definitions(prefix)
    checked = 0
    for line in _lines(text):
        reader = _Reader(names, modulus, _ROUNDED.search(line) is not None, _GREAT.search(line) is not None)
        for chain in _chains(line):
            verdict = reader.judge(chain)
            if isinstance(verdict, str):
                return Verdict(INVALID, verdict)
            checked += verdict
        names.update(_definitions(line))
    return Verdict(
        ABSTAIN, f"{checked} equalit{'y holds' if checked == 1 else 'ies hold'}" if checked else "no arithmetic"
    )


def _lines(text: str) -> list[str]:
    marks = [plain(mark) for mark in _MARK.findall(text)]
    joined = _NEXT_ROW.sub(" =", _MARK.sub(" ", text))
    lines = [plain(_BULLET.sub("", line[:_MAX_LINE])) for line in joined.splitlines()]
    return [line for line in [*marks, *lines] if "=" in line and not _OTHER_RULES.search(line)]


def _chains(line: str) -> Iterator[list[_Side]]:
    """Runs of sides that follow one another; prose between two equalities separates two chains."""
    parts = _EQUALS.split(line)
    chain = [side] if (side := _first_side(parts[0])) else []
    for part in parts[1:]:
        text, rest = leading(part)
        if text and not _JOINED_AFTER.match(rest):
            unit = _UNIT.match(rest)
            chain.append(_Side(text, unit[1] if unit else ""))
            if not rest.strip(" $.,;") or unit:
                continue
        if len(chain) > 1:
            yield chain
        chain = [side] if (side := _first_side(part)) else []
    if len(chain) > 1:
        yield chain


def _first_side(text: str) -> _Side | None:
    """Read what stands before an equality sign; None where that is not a whole expression."""
    unit = re.search(r"(?<=[\d)])\s+([A-Za-z]{2,})\s*$", text)
    before, expression = trailing(text[: unit.start()] if unit else text.rstrip(" $"))
    if not expression or (_LOOSE_SIGN.match(expression) and before.strip()):
        return None
    if expression.startswith("-") and _VARIABLE.search(before):
        return None
    if _CONTINUES.search(before) or not _MAY_PRECEDE.search(before):
        return None
    return _Side(expression, unit[1] if unit else "")


@dataclass(frozen=True, slots=True)
class _Reader:
    """How the sides of one line are read and compared."""

    names: Mapping[str, Fraction]
    modulus: int | None
    rounded: bool
    great: bool

    def judge(self, chain: list[_Side]) -> int | str:
        """Return how many equalities hold, or what is wrong."""
        known = [side for side in chain if readings(side.text, self.names)]
        checked = 0
        wrong = ""
        for index, (left, right) in enumerate(itertools.pairwise(known)):
            if not self._comparable(left, right, first=index == 0):
                continue
            checked += 1
            if not (self.agree(left.text, right.text) or self._runs_on(left.text, right.text)):
                wrong = wrong or f"{left.text} is {self._shown(left.text)}, not {right.text}"
        repaired = len(known) > 2 and self.agree(known[0].text, known[-1].text)
        return checked if repaired or not wrong else wrong

    def _comparable(self, left: _Side, right: _Side, *, first: bool) -> bool:
        if not (calculates(left.text) or (calculates(right.text) and not first)):
            return False
        if left.unit and right.unit not in ("", left.unit):
            return False
        if re.search(r"[$€£]", left.text) and right.unit in ("cent", "cents"):
            return False
        # "3/4 = 12 eggs" speaks of a share of something.
        share = _SHARE.fullmatch(left.text.strip("() ")) and readings(left.text)[0] < 1
        return not share or _SHARE.search(right.text) is not None or "." in right.text

    def agree(self, left: str, right: str) -> bool:
        """Tell whether two sides agree in any of their readings."""
        pairs = itertools.product(readings(left, self.names), readings(right, self.names))
        scales = [Fraction(1)]
        if "%" in left + right:
            scales += [Fraction(100), Fraction(1, 100)]
        if self.great:
            scales += [Fraction(1000) ** power for power in (-3, -2, -1, 1, 2, 3)]
        return any(self._close(value * scale, other, right) for value, other in pairs for scale in scales)

    def _close(self, value: Fraction, other: Fraction, written: str) -> bool:
        if self.modulus is not None:
            return (value - other) % self.modulus == 0
        gap = abs(value - other)
        decimals = re.fullmatch(r"[-(]*[$€£]?[\d,]*\.(\d+)\D*", written)
        # A decimal may be rounded or cut off; a whole number may stand for a broken one where a part makes no sense.
        if decimals and gap < max(Fraction(1, 10 ** len(decimals[1])), abs(value) / 10**9):
            return True
        if value.denominator != 1 and other.denominator == 1 and gap < 1:
            return True
        return gap == 0 or (self.rounded and gap <= abs(value) / 20)

    def _runs_on(self, left: str, right: str) -> bool:
        """Whether a sloppy chain only goes on calculating: `2*3 = 6 + 1`."""
        begun = re.match(r"[$€£]?[\d.,]+(?=\s*[-+*/])", right)
        return begun is not None and self.agree(left, begun[0])

    def _shown(self, expression: str) -> str:
        value = readings(expression, self.names)[0]
        return shown(value % self.modulus if self.modulus else value)


def _definitions(text: str) -> dict[str, Fraction]:
    """Values of capital letters as a text writes them: the end of `A = (3 - 1) = 2`; the last of several."""
    names: dict[str, Fraction] = {}
    for line in _lines(text):
        parts = _EQUALS.split(line)
        name = ""
        for before, part in itertools.pairwise(parts):
            found = _DEFINITION.search(before)
            name = found[1] if found else name
            expression, rest = leading(part)
            value = evaluate(expression, names) if name and not _JOINED_AFTER.match(rest) else None
            if value is None:
                name = ""
                continue
            names[name] = value
    return names
