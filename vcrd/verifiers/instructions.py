"""Instruction following: does a response do what can be checked of what was asked? (IFEval; Zhou et al., 2023)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcrd.errors import SchemaError, did_you_mean
from vcrd.records import Problem
from vcrd.verifiers.base import ABSTAIN, INVALID, VALID, Verdict, Verifier
from vcrd.verifiers.instruction_additions import ADDED_BROKEN, ADDED_RULES
from vcrd.verifiers.instruction_options import read_options
from vcrd.verifiers.instruction_prefixes import BROKEN
from vcrd.verifiers.instruction_rules import RULES, Finding

KINDS = RULES | ADDED_RULES
"""Every kind of instruction by its id: those of IFEval and the project's own."""
_BROKEN = BROKEN | ADDED_BROKEN
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class InstructionResult:
    """Whether one instruction is followed: as the response stands, or as one of its lenient readings."""

    id: str
    strict: bool
    loose: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Instruction:
    """One instruction with its options read."""

    id: str
    options: Mapping[str, Any]

    def judge(self, text: str) -> Finding:
        if not text.strip():
            return False, "empty response"
        return KINDS[self.id].judge(text, **self.options)

    def broken(self, prefix: str) -> str | None:
        find = _BROKEN.get(self.id)
        return find(prefix, **self.options) if find else None


def check_instructions(
    instruction_ids: Sequence[str], kwargs: Sequence[Mapping[str, Any]], response: str, prompt: str = ""
) -> list[InstructionResult]:
    r"""Judge a response by each of its instructions, as the published evaluation of IFEval does.

    Args:
        instruction_ids: What is asked, such as `"punctuation:no_comma"`.
        kwargs: The options of each instruction; those that are None count as not given.
        response: The whole response.
        prompt: What was asked in words; named where the instructions cannot be read.

    Returns:
        A result per instruction, in their order; `reason` tells what was found in the response as it stands.

    Raises:
        SchemaError: An instruction is unknown, or its options are missing, unknown or of the wrong kind.

    >>> [result] = check_instructions(["punctuation:no_comma"], [{}], "Sure, here it is:\nA haiku.")
    >>> result.strict, result.loose, result.reason
    (False, True, '1 commas')
    """
    results = []
    for instruction in _read(instruction_ids, kwargs, prompt):
        strict, reason = instruction.judge(response)
        loose = strict or any(instruction.judge(reading)[0] for reading in _lenient_readings(response))
        results.append(InstructionResult(instruction.id, strict, loose, reason))
    return results


def check_prefix(
    instruction_ids: Sequence[str], kwargs: Sequence[Mapping[str, Any]], prefix: str, prompt: str = ""
) -> Verdict:
    """Look for an instruction that no continuation of `prefix` can follow any more.

    Returns:
        INVALID with the instructions that are broken for good; else ABSTAIN, for much shows only at the end.

    >>> check_prefix(["punctuation:no_comma"], [{}], "Well, ")
    Verdict(rule=-1, reason='punctuation:no_comma: 1 commas')
    """
    found = [(instruction.id, instruction.broken(prefix)) for instruction in _read(instruction_ids, kwargs, prompt)]
    broken = [f"{name}: {reason}" for name, reason in found if reason]
    return Verdict(INVALID, "; ".join(broken)) if broken else Verdict(ABSTAIN, "no instruction is broken for good")


class InstructionsVerifier(Verifier):
    """Judges by the instructions in a problem's reference: `{"instruction_id_list": [...], "kwargs": [...]}`."""

    def verify_answer(self, problem: Problem, text: str) -> Verdict:
        """Judge a whole response: valid where every instruction is followed as it stands."""
        if problem.reference is None:
            return Verdict(ABSTAIN, "no reference")
        instructions = list(_read(*_parse(problem.reference), problem.prompt))
        if not instructions:
            return Verdict(ABSTAIN, "no instructions")
        findings = [(instruction.id, *instruction.judge(text)) for instruction in instructions]
        failed = [f"{name}: {reason}" for name, follows, reason in findings if not follows]
        return Verdict(INVALID, "; ".join(failed)) if failed else Verdict(VALID, f"all of {len(findings)} followed")

    def verify_step(self, problem: Problem, prefix: str, step: str) -> Verdict:
        """Veto the step that breaks an instruction for good; after a broken prefix no step is to blame."""
        if problem.reference is None:
            return Verdict(ABSTAIN, "no reference")
        ids, kwargs = _parse(problem.reference)
        before = check_prefix(ids, kwargs, prefix, problem.prompt)
        if before.rule == INVALID:
            return Verdict(ABSTAIN, f"broken before this step: {before.reason}")
        return check_prefix(ids, kwargs, prefix + step, problem.prompt)


def _parse(reference: str) -> tuple[Sequence[str], Sequence[Mapping[str, Any]]]:
    try:
        given = json.loads(reference)
        ids, kwargs = given["instruction_id_list"], given["kwargs"]
        if not isinstance(ids, list) or not isinstance(kwargs, list):
            raise TypeError("no lists")
    except (ValueError, KeyError, TypeError) as error:
        expected = '{"instruction_id_list": [...], "kwargs": [...]}'
        got = reference if len(reference) <= _SHOWN else f"{reference[:_SHOWN]}..."
        raise SchemaError(f"expected the JSON object {expected}, got {got}", column="reference") from error
    return ids, kwargs


def _read(instruction_ids: Sequence[str], kwargs: Sequence[Mapping[str, Any]], prompt: str) -> Iterator[_Instruction]:
    place = f" (prompt {prompt[:_SHOWN]!r}...)" if prompt else ""
    if len(instruction_ids) != len(kwargs):
        raise SchemaError(f"{len(instruction_ids)} instructions, but options for {len(kwargs)}{place}")
    for name, given in zip(instruction_ids, kwargs, strict=True):
        if not isinstance(name, str) or name not in KINDS:
            raise SchemaError(f"unknown instruction {name!r}{did_you_mean(str(name), KINDS)}{place}")
        try:
            yield _Instruction(name, read_options(KINDS[name].options, given))
        except ValueError as error:
            raise SchemaError(f"instruction {name!r}: {error}{place}") from None


def _lenient_readings(response: str) -> Iterator[str]:
    """Yield the response without its first line, its last one or both, each also without asterisks."""
    lines = response.split("\n")
    for reading in (response, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))):
        yield reading.replace("*", "")
        if reading != response:
            yield reading
