"""Rejected rows: never dropped silently, never stopping a run, kept with their reasons."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

REJECTS_SCHEMA = pa.schema(
    [pa.field(name, pa.string(), nullable=False) for name in ("record_id", "reason", "message", "row")]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row that was expected and not written.

    Attributes:
        record_id: Its id, or the best name there is for it.
        reason: A short machine-readable word.
        message: A sentence for people.
        row: What there was of it, as JSON.
    """

    record_id: str
    reason: str
    message: str = ""
    row: str = ""


def reject(record_id: str, reason: str, message: str = "", **row: object) -> Reject:
    r"""Make a reject, keeping what there was of the row.

    >>> reject("line 1", "no_prompt", row={"answer": "\ud800"}).row
    '{"row": {"answer": "\\ud800"}}'
    """
    try:
        kept = json.dumps(row, ensure_ascii=False, default=str) if row else ""
    except RecursionError:
        kept = ""  # what can just be parsed may be nested too deep to be written
    return Reject(record_id=_text(record_id), reason=reason, message=_text(message), row=_text(kept))


def _text(value: str) -> str:
    """Spell out half a surrogate pair: JSON may name it, and no file of text can hold it."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def count_reasons(rejects: Iterable[Reject]) -> dict[str, int]:
    """Count rejects by reason, in the order of the reasons."""
    return dict(sorted(Counter(item.reason for item in rejects).items()))
