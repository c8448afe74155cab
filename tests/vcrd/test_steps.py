"""Segmentation loses nothing, never cuts inside a block, and maps to tokens whatever the tokenizer."""

import gzip
import io
import itertools
import json
import time
import tokenize
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcrd.domains.demo_math import DOMAIN
from vcrd.steps import Unit, cut_steps, detect_unit, first_step, segment, unit_for
from vcrd.tokenization import decoder, token_char_ends
from vcrd.training.pretrain import bpe_tokenizer

TEXT = st.text(alphabet=st.sampled_from("ab1 =.\n$|`\\[]é漢"), max_size=80)
PIECES = [
    *(
        "a",
        "B",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        ". ",
        "! ",
        "?",
        "Dr. ",
        "1. ",
        "- ",
        "# ",
        "| a |\n",
        "```\n",
        "$$",
        "\\[",
    ),
    *(
        "\\]",
        "\\begin{a}",
        "\\end{a}",
        "(",
        ")",
        "{",
        "]",
        '"',
        "'",
        "'\\'\\'\\'",
        '"""',
        "\\",
        "\\\n",
        "#",
        "@d\n",
        "def f():\n",
    ),
    *("return", " x", "else:\n", "é", "。", "\u2028", "\x00", "\x0c", "`", ":", "import b\n"),
]
ANY_TEXT = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
UNITS = st.sampled_from(get_args(Unit))
SAMPLES = ["First, 3+4=7.\n\nThen 7*2=14.\n\nSo the answer is 14.\n", "a\nb\n\n\nc", "x = é\n漢字 = 1\n"]


@pytest.fixture(scope="module")
def tokenizer():
    return bpe_tokenizer(SAMPLES * 20, 320)


def steps_of(text: str, unit: Unit) -> list[str]:
    return [text[start:end] for start, end in itertools.pairwise([0, *segment(text, unit)])]


@given(ANY_TEXT, UNITS)
def test_the_steps_tile_any_text_and_none_is_blank(text: str, unit: Unit) -> None:
    ends = segment(text, unit)
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(text)
    assert all(step.strip() for step in steps_of(text, unit)) or not text.strip()


@given(ANY_TEXT, UNITS)
def test_a_text_that_ends_behind_a_step_has_the_same_steps_up_to_there(text: str, unit: Unit) -> None:
    ends = segment(text, unit)
    for count, end in enumerate(ends, 1):
        assert segment(text[:end], unit) == ends[:count]


@given(ANY_TEXT, UNITS)
def test_what_continues_a_prefix_is_cut_as_in_the_whole(text: str, unit: Unit) -> None:
    ends = segment(text, unit)
    for count, end in enumerate(ends, 1):
        assert segment(text[end:], unit, text[:end]) == [later - end for later in ends[count:]]


@given(TEXT)
def test_segmenting_a_step_alone_gives_it_back_whole(text: str) -> None:
    ends = segment(text, "line")
    steps = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    if not any(mark in text for mark in ("`", "$", "\\", "|")):
        assert all(segment(step, "line") == [len(step)] for step in steps)


@pytest.mark.parametrize("block", ["```\na\n\nb\n```", "$$\na\n\nb\n$$", "\\[\nx\n\ny\n\\]", "| a |\n| b |"])
def test_a_block_is_never_cut(block: str) -> None:
    text = f"before\n{block}\nafter"
    ends = segment(text, "line")
    start, end = text.index(block), text.index(block) + len(block)
    assert not [cut for cut in ends if start < cut < end]


def test_paragraphs_where_there_are_blank_lines_else_lines() -> None:
    assert detect_unit("a\nb\n\nc") == "paragraph"
    assert detect_unit("a\nb\n") == "line"
    assert segment("a\nb\n\nc\nd") == [5, 8]
    assert segment("a\nb\nc") == [2, 4, 5]


