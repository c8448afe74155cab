"""Literal arithmetic in a step: a false equality proves the step wrong; a true one proves nothing.

Only numbers, + - * / and brackets, by an `ast` walk over exact fractions of bounded size; never `eval`.
"""

from __future__ import annotations

import ast
import itertools
import operator
import re
from fractions import Fraction

from vcrd.verifiers.base import ABSTAIN, INVALID, Verdict

_MAX_EXPRESSION = 200
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_LONG_NUMBER = re.compile(r"\d{19}")
_CONTINUES = re.compile(r"(?:[-+*/×÷^%(]|\d|\b(?:x|X|of|times|by|plus|minus))\s*$")
_MARK = re.compile(r"<<([^<>]*)>>")
_LEFT = re.compile(r"(?:^|(?<=[\s:;,<>]))[-+(]?[$€£]?[\d(.][\d\s.,+\-*/×÷()$€£]*$")
_RIGHT = re.compile(r"^\s*[-+(]?[$€£]?[\d(.][\d\s.,+\-*/×÷()$€£]*")


def check_arithmetic(text: str, modulus: int | None = None) -> Verdict:
    """Look for equalities between literal expressions and compare both sides.

    Args:
        text: A step.
        modulus: Compare modulo this integer, for a domain that calculates so.

    >>> check_arithmetic("16 - 3 - 4 = 9 eggs").reason
    '1 equality holds'
    >>> check_arithmetic("so 2*9 = 19").reason
    '2*9 is 18, not 19'
    """
    checked = 0
    for left, right in _equalities(text):
        values = evaluate(left), evaluate(right)
        if values[0] is None or values[1] is None:
            continue
        checked += 1
        if not _equal(values[0], values[1], right, modulus):
            shown = values[0] % modulus if modulus else values[0]
            return Verdict(INVALID, f"{left} is {_shown(shown)}, not {right}")
    return Verdict(
        ABSTAIN, f"{checked} equalit{'y holds' if checked == 1 else 'ies hold'}" if checked else "no arithmetic"
    )


def _equalities(text: str) -> list[tuple[str, str]]:
    """Neighbouring sides of each `=`, where the left one calculates something."""
    found: list[tuple[str, str]] = []
    for chunk in [*_MARK.findall(text), *_MARK.sub(" ", text).splitlines()]:
        sides = re.split(r"(?<![<>=!:])=(?!=)", chunk[: _MAX_EXPRESSION * 10])
        for before, after in itertools.pairwise(sides):
            before, after = before[-_MAX_EXPRESSION:], after[:_MAX_EXPRESSION]
            left, right = _LEFT.search(before), _RIGHT.match(after)
            if left is None or right is None or _CONTINUES.search(before[: left.start()]):
                continue
            expression = _last_operand(left[0])
            if re.search(r"\d[\s)]*[-+*/×÷]", expression) and _stands_alone(after[right.end() :]):
                found.append((expression, _first_operand(right[0])))
    return found


def _stands_alone(rest: str) -> bool:
    """Refuse a right side that goes on as something else, such as a percentage, a power or a mixed unit."""
    return not re.match(r"[%^!]|[A-Za-z]*\s*[*/]", rest)


def _last_operand(left: str) -> str:
    """Cut what stands before the expression, such as the previous equality's right side."""
    return re.split(r"(?<=[\d)])\s+(?=[\d(])", left.strip())[-1]


def _first_operand(right: str) -> str:
    """Cut what follows the first expression, such as the next equality's left side behind a space."""
    text = right.strip().rstrip(".,")
    spaced = re.match(r"^(\S+)\s+[\d(]", text)
    return spaced[1] if spaced else text


def evaluate(expression: str) -> Fraction | None:
    """Return the exact value of a literal expression; None where it is none, is too long, or divides by zero."""
    text = re.sub(r"[$€£]|(?<=\d),(?=\d{3})", "", expression).replace("×", "*").replace("÷", "/").strip()
    if not text or len(text) > _MAX_EXPRESSION or "**" in text or "//" in text or _LONG_NUMBER.search(text):
        return None
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return Fraction(_OPERATIONS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    raise ValueError("not literal arithmetic")


def _equal(left: Fraction, right: Fraction, written: str, modulus: int | None) -> bool:
    if modulus is not None:
        return (left - right) % modulus == 0
    decimals = re.fullmatch(r".*\.(\d+)\D*", written)
    # A decimal may be rounded or cut off: it is then less than one unit of its last place away.
    return left == right or (decimals is not None and abs(left - right) < Fraction(1, 10 ** len(decimals[1])))


def _shown(value: Fraction) -> str:
    return str(value) if value.denominator == 1 else f"{float(value):g}"
