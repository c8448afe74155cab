"""Fit the maps from evidence to probabilities on the fit problems, and measure them on the judge problems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.io.files import read_json, write_json
from vcrd.prm import read_spec
from vcrd.records import EVIDENCE, LABELS
from vcrd.reliability import FILE, ReliabilityParams, fit_reliability, judge_reliability, labelled_evidence

NAME, PRM = "reliability", "prm"


def build(context: Context, out: Path) -> WholeResult:
    """Fit on `fit`, judge on `judge`."""
    labels, evidence = context.read(LABELS), context.read(EVIDENCE)
    provenance = {"scorer": read_spec(context.inputs.folder(PRM)).reason, "labels": "completions"}
    fit = labelled_evidence(evidence, labels, "fit")
    model = fit_reliability(fit, context.settings.get(ReliabilityParams), provenance)
    judged = judge_reliability(model, labelled_evidence(evidence, labels, "judge"))
    write_json(out / FILE, {**model.as_json(), "judged": judged})
    return WholeResult(all_files(out))


def summary(context: Context, folder: Path) -> dict[str, Any]:
    """How good the maps are."""
    return {"judged": read_json(folder / FILE)["judged"]}


STAGE = WholeStage(
    name="fit_reliability",
    version=1,
    sections={"reliability": ReliabilityParams},
    output=NAME,
    whole_inputs=(LABELS.name, EVIDENCE.name, PRM),
    build=build,
    summary=summary,
)

if __name__ == "__main__":
    stage_main("stages.fit_reliability")
