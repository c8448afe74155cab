"""Prefix equality: a row's prefix, and the student's own step, are token for token what its rollout holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.errors import SchemaError
from vcrd.io.parquet import read_table
from vcrd.records import ROLLOUTS
from vcrd.storage.rows import Counts, lengths_of, starts_of
from vcrd.validate.findings import Findings, Place
from vcrd.validate.tokens import TokenView, list_column

_COLUMNS = ("prompt_ids", "token_ids", "step_ends")


class _Lists:
    """A list column as flat values and starts."""

    def __init__(self, table: pa.Table, name: str) -> None:
        column = list_column(table, name)
        self._values = column.flatten().to_numpy(zero_copy_only=False)
        self._starts_R1: Counts = starts_of(lengths_of(column))

    def __getitem__(self, row: int) -> Any:
        return self._values[self._starts_R1[row] : self._starts_R1[row + 1]]


class PrefixChecks:
    """Reads the shard of `rollouts` beside the folder that has the name of the shard at hand."""

    def __init__(self, folder: Path, findings: Findings) -> None:
        self._folder, self._findings = folder.resolve().parent / ROLLOUTS.name, findings
        self._there = any(self._folder.glob("*.parquet"))
        self._rows: dict[str, int] | None = None
        self._lists: list[_Lists] = []
        if not self._there:
            findings.not_checked("prefixes", "no rollouts lie beside the folder")

    def start_shard(self, name: str) -> None:
        """Read its rollouts."""
        self._rows = None
        if not self._there:
            return
        path = self._folder / name
        if not path.is_file():
            self._findings.fault("prefixes", f"{ROLLOUTS.name} has no shard of this name", file=name)
            return
        try:
            table = read_table(path, ROLLOUTS.schema)
        except SchemaError as error:
            self._findings.not_checked("prefixes", f"rollouts: {error}")
            return
        self._findings.holds("prefixes", "those of the rollouts beside")
        self._rows = {name: row for row, name in enumerate(table.column(ROLLOUTS.key).to_pylist())}
        self._lists = [_Lists(table, name) for name in _COLUMNS]

    def check(self, table: pa.Table, view: TokenView, place: Place) -> None:
        """Compare rows with their rollouts."""
        if self._rows is None:
            return
        unknown_R, wrong_R, other_R = (np.zeros(table.num_rows, bool) for _ in range(3))
        rollouts, own = table.column("rollout_id").to_pylist(), table.column("target").to_pylist()
        indices = table.column("step_index").to_pylist()
        for row, (name, index, target) in enumerate(zip(rollouts, indices, own, strict=True)):
            prefix_step = self._cut(name, index)
            if prefix_step is None:
                unknown_R[row] = True
                continue
            start, middle, end = view.starts_R1[row], view.step_starts_R[row], view.starts_R1[row + 1]
            wrong_R[row] = not np.array_equal(view.ids_T[start:middle], prefix_step[0])
            other_R[row] = target == "student" and not np.array_equal(view.ids_T[middle:end], prefix_step[1])
        place.refuse("prefixes", "rollout_id", unknown_R, "the rollouts' shard of this name has no such step")
        place.refuse("prefixes", "input_ids", wrong_R, "the prefix is not that of the rollout")
        place.refuse("prefixes", "input_ids", other_R, "the student's own step is not that of the rollout")

    def _cut(self, name: str, index: int) -> tuple[Any, Any] | None:
        row = (self._rows or {}).get(name)
        if row is None:
            return None
        prompt, tokens, ends = (lists[row] for lists in self._lists)
        if not 0 <= index < len(ends):
            return None
        start = ends[index - 1] if index else 0
        return np.concatenate([prompt, tokens[:start]]), tokens[start : ends[index]]
