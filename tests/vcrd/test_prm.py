"""Layouts against the published formats, text that only looks like a tag, scores counted and clipped, training rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken

from tests.vcrd.factories import RIGHT, TOKENIZER, problem, proposal, rollout
from vcrd.errors import ConfigError, SchemaError
from vcrd.io.sources import SourceRow, read_source
from vcrd.prm import (
    DEFAULT_MARKS,
    Marks,
    PrmParams,
    PrmSpec,
    PrmTrainParams,
    StepLayout,
    describe_labels,
    given_spec,
    read_scores,
    read_spec,
    score_requests,
    stepwise_rows,
    training_rows,
    write_spec,
)
from vcrd.prompts import PromptParams
from vcrd.requests import Classification, Failure, TokenHead
from vcrd.training.pretrain import bpe_tokenizer

SPECIAL = ["<s>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn.role }}\n{{ turn.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROBLEM = "Ann has 3 pens and buys 8. How many?"
STEPS = ["She has 3+8 pens.\n", "That is\n\n11."]
PLAIN = PromptParams(style="plain", template="{prompt}\n", system=None, think=False)


def make_tokenizer(chat: bool = True) -> Any:
    tokenizer = bpe_tokenizer([PROBLEM, *STEPS, "ки ки + - Yes No", "Yes\nNo\n"] * 20, 420)
    tokens = [AddedToken(mark, special=True) for mark in (*SPECIAL, "<extra_0>")]
    tokenizer.add_tokens(tokens, special_tokens=True)
    tokenizer.bos_token = "<s>"
    tokenizer.chat_template = TEMPLATE if chat else None
    return tokenizer


CHAT, TEXT = make_tokenizer(), make_tokenizer(chat=False)


def spec_of(family: Any, marks: Marks | None = None) -> PrmSpec:
    return PrmSpec(family=family, path=None, revision=None, reason="", marks=marks or DEFAULT_MARKS[family])


def laid_text(family: Any, tokenizer: Any = CHAT) -> tuple[str, list[str], StepLayout]:
    """The whole text, and what stands behind each read position."""
    layout = StepLayout(spec_of(family), tokenizer)
    laid = layout.lay_out(PROBLEM, STEPS)
    texts = [tokenizer.decode(laid.token_ids[: position + 1]) for position in laid.positions]
    return tokenizer.decode(laid.token_ids), texts, layout


def test_qwen_math_prm_is_a_chat_turn_of_tagged_steps() -> None:
    text, read, layout = laid_text("qwen_math_prm")
    assert text == (
        "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\nAnn has 3 pens and buys 8. How many?<|im_end|>\n"
        "<|im_start|>assistant\nShe has 3+8 pens.<extra_0>That is\n\n11.<extra_0><|im_end|>\n"
    )
    assert [part[-20:] for part in read] == ["as 3+8 pens.<extra_0>"[-20:], "That is\n\n11.<extra_0>"[-20:]]
    assert layout.head == TokenHead()


def test_math_shepherd_is_numbered_text_read_at_its_tag() -> None:
    text, read, layout = laid_text("math_shepherd", TEXT)
    assert text == ("Ann has 3 pens and buys 8. How many? Step 1: She has 3+8 pens. ки\nStep 2: That is\n\n11. ки")
    assert read == [text[: text.index("\nStep 2")], text]
    assert layout.head.kind == "tokens"
    assert TEXT.convert_ids_to_tokens(list(layout.head.label_ids)) == ["-", "+"]


def test_rlhflow_is_read_where_the_answer_to_a_step_is_predicted() -> None:
    text, read, layout = laid_text("rlhflow")
    first = (
        "<|im_start|>user\nAnn has 3 pens and buys 8. How many? She has 3+8 pens.<|im_end|>\n<|im_start|>assistant\n"
    )
    second = f"{first}+<|im_end|>\n<|im_start|>user\nThat is\n\n11.<|im_end|>\n<|im_start|>assistant\n"
    assert text == f"{second}+<|im_end|>\n"
    assert read == [first, second]
    assert CHAT.convert_ids_to_tokens(list(layout.head.label_ids)) == ["-", "+"]


def test_skywork_is_lines_read_at_the_newline_that_ends_a_step() -> None:
    text, read, layout = laid_text("skywork", TEXT)
    assert text == "<s>Ann has 3 pens and buys 8. How many?\nShe has 3+8 pens.\nThat is\n11.\n"
    assert read == [text[: text.index("That")], text]
    assert layout.head == TokenHead(kind="value")


def test_a_judge_is_asked_about_the_last_step_and_read_behind_the_question() -> None:
    text, read, layout = laid_text("generative")
    assert text == (
        "<|im_start|>user\nProblem:\nAnn has 3 pens and buys 8. How many?\n\nSolution so far:\n"
        "Step 1: She has 3+8 pens.\nStep 2: That is\n\n11.\n\n"
        "Is step 2, the last one above, correct? Judge this step alone, and answer with Yes or No.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert read == [text]
    assert layout.per_step
    assert CHAT.convert_ids_to_tokens(list(layout.head.label_ids)) == ["No", "Yes"]
    plain, _, layout = laid_text("generative", TEXT)
    assert plain.endswith("answer with Yes or No.\nAnswer:")
    assert TEXT.convert_ids_to_tokens(list(layout.head.label_ids)) == ["ĠNo", "ĠYes"]


LAID_OUT = ["qwen_math_prm", "math_shepherd", "rlhflow", "skywork"]
PIECES = [*"ки +-01<>\n", "ки", "<extra_0>", "<|im_end|>", "<s>", "Step 2:"]
NASTY = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(question=NASTY, steps=st.lists(NASTY, min_size=1, max_size=4))
@pytest.mark.parametrize("family", LAID_OUT)
def test_there_is_one_read_position_per_step_whatever_the_text(family: Any, question: str, steps: list[str]) -> None:
    laid = StepLayout(spec_of(family), CHAT).lay_out(question, steps)
    assert len(laid.positions) == len(steps)
    assert laid.positions == sorted(set(laid.positions))


@pytest.mark.parametrize("family", [*LAID_OUT, "generative"])
def test_a_problem_cannot_add_a_step_or_end_a_turn(family: Any) -> None:
    layout = StepLayout(spec_of(family), CHAT)
    clean, nasty = layout.lay_out("x", ["y"]), layout.lay_out("x<|im_end|> ки<extra_0>", ["y ки <s>"])
    special = set(CHAT.convert_tokens_to_ids([*SPECIAL, "<extra_0>"]))
    counts = [[token for token in laid.token_ids if token in special] for laid in (clean, nasty)]
    assert counts[0] == counts[1]
    assert len(nasty.positions) == 1


@pytest.mark.parametrize(
    ("family", "marks", "name"),
    [
        ("qwen_math_prm", Marks(tag="<extra 0>", positive="", negative=""), "tag"),
        ("math_shepherd", Marks(tag="ку", positive="+", negative="-"), "tag"),
        ("math_shepherd", Marks(tag="ки", positive="good", negative="-"), "positive"),
        ("rlhflow", Marks(tag="", positive="+", negative="bad"), "negative"),
        ("generative", Marks(tag="", positive="Surely", negative="No"), "positive"),
        ("skywork", Marks(tag="<new line>", positive="", negative=""), "tag"),
    ],
)
def test_a_string_that_is_not_one_token_is_refused(family: Any, marks: Marks, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"prm\.marks\.{name} is"):
        StepLayout(spec_of(family, marks), CHAT)


def test_labels_that_are_one_token_and_missing_templates_are_refused() -> None:
    with pytest.raises(ConfigError, match="are one token"):
        StepLayout(spec_of("rlhflow", Marks(tag="", positive="+", negative="+")), CHAT)
    for family in ("qwen_math_prm", "rlhflow"):
        with pytest.raises(ConfigError, match="no chat template"):
            StepLayout(spec_of(family), TEXT)


def test_a_template_that_rewrites_earlier_answers_is_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("turn.content | trim", "turn.content | replace('+', 'plus') | trim")
    with pytest.raises(ConfigError, match="not the one token behind the conversation"):
        StepLayout(spec_of("rlhflow"), tokenizer)


OWN = rollout()
PROPOSALS = [
    proposal(OWN, 0, "student", RIGHT[0]),
    proposal(OWN, 0, "teacher", "b 3*4=2 0+2=2\n"),
    proposal(OWN, 1, "student", RIGHT[1]),
]


def test_the_runs_own_ids_are_read_at_each_steps_last_token() -> None:
    trunk, other = score_requests(None, problem(), OWN, PROPOSALS)
    assert trunk.proposal_ids == ["p/r0/s0/student", "p/r0/s1/student"]
    whole = [*OWN.prompt_ids, *OWN.token_ids]
    assert trunk.request.token_ids == whole[: len(trunk.request.token_ids)]
    assert [TOKENIZER.decode(whole[: at + 1]) for at in trunk.request.read_positions] == [
        f"{problem().prompt}\n{RIGHT[0]}",
        f"{problem().prompt}\n{RIGHT[0]}{RIGHT[1]}",
    ]
    assert other.request.token_ids == [*OWN.prefix_ids(0), *PROPOSALS[1].token_ids]
    assert other.request.read_positions == [len(other.request.token_ids) - 1]


def test_one_pass_scores_the_students_steps_and_a_judge_is_asked_for_each() -> None:
    asked = score_requests(StepLayout(spec_of("qwen_math_prm"), CHAT), problem(), OWN, PROPOSALS)
    assert [len(item.request.read_positions) for item in asked] == [2, 1]
    asked = score_requests(StepLayout(spec_of("generative"), CHAT), problem(), OWN, PROPOSALS)
    assert [item.proposal_ids for item in asked] == [[item.proposal_id] for item in PROPOSALS]


class Miscounting(StepLayout):
    """A layout that loses a step."""

    def lay_out(self, problem: str, steps: Any) -> Any:
        laid = super().lay_out(problem, steps)
        return replace(laid, positions=laid.positions[1:])


def test_a_step_that_would_not_be_scored_is_an_error() -> None:
    with pytest.raises(SchemaError, match="p/r0: 2 steps are laid out, but 1 would be scored"):
        score_requests(Miscounting(spec_of("qwen_math_prm"), CHAT), problem(), OWN, PROPOSALS)


def test_scores_are_clipped_counted_and_missing_for_a_reason() -> None:
    asked = score_requests(None, problem(), OWN, PROPOSALS)
    answer = Classification(id="p/r0", probabilities=np.array([[1.0, 0.0], [0.3, 0.7]], np.float32))
    scores = read_scores(asked, [answer, Failure(id="x", reason="too_long")])
    assert scores["p/r0/s0/student"] == 1e-4
    assert scores["p/r0/s1/student"] == pytest.approx(0.7)
    assert scores["p/r0/s0/teacher"] == "too_long"
    value = Classification(id="p/r0", probabilities=np.array([[0.99999], [0.2]], np.float32))
    assert read_scores(asked[:1], [value])["p/r0/s0/student"] == pytest.approx(1 - 1e-4)
    with pytest.raises(SchemaError, match="2 steps, 1 scores"):
        read_scores(asked[:1], [replace(answer, probabilities=answer.probabilities[:1])])
    with pytest.raises(ConfigError, match="3 classes"):
        read_scores(asked[:1], [replace(answer, probabilities=np.full((2, 3), 1 / 3, np.float32))])


TRAIN = PrmTrainParams(
    base="teacher", stepwise=None, epochs=1, learning_rate=1e-3, batch_size=4, min_labels=2, threads=1
)
PARAMS = PrmParams(source="local", family="rlhflow", name="x", revision=None, marks=None, train=TRAIN)


def test_a_specification_is_read_back_with_its_strings(tmp_path: Path) -> None:
    spec = given_spec(PARAMS, "x", None, "given")
    assert spec.marks == DEFAULT_MARKS["rlhflow"]
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec
    (tmp_path / "prm.json").write_text('{"family": "rlhflow"}')
    with pytest.raises(SchemaError, match="specification"):
        read_spec(tmp_path)


def test_a_run_trains_token_classifiers_only() -> None:
    with pytest.raises(ConfigError, match=r"prm\.family is rlhflow, but a run trains token_classification models only"):
        given_spec(replace(PARAMS, source="train"), None, None, "")


def test_a_runs_labels_become_rows() -> None:
    labels = {"p/r0/s0/student": 1, "p/r0/s0/teacher": 0, "p/r0/s1/student": None}
    (own, marks), (other, of_teacher) = training_rows([OWN], PROPOSALS, labels)
    assert own == [*OWN.prompt_ids, *OWN.token_ids]
    assert [(TOKENIZER.decode(own[: at + 1]), label) for at, label in marks] == [(f"{problem().prompt}\n{RIGHT[0]}", 1)]
    assert of_teacher == [(len(other) - 1, 0)]


def row(**values: Any) -> SourceRow:
    return SourceRow("line 1", {"prompt": PROBLEM, "completions": STEPS, "labels": [True, False], **values})


def test_steps_that_people_labelled_are_tokenized_together_and_cut_by_offsets() -> None:
    ((ids, marks),), rejects = stepwise_rows([row()], TEXT, PLAIN, 512)
    assert rejects == []
    assert TEXT.decode(ids) == f"{PROBLEM}\nShe has 3+8 pens.\nThat is\n\n11.\n"
    whole = TEXT.encode(PROBLEM + "\n") + TEXT.encode("She has 3+8 pens.\nThat is\n\n11.\n")
    assert ids == whole
    ends = [TEXT.decode(ids[: position + 1]) for position, _ in marks]
    assert ends == [f"{PROBLEM}\nShe has 3+8 pens.\n", TEXT.decode(ids)]
    assert [label for _, label in marks] == [1, 0]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (SourceRow("line 2", None, "Expecting value"), "broken_json"),
        (row(prompt=" "), "no_prompt"),
        (row(completions="a step"), "bad_completions"),
        (row(completions=["a", ""]), "bad_completions"),
        (row(labels=[True]), "bad_labels"),
        (row(labels=[True, 2]), "bad_labels"),
        (row(labels=None), "bad_labels"),
        (row(prompt="3 " * 600), "too_long"),
    ],
)
def test_a_bad_stepwise_row_is_a_reject_with_its_place(bad: SourceRow, reason: str) -> None:
    rows, rejects = stepwise_rows([row(), bad], TEXT, PLAIN, 512)
    assert len(rows) == 1
    assert [(item.record_id, item.reason) for item in rejects] == [(bad.place, reason)]


def test_labels_of_both_kinds_and_enough_of_them_are_needed(tmp_path: Path) -> None:
    people = [([1, 2], [(0, 1), (1, 0)])]
    assert describe_labels([], people, 2)[1]
    assert not describe_labels([1, 1, None], [], 2)[1]
    assert describe_labels([1, None], people, 4) == (
        "not trained: 1 labels of 2 steps and 2 by people, 2 of them sound; prm.train.min_labels is 4 "
        "and both kinds are needed",
        False,
    )
    with pytest.raises(ConfigError, match="no such file"):
        read_source(tmp_path / "nowhere.jsonl")
