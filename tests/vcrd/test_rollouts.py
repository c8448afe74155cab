"""Rollouts and proposals: ids are the truth, and what cannot be compared is a reject with its reason."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.vcrd.factories import DECODE, PROMPT, RIGHT, TOKENIZER, VERIFIER, generation, problem, rollout
from vcrd.errors import ConfigError
from vcrd.prefixes import PrefixParams, choose_prefixes
from vcrd.prompts import PromptParams, prompt_ids
from vcrd.proposals import ProposalParams, own_step_requests, read_proposals, teacher_requests
from vcrd.requests import Failure, Scores, TopLogprobs
from vcrd.rollouts import RolloutParams, brought_rollouts, read_rollouts, rollout_requests

PROMPTS = PromptParams(style="plain", template="{prompt}\n", system=None, think=False)
PARAMS = RolloutParams(per_problem=3, max_tokens=50, temperature=1.0, top_p=1.0)
PROPOSALS = ProposalParams(
    max_tokens=20,
    temperature=1.0,
    top_p=1.0,
    stop=["\n"],
    top_k_logprobs=2,
    score_own_steps=True,
    prefixes=PrefixParams(max_per_rollout=None),
)


def test_a_rollouts_steps_tile_its_ids_and_its_text() -> None:
    made = rollout()
    assert made.step_texts == list(RIGHT)
    assert made.prefix_ids(0) == made.prompt_ids
    assert made.prefix_ids(2) + made.step_ids(2) == [*made.prompt_ids, *made.token_ids]
    assert made.token_ids[-1] == TOKENIZER.eos_token_id
    assert made.outcome == 1


def test_an_unfinished_step_is_left_out_and_a_rollout_without_one_is_a_reject() -> None:
    cut = rollout(("a 1+2=3 3+0=3\n", "b 3*4"), finish="length")
    assert cut.step_texts == ["a 1+2=3 3+0=3\n"]
    mine = problem()
    wanted = rollout_requests([mine], TOKENIZER, PROMPTS, PARAMS, seed=1)
    answers = [
        generation(wanted[0].id, "a 1+2", "length"),
        generation(wanted[1].id, ""),
        Failure(id=wanted[2].id, reason="too_long"),
    ]
    rollouts, rejects = read_rollouts([mine], wanted, answers, DECODE, VERIFIER)
    assert not rollouts
    assert [item.reason for item in rejects] == ["no_step", "no_step", "too_long"]


def test_requests_have_seeds_of_their_own_and_none_for_what_is_brought() -> None:
    wanted = rollout_requests([problem(), problem(problem_id="q")], TOKENIZER, PROMPTS, PARAMS, seed=1)
    assert len({item.seed for item in wanted}) == 6
    assert wanted[0].id == "p/r0"
    mine = problem(responses=["".join(RIGHT)])
    assert not rollout_requests([mine], TOKENIZER, PROMPTS, PARAMS, seed=1)
    requests, answers = brought_rollouts([mine], TOKENIZER, PROMPTS)
    rollouts, _ = read_rollouts([mine], requests, answers, DECODE, VERIFIER)
    assert rollouts[0].step_texts == list(RIGHT)


def test_the_teacher_gets_the_students_ids_and_keeps_its_first_step() -> None:
    mine = rollout()
    wanted = teacher_requests([mine], PROPOSALS, seed=1)
    assert [list(item.prompt_ids) for item in wanted] == [mine.prefix_ids(index) for index in range(3)]
    assert [len(item.token_ids) for item in own_step_requests([mine], PROPOSALS)] == [
        len(mine.prefix_ids(index)) + len(mine.step_ids(index)) for index in range(3)
    ]
    answers = [
        generation(wanted[0].id, "b 3*4=2 2+0=2\n", "stop"),
        generation(wanted[1].id, "b 3*4", "length"),
        generation(wanted[2].id, "\n", "stop"),
    ]
    top = TopLogprobs(np.ones((14, 2), np.int32), np.ones((14, 2), np.float32), np.ones(14, np.float32))
    answers[0] = replace(answers[0], top=top)
    scored = Scores(id="p/r0/s0/student", logprobs=np.zeros(14, np.float32), top=top)
    proposals, rejects = read_proposals([mine], PROPOSALS, answers, [scored], DECODE)
    assert [item.reason for item in rejects] == ["unfinished_step", "empty_step"]
    teacher = next(item for item in proposals if item.proposer == "teacher")
    assert teacher.text == "b 3*4=2 2+0=2\n"
    students = [item for item in proposals if item.proposer == "student"]
    assert [item.text for item in students] == list(RIGHT)
    assert [len(item.topk_ids[0]) for item in students] == [2, 0, 0]
    assert [item.finish_reason for item in students] == ["step", "step", "eos"]


def test_the_prefixes_of_a_rollout_are_asked_together_the_shorter_first() -> None:
    problems = [problem(problem_id="p"), problem(problem_id="q")]
    wanted = teacher_requests([rollout(of=item) for item in problems], PROPOSALS, seed=1)
    assert [item.id for item in wanted] == [f"{name}/r0/s{step}/teacher" for name in "pq" for step in range(3)]
    for one, following in pairwise(wanted[:3]):
        assert following.prompt_ids[: len(one.prompt_ids)] == one.prompt_ids


def test_prefixes_stand_around_the_first_wrong_step_and_spread() -> None:
    steps = (RIGHT[0], RIGHT[1], "a 1+2=9 9+0=9\n", *RIGHT[:2], *RIGHT[:2], RIGHT[2])
    mine = rollout(steps)
    assert choose_prefixes(mine, PrefixParams(max_per_rollout=None)) == list(range(8))
    chosen = choose_prefixes(mine, PrefixParams(max_per_rollout=4))
    assert len(chosen) == 4
    assert {1, 2, 3} <= set(chosen)
    assert choose_prefixes(rollout(), PrefixParams(max_per_rollout=2)) == [0, 2]


def test_prompts_are_the_template_and_only_that() -> None:
    assert DECODE(prompt_ids(problem(), TOKENIZER, PROMPTS)) == PROMPT + "\n"
    with pytest.raises(ConfigError, match=r"must contain \{prompt\}"):
        prompt_ids(problem(), TOKENIZER, replace(PROMPTS, template="x"))
    with pytest.raises(ConfigError, match="no chat template"):
        prompt_ids(problem(), TOKENIZER, replace(PROMPTS, style="chat"))


def test_a_short_thinking_prompt_opens_the_thought_after_the_chat_template() -> None:
    from vcrd.training.pretrain import bpe_tokenizer

    tokenizer = bpe_tokenizer(["what is it? think about it"] * 5, 300)
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
    chat = PromptParams(style="chat", template="{prompt}", system="Be brief.", think=True)
    text = tokenizer.decode(prompt_ids(problem(), tokenizer, chat))
    assert text == f"[system]Be brief.[user]{PROMPT}[assistant]<think>\n"
