"""`vcrd inspect`: a training data set as one page for a browser."""

from __future__ import annotations

from pathlib import Path

import click

from vcrd.inspect import LIMIT, gather_page, write_page


@click.command(name="inspect", epilog="Example: vcrd inspect data/demo-math/training -o page.html")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The page (HTML).")
@click.option("--tokenizer", help="The student's folder or Hub name; without it, the one that lies in the run.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    show_default=True,
    help="Examples at most: whole problems, always the same ones.",
)
def command(source: Path, output: Path, tokenizer: str | None, limit: int) -> None:
    """Write one page to look at a training data set with.

    DIR is a run's folder, its training folder, or a training data set that lies alone. The page shows each problem's
    rollouts step by step: the student's and the teacher's step side by side, the evidence for each, the target, and its
    tokens shaded by weight. It needs no network, and nothing of the data can run in it.
    """
    page = gather_page(source, tokenizer=tokenizer, limit=limit)
    write_page(output, page)
    for note in page.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{page.examples} examples of {len(page.problems)} problems -> {output}")
