"""`python -m stages show`: the figures of a run."""

from __future__ import annotations

import click

from pipeline.cli import EXIT_CODES, load_settings
from pipeline.layout import Layout
from pipeline.presets import PARAMS
from vcrd.io.files import read_json
from vcrd.report import PAGE, SUMMARY, as_text


@click.command(name="show", epilog=EXIT_CODES)
def command() -> None:
    """Print the figures of the run. write_report makes them, the last stage.

    \b
    python -m stages show
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    folder = Layout(load_settings(PARAMS, "stages").preset).folder("report")
    click.echo(as_text(read_json(folder / SUMMARY), folder / PAGE))
