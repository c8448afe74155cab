"""Every key once, in all shards, and rows in the order in which the stages write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from vcrd.errors import SchemaError
from vcrd.io.parquet import read_batches
from vcrd.records import COMPLETIONS, EVALUATION, MODELS, Artefact
from vcrd.validate.findings import Findings

_UNORDERED = (COMPLETIONS.name, EVALUATION.name, MODELS.name)
_STEP_ID = re.compile(r"(.*)/s(\d+)(?:/(\w+))?")

Order = tuple[str, int, str]


class KeyChecks:
    """Takes the keys of a folder's shards; holds eight bytes for each row."""

    def __init__(self, kind: Artefact[Any], findings: Findings) -> None:
        self._kind, self._findings = kind, findings
        self._hashes: list[Any] = []
        self._file, self._last = "", ("", -1, "")
        findings.holds("keys")
        if kind.name in _UNORDERED:
            findings.not_checked("row order", f"rows of {kind.name} are not in the order of their keys")
        else:
            findings.holds("row order")

    def add(self, column: pa.ChunkedArray, file: str, first: int) -> None:
        """Take the keys of the rows from `first` on."""
        names = column.to_pylist()
        self._hashes.append(_hash(names))
        if self._kind.name in _UNORDERED:
            return
        for row, (name, place) in enumerate(zip(names, map(_order, names), strict=True), first):
            if file == self._file and place < self._last:
                message = f"{name} stands behind a row that comes later"
                self._findings.fault("row order", message, file=file, column=self._kind.key, row=row)
            self._file, self._last = file, place

    def finish(self, shards: Sequence[Path]) -> None:
        """Find the keys that occur twice; their names are read again, as only digests were kept."""
        values, counts = np.unique(np.concatenate([np.array([], np.uint64), *self._hashes]), return_counts=True)
        suspects = values[counts > 1]
        seen: dict[str, str] = {}
        for path in shards if len(suspects) else ():
            for row, name in _suspected(path, self._kind.key, suspects):
                if name in seen:
                    message = f"{name} was there before: {seen[name]}"
                    self._findings.fault("keys", message, file=path.name, column=self._kind.key, row=row)
                seen.setdefault(name, f"{path.name}, row {row}")


def _hash(names: Sequence[str]) -> Any:
    return pl.Series(names, dtype=pl.String).hash().to_numpy()


def _suspected(path: Path, key: str, suspects: Any) -> Iterator[tuple[int, str]]:
    first = 0
    try:
        for batch in read_batches(path, [key]):
            names = batch.column(0).to_pylist() if batch.num_columns else []
            for index in np.flatnonzero(np.isin(_hash(names), suspects)):
                yield first + int(index), names[index]
            first += len(names)
    except SchemaError:
        return  # a broken shard was reported when it was read whole


def _order(key: str) -> Order:
    """Return what orders a row: its rollout, the number of its step, its proposer.

    >>> sorted(["p/r1/s10", "p/r1/s9", "p/r0/s3"], key=_order)
    ['p/r0/s3', 'p/r1/s9', 'p/r1/s10']
    """
    found = _STEP_ID.fullmatch(key)
    return (found[1], int(found[2]), found[3] or "") if found else (key, -1, "")
