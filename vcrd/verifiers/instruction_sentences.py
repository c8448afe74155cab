"""Where English sentences end: the Punkt algorithm (Kiss and Strunk, 2006) with a short list of words.

A period, question or exclamation mark is a possible end where a space or closing mark follows. Whether it is one is
decided on the run of characters before it and the word after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from vcrd.verifiers.instruction_words import ABBREVIATIONS, LOWER_CASE, NUMBER, OPENERS, ORDINARY, PAIRS

_BLANKS = " \t\n\r\v\f"
_CLOSERS = "\"')]}"
_MARK = r"[)\";}\]*:@'({\[?!]"
_REPEATED = r"-{2,}|\.{2,}|(?:\.\s){2,}\."
_WORD_END = rf"\s|$|{_MARK}|{_REPEATED}"
_POSSIBLE_END = re.compile(rf"[.?!](?=(?P<after>{_MARK}|\s+(?P<next>\S+)))")
_TOKEN = re.compile(rf"{_REPEATED}|[^\s(\"`{{\[:;&#*@)}}\]\-,]\S*?(?={_WORD_END}|,(?={_WORD_END}))|\S")
_CLOSING = re.compile(r"[\"')\]}]+?(?:\s+|(?=--)|$)", re.MULTILINE)
_ELLIPSIS = re.compile(r"\.\.+")
_INITIAL = re.compile(r"[^\W\d]\.")
_NUMERIC = re.compile(r"-?[.,]?\d[\d,.-]*")

Span = tuple[int, int]


def split_sentences(text: str) -> list[str]:
    """Return the sentences of a text, without the blanks between them.

    >>> split_sentences('Dr. Who paid $3.50. "Really?" she asked. It is so... Indeed!')
    ['Dr. Who paid $3.50.', '"Really?"', 'she asked.', 'It is so...', 'Indeed!']
    """
    return [text[start:end] for start, end in _join_closers(text, _pieces(text, len(text)))]


def least_sentences(prefix: str) -> int:
    """Return a number of sentences that every continuation of `prefix` has at the least.

    An end counts once the word after it is finished; a piece that begins with a closing mark may still join the one
    before it, and take that one's count with it.

    >>> least_sentences("One. Two. Thr"), least_sentences("One. Two. Three "), least_sentences("One.")
    (2, 3, 1)
    """
    last_blank = max(prefix.rfind(blank) for blank in _BLANKS)
    finished = prefix[: last_blank + 1].rstrip()
    settled = 1 + max(finished.rfind(blank) for blank in _BLANKS)
    pieces = _pieces(prefix, settled)
    start = pieces[-1][0]
    return len(list(_join_closers(prefix, pieces))) - (2 if prefix[start : start + 1] in (*_CLOSERS,) else 0)


def _pieces(text: str, before: int) -> list[Span]:
    """Return the spans between the ends that lie before a position; the last one is what remains."""
    spans: list[Span] = []
    start = 0
    for match, context in _possible_ends(text):
        if match.start() >= before:
            break
        if any(_ends_sentence(token, following) for token, following in pairwise(_tokens(context))):
            spans.append((start, match.end()))
            start = match.start("next") if match["next"] else match.end()
    return [*spans, (start, len(text.rstrip()))]


def _possible_ends(text: str) -> Iterator[tuple[re.Match[str], str]]:
    """Yield possible ends with run and following token; of several in one run the last, and one that is all its run."""
    held: re.Match[str] | None = None
    start = stop = 0
    for match in _POSSIBLE_END.finditer(text):
        blank = max(text.rfind(blank, stop, match.start()) for blank in _BLANKS)
        run = blank + 1 if blank > stop else start
        if held and stop <= run:
            yield held, text[start:stop] + held[0] + held["after"]
        held, start, stop = match, run, match.start()
    if held:
        yield held, text[start:stop] + held[0] + held["after"]


def _tokens(context: str) -> list[str]:
    return [token for line in context.split("\n") for token in _TOKEN.findall(line)]


def _join_closers(text: str, pieces: list[Span]) -> Iterator[Span]:
    """Give closing quotes and brackets back to the sentence before them."""
    taken = 0
    for (start, end), following in zip(pieces, [*pieces[1:], None], strict=True):
        start += taken
        taken = 0
        closing = following and _CLOSING.match(text[slice(*following)])
        if following and closing:
            taken = closing.end()
            yield start, following[0] + len(closing[0].rstrip())
        elif text[start:end]:
            yield start, end


def _ends_sentence(token: str, following: str) -> bool:
    """Decide whether a sentence ends between two tokens."""
    stop = _is_stop(token)
    if not token.endswith("."):
        return stop
    kind, next_kind = _kind(token, stop=True), _kind(following, stop=_is_stop(following))
    if (kind, next_kind) in PAIRS:
        return False
    starts, capital = _starts_sentence(following, next_kind), following[0].isupper()
    if _INITIAL.fullmatch(token):
        if starts is None and capital and next_kind not in LOWER_CASE:
            return False
        return stop and starts is not False
    if not stop:
        return starts is True or (capital and next_kind in OPENERS)
    return not (kind == NUMBER and starts is False)


def _is_stop(token: str) -> bool:
    """Whether a token looks like the end of a sentence whatever follows."""
    if token in {".", "?", "!"}:
        return True
    if not token.endswith(".") or token.endswith(".."):
        return False
    stem = token[:-1].lower()
    return stem not in ABBREVIATIONS and stem.rpartition("-")[2] not in ABBREVIATIONS


def _kind(token: str, *, stop: bool) -> str:
    """Return a token in lower case, numbers as one, without the final period where it is a stop."""
    lower = token.lower()
    if _NUMERIC.fullmatch(lower):
        return NUMBER
    return lower[:-1] if stop and len(lower) > 1 and lower.endswith(".") else lower


def _starts_sentence(token: str, kind: str) -> bool | None:
    """Whether a token begins a sentence, by its case alone; None where that does not say."""
    if token in {*";:,.!?"} or token[0].islower():
        return False
    return True if token[0].isupper() and kind in ORDINARY else None
