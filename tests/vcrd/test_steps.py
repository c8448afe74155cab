"""Segmentation loses nothing, never cuts inside a block, and maps to tokens whatever the tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcrd.domains.demo_math import build_tokenizer
from vcrd.steps import cut_steps, detect_unit, first_step, segment
from vcrd.tokenization import decoder, token_char_ends
from vcrd.training.pretrain import bpe_tokenizer

TEXT = st.text(alphabet=st.sampled_from("ab1 =.\n$|`\\[]é漢"), max_size=80)
SAMPLES = ["First, 3+4=7.\n\nThen 7*2=14.\n\nSo the answer is 14.\n", "a\nb\n\n\nc", "x = é\n漢字 = 1\n"]


@pytest.fixture(scope="module")
def tokenizer():
    return bpe_tokenizer(SAMPLES * 20, 320)


@given(TEXT)
def test_the_steps_tile_the_text(text: str) -> None:
    ends = segment(text)
    assert ends == sorted(set(ends))
    assert (ends[-1] if ends else 0) == len(text)
    assert all(text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)) or not text.strip()


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
    tokenizer = build_tokenizer()
    ids = tokenizer.encode("a 1+2=3 3+0=3\nb 1+1=2 2+3=5\n")
    found = first_step(ids, decoder(tokenizer), ended=True, unit="line")
    assert found == (ids[:14], "a 1+2=3 3+0=3\n")
    assert first_step(ids[:9], decoder(tokenizer), ended=False, unit="line") is None
    assert first_step(tokenizer.encode("\n"), decoder(tokenizer), ended=True, unit="line") is None
