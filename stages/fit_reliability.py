"""Fit the maps from evidence to probabilities on the fit problems, and measure them on the judge problems."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, Shard, WholeResult, WholeStage
from vcrd.completions import CompleterParams
from vcrd.io.files import read_json, write_json
from vcrd.io.parquet import shard_files
from vcrd.prm import read_spec
from vcrd.records import EVIDENCE, LABELS
from vcrd.reliability import (
    FILE,
    LabelledTable,
    ReliabilityParams,
    fit_reliability,
    judge_reliability,
    labelled_table,
)

NAME, PRM = "reliability", "prm"
_SPLITS = ("fit", "judge")


def build(context: Context, out: Path) -> WholeResult:
    """Fit on `fit`, judge on `judge`."""
    fit, judge = _tables(context)
    scorer = read_spec(context.inputs.folder(PRM)).reason
    completer = asdict(context.settings.get(CompleterParams))
    provenance = {"scorer": scorer, "labels": "completions", "completer": completer}
    model = fit_reliability(fit, context.settings.get(ReliabilityParams), provenance)
    judged = judge_reliability(model, judge)
    write_json(out / FILE, {**model.as_json(), "judged": judged})
    return WholeResult(all_files(out))


def _tables(context: Context) -> tuple[LabelledTable, LabelledTable]:
    """Bring labels and evidence of both splits together, of one shard at a time: columns are all that is kept."""
    parts: list[list[LabelledTable]] = []
    for file in shard_files(context.inputs.folder(LABELS.name)):
        labels, evidence = (Shard(context, file.name).read(kind, _SPLITS) for kind in (LABELS, EVIDENCE))
        parts.append([labelled_table(evidence, labels, split) for split in _SPLITS])
    fit, judge = (LabelledTable.joined(tables) for tables in zip(*parts, strict=True))
    return fit, judge


def summary(context: Context, folder: Path) -> dict[str, Any]:
    """How good the maps are."""
    judged = read_json(folder / FILE)["judged"]
    return {"judged": {name: value for name, value in judged.items() if name != "diagram"}}


STAGE = WholeStage(
    name="fit_reliability",
    version=2,
    sections={"completer": CompleterParams, "reliability": ReliabilityParams},
    output=NAME,
    whole_inputs=(LABELS.name, EVIDENCE.name, PRM),
    build=build,
    splits=("fit", "judge"),
    summary=summary,
)

if __name__ == "__main__":
    stage_main("stages.fit_reliability")
