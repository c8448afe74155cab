"""The 25 kinds of verifiable instruction of IFEval (Zhou et al., 2023), each a pure function of the text.

They decide as the published evaluation does, so that figures can be compared; where that is stranger than the
instruction's wording, a comment says so.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcrd.errors import ConfigError
from vcrd.verifiers.instruction_options import (
    Kind,
    as_count,
    as_letter,
    as_pattern,
    as_patterns,
    as_phrase,
    as_position,
    as_relation,
    as_text,
)
from vcrd.verifiers.instruction_sentences import split_sentences
from vcrd.verifiers.instruction_tokens import count_capital_words

Finding = tuple[bool, str]
"""Whether the text follows, and what was found."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of instruction: the options it takes, and how a text is judged under them."""

    options: Mapping[str, Kind]
    judge: Callable[..., Finding]


RULES: dict[str, Rule] = {}
"""Every kind of instruction by its id."""


def _rule(name: str, **options: Kind) -> Callable[[Callable[..., Finding]], Callable[..., Finding]]:
    def register(judge: Callable[..., Finding]) -> Callable[..., Finding]:
        RULES[name] = Rule(options, judge)
        return judge

    return register


def _compared(found: int, relation: str, bound: int, things: str) -> Finding:
    follows = found < bound if relation == "less than" else found >= bound
    return follows, f"{found} {things}, asked for {relation} {bound}"


def _exactly(found: int, asked: int, things: str) -> Finding:
    return found == asked, f"{found} {things}, asked for {asked}"


@_rule("keywords:existence", keywords=as_patterns)
def _existence(text: str, keywords: Sequence[str]) -> Finding:
    missing = [word for word in keywords if not re.search(word, text, re.IGNORECASE)]
    return not missing, f"without {', '.join(missing)}" if missing else "all keywords are there"


@_rule("keywords:frequency", keyword=as_pattern, frequency=as_count, relation=as_relation)
def _frequency(text: str, keyword: str, frequency: int, relation: str) -> Finding:
    return _compared(len(re.findall(keyword, text, re.IGNORECASE)), relation, frequency, f"times {keyword!r}")


@_rule("keywords:forbidden_words", forbidden_words=as_patterns)
def _forbidden_words(text: str, forbidden_words: Sequence[str]) -> Finding:
    used = [word for word in forbidden_words if re.search(rf"\b{word}\b", text, re.IGNORECASE)]
    return not used, f"uses {', '.join(used)}" if used else "no forbidden word"


@_rule("keywords:letter_frequency", letter=as_letter, let_frequency=as_count, let_relation=as_relation)
def _letter_frequency(text: str, letter: str, let_frequency: int, let_relation: str) -> Finding:
    return _compared(text.lower().count(letter), let_relation, let_frequency, f"letters {letter!r}")


@_rule("language:response_language", language=as_text)
def _response_language(text: str, language: str) -> Finding:
    found = _language(text)
    return found in {language, None}, f"language {found}, asked for {language}"


@_rule("length_constraints:number_sentences", num_sentences=as_count, relation=as_relation)
def _number_sentences(text: str, num_sentences: int, relation: str) -> Finding:
    return _compared(len(split_sentences(text)), relation, num_sentences, "sentences")


@_rule("length_constraints:number_words", num_words=as_count, relation=as_relation)
def _number_words(text: str, num_words: int, relation: str) -> Finding:
    return _compared(len(re.findall(r"\w+", text)), relation, num_words, "words")


@_rule("length_constraints:number_paragraphs", num_paragraphs=as_count)
def _number_paragraphs(text: str, num_paragraphs: int) -> Finding:
    paragraphs = split_paragraphs(text)
    if not all(paragraphs[1:-1]):
        return False, "an empty paragraph between two dividers"
    return _exactly(sum(map(bool, paragraphs)), num_paragraphs, "paragraphs")