@pytest.mark.parametrize("unit", get_args(Unit))
@pytest.mark.parametrize(
    "piece", ["\n", "(\n", "'", '"""', "'\\'\\'\\'\\\\ ", ".", ". A", "$$a", "```\n", "\\begin{", "\\", "a. "]
)
def test_long_texts_cost_time_in_proportion(piece: str, unit: Unit) -> None:
    start = time.process_time()
    segment(piece * (200_000 // len(piece)), unit)
    assert time.process_time() - start < 5


def test_environments_nest_and_a_row_height_opens_no_formula() -> None:
    nested = "\\begin{align}\n\\begin{cases}\n1\n\\end{cases}\n2 \\\\[2pt]\n3\n\\end{align}\n"
    assert segment(nested + "after", "line") == [len(nested), len(nested) + 5]
    assert segment("a \\\\[2pt]\nb\nc", "line") == [10, 12, 13]


def test_the_domain_decides_the_unit() -> None:
    assert unit_for("math", "a\n\nb") == "paragraph"
    assert unit_for("math", "a\nb") == "line"
    assert unit_for("code", "a\n\nb") == "statement"
    assert unit_for("instructions", "a\n\nb") == "sentence"


PROGRAM = [
    "# First.\nimport math\n\n\n",
    "@cache\n# Why.\n@other(\n    1,\n)\ndef area(\n    r,\n):\n",
    '    """Of a circle (unbalanced.\n\n    Really."""\n',
    "    if r < 0: raise ValueError('(')\n",
    "    total = math.pi * \\\n        r ** 2  # } not a bracket\n",
    "    for _ in [\n        1,\n\n        2,\n    ]:\n",
    "        total += 0\n",
    "    else:\n",
    "        pass\n\n",
    '    return {"it\'s": total}[\n        "it\'s"]\n\n',
    "print(area(1))\n",
]


def test_a_program_is_cut_into_logical_lines() -> None:
    assert steps_of("".join(PROGRAM), "statement") == PROGRAM


def test_code_in_an_explanation_is_cut_and_its_fences_are_no_steps() -> None:
    steps = [
        "We don't know (yet:\n\n",
        "```python\n\ndef f(x):\n",
        "    return (x\n```\n",
        "And:\n",
        "~~~\n",
        "```\nf(1)\n```",
    ]
    assert steps_of("".join(steps), "statement") == steps


def test_a_broken_program_goes_on_at_the_next_sure_statement() -> None:
    steps = ["print(f(1, [2)\n", "def g(:\n    x = {'a': (\n", "    return x}\n", "y = 1"]
    assert steps_of("".join(steps), "statement") == steps
    assert steps_of("f(\n    class_=1,\n    with_=2)\n", "statement") == ["f(\n    class_=1,\n    with_=2)\n"]


def test_real_programs_are_cut_as_tokenize_does(real_data: Path) -> None:
    with gzip.open(real_data / "humaneval/HumanEval.jsonl.gz", "rt") as lines:
        programs = [row["prompt"] + row["canonical_solution"] for row in map(json.loads, lines)]
    with (real_data / "mbpp/mbpp.jsonl").open() as lines:
        programs += [json.loads(line)["code"].replace("\r\n", "\n") for line in lines]
    for program in programs:
        assert segment(program, "statement") == _logical_ends(program), program


def _logical_ends(program: str) -> list[int]:
    """Ends of logical lines by the standard library, with the blank lines behind them; not those of decorators."""
    starts = [0, *itertools.accumulate(len(line) for line in program.split("\n") for line in [line + "\n"])]
    ends = []
    first = ""
    for token in tokenize.generate_tokens(io.StringIO(program).readline):
        if token.type == tokenize.NEWLINE:
            end = starts[token.end[0]]
            blank = program[end:]
            end += len(blank) - len(blank.lstrip()) if not blank.strip() else blank.rfind("\n", 0, _indent(blank)) + 1
            ends += [min(end, len(program))] if first != "@" else []
            first = ""
        elif not first and token.string.strip() and token.type != tokenize.COMMENT:
            first = token.string
    return [*(end for end in ends if end < len(program)), len(program)]


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip())


PROSE = [
    "# On 1. Things. Of old\n",
    "Dr. A. B. Smith (b. 1950) of St. Louis, U.S. Senator, paid $3.50 at 5 p.m. yesterday.",
    " See https://a.org/b.c?d=e!f for more, e.g. No. 5, vol. 2 etc. there.",
    ' "Really?" she asked.',
    " He said no.",
    " Then I.",
    " Wait... what?!",
    " 🎉 (Yes.) 🎉 ...\n",
    "It is 3.",
    " A line that is\nwrapped goes on.\n\n",
    "- one. Two\n  and more. Still.\n",
    "  * inner\n",
    "1. First. Of all.\n",
    "**IV.** Fourth.\n",
    "V. Fifth\n",
    "2) Second\n\n",
    "| a. B | c |\n|---|---|\n| d. E | f |\n\n",
    "```text\nOne. Two.\n\nThree\n```\n",
    "So $$ x. Y \n\n Z $$ holds. ",
    "你好。",
    "世界！\n",
    "Roses are red,\n",
    "Violets are blue",
]


def test_instructions_are_cut_into_sentences_headings_and_items() -> None:
    expected = PROSE.copy()
    expected[18:20] = ["So $$ x. Y \n\n Z $$ holds.", " 你好。"]
    assert steps_of("".join(PROSE), "sentence") == expected


@pytest.mark.parametrize("unit", ["statement", "sentence"])
def test_a_proposal_within_a_block_is_cut_as_what_it_continues(unit: Unit) -> None:
    tokenizer = bpe_tokenizer(SAMPLES * 20, 320)
    before, text = "```\nx = 1\n", "y = 2\n```\nZ = x\n"
    found = first_step(tokenizer.encode(text), decoder(tokenizer), ended=True, unit=unit, before=before)
    assert found
    assert found[1] == "y = 2\n```\n"


@pytest.mark.parametrize("text", SAMPLES)
@pytest.mark.parametrize("ended", [True, False])
def test_token_ends_cover_the_ids_and_agree_with_the_text(tokenizer, text: str, ended: bool) -> None:
    ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
    decode = decoder(tokenizer)
    steps = cut_steps(ids, decode, ended=ended)
    assert len(steps.token_ends) == len(segment(text)) - (not ended)
    if ended:
        assert steps.token_ends[-1] == len(ids)
        assert steps.char_ends[-1] == len(text)
    for token_end, char_end in zip(steps.token_ends, steps.char_ends, strict=True):
        assert len(decode(ids[:token_end])) >= char_end


@given(st.lists(st.integers(2, 319), max_size=40))
def test_any_ids_are_cut_without_losing_one(ids: list[int]) -> None:
    decode = decoder(_TOKENIZER)
    assert token_char_ends(ids, decode)[-1:] == ([len(decode(ids))] if ids else [])
    steps = cut_steps(ids, decode, ended=True)
    assert steps.token_ends == sorted(set(steps.token_ends))
    assert steps.token_ends[-1:] == ([len(ids)] if decode(ids) else [])


_TOKENIZER = bpe_tokenizer(SAMPLES * 20, 320)


def test_a_proposal_is_trimmed_to_its_first_step_on_ids() -> None:
    tokenizer = DOMAIN.build_tokenizer()
    ids = tokenizer.encode("a 1+2=3 3+0=3\nb 1+1=2 2+3=5\n")
    found = first_step(ids, decoder(tokenizer), ended=True, unit="line")
    assert found == (ids[:14], "a 1+2=3 3+0=3\n")
    assert first_step(ids[:9], decoder(tokenizer), ended=False, unit="line") is None
    assert first_step(tokenizer.encode("\n"), decoder(tokenizer), ended=True, unit="line") is None
