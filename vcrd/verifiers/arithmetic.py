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
_MAX_TEXT = 10_000
_EQUALS = re.compile(r"(?<![<>=!:~])=(?![=>])")
_MARK = re.compile(r"<<([^<>]*)>>")
# Begins behind a sign, never within blank space: blank lines by the thousand cost no more than their length.
_NEXT_ROW = re.compile(r"(?:\\\\)?(?<!\s)[^\S\n]*\n\s*(?:&\s*)?=")
_BULLET = re.compile(
    r"^\s*(?:[-*•+]|\d+[.)]|\(\d{1,2}\)(?=\s+[\w$\\(])|(?i:step|part|case|question|problem)\s+\d+\s*[-–.:])\s+"
)
_BASE = r"\bbase[- ]\$?(?:\d+|b|two|three|four|five|six|seven|eight|nine|ten|twelve|sixteen)\b"
_OTHER_NUMBERS = rf"\bmod(?:ulo)?\b|\\[pb]?mod\b|{_BASE}|\b(?:binary|octal|hexadecimal)\b"
_OTHER_RULES = re.compile(rf"{_OTHER_NUMBERS}|[≡°′]|\\(?:equiv|circ|binom)|\b\d+_|\b\d+/\d+/\d{{4}}\b")
_OWN_RULES = re.compile(
    rf"(?i){_OTHER_NUMBERS}|\boperations?\b[^.]{{0,80}}\bdefine|\bdefine[^.]{{0,80}}\boperation|"
    r"[a-z]\s*(?:[*∗⋆]|\\(?:ast|star|times|cdot))\s*[a-z]\s*="
)
_ROUNDED = re.compile(r"(?i)\bround|approx|\babout\b|nearest|≈|\bestimat|\bwhole\b")
_NAMES = re.compile(r"[A-Z][\s$]*=")
_NAME = re.compile(r"(?<![A-Za-z])[A-Z](?![A-Za-z])")
_SUPPOSED = re.compile(r"(?i)\b(?:case|if|suppose|assume|assuming|let us say|when)\b")
_DEFINITION = re.compile(r"(?:^|[A-Za-z]{2}|[,;:$.])\s*(?<![A-Za-z])([A-Z])\s*$")
_MAY_PRECEDE = re.compile(r"(?:^|[\s$(,;{\"'“‘>])$")
_CONTINUES = re.compile(
    r"(?:[-+*/^!_%@#\\]|\b(?:of|times|by|plus|minus|over|per|and)|_(?:\w|\{\w+\})|"
    r"(?:\b|\\)(?:sin|cos|tan|cot|sec|csc|log|ln|lg|exp|sqrt|det|gcd|lcm)(?:\^\w+)?|[-+*/]\s*\.|\bx)[\s(]*$"
)
_LABEL = re.compile(
    r"(?i)\b(?:on|in|for|of|by|from|after|until)\s+"
    r"(?:day|week|month|year|step|question|problem|page|room|chapter|round|grade|level|number)s?\s+$"
)
_SPLIT_NUMBER = (re.compile(r"\d,\s$"), re.compile(r"\d\s+$"), re.compile(r"\d+/\d"))
_DOUBTED = re.compile(
    r"(?i)\b(?:wrong|incorrect|contradict\w+|mistake\w*|impossible|wait(?=[,.!:])|whether|suppos\w+|assum\w+)\b"
)
_RANGE = re.compile(r"\d+-\d+")
_BEFORE_RANGE = re.compile(
    r"(?i)\b(?:(?:page|day|week|month|year|age|chapter|grade|problem|question|room|level|row|step|line|lesson|number)s?|"
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day|from|score|won|lost|id)\s+$"
)
_YEARS = re.compile(r"[12]\d{3}-[12]\d{3}")
_LOOSE_SIGN = re.compile(r"^(?:\+|-\s)")
_VARIABLE = re.compile(r"(?<![A-Za-z])[A-Za-z]\s*$")
_SHARE = re.compile(r"\d+\s*/\s*\d+|[\d.]+%")
_CENTS = re.compile(r"(?i)cents?|pence|dimes?|quarters?|nickels?|penn(?:y|ies)")
_MONEY = re.compile(r"[$€£]")
_PERIODIC = re.compile(r"\d*\.\d*(?:33|66|67)(?!\d)")
_ROUNDED_NUMBER = re.compile(r"[-(]*[$€£]?[\d,]*\.(\d+)(?:\s*\*\s*10\^\(?(-?\d+)\)?|[^\d^*]*)")
_GREAT = re.compile(r"(?i)\b(?:thousand|million|billion)")
_MULTIPLIER = (
    r"(?:(?:hundred|thousand|million|billion|trillion|dozen|ten|pair|cent)s?|percent|pi|times|of|and a half|squared|"
    r"cubed|[ap]\.?m|o'clock|below|short|under|behind)\b"
)
_JOINED_AFTER = re.compile(
    rf"(?:\s*[-+*/^!_%:°\\(√π?]|[A-Za-z\d]|\.\d|\s+(?i:{_MULTIPLIER})|\s*[a-zA-Z]\s*[-+*/^=)]|\s+[a-z](?![a-z]))"
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
    lines = prefix[-_MAX_TEXT:].splitlines() if _NAME.search(text) else []
    names = _definitions("\n".join(line for line in lines if _NAMES.search(line) and not _SUPPOSED.search(line)))
    checked = 0
    for line in _lines(text):
        defined = _definitions(line)
        # In a line that gives a letter another value the letter may mean either.
        known = {name: value for name, value in names.items() if defined.get(name, value) == value}
        reader = _Reader(known, modulus, _ROUNDED.search(line) is not None, _GREAT.search(line) is not None)
        for chain in _chains(line):
            verdict = reader.judge(chain)
            if isinstance(verdict, str):
                return Verdict(INVALID, verdict)
            checked += verdict
        names.update(defined)
    return Verdict(
        ABSTAIN, f"{checked} equalit{'y holds' if checked == 1 else 'ies hold'}" if checked else "no arithmetic"
    )


def has_own_rules(problem: str) -> bool:
    """Tell whether a problem calculates in another base, modulo a number, or with an operation that it defines.

    >>> has_own_rules("If a * b = a + 2b, what is 3 * 4?"), has_own_rules("What is 3 * 4?")
    (True, False)
    """
    return _OWN_RULES.search(problem) is not None


def _lines(text: str) -> list[str]:
    text = text[:_MAX_TEXT]
    marks = [plain(mark) for mark in _MARK.findall(text)]
    joined = _NEXT_ROW.sub(" =", _MARK.sub(" ", text)).splitlines()
    lines = [plain(_BULLET.sub("", line[:_MAX_LINE])) for line in joined if "=" in line or " equals " in line]
    return [
        line for line in [*marks, *lines] if "=" in line and not _OTHER_RULES.search(line) and not _DOUBTED.search(line)
    ]


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
    if expression[0].isdigit() and (_LABEL.search(before) or _splits_number(before, expression)):
        return None
    if _RANGE.fullmatch(expression) and _BEFORE_RANGE.search(before):
        return None
    if _CONTINUES.search(before) or not _MAY_PRECEDE.search(before):
        return None
    return _Side(expression, unit[1] if unit else "")


def _splits_number(before: str, expression: str) -> bool:
    """Tell `14, 400 / 80` and `1 1/2*2`, whose first number begins before the expression."""
    comma, number, fraction = _SPLIT_NUMBER
    return bool(comma.search(before)) or bool(number.search(before) and fraction.match(expression))


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
        if left.unit and (right.unit not in ("", left.unit) or re.fullmatch(_MULTIPLIER, left.unit)):
            return False
        if any(_CENTS.fullmatch(side.unit) for side in (left, right)) and _MONEY.search(left.text + right.text):
            return False
        if right.unit and _YEARS.fullmatch(left.text):
            return False
        # "3/4 = 12 eggs" speaks of a share of something.
        share = _SHARE.fullmatch(left.text.strip("() ")) and readings(left.text)[0] < 1
        return not share or bool(_SHARE.search(right.text)) or ("." in right.text and not _MONEY.search(right.text))

    def agree(self, left: str, right: str) -> bool:
        """Tell whether two sides agree in any of their readings."""
        pairs = itertools.product(readings(left, self.names), readings(right, self.names))
        scales = [Fraction(1)]
        if "%" in left + right:
            scales += [Fraction(100), Fraction(1, 100)]
        if self.great:
            scales += [Fraction(1000) ** power for power in (-3, -2, -1, 1, 2, 3)]
        if _MONEY.search(right) and not _MONEY.search(left):
            scales += [Fraction(1, 100)]  # cents on the left
        looseness = max((_last_place(number) for number in _PERIODIC.findall(left)), default=Fraction(0))
        return any(
            self._close(value * scale, other, right)
            or (looseness and abs(value * scale - other) <= abs(other) * max(looseness, Fraction(1, 1000)))
            for value, other in pairs
            for scale in scales
        )

    def _close(self, value: Fraction, other: Fraction, written: str) -> bool:
        if self.modulus is not None:
            return (value - other) % self.modulus == 0
        gap = abs(value - other)
        # A decimal may be rounded or cut off; a whole number may stand for a broken one where a part makes no sense.
        if rounded := _ROUNDED_NUMBER.fullmatch(written):
            last_place = Fraction(10) ** (max(min(int(rounded[2] or 0), 20), -20) - len(rounded[1]))
            if gap < max(last_place, abs(value) / 10**9):
                return True
        whole = Fraction(1, 100) if written.endswith("%") else Fraction(1)
        if gap < whole and (value / whole).denominator != 1 and (other / whole).denominator == 1:
            return True
        return gap == 0 or (self.rounded and gap <= abs(value) / 20)

    def _runs_on(self, left: str, right: str) -> bool:
        """Whether a sloppy chain only goes on calculating: `2*3 = 6 + 1`, `1 - 1/4 = 3/4 of 20`."""
        begun = re.match(r"[$€£]?[\d.,]+(?=\s*[-+*/])|\([\d.]+/\d+\)(?=\*)", right)
        return begun is not None and self.agree(left, begun[0])

    def _shown(self, expression: str) -> str:
        value = readings(expression, self.names)[0]
        return shown(value % self.modulus if self.modulus else value)


def _last_place(number: str) -> Fraction:
    """Return how much of a rounded decimal half its last place is."""
    return Fraction(1, 2 * 10 ** len(number.partition(".")[2])) / Fraction(number)


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
                names.pop(name, None)  # it now stands for what cannot be calculated
                name = ""
                continue
            names[name] = value
    return names
