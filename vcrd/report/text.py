"""A run's figures for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vcrd.report.tables import MODEL_NAMES

_SHOWN = (("brier", "Brier"), ("ece", "calibration error"), ("auroc", "AUROC"))


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
