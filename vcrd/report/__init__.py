"""A run's report: one self-contained page, a JSON summary, and CSV tables for `dvc plots`."""

from __future__ import annotations

from pathlib import Path

from vcrd.io.files import write_json, write_text
from vcrd.report.findings import Findings, summarise_run, verdict
from vcrd.report.gather import READS, gather_findings
from vcrd.report.page import render_page
from vcrd.report.tables import PLOTS, write_tables
from vcrd.report.text import as_text

PAGE, SUMMARY = "report.html", "summary.json"

__all__ = [
    "PAGE",
    "PLOTS",
    "READS",
    "SUMMARY",
    "Findings",
    "as_text",
    "gather_findings",
    "summarise_run",
    "verdict",
    "write_report",
]


def write_report(folder: Path, findings: Findings) -> None:
    """Write the page, the summary and the tables into `folder`."""
    summary = summarise_run(findings)
    write_json(folder / SUMMARY, summary)
    write_tables(folder, summary)
    write_text(folder / PAGE, render_page(summary, findings))
