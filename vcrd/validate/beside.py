"""Rows of `training` against what they were made of, where that lies beside: prefixes, steps, validities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vcrd.errors import SchemaError
from vcrd.io.parquet import read_schema, read_table, schema_difference
from vcrd.records import PROPOSALS, ROLLOUTS, VALIDITY, Artefact
from vcrd.rows import TokenView
from vcrd.storage.rows import Flags
from vcrd.validate.findings import Findings, Place
from vcrd.validate.tokens import Lists

_PROPOSERS = ("student", "teacher")


class _Shard:
    """The shard of an artefact beside the folder that has the name of the shard at hand, rows by their keys."""

    def __init__(
        self, check: str, kind: Artefact[Any], columns: Sequence[str], folder: Path, findings: Findings
    ) -> None:
        self._check, self._kind, self._columns, self._findings = check, kind, columns, findings
        self._folder = folder.resolve().parent / kind.name
        self._there = any(self._folder.glob("*.parquet"))
        self.rows: dict[str, int] | None = None
        self.table: pa.Table | None = None
        if not self._there:
            findings.not_checked(check, f"no {kind.name} lie beside the folder")

    def start(self, name: str) -> bool:
        """Read it; tell whether there is something to compare with."""
        self.rows, path = None, self._folder / name
        if not self._there:
            return False
        if not path.is_file():
            self._findings.fault(self._check, f"{self._kind.name} has no shard of this name", file=name)
            return False
        try:
            schema = read_schema(path)
            if not schema.equals(self._kind.schema):
                raise SchemaError(schema_difference(self._kind.schema, schema))
            self.table = read_table(path, columns=[self._kind.key, *self._columns])
        except SchemaError as error:
            self._findings.not_checked(self._check, f"{self._kind.name}: {error}")
            return False
        self._findings.holds(self._check, f"as in the {self._kind.name} beside")
        self.rows = {key: row for row, key in enumerate(self.table.column(self._kind.key).to_pylist())}
        return True


class BesideChecks:
    """Compares shard by shard with `rollouts`, `proposals` and `validity` of the same run; each may be missing."""

    def __init__(self, folder: Path, findings: Findings) -> None:
        """Look which of them lie beside the folder."""
        self._rollouts = _Shard("prefixes", ROLLOUTS, ("prompt_ids", "token_ids", "step_ends"), folder, findings)
        self._proposals = _Shard("steps", PROPOSALS, ("token_ids",), folder, findings)
        self._validity = _Shard("validities beside", VALIDITY, ("local_validity",), folder, findings)
        self._lists: dict[str, Lists] = {}

    def start_shard(self, name: str) -> None:
        """Read the shards of this name."""
        if self._rollouts.start(name):
            for column in ("prompt_ids", "token_ids", "step_ends"):
                self._lists[column] = Lists(self._rollouts.table, column)
        if self._proposals.start(name):
            self._lists["proposed"] = Lists(self._proposals.table, "token_ids")
        self._validity.start(name)

    def check(self, table: pa.Table, view: TokenView, place: Place) -> None:
        """Compare some rows."""
        if self._rollouts.rows is not None:
            self._check_prefixes(self._rollouts.rows, table, view, place)
        if self._proposals.rows is not None:
            self._check_steps(self._proposals.rows, table, view, place)
        if self._validity.rows is not None:
            self._check_validities(self._validity.rows, table, place)

    def _check_prefixes(self, rows: dict[str, int], table: pa.Table, view: TokenView, place: Place) -> None:
        unknown_R, wrong_R = np.zeros(table.num_rows, bool), np.zeros(table.num_rows, bool)
        indices = table.column("step_index").to_pylist()
        for row, (name, index) in enumerate(zip(table.column("rollout_id").to_pylist(), indices, strict=True)):
            at = rows.get(name)
            ends = self._lists["step_ends"][at] if at is not None else ()
            if at is None or not 0 <= index < len(ends):
                unknown_R[row] = True
                continue
            cut = self._lists["token_ids"][at][: ends[index - 1] if index else 0]
            prefix = np.concatenate([self._lists["prompt_ids"][at], cut])
            wrong_R[row] = not np.array_equal(view.ids_T[view.starts_R1[row] : view.step_starts_R[row]], prefix)
        place.refuse("prefixes", "rollout_id", unknown_R, "the rollouts' shard of this name has no such step")
        place.refuse("prefixes", "input_ids", wrong_R, "the prefix is not that of the rollout")

    def _check_steps(self, rows: dict[str, int], table: pa.Table, view: TokenView, place: Place) -> None:
        unknown_R, wrong_R = np.zeros(table.num_rows, bool), np.zeros(table.num_rows, bool)
        for row, key in enumerate(_proposal_ids(table)):
            at = rows.get(key)
            unknown_R[row] = at is None
            if at is not None:
                step = view.ids_T[view.step_starts_R[row] : view.starts_R1[row + 1]]
                wrong_R[row] = not np.array_equal(step, self._lists["proposed"][at])
        place.refuse("steps", "example_id", unknown_R, "the proposals' shard of this name has no such step")
        place.refuse("steps", "input_ids", wrong_R, "the target step is not the one that was proposed")

    def _check_validities(self, rows: dict[str, int], table: pa.Table, place: Place) -> None:
        assert self._validity.table is not None  # noqa: S101 - for the type checker
        known = self._validity.table.column("local_validity").to_numpy()
        names = table.column("example_id").to_pylist()
        for proposer in _PROPOSERS:
            at = [rows.get(f"{name}/{proposer}", -1) for name in names]
            given_R = table.column(f"{proposer}_validity").to_numpy()
            wrong_R: Flags = np.asarray((np.array(at) < 0) | (known[at] != given_R))
            place.refuse("validities beside", f"{proposer}_validity", wrong_R, "not the one that was estimated")


def _proposal_ids(table: pa.Table) -> Iterator[str]:
    targets = table.column("target").to_pylist()
    for name, target in zip(table.column("example_id").to_pylist(), targets, strict=True):
        yield f"{name}/{target}"
