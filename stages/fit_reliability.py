"""Fit the maps from evidence to probabilities on the fit problems, and measure them on the judge problems."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.completions import CompleterParams
from vcrd.io.files import read_json, write_json
from vcrd.prm import read_spec
from vcrd.records import EVIDENCE, LABELS
from vcrd.reliability import FILE, ReliabilityParams, fit_reliability, judge_reliability, labelled_table

NAME, PRM = "reliability", "prm"


def build(context: Context, out: Path) -> WholeResult:
    """Fit on `fit`, judge on `judge`."""
    labels, evidence = (context.read(kind, ("fit", "judge")) for kind in (LABELS, EVIDENCE))
    scorer = read_spec(context.inputs.folder(PRM)).reason
    completer = asdict(context.settings.get(CompleterParams))
    provenance = {"scorer": scorer, "labels": "completions", "completer": completer}
    fit = labelled_table(evidence, labels, "fit")
    model = fit_reliability(fit, context.settings.get(ReliabilityParams), provenance)
    judged = judge_reliability(model, labelled_table(evidence, labels, "judge"))
    write_json(out / FILE, {**model.as_json(), "judged": judged})
    return WholeResult(all_files(out))


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