@_rule(
    "length_constraints:nth_paragraph_first_word",
    num_paragraphs=as_count,
    nth_paragraph=as_position,
    first_word=as_text,
)
def _nth_paragraph_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> Finding:
    paragraphs = text.split("\n\n")
    # Empty paragraphs are not counted, yet the nth is counted with them.
    count = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if nth_paragraph > count:
        return False, f"{count} paragraphs, asked for the start of number {nth_paragraph}"
    word = clean_first_word(paragraphs[nth_paragraph - 1])
    if word != first_word.lower():
        return False, f"paragraph {nth_paragraph} starts with {word!r}, asked for {first_word!r}"
    return _exactly(count, num_paragraphs, "paragraphs")


@_rule("detectable_content:number_placeholders", num_placeholders=as_count)
def _number_placeholders(text: str, num_placeholders: int) -> Finding:
    found = sum(len(re.findall(r"\[.*?\]", line)) for line in _lines_up_to("]", text))
    return _compared(found, "at least", num_placeholders, "placeholders")


@_rule("detectable_content:postscript", postscript_marker=as_pattern)
def _postscript(text: str, postscript_marker: str) -> Finding:
    # A marker need not begin a line; any other than these two is itself a pattern.
    patterns = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    pattern = patterns.get(postscript_marker, postscript_marker.lower())
    found = re.search(pattern, text.lower()) is not None
    return found, f"{'a' if found else 'no'} postscript {postscript_marker!r}"


@_rule("detectable_format:number_bullet_lists", num_bullets=as_count)
def _number_bullet_lists(text: str, num_bullets: int) -> Finding:
    return _exactly(count_bullets(text), num_bullets, "bullet points")


@_rule("detectable_format:constrained_response")
def _constrained_response(text: str) -> Finding:
    found = any(f"My answer is {answer}." in text for answer in ("yes", "no", "maybe"))
    return found, f"{'one' if found else 'none'} of the allowed answers"


@_rule("detectable_format:number_highlighted_sections", num_highlights=as_count)
def _number_highlighted_sections(text: str, num_highlights: int) -> Finding:
    single = [mark.strip("*") for mark in re.findall(r"\*[^\n*]*\*", text)]
    double = [mark[2:-2] for mark in re.findall(r"\*\*[^\n*]*\*\*", text)]
    found = sum(bool(mark.strip()) for mark in (*single, *double))
    return _compared(found, "at least", num_highlights, "highlighted sections")


@_rule("detectable_format:multiple_sections", section_spliter=as_pattern, num_sections=as_count)
def _multiple_sections(text: str, section_spliter: str, num_sections: int) -> Finding:
    found = len(re.split(rf"\s?{section_spliter}\s?\d+\s?", text)) - 1
    return _compared(found, "at least", num_sections, f"sections marked {section_spliter!r}")


@_rule("detectable_format:json_format")
def _json_format(text: str) -> Finding:
    text = text.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError) as error:
        return False, f"not JSON: {error}"
    return True, "JSON"


@_rule("detectable_format:title")
def _title(text: str) -> Finding:
    titles = [title for line in _lines_up_to(">>", text) for title in re.findall(r"<<[^\n]+>>", line)]
    found = any(title.lstrip("<").rstrip(">").strip() for title in titles)
    return found, f"{'a' if found else 'no'} title in <<double angular brackets>>"


@_rule("combination:two_responses")
def _two_responses(text: str) -> Finding:
    responses = [response.strip() for response in text.split("******")]
    if not all(responses[1:-1]):
        return False, "an empty response between two dividers"
    responses = [response for response in responses if response]
    if len(responses) == 2 and responses[0] == responses[1]:
        return False, "the two responses are the same"
    return _exactly(len(responses), 2, "responses divided by ******")


