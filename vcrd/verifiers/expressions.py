"""Literal arithmetic as people write it: read out of prose and LaTeX, calculated exactly.

Numbers, + - * / and small powers, brackets, and single capital letters where their values are known. An `ast` walk over
fractions of bounded size; never `eval`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from fractions import Fraction

MAX_EXPRESSION = 200
_MAX_DIGITS = 18
_MAX_RESULT = 10**10  # what a pocket calculator shows: larger results are mostly rounded, or in a notation of their own
_MAX_EXPONENT = 20
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>[$€£]?(?:{_NUMBER})%?)|(?P<name>(?<![A-Za-z])[A-Z](?![A-Za-z]))|(?P<sign>[-+*/^()]))"
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_MIXED = re.compile(r"(?<![\d.])(\d+)\s*\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}")

_VULGAR = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(?<!\\)\\[\[\]()]|`|^\s*\*\*(?=\S)|(?<=\S)\*\*(?=[\s.,:;]|$)", " "),
        (r"\\(?:left|right|,|;|!|:|quad|qquad|displaystyle)(?![A-Za-z])", ""),
        (r"\\(?:text|mathrm|textbf|mbox)\s*\{([^{}]*)\}", r" \1 "),
        (r"\\(?:times|cdot|ast)(?![A-Za-z])|[×·∗⋅]", "*"),
        # A number is read from its first digit on, never from within: 4,000 digits cost no more than their length.
        *((rf"(?<!\d)(\d+)\s?{sign}", rf"(\1+{value})") for sign, value in _VULGAR.items()),
        *((sign, f"({value})") for sign, value in _VULGAR.items()),
        (r"\\div(?![A-Za-z])|÷", "/"),
        (r"\\([$%])", r"\1"),
        (r"\{,\}", ","),
        (r"\\\\\s*$|&", " "),
        (r"\*\*", "^"),
        (r"\^\{(\d+)\}", r"^\1"),
        (r"[−–]", "-"),
        (r"(?<=[\d)%])\s*[xX]\s*(?=[$\d(])", "*"),
        (r"(?<=\d)\s+times\s+(?=[$\d(])", "*"),
        (r"(?<=\d)\s+plus\s+(?=[$\d(])", "+"),
        (r"(?<=\d)\s+minus\s+(?=[$\d(])", "-"),
        (r"(?<=\d)\s+divided by\s+(?=[$\d(])", "/"),
        (r"(?<![\d.,])(\d{1,3}) (\d{3}) (\d{3})(?![\d,])", r"\1\2\3"),
        (r"(?<![\d.,])(\d{1,3}) (\d{3})(?![\d,])", r"\1\2"),
        (rf"(?<!\d)({_NUMBER})%\s+of\s+(?=[$\d])", r"(\1/100)*"),
        (r"(?<![\d/.,])(\d+/\d+)\s+of\s+(?=[$\d])", r"(\1)*"),
        (r"(?<![\d/.,])(\d+)\s+(\d+/\d+)(?![\d/*(])", r"(\1+\2)"),
        (r"/\s*100%", "/100"),
        (r"\sequals\s", " = "),
        (r"\[", "("),
        (r"\]", ")"),
    )
)
_MEANINGS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"(\d+/\d+)\s*/\s*(\d+/\d+)", r"(\1)/(\2)"),
        (r"(?<![\d.])(\d+)-(\d+/\d+)", r"(\1+\2)"),
        (r"/\s*(\d+\s*/\s*\d+)", r"/(\1)"),
        (r"/\s*(\d+\s*\([^()]*\))", r"/(\1)"),
        (rf"^([$€£]?(?:{_NUMBER}))\s*([-+])\s*((?:{_NUMBER})%)$", r"\1*(1\2\3)"),
    )
)


def plain(text: str) -> str:
    r"""Rewrite LaTeX, words and signs of arithmetic into one notation.

    >>> plain(r"\frac{1}{2} \times 8 = 4")
    '((1)/(2)) * 8 = 4'
    """
    text = _MIXED.sub(r"(\1+\2/\3)", text)
    for _ in range(3):
        text = _FRACTION.sub(r"((\1)/(\2))", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


def leading(text: str) -> tuple[str, str]:
    """Split into the longest expression at the start, and the rest; the expression is empty where there is none.

    >>> leading("9 eggs a day")
    ('9', ' eggs a day')
    """
    ends = [end for _, end in _tokens(text, 0)]
    while ends and not _is_expression(text[: ends[-1]]):
        ends.pop()
    cut = ends[-1] if ends else 0
    return text[:cut].strip(), text[cut:]


def trailing(text: str) -> tuple[str, str]:
    """Split into what comes before, and the longest expression at the end.

    >>> trailing("so he has 3 + 4")
    ('so he has ', '3 + 4')
    """
    text = text.rstrip()
    for start in range(max(len(text) - MAX_EXPRESSION, 0), len(text)):
        if start and (text[start - 1].isalnum() or text[start - 1] in ".,$€£") and text[start].isalnum():
            continue
        if text[start].isspace() or text[start] in ".,":
            continue
        tokens = _tokens(text, start)
        if tokens and tokens[-1][1] == len(text) and _is_expression(text[start:]):
            return text[:start], text[start:]
    return text, ""


def _tokens(text: str, position: int) -> list[tuple[int, int]]:
    """Spans of the tokens from a position on, up to the first thing that is no part of an expression."""
    spans = []
    while (found := _TOKEN.match(text, position)) and found.end() - position < MAX_EXPRESSION:
        position = found.end()
        spans.append((found.start(), position))
        if len(spans) > MAX_EXPRESSION:
            break
    return spans


def _is_expression(text: str) -> bool:
    return _parsed(text) is not None


def _parsed(text: str) -> ast.expr | None:
    if not text.strip() or len(text) > MAX_EXPRESSION:
        return None
    text = re.sub(r"[$€£]|(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"([\d.]+)%", r"(\1/100)", text)
    text = re.sub(r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\d)", "*", text)
    text = text.replace("^", "**").strip()
    if re.search(rf"//|\*\*\s*\*|\d{{{_MAX_DIGITS + 1}}}", text):
        return None
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def calculates(expression: str) -> bool:
    """Tell whether there is anything to calculate in an expression: an operation with two operands."""
    parsed = _parsed(expression)
    return parsed is not None and any(isinstance(node, ast.BinOp) for node in ast.walk(parsed))


def evaluate(expression: str, names: Mapping[str, Fraction] | None = None) -> Fraction | None:
    """Return the exact value of an expression.

    None where it is none, is too long, divides by zero, has a name of unknown value, or has a result too large.

    >>> evaluate("(2 + 1) * 1/3")
    Fraction(1, 1)
    """
    parsed = _parsed(expression)
    try:
        value = None if parsed is None else _value(parsed, names or {})
    except (ValueError, ZeroDivisionError, RecursionError):
        return None
    return value if value is not None and abs(value) < _MAX_RESULT else None


def readings(expression: str, names: Mapping[str, Fraction] | None = None) -> list[Fraction]:
    """Return the values that an expression may mean.

    `3 / 1/4` may divide by a quarter, `6 / 2(1 + 2)` by all that follows, and `50 - 20%` take a fifth of the 50 away.

    >>> readings("3 / 1/4")
    [Fraction(3, 4), Fraction(12, 1)]
    >>> readings("50 - 20%")[-1]
    Fraction(40, 1)
    """
    texts = [expression, *(pattern.sub(meant, expression) for pattern, meant in _MEANINGS)]
    values = [evaluate(text, names) for text in dict.fromkeys(texts)]
    return [value for value in values if value is not None]


def _value(node: ast.expr, names: Mapping[str, Fraction]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return Fraction(_OPERATIONS[type(node.op)](_value(node.left, names), _value(node.right, names)))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _power(_value(node.left, names), _value(node.right, names))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _value(node.operand, names)
        return -value if isinstance(node.op, ast.USub) else value
    raise ValueError("not literal arithmetic")


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    size = max(abs(base.numerator), base.denominator).bit_length()
    if exponent.denominator != 1 or abs(exponent) > _MAX_EXPONENT or size * abs(exponent) > 64 * _MAX_DIGITS:
        raise ValueError("power too large")
    return base**exponent.numerator


def shown(value: Fraction) -> str:
    """Write a value for people."""
    return str(value) if value.denominator == 1 else f"{float(value):g}"
