"""Put a run's figures into one self-contained page, a JSON summary, and tables for `dvc plots`."""

from __future__ import annotations

from pathlib import Path

from pipeline.cli import stage_main
from pipeline.shards import all_files
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.report import PLOTS, READS, gather_findings, write_report


def build(context: Context, out: Path) -> WholeResult:
    """Gather and write."""
    write_report(out, gather_findings(context.inputs.folder, context.settings.preset, context.settings.seed))
    return WholeResult(all_files(out))


STAGE = WholeStage(
    name="write_report",
    version=2,
    sections={},
    output="report",
    whole_inputs=READS,
    build=build,
    plots=PLOTS,
)

if __name__ == "__main__":
    stage_main("stages.write_report")
