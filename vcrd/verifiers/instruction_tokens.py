"""Words in capitals, counted as the Penn Treebank splits words: `IT'S` is two of them, `I'm` is one, `A-B` is one."""

from __future__ import annotations

import re

from vcrd.verifiers.instruction_sentences import split_sentences

_APART = re.compile(r"[][(){}<>«»“”‘’„\";@#$%&?!*\u2012-\u2015]|`+|''|--|\.{2,}|[:,](?!\d)")
_FINAL_PERIOD = re.compile(r"(?<=[^.])\.(?=[])}>\"'»”’ ]*$)")
_QUOTED_LETTER = re.compile(r"'(?!(?:re|ve|ll|m|t|s|d|n))(?=\w\b)", re.IGNORECASE)
_CLITICS = (
    re.compile(r"(?<=[^'])(')(?= )"),
    re.compile(r"(?<=[^' ])('[sS]|'[mM]|'[dD])(?= )"),
    re.compile(r"(?<=[^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T)(?= )"),
)
_FUSED = re.compile(
    r"\b(?:(can)(?=not\b)|(d)(?='ye\b)|(gim)(?=me\b)|(gon)(?=na\b)|(got)(?=ta\b)|(lem)(?=me\b)|(more)(?='n\b)"
    r"|(wan)(?=na\s))|(?<= )('t)(?=(?:is|was)\b)",
    re.IGNORECASE,
)


def count_capital_words(text: str) -> int:
    """Count the words in which every letter is a capital.

    >>> count_capital_words("I CAN'T say: NASA's the BEST! A U.S. B-52 (x2)")
    8
    """
    return sum(_count(_FINAL_PERIOD.sub(r" . ", sentence)) for sentence in split_sentences(text))


def least_capital_words(prefix: str) -> int:
    """Return a number of words in capitals that every continuation of `prefix` has at the least.

    A word counts once a blank follows it; where sentences end can only split words further.

    >>> least_capital_words("A B"), least_capital_words("A B ")
    (1, 2)
    """
    return _count(re.sub(r"\S+\Z", "", prefix))


def _count(text: str) -> int:
    text = " " + _QUOTED_LETTER.sub("' ", _APART.sub(r" \g<0> ", text)) + " "
    for clitic in _CLITICS:
        text = clitic.sub(r" \1", text)
    return sum(token.isupper() for token in _FUSED.sub(r" \g<0> ", text).split())
