"""`vcrd validate`: whether a data set is what it says."""

from __future__ import annotations

import json

import click

from vcrd.errors import SchemaError
from vcrd.io.stores import as_path
from vcrd.validate import Findings, validate


@click.command(name="validate")
@click.argument("folder", metavar="RUN_OR_ARTEFACT_FOLDER", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, also where something is wrong.")
def command(folder: str, as_json: bool) -> None:
    """Check files, checksums, schema, keys and row order of any artefact, and the invariants of `training`.

    \b
    vcrd validate data/demo-math                 every artefact of a run
    vcrd validate data/demo-math/training        one of them
    vcrd validate s3://bucket/demo-math          as it lies in an object store
    vcrd validate data/demo-math --json | jq .ok

    Of `training`: lengths, labels, ids in the vocabulary, teacher's probabilities, validities, targets and strengths,
    weights of mean 1 and of one scale; and prefixes, steps and validities one by one where the run's rollouts,
    proposals and validity lie beside it. What could not be checked is said. Faults name file, column and row (from 0).

    Exit codes: 0 all holds, 2 nothing to check, 3 the data is bad.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    found = validate(as_path(folder))
    faults = sum(sum(item.counts.values()) for item in found)
    if as_json:
        told = {"folder": folder, "ok": not faults, "artefacts": [item.as_json() for item in found]}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        for item in found:
            _tell(item)
    if faults:
        first = next(item for item in found if item.faults)
        raise SchemaError(f"{faults} faults; the first, in {first.artefact}: {first.faults[0]}")


def _tell(item: Findings) -> None:
    click.echo(f"{item.folder} ({item.artefact}, {item.rows} rows)")
    for check in item.as_json()["checks"]:
        detail = f"  {check['detail']}" if check["detail"] else ""
        click.echo(f"  {check['status']:<12}{check['check']}{detail}")
    for fault in item.faults:
        click.echo(f"    {fault.check}: {fault}")
    more = sum(item.counts.values()) - len(item.faults)
    if more:
        click.echo(f"    and {more} more")
