"""dvc.yaml, written from the stages: what each runs, reads and writes, its parameters, and its code.

Code is a dependency: every local module that a stage imports, whatever the depth, by a walk over the syntax trees.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline.layout import Layout
from pipeline.stage import ShardedStage, Stage
from vcrd.errors import ConfigError
from vcrd.io.files import write_text

_PRESET = "${preset}"
_ALWAYS = ("seed", "run.num_shards", "run.max_reject_share")
_HEADER = "# The stage graph. Written by `python -m stages deps` from the modules in stages/; do not edit.\n"


def code_of(module: str, root: Path = Path()) -> list[str]:
    """Return the files of a module and of every local module that it imports, at any depth, sorted."""
    seen: dict[str, None] = {}
    waiting = [module]
    while waiting:
        path = _file_of(waiting.pop(), root)
        if path is None or path.as_posix() in seen:
            continue
        seen[path.as_posix()] = None
        waiting += _imports(ast.parse((root / path).read_text(encoding="utf-8")))
    return sorted(seen)


def _file_of(module: str, root: Path) -> Path | None:
    base = Path(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if (root / path).is_file():
            return path
    return None


def _imports(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names + [name.rpartition(".")[0] for name in names if "." in name]


def graph_of(stages: Mapping[str, Stage]) -> dict[str, Any]:
    """Return the content of dvc.yaml, stages in the order in which they run, and the plots of what they write."""
    ordered = [stages[name] for name in stage_order(stages)]
    plots = [{name: _plot(stage, entry)} for stage in ordered for name, entry in stage.plots.items()]
    return {"stages": {stage.name: _entry(stage) for stage in ordered}, **({"plots": plots} if plots else {})}


def _plot(stage: Stage, entry: Mapping[str, Any]) -> dict[str, Any]:
    folder = Layout(_PRESET).folder(stage.output)
    return {**entry, "y": {(folder / file).as_posix(): columns for file, columns in entry["y"].items()}}


def _inputs(stage: Stage) -> list[str]:
    sharded = [kind.name for kind in stage.sharded_inputs] if isinstance(stage, ShardedStage) else []
    return list(dict.fromkeys([*stage.also_reads, *sharded, *stage.whole_inputs]))


def stage_order(stages: Mapping[str, Stage]) -> list[str]:
    """Return the stages' names in the order in which they run."""
    makers = {stage.output: name for name, stage in stages.items()}
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        for artefact in _inputs(stages[name]):
            visit(makers[artefact])
        done.setdefault(name)

    for name in sorted(stages):
        visit(name)
    return list(done)


def _entry(stage: Stage) -> dict[str, Any]:
    layout = Layout(_PRESET)
    module = f"stages.{stage.name}"
    data = [layout.folder(artefact).as_posix() for artefact in _inputs(stage)]
    return {
        "cmd": f"python -m {module}",
        "deps": [*(f"${{{key}}}" for key in stage.paths), *data, *code_of(module)],
        "params": ["preset", *_ALWAYS, *stage.sections],
        "outs": [layout.folder(stage.output).as_posix(), layout.rejects(stage.name).as_posix()],
        "metrics": [{layout.metrics(stage.name).as_posix(): {"cache": False}}],
    }


def _text(stages: Mapping[str, Stage]) -> str:
    return _HEADER + yaml.safe_dump(graph_of(stages), sort_keys=False, width=120)


def write_graph(path: Path, stages: Mapping[str, Stage]) -> None:
    """Write dvc.yaml."""
    text = _text(stages)
    write_text(path, text)


def check_graph(path: Path, stages: Mapping[str, Stage]) -> None:
    """Compare dvc.yaml with the stages.

    Raises:
        ConfigError: A dependency, parameter, output or plot is missing or too many.
    """
    graph, written = graph_of(stages), yaml.safe_load(path.read_text(encoding="utf-8"))
    if graph.get("plots") != written.get("plots"):
        raise ConfigError(f"{path}: plots are not up to date; run: python -m stages deps")
    expected, got = graph["stages"], written["stages"]
    for name in dict.fromkeys([*expected, *got]):
        ours, theirs = expected.get(name, {}), got.get(name, {})
        for key in dict.fromkeys([*ours, *theirs]):
            if ours.get(key) != theirs.get(key):
                differing = sorted(_flat(ours.get(key)) ^ _flat(theirs.get(key))) or ["their order"]
                what = ", ".join(differing)
                raise ConfigError(f"{path}: stage {name}, {key} is not up to date ({what}); run: python -m stages deps")


def _flat(value: Any) -> set[str]:
    return {str(item) for item in value} if isinstance(value, Iterable) and not isinstance(value, str) else {str(value)}
