"""Rule verdicts on model outputs that come as plain rows: the answer, every step, every instruction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcrd.errors import SchemaError
from vcrd.problems import reference_text
from vcrd.records import Problem
from vcrd.steps import segment, unit_for
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verdict, Verifier
from vcrd.verifiers.instructions import check_instructions

WORDS = {VALID: "valid", ABSTAIN: "abstain", INVALID: "invalid"}


@dataclass(frozen=True, slots=True)
class Output:
    """A model's response to a problem; `steps` as given, or cut by the domain's rules."""

    id: Any
    problem: Problem
    response: str
    steps: Sequence[str]


def read_output(row: Mapping[str, Any], domain: str, place: str) -> Output:
    """Read a row: `id`, `prompt`, `reference`, `response`, and `steps` where they are given.

    Raises:
        SchemaError: A value is missing or of another kind; says which, and what was expected.
    """

    def text(name: str, default: str | None = None) -> str:
        value = row.get(name, default)
        if not isinstance(value, str):
            raise SchemaError(f"expected a string, got {_shown(value)}", file=place, column=name)
        return value

    if row.get("id") is None:
        raise SchemaError("expected an id, got none", file=place, column="id")
    steps = row.get("steps")
    if steps is not None and not (isinstance(steps, list) and all(isinstance(step, str) for step in steps)):
        raise SchemaError(f"expected a list of strings, got {_shown(steps)}", file=place, column="steps")
    try:
        reference = reference_text(row.get("reference"), domain)
    except ValueError as error:
        raise SchemaError(str(error), file=place, column="reference") from error
    response = text("response", None if steps is None else _joined(steps))
    problem = Problem(
        problem_id=str(row["id"]),
        domain=domain,
        prompt=text("prompt", ""),
        reference=reference,
        split="",
        source="",
        licence="",
    )
    return Output(row["id"], problem, response, _cut(response, domain) if steps is None else steps)


def verify_output(output: Output, verifier: Verifier) -> dict[str, Any]:
    """Return `id`, `verdict`, `reason` and `steps`; for instructions also what became of each."""
    answer = verifier.verify_answer(output.problem, output.response)
    judged: dict[str, Any] = {"id": output.id, **_words(answer), "steps": []}
    prefix = ""
    for step in output.steps:
        whole = _joined([step])
        judged["steps"].append({"text": step, **_words(verifier.verify_step(output.problem, prefix, whole))})
        prefix += whole
    if output.problem.domain == "instructions":
        asked = json.loads(output.problem.reference or '{"instruction_id_list": [], "kwargs": []}')
        found = check_instructions(
            asked["instruction_id_list"], asked["kwargs"], output.response, output.problem.prompt
        )
        judged["instructions"] = [
            {"id": item.id, "strict": item.strict, "loose": item.loose, "reason": item.reason} for item in found
        ]
    return judged


def _words(verdict: Verdict) -> dict[str, str]:
    return {"verdict": WORDS[verdict.rule], "reason": verdict.reason}


def _cut(response: str, domain: str) -> list[str]:
    ends = segment(response, unit_for(domain, response))
    return [response[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _joined(steps: Sequence[str]) -> str:
    """Steps that come without their line ends get them back."""
    return "".join(step if step.endswith(("\n", " ")) else f"{step}\n" for step in steps)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
