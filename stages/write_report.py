"""Put a run's figures into one self-contained page, a JSON summary, and tables for `dvc plots`."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.evaluation import summarise
from vcrd.examples import SUMMARY_COLUMNS, summarise_training
from vcrd.io.files import read_json
from vcrd.io.manifest import read_manifest
from vcrd.io.parquet import read_batches, read_table, shard_files
from vcrd.prm import read_spec
from vcrd.records import ARTEFACTS, EVALUATION, TRAINING
from vcrd.reliability import FILE
from vcrd.report import MAX_EXAMPLES, Findings, write_report
from vcrd.storage import decode_teacher_signal

RELIABILITY, PRM = "reliability", "prm"


def build(context: Context, out: Path) -> WholeResult:
    """Gather and write."""
    folder = context.inputs.folder
    shards = shard_files(folder(TRAINING.name))
    names = [kind.name for kind in ARTEFACTS]
    findings = Findings(
        preset=context.settings.preset,
        seed=context.settings.seed,
        manifests=[read_manifest(folder(name)) for name in names],
        evaluation=summarise(context.read(EVALUATION)),
        judged=read_json(folder(RELIABILITY) / FILE)["judged"],
        training=summarise_training(batch for file in shards for batch in read_batches(file, SUMMARY_COLUMNS)),
        prm=read_spec(folder(PRM)).reason,
        examples=TRAINING.parse(decode_teacher_signal(read_table(shards[0]).slice(0, MAX_EXAMPLES)).to_pylist()),
    )
    write_report(out, findings)
    return WholeResult(all_files(out))


STAGE = WholeStage(
    name="write_report",
    version=1,
    sections={},
    output="report",
    whole_inputs=(*(kind.name for kind in ARTEFACTS), RELIABILITY, PRM),
    build=build,
)

if __name__ == "__main__":
    stage_main("stages.write_report")