@_rule("combination:repeat_prompt", prompt_to_repeat=as_text)
def _repeat_prompt(text: str, prompt_to_repeat: str) -> Finding:
    follows = text.strip().lower().startswith(prompt_to_repeat.strip().lower())
    return follows, f"{'begins' if follows else 'does not begin'} with the request"


@_rule("startend:end_checker", end_phrase=as_phrase)
def _end_checker(text: str, end_phrase: str) -> Finding:
    follows = text.strip().strip('"').lower().endswith(end_phrase.lower())
    return follows, f"{'ends' if follows else 'does not end'} with {end_phrase!r}"


@_rule("startend:quotation")
def _quotation(text: str) -> Finding:
    text = text.strip()
    follows = len(text) > 1 and text[0] == text[-1] == '"'
    return follows, f"{'within' if follows else 'not within'} double quotation marks"


@_rule("change_case:capital_word_frequency", capital_frequency=as_count, capital_relation=as_relation)
def _capital_word_frequency(text: str, capital_frequency: int, capital_relation: str) -> Finding:
    return _compared(count_capital_words(text), capital_relation, capital_frequency, "words in capitals")


@_rule("change_case:english_capital")
def _english_capital(text: str) -> Finding:
    return _english(text) if text.isupper() else (False, "not all in capitals")


@_rule("change_case:english_lowercase")
def _english_lowercase(text: str) -> Finding:
    return _english(text) if text.islower() else (False, "not all in lower case")


@_rule("punctuation:no_comma")
def _no_comma(text: str) -> Finding:
    return "," not in text, f"{text.count(',')} commas"


_REPEATS = re.compile(r"[*+?{]")


def judge(name: str, options: Mapping[str, Any], text: str) -> Finding:
    """Judge a text by one kind of instruction, with its options read."""
    return RULES[name].judge(text, **options)


def may_never_end(name: str, options: Mapping[str, Any]) -> bool:
    r"""Tell whether a pattern among the options repeats something: then seeking it may take time without bound.

    >>> may_never_end("keywords:existence", {"keywords": ["tea", r"(a+)+$"]})
    True
    """
    patterns = [options[option] for option, kind in RULES[name].options.items() if kind in (as_pattern, as_patterns)]
    return any(_REPEATS.search(part) for given in patterns for part in ([given] if isinstance(given, str) else given))


def split_paragraphs(text: str) -> list[str]:
    """Return what stands between dividers of three asterisks, without the blanks around it."""
    return [paragraph.strip() for paragraph in re.split(r"\s?\*\*\*\s?", text)]


def clean_first_word(paragraph: str) -> str:
    """Return the first word in lower case up to its first punctuation mark; empty where there is none.

    >>> clean_first_word("'Twas, she said")
    'twas'
    """
    words = paragraph.split(maxsplit=1)
    return re.split(r"[.,?!'\"]", words[0].lstrip("'").lstrip('"'))[0].lower() if words else ""


def count_bullets(text: str) -> int:
    """Count lines that begin with one asterisk or with a dash (a `---` rule included)."""
    return sum(len(re.findall(mark, text, re.MULTILINE)) for mark in (r"^[^\S\n]*\*[^*].*$", r"^[^\S\n]*-.*$"))


def _lines_up_to(close: str, text: str) -> list[str]:
    """Cut every line after its last closing mark, without which each opening mark would be sought to the line's end."""
    return [line[: line.rfind(close) + len(close)] for line in text.split("\n") if close in line]


def _english(text: str) -> Finding:
    found = _language(text)
    return found in {"en", None}, f"language {found}, asked for en"


def _language(text: str) -> str | None:
    """Return the language's code as langdetect gives it; None where it finds none, which counts as any."""
    try:
        detector = importlib.import_module("langdetect")
    except ImportError as error:
        raise ConfigError("language instructions need langdetect: pip install langdetect") from error
    # Without a seed the same text can get another language from call to call.
    detector.DetectorFactory.seed = 0
    try:
        return str(detector.detect(text))
    except detector.LangDetectException:
        return None
