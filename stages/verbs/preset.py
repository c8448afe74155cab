"""`python -m stages preset`: complete parameter files."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pipeline.cli import EXIT_CODES, stages_of
from pipeline.meanings import describe_parameters
from pipeline.params import sections_of
from pipeline.presets import PARAMS, active_preset, commented, find_preset, read_preset, read_presets
from stages.verbs import preset_docs, preset_use


@click.group(name="preset")
def group() -> None:
    """List and show presets, and write params.yaml."""


group.add_command(preset_use.command)
group.add_command(preset_docs.command)


@group.command("list", epilog=EXIT_CODES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_presets(as_json: bool) -> None:
    """Print the presets and what each is for. The active one has a star.

    \b
    python -m stages preset list --json | jq -r .active
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    active, known = active_preset(), read_presets()
    if as_json:
        told = [{"name": item.name, "description": item.description} for item in known.values()]
        click.echo(json.dumps({"active": active, "presets": told}, indent=2, ensure_ascii=False))
        return
    width = max(len(name) for name in known)
    for name, item in known.items():
        click.echo(f"{'*' if name == active else ' '} {name:<{width}}  {item.description}")


@group.command("show", epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object: values, and for each key what it may be and means."
)
def show_preset(name: str | None, as_json: bool) -> None:
    """Print a preset with what each key means, as YAML. Without NAME: params.yaml.

    \b
    python -m stages preset show gsm8k-qwen
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    shown = find_preset(name) if name else read_preset(PARAMS)
    parameters = describe_parameters(sections_of(stages_of("stages").values()))
    if as_json:
        keys = [item for top in parameters for item in (top, *top.below())]
        told = {**asdict(shown), "keys": {item.key: [item.allowed, item.meaning] for item in keys}}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    click.echo(f"# {shown.description}\n{commented(parameters, shown.values)}")
