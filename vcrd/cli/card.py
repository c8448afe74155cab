"""`vcrd card`: the data set card of a run, as `vcrd push` would write it."""

from __future__ import annotations

from pathlib import Path

import click

from vcrd.hub import collect, make_card
from vcrd.hub.facts import gather
from vcrd.hub.index import PLOTS
from vcrd.hub.licences import licences_of
from vcrd.hub.plots import draw
from vcrd.io.files import write_text


@click.command(name="card")
@click.argument("folder", metavar="RUN_OR_ARTEFACT_FOLDER", type=click.Path(path_type=Path))
@click.option("--repo", default="org/name", show_default=True, help="For the lines that say how to load it.")
@click.option("--only", multiple=True, metavar="ARTEFACT", help="As in `vcrd push`.")
@click.option("--licence", "--license", help="In the place of those that the problems name.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="A file, in the place of the terminal."
)
def command(folder: Path, repo: str, only: tuple[str, ...], licence: str | None, output: Path | None) -> None:
    """Write the card: what the data is, how it was made, statistics, columns, how to train on it.

    With -o, its pictures are written to plots/ beside it.

    \b
    vcrd card data/demo-math
    vcrd card data/demo-math -o data/demo-math/README.md     load_dataset("data/demo-math", "validity") then works

    Exit codes: 0 done, 2 you can fix it, 3 the data is bad.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    contents = collect(folder, only)
    facts = gather(contents)
    card = make_card(contents, facts, repo, licences_of(contents, licence))
    if output is None:
        click.echo(card, nl=False)
        return
    (output.parent / PLOTS).mkdir(parents=True, exist_ok=True)
    for name, picture in draw(facts).items():
        (output.parent / PLOTS / name).write_bytes(picture)
    write_text(output, card)
    click.echo(f"-> {output}")
