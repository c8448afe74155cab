"""A run's report: one self-contained page, a JSON summary, and CSV tables for `dvc plots`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from vcrd.io.files import write_json
from vcrd.io.manifest import Manifest
from vcrd.records import TrainingExample

PAGE, SUMMARY = "report.html", "summary.json"
MAX_EXAMPLES = 40
_NEAR_ZERO = 0.03
_SHOWN = (("brier", "Brier"), ("ece", "calibration error"), ("auroc", "AUROC"))
_BINS = ["bin", "n", "lowest", "highest", "mean_probability", "share_sound"]

ESTIMATE_NAMES = {
    "local_validity": "local validity: all evidence",
    "without_completions": "all evidence but completions",
    "score_prm": "process reward model alone, as it is",
    "score_peer": "peer review alone, as it is",
    "completions": "completions alone, (s + 1/2) / (n + 1)",
}
MODEL_NAMES = {"before": "student before", "after": "student after", "teacher": "teacher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a report is made from.

    Attributes:
        preset: Name of the run.
        seed: Of the run.
        manifests: Of every artefact, in the order of the stages.
        evaluation: Accuracy by model.
        judged: How good the validity estimates are, on the judge problems.
        prm: How the process reward model came about.
        training: Where the signal went.
        examples: A few training examples.
    """

    preset: str
    seed: int
    manifests: Sequence[Manifest]
    evaluation: Mapping[str, Mapping[str, Any]]
    judged: Mapping[str, Any]
    prm: str
    training: Mapping[str, Any]
    examples: Sequence[TrainingExample]


def summarise_run(findings: Findings) -> dict[str, Any]:
    """Return the figures of a run as plain values."""
    before, after = findings.evaluation["before"], findings.evaluation["after"]
    return {
        "preset": findings.preset,
        "seed": findings.seed,
        "models": dict(findings.evaluation),
        "gain": round(after["accuracy"] - before["accuracy"], 6),
        "verdict": verdict(before, after),
        "stages": [
            {
                "stage": manifest.stage,
                "artefact": manifest.artefact,
                "expected": manifest.expected,
                "written": manifest.rows,
                "rejected": manifest.rejects,
            }
            for manifest in findings.manifests
        ],
        "process_reward_model": findings.prm,
        "reliability": dict(findings.judged),
        "training": dict(findings.training),
    }


def verdict(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Say in a sentence what the accuracies allow to say, and no more."""
    gain = after["accuracy"] - before["accuracy"]
    if max(before["accuracy"], after["accuracy"]) < _NEAR_ZERO:
        return "Accuracy is near zero before and after: this run shows that the data goes through, not that it teaches."
    if after["low"] > before["high"]:
        return f"The student gained {gain:+.3f}; the intervals do not overlap."
    if after["high"] < before["low"]:
        return f"The student lost {gain:+.3f}; the intervals do not overlap."
    return f"The difference of {gain:+.3f} is within the intervals: nothing is shown."


def write_report(folder: Path, findings: Findings) -> None:
    """Write the page, the summary and the tables into `folder`."""
    import jinja2

    summary = summarise_run(findings)
    write_json(folder / SUMMARY, summary)
    accuracy = [{"model": MODEL_NAMES[name], **values} for name, values in findings.evaluation.items()]
    _write_csv(folder / "accuracy.csv", ["model", "n", "accuracy", "low", "high", "step_validity"], accuracy)
    _write_csv(folder / "reliability.csv", _BINS, summary["reliability"]["diagram"])
    funnel = [{**item, "rejected": item["expected"] - item["written"]} for item in summary["stages"]]
    _write_csv(folder / "funnel.csv", ["stage", "artefact", "expected", "written", "rejected"], funnel)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(files("vcrd").joinpath("report.html.jinja").read_text(encoding="utf-8"))
    page = template.render(summary=summary, names=MODEL_NAMES, estimates=ESTIMATE_NAMES, examples=findings.examples)
    (folder / PAGE).write_text(page, encoding="utf-8")


def _write_csv(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def as_text(summary: Mapping[str, Any], page: Path) -> str:
    """Return the figures as a table for a terminal."""
    lines = [f"{summary['preset']} (seed {summary['seed']})", ""]
    lines.append(f"{'model':<16}{'accuracy':>9}  {'95 % interval':<16}{'problems':>8}  step validity")
    for name, values in summary["models"].items():
        interval = f"[{values['low']:.3f}, {values['high']:.3f}]"
        steps = "-" if values["step_validity"] is None else f"{values['step_validity']:.3f}"
        lines.append(f"{MODEL_NAMES[name]:<16}{values['accuracy']:>9.3f}  {interval:<16}{values['n']:>8}  {steps}")
    lines += ["", summary["verdict"], "", _validity_line(summary["reliability"])]
    lines += ["", f"{'stage':<20}{'expected':>9}{'written':>9}  rejected"]
    for item in summary["stages"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in item["rejected"].items()) or "none"
        lines.append(f"{item['stage']:<20}{item['expected']:>9}{item['written']:>9}  {reasons}")
    lines += ["", f"report: {page}"]
    return "\n".join(lines)


def _validity_line(judged: Mapping[str, Any]) -> str:
    found = judged["estimates"]["local_validity"]
    if found["brier"]["value"] is None:
        return "validity: no labels on the judge problems"
    measures = [f"{title} {found[name]['value']:.3f}" for name, title in _SHOWN if found[name]["value"] is not None]
    return f"validity, on {found['n']} labelled steps of the judge problems: {', '.join(measures)}"
