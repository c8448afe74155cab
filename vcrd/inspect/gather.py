"""From rows to what the page shows: every prefix of every rollout in its place, and those without a place as such."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vcrd.inspect.sources import Row, Sources, read_sources
from vcrd.inspect.tokens import TokenTexts, find_token_texts
from vcrd.inspect.view import Page, PrefixView, ProblemView, RolloutView, StepView
from vcrd.records import EVIDENCE, IGNORED, PROBLEMS, PROPOSALS, ROLLOUTS, VALIDITY

LIMIT = 2000
_PROPOSERS = ("student", "teacher")
_DIGITS = 6


def gather_page(source: Path, *, tokenizer: str | None = None, limit: int = LIMIT) -> Page:
    """Read a training data set, and what of its run lies beside it.

    Args:
        source: A run's folder, its `training` folder, or a training data set that lies alone.
        tokenizer: The student's folder or Hub name; None: the one that lies beside the data set, if any does.
        limit: Examples at most.

    Raises:
        ConfigError: There is no training data set, or the tokenizer is not its own.
        SchemaError: A shard is broken.
    """
    sources = read_sources(source, limit)
    texts, no_tokens = find_token_texts(sources, tokenizer)
    gathering = _Gathering(sources, texts)
    problems = gathering.problems()
    weights = (weight for row in sources.training for weight in row["token_weights"])
    return Page(
        title=_title(sources),
        notes=[*_notes(sources, no_tokens), *gathering.notes()],
        max_weight=max((weight for weight in weights if math.isfinite(weight)), default=0.0),
        problems=problems,
    )


def _title(sources: Sources) -> str:
    return (sources.run or sources.folder).resolve().name


def _notes(sources: Sources, no_tokens: str) -> list[str]:
    notes = []
    shown = len(sources.training)
    if shown < sources.examples:
        names = {row["problem_id"] for row in sources.training}
        notes.append(
            f"A part only: {shown} of {sources.examples} examples, {len(names)} of {sources.problems} problems, chosen "
            f"by a digest of their ids. To see all: --limit {sources.examples}."
        )
    if not sources.beside:
        notes.append(
            "Only the data set itself was at hand: problems, rollouts, verdicts, scores, completions and standard "
            "deviations lie in the run that made it."
        )
    if no_tokens:
        notes.append(
            f"Each target is shaded as a whole, by the mean weight of its tokens: {no_tokens}. To see single tokens: "
            "--tokenizer, the student's folder or Hub name."
        )
    return notes


class _Gathering:
    """Rows by their keys, and the views made from them."""

    def __init__(self, sources: Sources, texts: TokenTexts | None) -> None:
        """Index the rows."""
        self._texts = texts
        self._beside = sources.beside
        self._rejects = sources.rejects
        self._problems = _by(self._rows(PROBLEMS.name), "problem_id")
        self._rollouts = _by(self._rows(ROLLOUTS.name), "rollout_id")
        self._validity = _by(self._rows(VALIDITY.name), "proposal_id")
        self._evidence = _by(self._rows(EVIDENCE.name), "proposal_id")
        self._proposals = _by(self._rows(PROPOSALS.name), "proposal_id")
        self._examples: dict[str, dict[str, list[Row]]] = {}
        for row in sources.training:
            of_problem = self._examples.setdefault(row["problem_id"], {})
            of_problem.setdefault(row["rollout_id"], []).append(row)
        self._lost: dict[str, int] = defaultdict(int)

    def _rows(self, name: str) -> Sequence[Row]:
        return self._beside.get(name, ())

    def problems(self) -> list[ProblemView]:
        """Return all problems, in the order of the data set."""
        rollouts_of: dict[str, list[str]] = defaultdict(list)
        for row in self._rollouts.values():
            rollouts_of[row["problem_id"]].append(row["rollout_id"])
        return [self._problem(name, examples, rollouts_of.get(name, ())) for name, examples in self._examples.items()]

    def notes(self) -> list[str]:
        """Say how many rows nothing beside the data set matches."""
        return [f"{count} {what}" for what, count in sorted(self._lost.items())]

    def _problem(self, name: str, examples: Mapping[str, list[Row]], rollouts: Sequence[str]) -> ProblemView:
        found = self._problems.get(name)
        if found is None and PROBLEMS.name in self._beside:
            self._lost["problems are not in the run beside the data set"] += 1
        first = min((row for rows in examples.values() for row in rows), key=lambda row: row["step_index"])
        return ProblemView(
            id=name,
            domain=first["domain"],
            prompt=self._prefix(first) if found is None else found["prompt"],
            reference=None if found is None else found["reference"],
            source="" if found is None else found["source"],
            licence="" if found is None else found["licence"],
            rollouts=[
                self._rollout(rollout, examples.get(rollout, [])) for rollout in dict.fromkeys([*rollouts, *examples])
            ],
        )

    def _rollout(self, name: str, examples: Sequence[Row]) -> RolloutView:
        found = self._rollouts.get(name)
        if found is None:
            note = "no rollout of this id lies beside the data set" if ROLLOUTS.name in self._beside else ""
            if note:
                self._lost["examples have no rollout in the run beside the data set"] += len(examples)
            ordered = sorted(examples, key=lambda row: row["step_index"])
            prefixes = [self._example(row, note=note, prefix=self._prefix(row)) for row in ordered]
            return RolloutView(id=name, outcome=None, finish="", rest="", prefixes=prefixes)
        ends = found["step_char_ends"]
        steps = [found["text"][start:end] for start, end in zip([0, *ends], ends, strict=False)]
        return RolloutView(
            id=name,
            outcome=found["outcome"],
            finish=found["finish_reason"],
            rest=found["text"][ends[-1] if ends else 0 :],
            prefixes=self._prefixes(name, steps, examples),
        )

    def _prefixes(self, rollout: str, steps: Sequence[str], examples: Sequence[Row]) -> list[PrefixView]:
        at: dict[int, list[Row]] = defaultdict(list)
        for row in examples:
            at[row["step_index"]].append(row)
        views = []
        for index, text in enumerate(steps):
            views += [self._example(row) for row in at.pop(index, ())] or [self._untaught(rollout, index, text)]
        beyond = [row for index in sorted(at) for row in at[index]]
        if beyond:
            self._lost["examples are of a step that their rollout does not have"] += len(beyond)
        return [*views, *(self._example(row, note="the rollout has no such step") for row in beyond)]

    def _example(self, row: Row, note: str = "", prefix: str | None = None) -> PrefixView:
        name = row["example_id"]
        learned = [index for index, label in enumerate(row["labels"]) if label != IGNORED]
        student = self._step(f"{name}/student", row["student_step"], row["student_validity"])
        return PrefixView(
            id=name,
            index=row["step_index"],
            note=note,
            target=row["target"],
            tokens=None if self._texts is None else self._texts.pieces([row["input_ids"][index] for index in learned]),
            weights=[_number(row["token_weights"][index]) or 0.0 for index in learned],
            value=_number(row["target_value"]),
            strength=_number(row["step_strength"]),
            gap=_number(row["relative_validity"]),
            broken=self._broken(name),
            prefix=prefix,
            student=student,
            teacher=self._step(f"{name}/teacher", row["teacher_step"], row["teacher_validity"]),
        )

    def _untaught(self, rollout: str, index: int, text: str) -> PrefixView:
        name = f"{rollout}/s{index}"
        reason = self._rejects.get(name)
        found = [self._validity.get(f"{name}/{proposer}") for proposer in _PROPOSERS]
        own, teacher = (None if row is None else row["local_validity"] for row in found)
        proposal = self._proposals.get(f"{name}/teacher")
        return PrefixView(
            id=name,
            index=index,
            note=f"no example: {reason or 'this prefix was not chosen, or its row is missing'}",
            gap=None if own is None or teacher is None else _number(teacher - own),
            broken=self._broken(name),
            student=self._step(f"{name}/student", text, own),
            teacher=None if proposal is None else self._step(f"{name}/teacher", proposal["text"], teacher),
        )

    def _step(self, name: str, text: str, validity: float | None) -> StepView:
        found, missing = self._validity.get(name), self._evidence.get(name, {})
        if found is None:
            return StepView(text=text, validity=_number(validity))
        return StepView(
            text=text,
            validity=_number(validity),
            sd=_number(found["local_validity_sd"]),
            rule=found["rule"],
            rule_reason=found["rule_reason"],
            prm=_number(found["score_prm"]),
            prm_missing=missing.get("prm_missing", ""),
            peer=_number(found["score_peer"]),
            peer_missing=missing.get("peer_missing", ""),
            successes=found["successes"],
            trials=found["trials"],
        )

    def _broken(self, prefix: str) -> bool | None:
        found = self._validity.get(f"{prefix}/student")
        return None if found is None else bool(found["prefix_broken"])

    def _prefix(self, row: Row) -> str | None:
        """Text of the tokens before the target, where the tokenizer is at hand."""
        if self._texts is None:
            return None
        labels = row["labels"]
        return self._texts.text(
            [token for token, label in zip(row["input_ids"], labels, strict=True) if label == IGNORED]
        )


def _by(rows: Iterable[Row], key: str) -> dict[str, Row]:
    return {row[key]: row for row in rows}


def _number(value: Any) -> float | None:
    """Return a number that JSON can hold, with no more digits than a reader wants."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{_DIGITS}g}")
