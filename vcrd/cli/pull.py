"""`vcrd pull`: a data set that `vcrd push` wrote, proved, in a folder."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path

import click

from vcrd.hub import Pulled, pull
from vcrd.hub.index import PARAMS


@click.command(name="pull")
@click.argument("repo", metavar="ORG/NAME")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--revision", help="A branch, tag or commit.")
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(repo: str, folder: Path, revision: str | None, overwrite: bool, as_json: bool) -> None:
    """Bring a data set from the Hub; the folder appears when every checksum in it holds.

    \b
    vcrd pull org/demo-math data/demo-math
    vcrd pull org/demo-math somewhere --revision v1

    Run it again after it was stopped: it goes on. In a clone of the project, into the folder that the run had there, it
    also restores the entries of dvc.lock and says which one command trains the student from it.

    Exit codes: 0 done, 2 you can fix it (name, login, folder, network), 3 what came is not what was pushed, 75 busy.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    done = pull(repo, folder, revision=revision, overwrite=overwrite)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    size = f"{done.files} files, {done.bytes:,} bytes, {done.downloaded} downloaded"
    click.echo(f"{repo} at {done.commit[:8]}: {size} -> {folder}")
    _tell_lock(done, folder / PARAMS)


def _tell_lock(done: Pulled, params: Path) -> None:
    if done.lock_left:
        click.echo(f"no entries of dvc.lock were restored: {done.lock_left}")
    elif done.changed:
        click.echo(
            f"this clone differs from what made the data in {len(done.changed)} places, first {done.changed[0]!r}"
        )
        if params.is_file() and any(item.startswith(PARAMS) for item in done.changed):
            click.echo(f"its parameters came along; take them: cp {shlex.quote(str(params))} {PARAMS}")
        click.echo("train from it all the same: dvc repro --single-item train_student")
    else:
        click.echo("train from it: dvc repro --allow-missing train_student")
