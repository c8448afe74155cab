"""`python -m stages preset use`: params.yaml from a preset."""

from __future__ import annotations

import click

from pipeline.cli import EXIT_CODES, stages_of
from pipeline.params import parse_settings, sections_of, set_values
from pipeline.presets import PARAMS, active_preset, find_preset, write_params


@click.command(name="use", epilog=EXIT_CODES)
@click.argument("name")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="e.g. --set train.epochs=2 (YAML values)")
@click.option("--keep", is_flag=True, help="Leave params.yaml as it is if it is this preset's.")
def command(name: str, changes: tuple[str, ...], keep: bool) -> None:
    """Write params.yaml from a preset. Nothing is written where a key or a value is wrong.

    \b
    python -m stages preset use demo-math
    python -m stages preset use demo-math --set train.epochs=1 --set 'proposals.stop=["\\n"]'
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    if keep and active_preset() == name:
        return
    chosen = find_preset(name)
    values = set_values(chosen.values, changes)
    parse_settings(values, sections_of(stages_of("stages").values()), f"presets/{name}.yaml")
    kept = write_params(name, values)
    if kept:
        click.echo(f"what {PARAMS} held of another preset is kept in {kept}", err=True)
    click.echo(f"{PARAMS}: {name}{' with ' if changes else ''}{', '.join(changes)}", err=True)
