"""Where the default's weight falls: token weights of targets that the oracle calls sound, and of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.experiments.loaded import Pool
from benchmarks.experiments.pool import PoolPlace, make_pool
from benchmarks.experiments.records import Run
from benchmarks.experiments.sizes import Size, workspace
from benchmarks.rivals import DEFAULT, METHODS
from vcrd.io.parquet import read_table
from vcrd.records import VALIDITY

BINS = 20


def weight_histograms(size: Size, runs: Sequence[Run]) -> dict[str, dict[str, list[float]]]:
    """Return, by domain, histograms over the default's targets in the first of its finished pools."""
    found = {}
    for domain in size.domains:
        mine = sorted((run.pretrain_seed, run.distill_seed) for run in runs if run.domain == domain)
        if mine:
            pretrain, distill = mine[0]
            place = PoolPlace(
                domain=domain, pretrain_seed=pretrain, distill_seed=distill, size=size, workspace=workspace()
            )
            make_pool(place)
            found[domain] = _histograms(Pool(place))
    return found


def _histograms(pool: Pool) -> dict[str, list[float]]:
    lesson = METHODS[DEFAULT].lesson
    assert lesson is not None, "the default has a lesson"
    rows: Any = lesson(pool).rows
    names = read_table(pool.layout.folder(VALIDITY.name) / pool.file, columns=["proposal_id"])[
        "proposal_id"
    ].to_pylist()
    sound = dict(zip(names, pool.oracle_validity.tolist(), strict=True))
    targets = [
        f"{name}/{target}"
        for name, target in zip(rows["example_id"].to_pylist(), rows["target"].to_pylist(), strict=True)
    ]
    is_sound = np.array([sound[name] for name in targets]) > 0
    weights = np.array([max(row) for row in rows["token_weights"].to_pylist()])
    edges = np.linspace(0, max(float(weights.max()), 1e-9) * 1.0001, BINS + 1)
    shares = {
        name: (np.histogram(weights[chosen], edges)[0] / len(weights)).tolist()
        for name, chosen in (("sound", is_sound), ("unsound", ~is_sound))
    }
    return {"edges": edges.tolist(), **shares}
