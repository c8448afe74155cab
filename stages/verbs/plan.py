"""`python -m stages plan`: what a run will take, before it runs."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pipeline.cli import EXIT_CODES, stages_of
from pipeline.engines import EngineParams
from pipeline.params import Settings, parse_settings, sections_of, set_values
from pipeline.plan import (
    Plan,
    StagePlan,
    plan_figures,
    plan_from_probe,
    plan_text,
    read_amounts,
    read_workers,
    with_speeds,
)
from pipeline.presets import PARAMS, find_preset, read_preset
from pipeline.probe import run_probe
from vcrd.models import COMPLETER, ROLES
from vcrd.problems import ProblemParams
from vcrd.records import PROBLEMS
from vcrd.workload import ASSUMED, Shape, split_sizes, workload


@click.command(name="plan", epilog=EXIT_CODES)
@click.option("--preset", help="Plan for a preset instead of params.yaml.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change a parameter, for the plan alone.")
@click.option(
    "--probe", type=click.IntRange(min=2), default=16, show_default=True, help="Problems of each split to measure."
)
@click.option("--on-paper", metavar="prompt=N,solution=N,steps=N", help="Run nothing; tokens and steps as given.")
@click.option("--tokens-per-second", metavar="NAME=N,...", default="", help="Of a worker, by role or stage.")
@click.option("--problems", type=click.IntRange(min=1), help="Plan for so many problems.")
@click.option("--workers", metavar="N,N,...", default="1,8,64", show_default=True, help="Time for so many workers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    preset: str | None,
    changes: tuple[str, ...],
    probe: int,
    on_paper: str | None,
    tokens_per_second: str,
    problems: int | None,
    workers: str,
    as_json: bool,
) -> None:
    """Say what a run will take. Requests, tokens, bytes, hours and time, stage by stage (docs/planning.md).

    Runs every stage on a few problems, in .vcrd/probe, and extrapolates; or, on paper, runs nothing.

    \b
    python -m stages plan --workers 1,2
    python -m stages plan --problems 1000000 --tokens-per-second teacher=25000,student=60000
    python -m stages plan --preset gsm8k-qwen --on-paper prompt=150,solution=300,steps=6
    """  # noqa: D301 - the mark is a backspace itself, which an r would undo
    stages = stages_of("stages")
    speeds = read_amounts(tokens_per_second, "--tokens-per-second", [*ROLES, COMPLETER, *stages])
    shown = read_workers(workers)
    values = set_values((find_preset(preset) if preset else read_preset(PARAMS)).values, changes)
    settings = parse_settings(values, sections_of(stages.values()), f"presets/{preset}.yaml" if preset else str(PARAMS))
    if on_paper is None:
        measured = run_probe(stages, "stages", settings, PROBLEMS.name, probe)
        plan = plan_from_probe(measured, settings, problems, settings.get(EngineParams).at_a_time)
    else:
        plan = _on_paper(settings, Shape.of(read_amounts(on_paper, "--on-paper")), problems)
    plan = with_speeds(plan, speeds)
    click.echo(json.dumps(plan_figures(plan, shown), indent=2) if as_json else plan_text(plan, shown))


def _on_paper(settings: Settings, shape: Shape, problems: int | None) -> Plan:
    params = settings.get(ProblemParams)
    sizes = split_sizes(params.splits, problems or params.limit or sum(asdict(params.splits).values()))
    works = [StagePlan(**asdict(work)) for work in workload(settings.get, sizes, shape)]
    return Plan.of(settings, sizes, works, None, ASSUMED)
