"""`vcrd push`: a run's data as a data set of the Hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from vcrd.errors import ConfigError
from vcrd.hub import Published, publish, push


@click.command(name="push")
@click.argument("folder", metavar="RUN_OR_ARTEFACT_FOLDER", type=click.Path(path_type=Path))
@click.argument("repo", metavar="ORG/NAME_OR_URL")
@click.option("--only", multiple=True, metavar="ARTEFACT", help="Share this one (and the models); may be repeated.")
@click.option("--licence", "--license", help="In the place of those that the problems name.")
@click.option("--public", is_flag=True, help="A new repository is made public; needed for one that is.")
@click.option("--prune", is_flag=True, help="Remove tables of an earlier push that this one does not hold.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    folder: Path, repo: str, only: tuple[str, ...], licence: str | None, public: bool, prune: bool, as_json: bool
) -> None:
    """Share a run's tables on the Hugging Face Hub, in one commit: readers see all of it or nothing.

    \b
    vcrd push data/demo-math org/demo-math
    vcrd push data/demo-math org/demo-math --only training --only validity
    vcrd push data/my-run org/my-run --licence cc-by-4.0 --public
    vcrd push data/demo-math s3://bucket/demo-math

    Checksums are compared before and behind the way. Run it again after it was stopped: what has arrived is not sent
    again. A licence is needed; it is taken from the problems. Log in with `hf auth login` or HF_TOKEN.

    Every table is validated first. The tables of a repository are always of one run: a push without some that lie there
    is refused, or removes them with --prune. What people write into the card on the Hub is kept: above and below the
    part between two marks, and in the metadata all but configs, features, size and licence.

    A URL names a folder of an object store (s3://, gs://): there each table appears when its manifest is put, last, and
    stays as it is; vcrd validate and the trainers read it there. The credentials are those of the environment.

    Exit codes: 0 done, 2 you can fix it (login, licence, network), 3 the data is bad.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    if "://" in repo:
        if licence or public or prune:
            raise ConfigError("--licence, --public and --prune are for the Hub; leave them out for a URL")
        _tell_published(publish(folder, repo, only=only), repo, as_json)
        return
    done = push(folder, repo, only=only, licence=licence, private=not public, prune=prune)
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    seen = "private" if done.private else "public"
    what = f"{done.uploaded} of {done.files} files were new or had changed" if done.uploaded else "it was there already"
    click.echo(f"{repo} ({seen}) at {done.commit[:8]}: {done.bytes:,} bytes, {what}")
    _tell_home(done.telling)


def _tell_published(done: Published, url: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(done)))
        return
    what = f"{done.uploaded} of {done.files} files were put" if done.uploaded else "it was there already"
    click.echo(f"{url}: {done.bytes:,} bytes, {what}")
    _tell_home(done.telling)


def _tell_home(telling: Sequence[str]) -> None:
    if telling:
        click.echo(f"these name somebody's home folder, as the run has it from params.yaml: {', '.join(telling)}")
