"""Rollouts: the student's own solutions, cut into steps and checked by rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le

from vcrd.io.rejects import Reject, reject
from vcrd.prompts import PromptParams, prompt_ids
from vcrd.records import Problem, Rollout
from vcrd.requests import Failure, GenerateRequest, Generation, Sampling, derive_seed
from vcrd.steps import cut_steps, unit_for
from vcrd.tokenization import Decode
from vcrd.verifiers.base import ABSTAIN, Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutParams:
    """How the student is sampled."""

    per_problem: Annotated[int, Ge(1)]
    """Rollouts of each problem (brought ones are used as they are)."""
    max_tokens: Annotated[int, Ge(1)]
    """Longer ones are cut; the step that was cut is left out."""
    temperature: Annotated[float, Ge(0)]
    """0 is greedy."""
    top_p: Annotated[float, Gt(0), Le(1)]
    """Nucleus mass."""


def rollout_requests(
    problems: Sequence[Problem], tokenizer: Any, prompts: PromptParams, params: RolloutParams, seed: int
) -> list[GenerateRequest]:
    """Ask for every rollout that the user did not bring."""
    sampling = Sampling(max_tokens=params.max_tokens, temperature=params.temperature, top_p=params.top_p)
    return [
        GenerateRequest(id=name, prompt_ids=ids, seed=derive_seed(seed, name), sampling=sampling)
        for problem in problems
        if not problem.responses
        for ids in [prompt_ids(problem, tokenizer, prompts)]
        for index in range(params.per_problem)
        for name in [f"{problem.problem_id}/r{index}"]
    ]


def brought_rollouts(
    problems: Sequence[Problem], tokenizer: Any, prompts: PromptParams
) -> tuple[list[GenerateRequest], list[Generation]]:
    """Take finished rollouts as if an engine had answered with them: their text is tokenized here, once, for good."""
    requests, answers = [], []
    for problem in problems:
        ids = prompt_ids(problem, tokenizer, prompts) if problem.responses else []
        for index, response in enumerate(problem.responses):
            name = f"{problem.problem_id}/r{index}"
            token_ids = [*tokenizer.encode(response, add_special_tokens=False), tokenizer.eos_token_id]
            requests.append(
                GenerateRequest(id=name, prompt_ids=ids, seed=0, sampling=Sampling(max_tokens=len(token_ids)))
            )
            nothing = np.zeros(0, np.float32)
            answers.append(Generation(id=name, token_ids=token_ids, logprobs=nothing, finish_reason="eos"))
    return requests, answers


def read_rollouts(
    problems: Sequence[Problem],
    requests: Sequence[GenerateRequest],
    answers: Sequence[Generation | Failure],
    decode: Decode,
    verifier: Verifier,
) -> tuple[list[Rollout], list[Reject]]:
    """Cut answers into steps and check them; one without a finished step is a reject."""
    by_id = {problem.problem_id: problem for problem in problems}
    rollouts: list[Rollout] = []
    rejects: list[Reject] = []
    for request, answer in zip(requests, answers, strict=True):
        if isinstance(answer, Failure):
            rejects.append(reject(request.id, answer.reason, answer.message))
            continue
        rollout = _read_rollout(by_id[request.id.rpartition("/")[0]], request, answer, decode, verifier)
        if rollout.step_ends:
            rollouts.append(rollout)
        else:
            rejects.append(
                reject(request.id, "no_step", f"no finished step in {len(answer.token_ids)} tokens", text=rollout.text)
            )
    verdicts = verifier.verify_answers([by_id[item.problem_id] for item in rollouts], [item.text for item in rollouts])
    rollouts = [replace(item, outcome=verdict.rule) for item, verdict in zip(rollouts, verdicts, strict=True)]
    return sorted(rollouts, key=lambda item: item.rollout_id), rejects


def _read_rollout(
    problem: Problem, request: GenerateRequest, answer: Generation, decode: Decode, verifier: Verifier
) -> Rollout:
    """Cut an answer into steps; its outcome is still open."""
    text = decode(answer.token_ids)
    ended = answer.finish_reason == "eos"
    steps = cut_steps(answer.token_ids, decode, ended=ended, unit=unit_for(problem.domain, text))
    if not text.strip():
        steps.token_ends.clear()
        steps.char_ends.clear()
    starts = [0, *steps.char_ends]
    verdicts = [
        verifier.verify_step(problem, text[:start], text[start:end]).rule
        for start, end in zip(starts, steps.char_ends, strict=False)
    ]
    return Rollout(
        rollout_id=request.id,
        problem_id=problem.problem_id,
        split=problem.split,
        domain=problem.domain,
        prompt_ids=list(request.prompt_ids),
        token_ids=answer.token_ids,
        step_ends=steps.token_ends,
        step_char_ends=steps.char_ends,
        step_verdicts=verdicts,
        logprobs=answer.logprobs,
        text=text,
        finish_reason=answer.finish_reason,
        outcome=ABSTAIN,
    )
