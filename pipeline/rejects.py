"""The rejected rows of a run: how many for which reason, and some of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.layout import Layout
from vcrd.io.files import read_json
from vcrd.io.parquet import read_batches
from vcrd.io.rejects import REJECTS_SCHEMA

_COUNTS = "counts.json"


@dataclass(frozen=True, slots=True)
class Sample:
    """A rejected row.

    Attributes:
        record_id: Its id, or the best name there is for it.
        message: A sentence for people.
        row: What there was of it; None: nothing.
    """

    record_id: str
    message: str
    row: Any


@dataclass(frozen=True, slots=True)
class StageRejects:
    """What a stage rejected.

    Attributes:
        stage: Its name.
        expected: Rows that it was to write.
        reasons: How many rows were rejected, by reason.
        samples: The first of them, by reason.
    """

    stage: str
    expected: int
    reasons: Mapping[str, int]
    samples: Mapping[str, list[Sample]]


def read_stage_rejects(layout: Layout, stage: str, samples: int) -> StageRejects | None:
    """Return what a stage rejected, with so many rows for each reason; None where it has not run.

    Files are read no further than the samples need.

    Raises:
        SchemaError: A file cannot be read.
    """
    folder = layout.rejects(stage)
    if not (folder / _COUNTS).is_file():
        return None
    counts = read_json(folder / _COUNTS)
    wanted = {reason: min(samples, count) for reason, count in counts["rejected"].items()}
    return StageRejects(stage, counts["expected"], counts["rejected"], _first(folder, wanted))


def _first(folder: Path, wanted: Mapping[str, int]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {reason: [] for reason in wanted}
    missing = sum(wanted.values())
    for path in sorted(folder.glob("*.parquet")) if missing else ():
        for batch in read_batches(path, schema=REJECTS_SCHEMA):
            for row in batch.to_pylist():
                mine = found[row["reason"]]
                if len(mine) < wanted[row["reason"]]:
                    mine.append(
                        Sample(row["record_id"], row["message"], json.loads(row["row"]) if row["row"] else None)
                    )
                    missing -= 1
            if not missing:
                return found
    return found
