"""Verbs on a run: `python -m stages preset|show|errors|deps`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import click
import yaml

from pipeline.cli import guarded, load_settings, stages_of
from pipeline.graph import check_graph, stage_order, write_graph
from pipeline.layout import Layout
from pipeline.params import parse_settings, read_yaml, sections_of, set_values
from pipeline.timings import read_times, time_figures, times_text
from vcrd.errors import ConfigError, did_you_mean
from vcrd.io.files import read_json, write_text
from vcrd.io.parquet import read_table
from vcrd.report import PAGE, SUMMARY, as_text

PRESETS, PARAMS, KEPT = Path("presets"), Path("params.yaml"), Path(".vcrd")


@click.group(help=__doc__)
def main() -> None:
    """Group the verbs."""


@main.group()
def preset() -> None:
    """Complete parameter files in presets/."""


def _presets() -> dict[str, Path]:
    return {path.stem: path for path in sorted(PRESETS.glob("*.yaml"))}


def _active() -> str | None:
    """Return the preset of params.yaml; None where there is no such file."""
    if not PARAMS.is_file():
        return None
    try:
        return str(read_yaml(PARAMS).get("preset"))
    except ConfigError:
        return "unreadable"


@preset.command("list")
def list_presets() -> None:
    """Print the names of the presets; the active one has a star."""
    active = _active()
    for name in _presets():
        click.echo(f"{'*' if name == active else ' '} {name}")


@preset.command("use")
@click.argument("name")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="e.g. --set train.epochs=2 (YAML values)")
@click.option("--keep", is_flag=True, help="Leave params.yaml as it is if it is this preset's.")
def use_preset(name: str, changes: tuple[str, ...], keep: bool) -> None:
    """Write params.yaml from a preset; nothing is written where a key or a value is wrong."""
    active = _active()
    if keep and active == name:
        return
    known = _presets()
    if name not in known:
        raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, known)}")
    values = set_values(read_yaml(known[name]), changes)
    parse_settings(values, sections_of(stages_of("stages").values()), str(known[name]))
    header = f"# Written by `python -m stages preset use {name}`; edit freely.\n"
    text = header + yaml.safe_dump(values, sort_keys=False)
    if active not in (None, name):
        before = KEPT / f"params-{active}.yaml"
        before.parent.mkdir(exist_ok=True)
        shutil.copyfile(PARAMS, before)
        click.echo(f"what {PARAMS} held of {active} is kept in {before}", err=True)
    write_text(PARAMS, text)
    click.echo(f"params.yaml: {name}{' with ' if changes else ''}{', '.join(changes)}", err=True)


@main.command()
@click.option("--timings", is_flag=True, help="How long each stage took, from .vcrd/timings; outputs hold no times.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: all figures; with --timings these alone.")
def show(timings: bool, as_json: bool) -> None:
    """Print the figures of the active run."""
    layout = Layout(load_settings(PARAMS, "stages").preset)
    path = layout.folder("report") / SUMMARY
    if timings:
        tokens = read_json(path).get("tokens", []) if path.is_file() else []
        learned = {item["stage"]: item["trained"] for item in tokens}
        times = read_times(layout, stage_order(stages_of("stages")), learned)
        click.echo(json.dumps(time_figures(times), indent=2) if as_json else times_text(times))
    else:
        figures = read_json(path)
        click.echo(json.dumps(figures, indent=2) if as_json else as_text(figures, layout.folder("report") / PAGE))


@main.command()
@click.argument("stage", required=False)
def errors(stage: str | None) -> None:
    """Print the rejected rows of the active run, of one stage or of all."""
    layout, known = Layout(load_settings(PARAMS, "stages").preset), stages_of("stages")
    if stage is not None and stage not in known:
        raise ConfigError(f"unknown stage {stage!r}{did_you_mean(stage, known)}")
    for name in [stage] if stage else known:
        for path in sorted(layout.rejects(name).glob("*.parquet")):
            for row in read_table(path).to_pylist():
                click.echo(f"{name}  {row['reason']}  {row['record_id']}  {row['message']}")


@main.command()
@click.option("--check", is_flag=True, help="Compare only; exit code 2 where dvc.yaml is not up to date.")
def deps(check: bool) -> None:
    """Write into dvc.yaml what each stage depends on: its modules, its inputs, its parameters."""
    stages: dict[str, Any] = stages_of("stages")
    if check:
        check_graph(Path("dvc.yaml"), stages)
    else:
        write_graph(Path("dvc.yaml"), stages)


if __name__ == "__main__":
    guarded(main)()
