"""`python -m stages deps`: dvc.yaml, from the stages."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.cli import EXIT_CODES, stages_of
from pipeline.graph import check_graph, write_graph


@click.command(name="deps", epilog=EXIT_CODES)
@click.option("--check", is_flag=True, help="Compare only; exit code 2 where dvc.yaml is not up to date.")
def command(check: bool) -> None:
    """Write dvc.yaml from the stages. What each depends on: its modules, its inputs, its parameters.

    \b
    python -m stages deps             after a stage, or what it imports, has changed
    python -m stages deps --check     as `make check` does
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    (check_graph if check else write_graph)(Path("dvc.yaml"), stages_of("stages"))
