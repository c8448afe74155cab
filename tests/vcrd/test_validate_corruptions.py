"""`vcrd validate` finds 100 of 100 seeded corruptions of a `training` folder."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.vcrd.corruptions import KINDS, WITH_FITTING_MANIFEST, corrupt
from vcrd.io.parquet import read_table, shard_files
from vcrd.validate import validate


@pytest.mark.parametrize("seed", range(30))
def test_a_bit_flip_under_a_fitting_manifest_is_found_or_changes_no_row(made: Path, run: Path, seed: int) -> None:
    corrupt(run / "training", random.Random(seed), "bit flip, mended")
    if not validate(run / "training")[0].faults:
        for before, after in zip(shard_files(made / "training"), shard_files(run / "training"), strict=True):
            assert read_table(before).equals(read_table(after))


def test_there_are_100_corruptions() -> None:
    assert len(KINDS) == 100
    assert set(WITH_FITTING_MANIFEST) <= set(KINDS)


@pytest.mark.parametrize("seed", range(100))
def test_corruption_is_found(run: Path, seed: int) -> None:
    corrupt(run / "training", random.Random(seed), KINDS[seed])
    assert validate(run / "training")[0].faults, KINDS[seed]
