"""`python -m stages errors`: the rejected rows of a run."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pipeline.cli import EXIT_CODES, load_settings, stages_of
from pipeline.layout import Layout
from pipeline.presets import PARAMS
from pipeline.rejects import Sample, StageRejects, read_stage_rejects
from vcrd.errors import ConfigError, did_you_mean

_SHOWN = 160


@click.command(name="errors", epilog=EXIT_CODES)
@click.argument("stage", required=False)
@click.option("--samples", type=click.IntRange(min=0), default=3, show_default=True, help="Rows shown for each reason.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with whole rows.")
def command(stage: str | None, samples: int, as_json: bool) -> None:
    """Print the rejected rows, by reason. Of one stage or of all: how many for which reason, and some of each.

    \b
    python -m stages errors
    python -m stages errors propose_steps --samples 20
    python -m stages errors --json --samples 0 | jq '.stages[] | {stage, reasons}'

    Every rejected row is in data/PRESET/rejects/STAGE (Parquet: record_id, reason, message, row).
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    layout, known = Layout(load_settings(PARAMS, "stages").preset), stages_of("stages")
    if stage is not None and stage not in known:
        raise ConfigError(f"unknown stage {stage!r}{did_you_mean(stage, known)}")
    asked = [stage] if stage else list(known)
    found = [item for name in asked if (item := read_stage_rejects(layout, name, samples)) is not None]
    if not found:
        raise ConfigError(f"{layout.rejects(stage or '*')} is not there yet; run: dvc repro {stage or ''}".rstrip())
    if as_json:
        told = {"preset": layout.preset, "stages": [asdict(item) for item in found]}
        click.echo(json.dumps(told, indent=2))
        return
    for item in found:
        if item.reasons or stage:
            _tell(item)
    if not any(item.reasons for item in found):
        click.echo("nothing was rejected")


def _tell(item: StageRejects) -> None:
    click.echo(f"{item.stage}: {sum(item.reasons.values())} of {item.expected} rows rejected")
    for reason, count in item.reasons.items():
        click.echo(f"  {reason} {count}")
        for sample in item.samples[reason]:
            click.echo(f"    {sample.record_id}  {sample.message}".rstrip())
            if text := _shown(sample):
                click.echo(f"      {text}")


def _shown(sample: Sample) -> str:
    """Return a row's text, or what else there was of it, as one line without control characters."""
    row = sample.row
    if isinstance(row, dict) and set(row) <= {"text", "row"}:
        row = row.get("text", row.get("row"))
    text = "" if row is None else json.dumps(row, ensure_ascii=True)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
