"""Evaluation: greedy answers to held-out problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from vcrd.io.rejects import Reject, reject
from vcrd.metrics import wilson_interval
from vcrd.prompts import PromptParams, prompt_ids
from vcrd.records import EvaluatedProblem, Problem
from vcrd.requests import Failure, GenerateRequest, Generation, Sampling
from vcrd.steps import cut_steps, unit_for
from vcrd.tokenization import Decode
from vcrd.verifiers.base import VALID, Verifier

Oracle = Callable[[str, Sequence[str], str], bool]

MODELS = ("before", "after", "teacher")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationParams:
    """How the models are tested."""

    max_tokens: Annotated[int, Ge(1)]
    """Per answer."""


def evaluation_requests(
    problems: Sequence[Problem], model: str, tokenizer: Any, prompts: PromptParams, params: EvaluationParams
) -> list[GenerateRequest]:
    """Ask one model for a greedy answer to every problem."""
    sampling = Sampling(max_tokens=params.max_tokens, temperature=0.0)
    return [
        GenerateRequest(
            id=f"{problem.problem_id}/{model}",
            prompt_ids=prompt_ids(problem, tokenizer, prompts),
            seed=0,
            sampling=sampling,
        )
        for problem in problems
    ]


def read_evaluation(
    problems: Sequence[Problem],
    model: str,
    answers: Sequence[Generation | Failure],
    decode: Decode,
    verifier: Verifier,
    oracle: Oracle | None,
) -> tuple[list[EvaluatedProblem], list[Reject]]:
    """Judge the answers; an exact oracle, where the domain has one, judges their steps too."""
    rows: list[EvaluatedProblem] = []
    rejects: list[Reject] = []
    given: list[tuple[Problem, Generation, str]] = []
    for problem, answer in zip(problems, answers, strict=True):
        if isinstance(answer, Failure):
            rejects.append(reject(answer.id, answer.reason, answer.message))
        else:
            given.append((problem, answer, decode(answer.token_ids)))
    verdicts = verifier.verify_answers([problem for problem, _, _ in given], [text for _, _, text in given])
    for (problem, answer, text), verdict in zip(given, verdicts, strict=True):
        rows.append(
            EvaluatedProblem(
                evaluation_id=answer.id,
                problem_id=problem.problem_id,
                model=model,
                text=text,
                finish_reason=answer.finish_reason,
                outcome=verdict.rule,
                oracle_steps=_judge_steps(problem, answer, text, decode, oracle),
            )
        )
    return rows, rejects


def _judge_steps(problem: Problem, answer: Generation, text: str, decode: Decode, oracle: Oracle | None) -> list[bool]:
    if oracle is None:
        return []
    unit = unit_for(problem.domain, text)
    ends = cut_steps(answer.token_ids, decode, ended=answer.finish_reason == "eos", unit=unit).char_ends
    steps = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [oracle(problem.prompt, steps[:index], step) for index, step in enumerate(steps)]


def summarise(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return accuracy with its 95 % interval, and oracle step validity where there is one, by model.

    Args:
        rows: Of `EVALUATION`, gone through once.
    """
    answers, right, steps, sound = (Counter[str]() for _ in range(4))
    for row in rows:
        model = row["model"]
        answers[model] += 1
        right[model] += row["outcome"] == VALID
        steps[model] += len(row["oracle_steps"])
        sound[model] += sum(row["oracle_steps"])
    summary: dict[str, dict[str, Any]] = {}
    for model in MODELS:
        low, high = wilson_interval(right[model], answers[model])
        summary[model] = {
            "n": answers[model],
            "accuracy": round(right[model] / max(answers[model], 1), 6),
            "low": round(low, 6),
            "high": round(high, 6),
            "step_validity": round(sound[model] / steps[model], 6) if steps[model] else None,
        }
    return summary
