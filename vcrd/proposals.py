"""Step proposals: under each chosen prefix, the student's own next step and the teacher's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from vcrd.io.rejects import Reject, reject
from vcrd.prefixes import PrefixParams, choose_prefixes
from vcrd.records import Rollout, StepProposal
from vcrd.requests import (
    Failure,
    GenerateRequest,
    Generation,
    Sampling,
    ScoreRequest,
    Scores,
    TopLogprobs,
    derive_seed,
)
from vcrd.steps import first_step, unit_for
from vcrd.tokenization import Decode


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalParams:
    """How the teacher is asked for its next step."""

    max_tokens: Annotated[int, Ge(1)]
    """A step that is not finished by then is a reject."""
    temperature: Annotated[float, Ge(0)]
    """0 is greedy."""
    top_p: Annotated[float, Gt(0), Le(1)]
    """Nucleus mass."""
    stop: list[str]
    """What ends a step in the text; the token that completes it belongs to the step."""
    top_k_logprobs: Annotated[int, Ge(0), Le(256)]
    """Candidates per token kept as the teacher's signal; 0: none, and no KL."""
    score_own_steps: bool
    """Let the teacher score the student's own steps too, so that they carry its signal."""
    prefixes: PrefixParams
    """Which steps are compared."""


def chosen(rollouts: Sequence[Rollout], params: ProposalParams) -> Iterator[tuple[Rollout, int]]:
    """Go through the prefixes, a rollout's together, so that an engine's prefix cache is hit."""
    for rollout in rollouts:
        for step_index in choose_prefixes(rollout, params.prefixes):
            yield rollout, step_index


def prefix_name(rollout: Rollout, step_index: int) -> str:
    """Id of the prefix before a step."""
    return f"{rollout.rollout_id}/s{step_index}"


def teacher_requests(rollouts: Sequence[Rollout], params: ProposalParams, seed: int) -> list[GenerateRequest]:
    """Ask the teacher for a step under the identical id prefix."""
    sampling = Sampling(
        max_tokens=params.max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        stop=tuple(params.stop),
        top_k_logprobs=params.top_k_logprobs,
    )
    return [
        GenerateRequest(id=name, prompt_ids=rollout.prefix_ids(step), seed=derive_seed(seed, name), sampling=sampling)
        for rollout, step in chosen(rollouts, params)
        for name in [f"{prefix_name(rollout, step)}/teacher"]
    ]


def own_step_requests(rollouts: Sequence[Rollout], params: ProposalParams) -> list[ScoreRequest]:
    """Ask the teacher to score the student's steps, where that is wanted."""
    if not params.score_own_steps or not params.top_k_logprobs:
        return []
    return [
        ScoreRequest(
            id=f"{prefix_name(rollout, step)}/student",
            token_ids=[*prefix, *rollout.step_ids(step)],
            start=len(prefix),
            top_k_logprobs=params.top_k_logprobs,
        )
        for rollout, step in chosen(rollouts, params)
        for prefix in [rollout.prefix_ids(step)]
    ]


def read_proposals(
    rollouts: Sequence[Rollout],
    params: ProposalParams,
    answers: Sequence[Generation | Failure],
    scores: Sequence[Scores | Failure],
    decode: Decode,
) -> tuple[list[StepProposal], list[Reject]]:
    """Pair the student's step with the teacher's under every chosen prefix; each is a row or a reject."""
    proposals: list[StepProposal] = []
    rejects: list[Reject] = []
    tops = {score.id: score.top for score in scores if isinstance(score, Scores)}
    for (rollout, step), answer in zip(chosen(rollouts, params), answers, strict=True):
        proposals.append(_student_step(rollout, step, tops.get(f"{prefix_name(rollout, step)}/student")))
        made = _teacher_step(rollout, step, answer, decode)
        if isinstance(made, Reject):
            rejects.append(made)
        else:
            proposals.append(made)
    return proposals, rejects


def _student_step(rollout: Rollout, step: int, top: TopLogprobs | None) -> StepProposal:
    start = rollout.step_ends[step - 1] if step else 0
    token_ids = rollout.step_ids(step)
    last = step == len(rollout.step_ends) - 1 and rollout.finish_reason == "eos"
    return StepProposal(
        **_keys(rollout, step, "student"),
        token_ids=token_ids,
        text=rollout.step_texts[step],
        logprobs=rollout.logprobs[start : start + len(token_ids)],
        finish_reason="eos" if last else "step",
        **_signal(top, len(token_ids)),
    )


def _teacher_step(rollout: Rollout, step: int, answer: Generation | Failure, decode: Decode) -> StepProposal | Reject:
    if isinstance(answer, Failure):
        return reject(answer.id, answer.reason, answer.message)
    ended = answer.finish_reason in ("eos", "stop")
    unit = unit_for(rollout.domain, rollout.text)
    before = rollout.text[: rollout.step_char_ends[step - 1]] if step else ""
    found = first_step(answer.token_ids, decode, ended=ended, unit=unit, before=before)
    if found is None:
        reason = "empty_step" if ended else "unfinished_step"
        return reject(answer.id, reason, f"{len(answer.token_ids)} tokens", text=decode(answer.token_ids))
    token_ids, text = found
    last = answer.finish_reason == "eos" and len(token_ids) == len(answer.token_ids)
    return StepProposal(
        **_keys(rollout, step, "teacher"),
        token_ids=token_ids,
        text=text,
        logprobs=answer.logprobs[: len(token_ids)],
        finish_reason="eos" if last else "step",
        **_signal(answer.top, len(token_ids)),
    )


def _keys(rollout: Rollout, step: int, proposer: str) -> dict[str, Any]:
    name = prefix_name(rollout, step)
    return {
        "proposal_id": f"{name}/{proposer}",
        "prefix_id": name,
        "rollout_id": rollout.rollout_id,
        "problem_id": rollout.problem_id,
        "split": rollout.split,
        "domain": rollout.domain,
        "step_index": step,
        "proposer": proposer,
    }


def _signal(top: TopLogprobs | None, length: int) -> dict[str, Any]:
    if top is None:
        return {"topk_ids": [[]] * length, "topk_logprobs": [[]] * length, "tail_logprob": [0.0] * length}
    return {
        "topk_ids": list(top.ids[:length]),
        "topk_logprobs": list(top.logprobs[:length]),
        "tail_logprob": top.tail[:length],
    }
