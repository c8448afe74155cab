"""Stale work is never reused: whatever decides a shard makes it anew, and what decides nothing makes nothing."""

from __future__ import annotations

import ast
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.claims import ROOT, state
from benchmarks.faults.chain import CHAIN, SUMS, Number, Numbers
from benchmarks.faults.project import Project
from pipeline.cli import load_settings, stages_of
from pipeline.layout import Layout
from pipeline.params import sections_of
from pipeline.shards import shard_file, stage_facts, write_shards
from pipeline.stage import Context, Shard, ShardedStage, ShardResult, Stage, WholeResult, no_facts
from vcrd.io.files import fingerprint

SHARDS = 3
_SUMS, _MARKS, _SQUARES, _TOTALS = (CHAIN[name] for name in ("sums", "marks", "squares", "totals"))
_NULLABLE = pa.schema([field.with_nullable(True) for field in SUMS.schema])


@dataclass(frozen=True)
class Change:
    """Something changed about a finished project, and which shards of a stage it must make anew."""

    name: str
    params: tuple[str, ...] = ()
    stage: Stage = _SUMS
    upstream: tuple[Stage, ...] = ()
    shards: tuple[int, ...] = tuple(range(SHARDS))


def _one_shard_differs(add: int, shard: Shard) -> ShardResult:
    assert isinstance(_SQUARES, ShardedStage)
    return _SQUARES.work(add + (shard.file == shard_file(1)), shard)


def _other_totals(context: Context, out: Path) -> WholeResult:
    totals = [Number("sums", "train", 12345, "")]
    return write_shards(out, SUMS, [(shard_file(0), totals, [])], 1)


def _with(stage: Stage, **fields: Any) -> Stage:
    return replace(stage, **fields)


DECISIVE = (
    Change("seed", ("seed=2",)),
    Change(
        "number of shards",
        (f"run.num_shards={SHARDS + 1}",),
        upstream=(CHAIN["numbers"], _SQUARES),
        shards=(0, 1, 2, 3),
    ),
    Change("a parameter", ("chain.add=2",)),
    Change("another parameter", ("chain.width=65",)),
    Change("stage version", stage=_with(_SUMS, version=2)),
    Change("model revision", stage=_with(_SUMS, facts=lambda context: {"model": "another"})),
    Change("a column may be empty", stage=_with(_SUMS, kind=Numbers("sums", schema=_NULLABLE))),
    Change("one more input of which every byte counts", stage=_with(_SUMS, whole_inputs=("totals",))),
    Change("one shard of an input", upstream=(_with(_SQUARES, version=2, work=_one_shard_differs),), shards=(1,)),
    Change(
        "an input of which every byte counts",
        stage=_MARKS,
        upstream=(_with(_TOTALS, version=2, build=_other_totals),),
    ),
)
NEUTRAL = (
    Change("number of workers", ("run.workers=3",), shards=()),
    Change("share of rejects allowed", ("run.max_reject_share=0.4",), shards=()),
)


def reused(folder: Path, changes: tuple[Change, ...] = DECISIVE + NEUTRAL) -> list[str]:
    """Change one thing at a time about a finished project; returns those that made other shards than they must."""
    finished = Project(folder / "finished", f"run.num_shards={SHARDS}", "chain.rows=60").make_all()
    faults = []
    for number, change in enumerate(changes):
        project = finished.copy(folder / f"change-{number}")
        project.set(*change.params)
        for stage in change.upstream:
            project.make(stage)
        begun = len(project.begun())
        project.make(change.stage)
        wanted = [f"{change.stage.name} {shard_file(index)}" for index in change.shards]
        if (made := project.begun()[begun:]) != wanted:
            faults.append(f"{change.name}: made {made} instead of {wanted}")
    return faults


def reused_by_dvc(folder: Path) -> list[str]:
    """Run the chain by dvc after what decides nothing; returns the neutral changes after which something was made."""
    project = Project(folder / "neutral", f"run.num_shards={SHARDS}", "chain.rows=60", "run.workers=1")
    project.run("dvc", "repro")
    before, begun, faults = project.digests(), project.begun(), []
    code = project.root / "stages/squares.py"
    code.write_text(code.read_text() + "# a comment\n")
    extra: tuple[Mapping[str, str], ...] = ({}, {"PYTHONWARNINGS": "always", "VLLM_LOGGING_LEVEL": "DEBUG"})
    for name, environment in zip(("a comment in the code", "log level"), extra, strict=True):
        status, said = project.run("dvc", "repro", *(["--force"] if environment else []), **environment)
        ran = said.count("Running stage")
        if status or not ran or project.begun() != begun or project.digests() != before:
            faults.append(f"{name}: exit code {status}, {ran} stages ran, made {project.begun()[len(begun) :]}")
    return faults


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield path


def _changed(values: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    head, *rest = path
    return {**values, head: _changed(values[head], tuple(rest)) if rest else f"not {values[head]!r}"}


def blind_parameters(preset: Path) -> tuple[list[str], int]:
    """Change every parameter of every real stage; returns those that leave its fingerprint alone, and their number."""
    stages = stages_of("stages")
    settings = load_settings(preset, "stages")
    blind, count = [], 0
    for name, stage in stages.items():
        bare = replace(stage, facts=no_facts, whole_inputs=())
        before = _fingerprint(bare, settings)
        for section in stage.sections:
            for path in _leaves(settings.plain[section], (section,)):
                count += 1
                changed = replace(settings, plain=_changed(settings.plain, path))
                blind += [f"{name}: {'.'.join(path)}"] if _fingerprint(bare, changed) == before else []
    return blind, count


def _fingerprint(stage: Stage, settings: Any) -> str:
    layout = Layout(settings.preset)
    return fingerprint(stage_facts(stage, Context(settings, layout, layout)))


def undeclared_sections() -> list[str]:
    """Return the sections that the file of a real stage asks for and that are not in its fingerprint.

    What `ModelParams` says is in there as the digests of the models that it names.
    """
    found = []
    for name, stage in stages_of("stages").items():
        tree = ast.parse((ROOT / f"stages/{name}.py").read_text(encoding="utf-8"))
        asked = {
            call.args[0].id
            for call in ast.walk(tree)
            if isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "get"
            and call.args
            and isinstance(call.args[0], ast.Name)
        }
        known = {kind.__name__ for kind in stage.sections.values()} | {"ModelParams"}
        sections = {kind.__name__ for kind in sections_of(stages_of("stages").values()).values()}
        found += [f"{name}: {kind}" for kind in sorted((asked & sections) - known)]
    return found


def claims() -> Iterator[bool]:
    """Every field of the fingerprint, and what is not in it."""
    with tempfile.TemporaryDirectory() as name:
        faults = [*reused(Path(name)), *reused_by_dvc(Path(name))]
    blind, count = blind_parameters(ROOT / "presets/demo-math.yaml")
    undeclared = undeclared_sections()
    sys.stderr.writelines(f"{fault}\n" for fault in [*faults, *blind, *undeclared])
    cases = len(DECISIVE) + len(NEUTRAL) + 2
    yield state("changes that make other shards anew than those they decide", len(faults), 0, "lower", n=cases)
    text = "parameters of the real stages that could change without making their work anew"
    yield state(text, len(blind) + len(undeclared), 0, "lower", n=count)
