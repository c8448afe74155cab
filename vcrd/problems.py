"""From rows of any shape to problems: columns mapped, ids from content, splits by hash."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge

from vcrd.io.rejects import Reject, reject
from vcrd.io.sources import SourceRow
from vcrd.records import Problem

UNASSIGNED = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnParams:
    r"""Which column of the source holds what; null: none does.

    Prompt and reference may combine columns: `"{text}\n{test_list[0]}"` is a text with values in it, where a list is
    its items line by line.
    """

    prompt: str
    """The problem's text."""
    reference: str | dict[str, str] | None
    """The answer, or a solution that ends with it; what is structured may be given key by key."""
    split: str | None
    """train, prm, fit, judge or test."""
    responses: str | None
    """Finished rollouts: a list of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitParams:
    """Shares of the problems without a split of their own."""

    train: Annotated[int, Ge(0)]
    """What the student learns from."""
    prm: Annotated[int, Ge(0)]
    """Labels that train the process reward model."""
    fit: Annotated[int, Ge(0)]
    """Labels that reliability is fitted on."""
    judge: Annotated[int, Ge(0)]
    """Labels that reliability is reported on."""
    test: Annotated[int, Ge(0)]
    """Held out for evaluate_student."""


REFERENCES = {
    "math": "the gold answer as text or a number, or null",
    "code": '{"tests": Python source with its calls, "entry_point": a name or null}, or null',
    "instructions": '{"instruction_id_list": [...], "kwargs": [...]}, or null',
}
"""What a problem's reference is, by domain."""
_KEYS: dict[str, dict[str, type]] = {
    "code": {"tests": str},
    "instructions": {"instruction_id_list": list, "kwargs": list},
}
_PLACE = re.compile(r"\{(\w+)(?:\[(\d+)\])?\}")
_SHOWN = 60
_MAX_CHARACTERS = 4_000_000  # no model reads more, and a tokenizer takes minutes over it
SPLITS = ("train", "prm", "fit", "judge", "test")
LABEL_SPLITS = ("prm", "fit", "judge")
ROLLOUT_SPLITS = ("train", *LABEL_SPLITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemParams:
    """Where the problems come from."""

    path: str
    """A .jsonl[.gz] file, a Parquet file or folder, or a .yaml source card (a Hub data set, a generator)."""
    domain: Literal["math", "code", "instructions"]
    """Decides how answers and steps are verified."""
    licence: str
    """Of the problems, carried along."""
    columns: ColumnParams
    """Names in the source."""
    limit: Annotated[int, Ge(1)] | None
    """Only the first rows of the source."""
    splits: SplitParams
    """Proportions, not counts."""


def make_problems(
    rows: Iterable[SourceRow], params: ProblemParams, source: str, seed: int
) -> tuple[list[Problem], list[Reject]]:
    """Turn rows into problems, sorted by id; every row becomes one or a reject."""
    problems: dict[str, Problem] = {}
    rejects: list[Reject] = []
    for row in rows:
        made = _make_problem(row, params, source)
        if isinstance(made, Problem) and made.problem_id in problems:
            made = reject(row.place, "duplicate", f"same prompt and reference as {made.problem_id}", row=row.values)
        if isinstance(made, Reject):
            rejects.append(made)
        else:
            problems[made.problem_id] = made
    ordered = [problems[key] for key in sorted(problems)]
    return _assign_splits(ordered, params.splits, seed), rejects


def reference_text(value: Any, domain: str) -> str | None:
    """Return a reference as text: an answer as it is, what is structured as JSON.

    Raises:
        ValueError: It is not what the domain's problems refer to; says what was expected.

    >>> reference_text(18, "math"), reference_text({"tests": "assert f() == 1"}, "code")
    ('18', '{"tests": "assert f() == 1"}')
    """
    if value is None:
        return None
    if domain == "math":
        endless = isinstance(value, float) and not math.isfinite(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float) or endless:
            raise ValueError(_unexpected(value, domain))
        return str(value)
    try:
        given = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        given = None
    if not isinstance(given, dict) or not all(isinstance(given.get(key), kind) for key, kind in _KEYS[domain].items()):
        raise ValueError(_unexpected(value, domain))
    return json.dumps({key: item for key, item in given.items() if item is not None}, ensure_ascii=False)


def _unexpected(value: Any, domain: str) -> str:
    got = repr(value)
    return f"expected {REFERENCES[domain]}, got {got if len(got) <= _SHOWN else got[:_SHOWN] + '...'}"


def _make_problem(row: SourceRow, params: ProblemParams, source: str) -> Problem | Reject:
    if row.values is None:
        return reject(row.place, "broken_json", row.error)
    columns = params.columns
    prompt = _from_columns(row.values, columns.prompt)
    if not isinstance(prompt, str) or not prompt.strip():
        return reject(row.place, "no_prompt", f"column {columns.prompt!r} holds no text", row=row.values)
    try:
        text = reference_text(_from_columns(row.values, columns.reference), params.domain)
    except ValueError as error:
        return reject(row.place, "bad_reference", str(error), row=row.values)
    responses: Any = (row.values.get(columns.responses) if columns.responses else None) or []
    if not isinstance(responses, list) or not all(isinstance(item, str) for item in responses):
        return reject(row.place, "bad_responses", f"column {columns.responses!r} is no list of texts", row=row.values)
    split = row.values.get(columns.split, UNASSIGNED) if columns.split else UNASSIGNED
    if split not in (*SPLITS, UNASSIGNED):
        return reject(row.place, "bad_split", f"expected one of {SPLITS}, got {split!r}", row=row.values)
    longest = max(map(len, (prompt, text or "", *responses)))
    if longest > _MAX_CHARACTERS:
        return reject(row.place, "too_long", f"{longest} characters, the limit is {_MAX_CHARACTERS}")
    try:
        digest = hashlib.sha256("\x00".join((params.domain, prompt, text or "")).encode())
        "".join(responses).encode()  # they are no part of the id, but have to be written as well
    except UnicodeEncodeError as error:
        return reject(row.place, "bad_text", str(error), row=row.values)
    return Problem(
        problem_id=digest.hexdigest()[:16],
        domain=params.domain,
        prompt=prompt,
        reference=text,
        split=split,
        source=source,
        licence=params.licence,
        responses=responses,
    )


def _from_columns(values: Mapping[str, Any], wanted: str | Mapping[str, str] | None) -> Any:
    r"""Return a column, a text with columns in it, or either of them by key; None where a column is missing.

    >>> _from_columns({"setup": None, "tests": ["assert f(1)", "assert f(2)"]}, {"tests": "{setup}{tests}"})
    {'tests': 'assert f(1)\nassert f(2)'}
    """
    if wanted is None:
        return None
    if not isinstance(wanted, str):
        return {key: _from_columns(values, one) for key, one in wanted.items()}
    if "{" not in wanted:
        return values.get(wanted)

    def text(place: re.Match[str]) -> str:
        value = values[place[1]]
        if place[2]:
            value = value[int(place[2])]
        return "" if value is None else "\n".join(map(str, value)) if isinstance(value, list) else str(value)

    try:
        return _PLACE.sub(text, wanted)
    except (KeyError, IndexError, TypeError):
        return None


def _assign_splits(problems: Sequence[Problem], shares: SplitParams, seed: int) -> list[Problem]:
    """Deal the open ones out in the order of a hash, each split getting its share."""
    open_ones = [problem for problem in problems if problem.split == UNASSIGNED]
    open_ones.sort(key=lambda item: hashlib.sha256(f"{seed}:split:{item.problem_id}".encode()).digest())
    assigned = dict(zip((item.problem_id for item in open_ones), _deal(len(open_ones), shares), strict=True))
    return [replace(item, split=assigned.get(item.problem_id, item.split)) for item in problems]


def _deal(count: int, shares: SplitParams) -> list[str]:
    sizes: Mapping[str, int] = {name: getattr(shares, name) for name in SPLITS}
    total = sum(sizes.values()) or 1
    dealt: list[str] = []
    cumulative = 0
    for name, size in sizes.items():
        cumulative += size
        dealt += [name] * (round(count * cumulative / total) - len(dealt))
    return dealt + ["train"] * (count - len(dealt))
