"""Evidence of many steps as columns. What is missing is nan (0 trials; an abstaining rule), never a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcrd.errors import SchemaError

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

POSITION, COMPLETIONS = "position", "completions"
SCORE_PREFIX = "score_"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceTable:
    """Evidence of N steps.

    Attributes:
        scores: By name, [N] in (0, 1).
        rule: [N], 1 valid, 0 abstain, -1 invalid.
        position: [N] in [0, 1], where in the solution the step is.
        successes: [N], completions that ended right.
        trials: [N], completions.
        domain: [N], "" where unknown.
        policy: [N], who wrote the step; "" where unknown.
    """

    scores: Mapping[str, Floats]
    rule: NDArray[np.int64]
    position: Floats
    successes: NDArray[np.int64]
    trials: NDArray[np.int64]
    domain: NDArray[np.str_]
    policy: NDArray[np.str_]

    def __len__(self) -> int:
        """Return N."""
        return len(self.rule)

    @property
    def sources(self) -> tuple[str, ...]:
        """What may be known of a step beside the rule's verdict: the scores, the position, completions."""
        return (*self.scores, POSITION, COMPLETIONS)

    def available(self) -> Flags:
        """Return [N, S]: which sources say something of which step."""
        columns = [~np.isnan(score) for score in self.scores.values()]
        return np.stack([*columns, ~np.isnan(self.position), self.trials > 0], axis=1)

    def take(self, rows: NDArray[np.int64] | Flags) -> EvidenceTable:
        """Return some of the rows."""
        return EvidenceTable(
            scores={name: score[rows] for name, score in self.scores.items()},
            **{name: getattr(self, name)[rows] for name in _PLAIN},
        )

    @classmethod
    def joined(cls, parts: Sequence[EvidenceTable]) -> EvidenceTable:
        """Return the rows of tables with the same scores, one behind the other."""
        return cls(
            scores={name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores},
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _PLAIN},
        )

    def with_completions(self, successes: NDArray[np.int64], trials: NDArray[np.int64]) -> EvidenceTable:
        """Return the same steps with other completions."""
        rest = {name: getattr(self, name) for name in _PLAIN if name not in ("successes", "trials")}
        return EvidenceTable(scores=self.scores, successes=successes, trials=trials, **rest)


_PLAIN = ("rule", "position", "successes", "trials", "domain", "policy")


def is_evidence(column: str) -> bool:
    """Tell whether a column of this name is evidence."""
    return column.startswith(SCORE_PREFIX) or column in _PLAIN


def evidence_table(columns: Mapping[str, Sequence[Any]], rows: int, *, file: object = None) -> EvidenceTable:
    """Read evidence columns; any may be missing or hold nulls, columns of other names are left alone.

    A step of which `successes` or `trials` is not known has no completions.

    Raises:
        SchemaError: A value is not what its column may hold; names column and row.
    """
    reader = _Reader(columns, rows, file)
    successes, trials = reader.completions()
    names = sorted(name for name in columns if name.startswith(SCORE_PREFIX))
    rule = reader.numbers("rule", default=0.0)
    reader.check("rule", np.isin(rule, (-1, 0, 1)), "-1 (invalid), 0 (abstain) or 1 (valid)")
    position = reader.numbers("position")
    reader.check("position", np.isnan(position) | ((position >= 0) & (position <= 1)), "in [0, 1]")
    return EvidenceTable(
        scores={name: reader.score(name) for name in names},
        rule=rule.astype(np.int64),
        position=position,
        successes=successes,
        trials=trials,
        domain=reader.texts("domain"),
        policy=reader.texts("policy"),
    )


def read_labels(values: Sequence[Any], column: str, *, file: object = None) -> Floats:
    """Return labels [N], nan where there is none.

    Raises:
        SchemaError: One is neither 0, 1 nor null.
    """
    reader = _Reader({column: values}, len(values), file)
    labels = reader.numbers(column)
    reader.check(column, np.isnan(labels) | np.isin(labels, (0, 1)), "0, 1 or null")
    return labels


@dataclass(frozen=True, slots=True)
class _Reader:
    columns: Mapping[str, Sequence[Any]]
    rows: int
    file: object

    def numbers(self, name: str, default: float = np.nan) -> Floats:
        values = self.columns.get(name)
        if values is None:
            return np.full(self.rows, default)
        try:
            numbers = np.array([default if value is None else value for value in values], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise SchemaError(f"expected numbers: {error}", file=self.file, column=name) from None
        return np.where(np.isnan(numbers), default, numbers)

    def score(self, name: str) -> Floats:
        score = self.numbers(name)
        self.check(name, np.isnan(score) | ((score >= 0) & (score <= 1)), "a probability")
        return score

    def completions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return successes and trials; where one of them is not known the other says nothing, and both are 0."""
        successes, trials = self.counts("successes"), self.counts("trials")
        unknown = np.isnan(successes) | np.isnan(trials)
        self.check("successes", unknown | (successes <= trials), "at most `trials`")
        return np.where(unknown, 0, successes).astype(np.int64), np.where(unknown, 0, trials).astype(np.int64)

    def counts(self, name: str) -> Floats:
        counts = self.numbers(name)
        self.check(name, np.isnan(counts) | ((counts >= 0) & (counts == np.floor(counts))), "a count")
        return counts

    def texts(self, name: str) -> NDArray[np.str_]:
        values = self.columns.get(name)
        if values is None:
            return np.full(self.rows, "", dtype=np.str_)
        return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)

    def check(self, name: str, right: Flags, expected: str) -> None:
        if not right.all():
            row = int(np.argmin(right))
            got = self.columns[name][row]
            raise SchemaError(f"expected {expected}, got {got!r}", file=self.file, column=name, row=row)
