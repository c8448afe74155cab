"""A pool as experiments make it: the pipeline's own stages on the shipped models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.experiments.loaded import Pool
from benchmarks.experiments.pool import PoolPlace, make_pool, pool_seconds
from benchmarks.experiments.solutions import SAMPLES
from benchmarks.rivals import DEFAULT, METHODS
from tests.benchmarks.tiny_pool import SIZE

SPLITS = {"train": 4, "prm": 10, "fit": 10, "judge": 1, "test": 2}


def test_a_pool_is_made_by_the_pipeline_once(tmp_path: Path) -> None:
    size = replace(SIZE, splits=SPLITS)
    place = PoolPlace(domain="demo-math", pretrain_seed=1, distill_seed=1, size=size, workspace=tmp_path)
    make_pool(place)
    pool = Pool(place)
    assert len(pool.solutions) == SPLITS["train"] * SAMPLES
    assert all(tokens > 0 for tokens in pool.generated.values())
    assert len(pool.estimated_validity) == len(pool.oracle_validity) > 0
    lesson = METHODS[DEFAULT].lesson
    assert lesson is not None
    assert lesson(pool).rows.num_rows == len(pool.oracle_validity) / 2

    made = pool_seconds(place)
    assert made > 0
    ready = place.folder / "pool.json"
    before = ready.stat().st_mtime_ns
    make_pool(place)
    assert (ready.stat().st_mtime_ns, pool_seconds(place)) == (before, made)
