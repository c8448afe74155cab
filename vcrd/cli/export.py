"""`vcrd export`: a `training` data set in the columns of somebody else's trainer."""

from __future__ import annotations

from pathlib import Path

import click

from vcrd.export import TARGETS, export_training


@click.command(name="export")
@click.argument("source", metavar="RUN_OR_TRAINING_FOLDER", type=click.Path(path_type=Path))
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
def command(source: Path, to: str, output: Path, drop: tuple[str, ...], tokenizer: str | None, overwrite: bool) -> None:
    """Write a training data set for another trainer.

    trl: Parquet for WeightedSFTTrainer. ms-swift: a cached data set with a loss_scale for each token. llama-factory:
    messages with a loss_weight (its v1), and a chat template that leads back to the same token ids. axolotl-kd: the
    teacher's candidates, without weights. docs/trainers.md shows how to use each. Rows that cannot be carried are in
    OUTPUT.rejects.jsonl, with the reason.
    """
    done = export_training(source, to, output, drop=drop, tokenizer=tokenizer, overwrite=overwrite)
    for lost in done.lost:
        click.echo(f"warning: {to} {lost}", err=True)
    told = ", ".join(f"{reason} {count}" for reason, count in done.rejects.items()) or "none"
    click.echo(f"{done.rows} rows: {done.written} written, rejected: {told} -> {output}")
