"""From a run's folders to what its report says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vcrd.evaluation import summarise
from vcrd.examples import SUMMARY_COLUMNS, count_signal
from vcrd.io.files import read_json
from vcrd.io.manifest import read_manifest
from vcrd.io.parquet import read_batches, read_table, shard_files, stream_rows
from vcrd.prm import read_spec
from vcrd.records import ARTEFACTS, EVALUATION, TRAINING
from vcrd.reliability import FILE
from vcrd.report.findings import MAX_EXAMPLES, Findings
from vcrd.report.tokens import count_tokens, trained_tokens
from vcrd.storage import decode_teacher_signal
from vcrd.training.curve import read_curve

RELIABILITY, PRM, STUDENT = "reliability", "prm", "student"
READS = (*(kind.name for kind in ARTEFACTS), RELIABILITY, PRM, STUDENT)
"""The artefacts that a report is made from."""


def gather_findings(folder: Callable[[str], Path], preset: str, seed: int) -> Findings:
    """Read what a report says of a run, tables of the training set some thousand rows at a time.

    Args:
        folder: Where an artefact lies, by its name.
        preset: Name of the run.
        seed: Of the run.

    Raises:
        ConfigError: An artefact is missing.
        SchemaError: One cannot be read.
    """
    shards = shard_files(folder(TRAINING.name))
    manifests = [read_manifest(folder(kind.name)) for kind in ARTEFACTS]
    w_max = next(item for item in manifests if item.artefact == TRAINING.name).params("weights").get("w_max")
    signal = count_signal((batch for file in shards for batch in read_batches(file, SUMMARY_COLUMNS)), w_max)
    curves = {STUDENT: read_curve(folder(STUDENT)), PRM: read_curve(folder(PRM))}
    context = (signal.input_tokens - signal.tokens) / max(signal.tokens, 1)
    return Findings(
        preset=preset,
        seed=seed,
        manifests=manifests,
        evaluation=summarise(stream_rows(shard_files(folder(EVALUATION.name)), EVALUATION.schema)),
        judged=read_json(folder(RELIABILITY) / FILE)["judged"],
        signal=signal,
        tokens=[
            *count_tokens(folder),
            *trained_tokens("train_prm", curves[PRM]),
            *trained_tokens("train_student", curves[STUDENT], context),
        ],
        curves=curves,
        prm=read_spec(folder(PRM)).reason,
        examples=TRAINING.parse(decode_teacher_signal(read_table(shards[0]).slice(0, MAX_EXAMPLES)).to_pylist()),
    )
