"""A run's figures as CSV tables, and how `dvc plots` draws them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vcrd.report.tokens import TOKEN_KINDS
from vcrd.training.curve import CURVE_COLUMNS

MODEL_NAMES = {"before": "student before", "after": "student after", "teacher": "teacher"}

_COLUMNS = {
    "accuracy": ("model", "n", "accuracy", "low", "high", "step_validity"),
    "funnel": ("stage", "artefact", "expected", "written", "rejected"),
    "rejects": ("stage", "reason", "rows"),
    "tokens": ("stage", *TOKEN_KINDS),
    "validity": ("from", "to", "student", "teacher"),
    "weights": ("from", "to", "tokens"),
    "reliability": ("bin", "n", "lowest", "highest", "mean_probability", "share_sound"),
    "student_curve": CURVE_COLUMNS,
    "prm_curve": CURVE_COLUMNS,
}


def _plot(table: str, x: str, y: str | list[str], template: str, title: str, labels: tuple[str, str]) -> dict[str, Any]:
    given = {"x": x, "y": {f"{table}.csv": y}, "template": template}
    return {**given, "title": title, "x_label": labels[0], "y_label": labels[1]}


_LINES = "linear"
_STEP = "optimiser step"
PLOTS: Mapping[str, Mapping[str, Any]] = {
    "accuracy": _plot(
        "accuracy",
        "model",
        "accuracy",
        "intervals",
        "Accuracy on the test problems",
        ("model", "accuracy, 95 % interval"),
    ),
    "funnel": _plot("funnel", "stage", ["written", "rejected"], "stages", "Rows of each stage", ("stage", "rows")),
    "tokens": _plot("tokens", "stage", list(TOKEN_KINDS), "stages", "Tokens of each stage", ("stage", "tokens")),
    "validity": _plot(
        "validity", "from", ["student", "teacher"], "histogram", "Local validity", ("local validity, from", "steps")
    ),
    "weights": _plot("weights", "from", "tokens", "histogram", "Token weights", ("weight, from", "supervised tokens")),
    "reliability": _plot(
        "reliability",
        "mean_probability",
        "share_sound",
        "reliability",
        "Reliability on the judge problems",
        ("estimated local validity", "share of sound steps"),
    ),
    "student_curve": _plot(
        "student_curve", "step", ["loss", "nll", "kl"], _LINES, "Training of the student", (_STEP, "nats")
    ),
    "learning_rate": _plot(
        "student_curve", "step", "learning_rate", _LINES, "Learning rate of the student", (_STEP, "learning rate")
    ),
    "prm_curve": _plot(
        "prm_curve", "step", "loss", _LINES, "Training of the process reward model", (_STEP, "loss in nats")
    ),
}
"""Name -> entry of dvc.yaml, files being relative to the report's folder; templates lie in .dvc/plots."""


def write_tables(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write a CSV for each table into `folder`."""
    for name, rows in tables_of(summary).items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS[name], extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def tables_of(summary: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return the rows of every table."""
    stages = summary["stages"]
    return {
        "accuracy": [{"model": MODEL_NAMES[name], **values} for name, values in summary["models"].items()],
        "funnel": [{**item, "rejected": item["expected"] - item["written"]} for item in stages],
        "rejects": [
            {"stage": item["stage"], "reason": reason, "rows": count}
            for item in stages
            for reason, count in item["rejected"].items()
        ],
        "tokens": summary["tokens"],
        "validity": summary["histograms"]["validity"],
        "weights": summary["histograms"]["weights"],
        "reliability": summary["reliability"]["diagram"],
        "student_curve": summary["curves"]["student"],
        "prm_curve": summary["curves"]["prm"],
    }
