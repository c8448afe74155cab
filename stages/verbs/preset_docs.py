"""`python -m stages preset docs`: the page docs/presets.md."""

from __future__ import annotations

import click

from pipeline.cli import EXIT_CODES, stages_of
from pipeline.meanings import describe_parameters
from pipeline.params import sections_of
from pipeline.presets import read_presets
from pipeline.reference import reference_page


@click.command(name="docs", epilog=EXIT_CODES)
def command() -> None:
    """Print docs/presets.md.

    \b
    python -m stages preset docs > docs/presets.md
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    stages = stages_of("stages")
    sections = sections_of(stages.values())
    readers = {name: [stage.name for stage in stages.values() if name in stage.sections] for name in sections}
    click.echo(reference_page(describe_parameters(sections), readers, read_presets()), nl=False)
