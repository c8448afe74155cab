"""`vcrd export`: a `training` data set in the columns of somebody else's trainer."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from vcrd.export import TARGETS, export_training
from vcrd.io.stores import as_path


@click.command(name="export")
@click.argument("source", metavar="RUN_OR_TRAINING_FOLDER", type=click.Path())
@click.option("--to", type=click.Choice(list(TARGETS)), required=True, help="Whose columns.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="The folder to make.")
@click.option(
    "--drop",
    type=click.Choice(["teacher", "weights"]),
    multiple=True,
    help="Go on without what the trainer has no place for; else such a data set is refused.",
)
@click.option("--tokenizer", help="The student's folder or Hub name (ms-swift, llama-factory).")
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    source: str,
    to: str,
    output: Path,
    drop: tuple[str, ...],
    tokenizer: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a training data set for another trainer.

    \b
    vcrd export data/demo-math --to trl -o for-a-colleague
    vcrd export data/demo-math --to ms-swift --drop teacher --tokenizer STUDENT -o for-swift

    trl: Parquet for WeightedSFTTrainer. ms-swift: a cached data set with a loss_scale for each token. llama-factory:
    messages with a loss_weight (its v1), and a chat template that leads back to the same token ids. axolotl-kd: the
    teacher's candidates, without weights. docs/trainers.md shows how to use each. Rows that cannot be carried are in
    OUTPUT.rejects.jsonl, with the reason.

    Exit codes: 0 done, 2 you can fix it (what the trainer cannot carry, the tokenizer, a folder), 3 the data is bad.
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    done = export_training(as_path(source), to, output, drop=drop, tokenizer=tokenizer, overwrite=overwrite)
    for lost in done.lost:
        click.echo(f"warning: {to} {lost}", err=True)
    if as_json:
        click.echo(json.dumps({"to": to, "output": str(output), **asdict(done)}))
        return
    told = ", ".join(f"{reason} {count}" for reason, count in done.rejects.items()) or "none"
    click.echo(f"{done.rows} rows: {done.written} written, rejected: {told} -> {output}")
