"""`vcrd inspect`: a training data set as one page for a browser."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vcrd.inspect import LIMIT, gather_page, write_page
from vcrd.io.stores import as_path


@click.command(name="inspect")
@click.argument("source", metavar="DIR", type=click.Path())
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The page (HTML).")
@click.option("--tokenizer", help="The student's folder or Hub name; without it, the one that lies in the run.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    show_default=True,
    help="Examples at most: whole problems, always the same ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(source: str, output: Path, tokenizer: str | None, limit: int, as_json: bool) -> None:
    """Write one page to look at a training data set with.

    \b
    vcrd inspect data/demo-math/training -o page.html
    vcrd inspect pulled/training -o page.html --tokenizer STUDENT --limit 200

    DIR is a run's folder, its training folder, a training data set that lies alone, or the URL of one of these in an
    object store (s3://bucket/run). The page shows each problem's rollouts step by step: the student's and the
    teacher's step side by side, the evidence for each, the target, and its tokens shaded by weight. It needs no
    network, and nothing of the data can run in it.

    Exit codes: 0 done, 2 you can fix it (a folder, the tokenizer), 3 the data is bad.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    page = gather_page(as_path(source), tokenizer=tokenizer, limit=limit)
    write_page(output, page)
    if as_json:
        told = {"examples": page.examples, "problems": len(page.problems), "notes": list(page.notes)}
        click.echo(json.dumps({"output": str(output), **told}))
        return
    for note in page.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"{page.examples} examples of {len(page.problems)} problems -> {output}")
