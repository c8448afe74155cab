"""Verbs on a run, in a clone of the project."""

from __future__ import annotations

import click

from pipeline.cli import EXIT_CODES, guarded
from stages.verbs import deps, errors, plan, preset, show


@click.group(name="python -m stages", epilog=EXIT_CODES)
def main() -> None:
    """Verbs on the run that params.yaml describes.

    \b
    python -m stages preset use demo-math      choose the parameters
    python -m stages plan                      what a run will take
    dvc repro                                  run
    python -m stages show                      its figures
    python -m stages errors                    its rejected rows, by reason

    A single stage: python -m stages.NAME --help.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo


for verb in (preset.group, show.command, errors.command, plan.command, deps.command):
    main.add_command(verb)

if __name__ == "__main__":
    guarded(main)()
