"""What no continuation can mend: why a text that is not finished already fails an instruction.

Only what can never shrink is looked at: counts with an upper bound, characters that are not allowed, beginnings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from vcrd.verifiers.instruction_rules import clean_first_word, count_bullets, split_paragraphs
from vcrd.verifiers.instruction_sentences import least_sentences
from vcrd.verifiers.instruction_tokens import least_capital_words

BROKEN: dict[str, Callable[..., str | None]] = {}
"""By instruction id: takes a prefix and the options, returns why it is broken for good, or None."""

_NOT_LITERAL = re.compile(r"[\\^$|?*+(){}\[\]]")
_JSON_STARTS = '{["-0123456789tfnNI'


def _broken(name: str) -> Callable[[Callable[..., str | None]], Callable[..., str | None]]:
    def register(find: Callable[..., str | None]) -> Callable[..., str | None]:
        BROKEN[name] = find
        return find

    return register


def _not_less(found: int, relation: str, bound: int, things: str) -> str | None:
    return f"{found} {things}, asked for less than {bound}" if relation == "less than" and found >= bound else None


def _more(found: int, asked: int, things: str) -> str | None:
    return f"{found} {things}, asked for {asked}" if found > asked else None


@_broken("keywords:frequency")
def _frequency(prefix: str, keyword: str, frequency: int, relation: str) -> str | None:
    if _NOT_LITERAL.search(keyword):
        return None
    return _not_less(len(re.findall(keyword, prefix, re.IGNORECASE)), relation, frequency, f"times {keyword!r}")


@_broken("keywords:forbidden_words")
def _forbidden_words(prefix: str, forbidden_words: Sequence[str]) -> str | None:
    for word in forbidden_words:
        # A word at the very end may go on and become another one.
        if not _NOT_LITERAL.search(word) and re.search(rf"\b{word}\b(?!\Z)", prefix, re.IGNORECASE):
            return f"uses {word}"
    return None


@_broken("keywords:letter_frequency")
def _letter_frequency(prefix: str, letter: str, let_frequency: int, let_relation: str) -> str | None:
    # The lower case of a capital sigma depends on what follows it.
    found = prefix.replace("Σ", "").lower().count(letter)
    return _not_less(found, let_relation, let_frequency, f"letters {letter!r}")


@_broken("length_constraints:number_sentences")
def _number_sentences(prefix: str, num_sentences: int, relation: str) -> str | None:
    return _not_less(least_sentences(prefix), relation, num_sentences, "sentences")


@_broken("length_constraints:number_words")
def _number_words(prefix: str, num_words: int, relation: str) -> str | None:
    return _not_less(len(re.findall(r"\w+", prefix)), relation, num_words, "words")


@_broken("length_constraints:number_paragraphs")
def _number_paragraphs(prefix: str, num_paragraphs: int) -> str | None:
    paragraphs = split_paragraphs(prefix)
    if not all(paragraphs[1:-1]):
        return "an empty paragraph between two dividers"
    # Asterisks at the end may become a divider.
    paragraphs[-1] = paragraphs[-1].rstrip("*").strip()
    return _more(sum(map(bool, paragraphs)), num_paragraphs, "paragraphs")


@_broken("length_constraints:nth_paragraph_first_word")
def _nth_paragraph_first_word(prefix: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> str | None:
    paragraphs = prefix.split("\n\n")
    if nth_paragraph <= len(paragraphs):
        paragraph = paragraphs[nth_paragraph - 1].lstrip()
        # The word may go on as long as nothing follows it.
        settled = nth_paragraph < len(paragraphs) or re.search(r"\s", paragraph)
        word = clean_first_word(paragraph)
        if settled and word != first_word.lower():
            return f"paragraph {nth_paragraph} starts with {word!r}, asked for {first_word!r}"
    return _more(sum(bool(paragraph.strip()) for paragraph in paragraphs), num_paragraphs, "paragraphs")


@_broken("detectable_format:number_bullet_lists")
def _number_bullet_lists(prefix: str, num_bullets: int) -> str | None:
    return _more(count_bullets(prefix), num_bullets, "bullet points")


@_broken("detectable_format:json_format")
def _json_format(prefix: str) -> str | None:
    text = prefix.lstrip()
    if text.startswith("`"):
        return None if "```".startswith(text[:3]) else "begins with a backtick that opens no code fence"
    return f"JSON cannot begin with {text[0]!r}" if text and text[0] not in _JSON_STARTS else None


@_broken("combination:two_responses")
def _two_responses(prefix: str) -> str | None:
    responses = [response.strip() for response in prefix.split("******")]
    if not all(responses[1:-1]):
        return "an empty response between two dividers"
    settled = [response for response in responses[:-1] if response]
    if len(settled) == 2 and settled[0] == settled[1]:
        return "the two responses are the same"
    return _more(len(settled) + bool(responses[-1].rstrip("*").strip()), 2, "responses divided by ******")


@_broken("combination:repeat_prompt")
def _repeat_prompt(prefix: str, prompt_to_repeat: str) -> str | None:
    text, request = prefix.lstrip().lower(), prompt_to_repeat.strip().lower()
    length = min(len(text), len(request))
    if text[:length] == request[:length] or "Σ" in prefix:
        return None
    return "does not begin with the request"


@_broken("startend:quotation")
def _quotation(prefix: str) -> str | None:
    text = prefix.lstrip()
    return "does not begin with a double quotation mark" if text and text[0] != '"' else None


@_broken("change_case:capital_word_frequency")
def _capital_word_frequency(prefix: str, capital_frequency: int, capital_relation: str) -> str | None:
    return _not_less(least_capital_words(prefix), capital_relation, capital_frequency, "words in capitals")


@_broken("change_case:english_capital")
def _english_capital(prefix: str) -> str | None:
    small = next((letter for letter in prefix if letter.islower() or (letter.istitle() and not letter.isupper())), None)
    return small and f"{small!r} is no capital"


@_broken("change_case:english_lowercase")
def _english_lowercase(prefix: str) -> str | None:
    capital = next((letter for letter in prefix if letter.isupper() or letter.istitle()), None)
    return capital and f"{capital!r} is a capital"


@_broken("punctuation:no_comma")
def _no_comma(prefix: str) -> str | None:
    return f"{prefix.count(',')} commas" if "," in prefix else None
