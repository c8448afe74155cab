"""Choose each prefix's target and strength, normalise over the corpus, and write the training data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cli import stage_main
from pipeline.shards import write_pieces
from pipeline.stage import Context, Shard, WholeResult, WholeStage
from vcrd.calibration import CalibrationParams
from vcrd.examples import (
    SUMMARY_COLUMNS,
    Source,
    choose_targets,
    gather_pairs,
    make_examples,
    scale_of,
    summarise_training,
)
from vcrd.io.parquet import read_batches, shard_files
from vcrd.models import find_model
from vcrd.records import MODELS, PROPOSALS, ROLLOUTS, TRAINING, VALIDITY
from vcrd.storage import store_signal
from vcrd.weights import WeightParams


def build(context: Context, out: Path) -> WholeResult:
    """Pass once for targets and the scale, which need the whole corpus; once more, shard by shard, for the rows."""
    params = context.settings.get(WeightParams)
    names = [path.name for path in shard_files(context.inputs.folder(VALIDITY.name))]
    sources = [Source(Shard(context, name).stream, name, context.only_problems) for name in names]
    found = [gather_pairs(source, params) for source in sources]
    corpus = np.concatenate([pairs for pairs, _ in found])
    targets = choose_targets(corpus, context.settings.get(CalibrationParams))
    scale = scale_of(targets, params)
    teacher = find_model(context.read(MODELS), "teacher")
    schema = store_signal(TRAINING.schema.empty_table(), teacher, params).schema
    files = []
    for source, (pairs, expected) in zip(sources, found, strict=True):
        mine, targets = targets.cut(len(pairs))
        pieces = (
            ((store_signal(table, teacher, params) for table in tables), rejects)
            for tables, rejects in make_examples(source, params, mine, scale)
        )
        files.append(write_pieces(out, source.file, schema, pieces, expected))
    return WholeResult(files)


def summary(context: Context, folder: Path) -> dict[str, Any]:
    """Where the signal went."""
    return summarise_training(batch for file in shard_files(folder) for batch in read_batches(file, SUMMARY_COLUMNS))


STAGE = WholeStage(
    name="calibrate_weights",
    version=4,
    sections={"calibration": CalibrationParams, "weights": WeightParams},
    output=TRAINING.name,
    whole_inputs=(MODELS.name, ROLLOUTS.name, PROPOSALS.name, VALIDITY.name),
    build=build,
    splits=("train",),
    summary=summary,
)

if __name__ == "__main__":
    stage_main("stages.calibrate_weights")
