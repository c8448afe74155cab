"""TRL: pre-tokenised `input_ids` and `labels`, and the columns that `WeightedSFTTrainer` reads beside them.

Read from trl 1.16.0, `trl/trainer/sft_trainer.py`: a data set with `input_ids` is taken as tokenised, `labels` as they
are, both target-aligned (index i describes token i). TRL's own `SFTTrainer` keeps no other column, so it trains without
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcrd.export.rows import has_teacher
from vcrd.export.target import Target
from vcrd.io.parquet import write_table
from vcrd.io.rejects import Reject
from vcrd.rows import TOKEN_COLUMNS
from vcrd.storage import PLAIN_COLUMNS


class _TrlWriter:
    def __init__(self, folder: Path, shards: Sequence[str], tokenizer: Any) -> None:
        self._folder = folder

    def add(self, table: pa.Table, shard: str) -> list[Reject]:
        columns = TOKEN_COLUMNS + (PLAIN_COLUMNS if has_teacher(table) else ())
        write_table(self._folder / f"{shard}.parquet", table.select(columns))
        return []

    def close(self) -> None:
        pass


TRL = Target(open=_TrlWriter)
