"""What a target of an export is: what it loses, what it needs, and how it writes a shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from vcrd.io.rejects import Reject


class Writer(Protocol):
    """Fills a folder, a shard at a time."""

    def add(self, table: pa.Table, shard: str) -> list[Reject]:
        """Write the rows of a shard; those that the target cannot carry come back as rejects."""

    def close(self) -> None:
        """Write what goes behind the last shard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A trainer to export to.

    Attributes:
        open: From an empty folder, the shards' names and the tokenizer (or None) to a writer.
        lost: Why it has no place for "teacher" or "weights".
        needs_teacher: Whether it is of no use without the teacher's columns.
        needs_tokenizer: Why it needs the student's tokenizer; empty where it does not.
    """

    open: Callable[[Path, Sequence[str], Any], Writer]
    lost: Mapping[str, str] = field(default_factory=dict)
    needs_teacher: bool = False
    needs_tokenizer: str = ""
