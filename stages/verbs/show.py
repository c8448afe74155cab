"""`python -m stages show`: the figures of a run, and how long its stages took."""

from __future__ import annotations

import json

import click

from pipeline.cli import EXIT_CODES, load_settings, stages_of
from pipeline.graph import stage_order
from pipeline.layout import Layout
from pipeline.presets import PARAMS
from pipeline.timings import read_times, time_figures, times_text
from vcrd.io.files import read_json
from vcrd.report import PAGE, SUMMARY, as_text


@click.command(name="show", epilog=EXIT_CODES)
@click.option("--timings", is_flag=True, help="How long each stage took, from .vcrd/timings; outputs hold no times.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: all figures; with --timings these alone.")
def command(timings: bool, as_json: bool) -> None:
    """Print the figures of the run. write_report makes them, the last stage.

    \b
    python -m stages show
    python -m stages show --json
    python -m stages show --timings
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    layout = Layout(load_settings(PARAMS, "stages").preset)
    path = layout.folder("report") / SUMMARY
    if timings:
        tokens = read_json(path).get("tokens", []) if path.is_file() else []
        learned = {item["stage"]: item["trained"] for item in tokens}
        times = read_times(layout, stage_order(stages_of("stages")), learned)
        click.echo(json.dumps(time_figures(times), indent=2) if as_json else times_text(times))
    else:
        figures = read_json(path)
        click.echo(json.dumps(figures, indent=2) if as_json else as_text(figures, layout.folder("report") / PAGE))
