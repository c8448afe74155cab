"""Choose each prefix's target and strength, normalise over the corpus, and write the training data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.cli import stage_main
from pipeline.shards import write_shards
from pipeline.stage import Context, Shard, WholeResult, WholeStage
from vcrd.calibration import CalibrationParams
from vcrd.examples import SUMMARY_COLUMNS, choose_targets, make_example, pair_up, scale_of, summarise_training
from vcrd.io.parquet import read_table, shard_files
from vcrd.models import find_model
from vcrd.records import MODELS, PROPOSALS, ROLLOUTS, TRAINING, VALIDITY
from vcrd.storage import store_signal
from vcrd.weights import WeightParams


def _shards(context: Context) -> list[Shard]:
    return [Shard(context, path.name) for path in shard_files(context.inputs.folder(VALIDITY.name))]


def build(context: Context, out: Path) -> WholeResult:
    """Pass once for targets and the scale, which need the whole corpus; once more, shard by shard, for the rows."""
    weights = context.settings.get(WeightParams)
    pairs, rejects, expected = {}, {}, 0
    for shard in _shards(context):
        rollouts, proposals = _sources(shard)
        validities = shard.read(VALIDITY)
        pairs[shard.file], rejects[shard.file] = pair_up(validities, rollouts, proposals, weights)
        expected += len({item.prefix_id for item in validities})
    all_pairs = [pair for mine in pairs.values() for pair in mine]
    targets = choose_targets(all_pairs, context.settings.get(CalibrationParams))
    scale = scale_of(targets, weights)

    def rows() -> Iterator[tuple[str, list[Any], list[Any]]]:
        start = 0
        for shard in _shards(context):
            rollouts, proposals = _sources(shard)
            mine = targets[start : start + len(pairs[shard.file])]
            start += len(mine)
            examples = [
                make_example(item, rollouts[item.pair.student.rollout_id], proposals, scale, weights.w_max)
                for item in mine
            ]
            yield shard.file, examples, rejects[shard.file]

    teacher = find_model(context.read(MODELS), "teacher")
    return write_shards(out, TRAINING, rows(), expected, lambda table: store_signal(table, teacher, weights))


def _sources(shard: Shard) -> tuple[dict[str, Any], dict[str, Any]]:
    rollouts = {rollout.rollout_id: rollout for rollout in shard.read(ROLLOUTS) if rollout.split == "train"}
    return rollouts, {item.proposal_id: item for item in shard.read(PROPOSALS) if item.split == "train"}


def summary(context: Context, folder: Path) -> dict[str, Any]:
    """Where the signal went."""
    return summarise_training(
        pa.concat_tables([read_table(file, columns=SUMMARY_COLUMNS) for file in shard_files(folder)])
    )


STAGE = WholeStage(
    name="calibrate_weights",
    version=2,
    sections={"calibration": CalibrationParams, "weights": WeightParams},
    output=TRAINING.name,
    whole_inputs=(MODELS.name, ROLLOUTS.name, PROPOSALS.name, VALIDITY.name),
    build=build,
    summary=summary,
)

if __name__ == "__main__":
    stage_main("stages.calibrate_weights")
