"""The command line of a stage: the same flags, checks and exit codes for every one."""

from __future__ import annotations

import importlib
import json
import math
import os
import pkgutil
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.executors.local import die_with_dvc
from pipeline.layout import Layout
from pipeline.params import Settings, parse_settings, read_yaml, sections_of
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.shards import adopt, plan_shards, stage_facts
from pipeline.shared import shared_scratch
from pipeline.stage import Context, ShardedStage, Stage, WholeStage
from vcrd.errors import ConfigError, VcrdError, leave_closed_pipe
from vcrd.io.manifest import read_manifest
from vcrd.io.parquet import read_table, shard_files

EXIT_CODES = """\b
Exit codes: 0 done, 1 a bug of ours or a killed worker, 2 you can fix it (one line says how), 3 the data is bad,
75 run it again: another process runs this stage, or the deadline left shards to be made, 130 interrupted.
"""
_EXAMPLES = """\b
python -m {module}                 run it, as `dvc repro` does; what is finished is adopted
python -m {module} --dry-run       what it would run, with counts
python -m {module} --preview 2     run a sample of 2 problems and print 2 of its rows
"""
_JOB_ARRAY = """python -m {module} --num-shards 8 --shard-index 3     a task of a job array; then once without
"""
_PREVIEW_CHARACTERS = 160


def seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float:
    """Read hours, minutes and seconds such as `3h45m`; without a value there is no end.

    Raises:
        click.BadParameter: It is something else.
    """
    if value is None:
        return math.inf
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", value)
    if not value or found is None:
        raise click.BadParameter(f"expected hours, minutes and seconds such as 3h45m or 90s, got {value!r}")
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return float(3600 * hours + 60 * minutes + rest)


def stage_main(module: str) -> None:
    """Run the command line of the stage that `module` defines as `STAGE`.

    The module is imported by its name, not taken as `__main__`, so that workers find the same functions.
    """
    stage: Stage = importlib.import_module(module).STAGE
    package = module.rpartition(".")[0]
    about = f"{sys.modules[module].__doc__}\n\n{_EXAMPLES}"
    about += _JOB_ARRAY if isinstance(stage, ShardedStage) else ""

    @click.command(name=f"python -m {module}", help=about.format(module=module), epilog=EXIT_CODES)
    @click.option(
        "--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"), show_default=True
    )
    @click.option("--dry-run", is_flag=True, help="Print what would run, with counts; load nothing.")
    @click.option("--limit", type=click.IntRange(min=1), help="Run a sample of N problems, into .vcrd/samples.")
    @click.option("--preview", type=click.IntRange(min=1), help="Run a sample and print N of its rows.")
    @click.option(
        "--shard-index", type=click.IntRange(min=0), default=0, help="Run every num-shards-th shard from here."
    )
    @click.option("--num-shards", type=click.IntRange(min=1), default=1, help="Tasks of a job array; assemble with 1.")
    @click.option("--deadline", callback=seconds, metavar="TIME", help="Begin no shard after this time: 3h45m, 90s.")
    def command(
        params_file: Path,
        dry_run: bool,
        limit: int | None,
        preview: int | None,
        shard_index: int,
        num_shards: int,
        deadline: float,
    ) -> None:
        if shard_index >= num_shards:
            raise ConfigError(f"--shard-index {shard_index} must be below --num-shards {num_shards}")
        settings = load_settings(params_file, package)
        context = _context(stage, settings, limit or preview, dry_run)
        if dry_run:
            click.echo(describe(stage, context))
            return
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two busy-waiting thread pools make each other crawl
        die_with_dvc()
        _run(stage, context, Split(shard_index, num_shards), deadline)
        if preview:
            _print_preview(context.layout.folder(stage.output), preview)

    guarded(command)()


def guarded(command: click.Command) -> Callable[[], None]:
    """Turn expected errors into one line and their exit code; a bug keeps its traceback."""

    def run() -> None:
        try:
            command.main(standalone_mode=False)
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(130)
        except VcrdError as error:
            click.echo(f"{type(error).__name__}: {error}", err=True)
            sys.exit(error.exit_code)
        except BrokenPipeError:
            leave_closed_pipe()

    return run


def stages_of(package: str) -> dict[str, Stage]:
    """Import every module of a package and return the stages they define, by name."""
    folder = importlib.import_module(package).__path__
    names = [info.name for info in pkgutil.iter_modules(folder) if not info.name.startswith("_")]
    modules = [importlib.import_module(f"{package}.{name}") for name in names]
    return {module.STAGE.name: module.STAGE for module in modules if hasattr(module, "STAGE")}


def load_settings(path: Path, package: str) -> Settings:
    """Read and validate a parameter file against what all stages of a package read: a late section fails early."""
    return parse_settings(read_yaml(path), sections_of(stages_of(package).values()), str(path))


def _context(stage: Stage, settings: Settings, limit: int | None, dry_run: bool) -> Context:
    layout = Layout(settings.preset, store=shared_scratch())
    context = Context(settings, layout, layout)
    if limit is None:
        return context
    context = replace(context, layout=layout.sample(), limit=limit)
    if stage.sample_kind is None or dry_run:
        return context
    return replace(context, only_problems=_first_problems(stage, layout.folder(stage.sample_kind.name), limit))


def _first_problems(stage: Stage, folder: Path, limit: int) -> frozenset[str]:
    found: dict[str, None] = {}
    for file in shard_files(folder):
        rows = read_table(file, columns=["problem_id", "split"]).to_pylist()
        wanted = [row for row in rows if not stage.splits or row["split"] in stage.splits]
        found.update(dict.fromkeys(row["problem_id"] for row in wanted))
        if len(found) >= limit:
            break
    return frozenset(list(found)[:limit])


def _run(stage: Stage, context: Context, split: Split, deadline: float) -> None:
    if isinstance(stage, ShardedStage):
        manifest = run_sharded(stage, context, context.settings.run.workers, split, deadline)
    elif isinstance(stage, WholeStage):
        if split.count > 1 or deadline < math.inf:
            raise ConfigError(f"{stage.name} runs in one piece; leave out --num-shards and --deadline")
        manifest = run_whole(stage, context)
    else:
        raise TypeError(f"{stage.name} is neither sharded nor whole")
    if manifest is not None:
        rejects = "".join(f", {count} rejected: {reason}" for reason, count in manifest.rejects.items())
        click.echo(f"{stage.name}: {manifest.rows} rows{rejects} -> {context.layout.folder(stage.output)}", err=True)


def describe(stage: Stage, context: Context) -> str:
    """Say what a stage would run, with counts where its inputs are there."""
    lines = [f"{stage.name} -> {context.layout.folder(stage.output)}"]
    names = [*stage.whole_inputs, *(kind.name for kind in getattr(stage, "sharded_inputs", ()))]
    missing = False
    for name in names:
        try:
            manifest = read_manifest(context.inputs.folder(name))
            lines.append(f"  reads {name}: {manifest.rows} rows in {len(manifest.files)} files")
        except ConfigError:
            missing = True
            lines.append(f"  reads {name}: not there yet")
    if isinstance(stage, ShardedStage) and not missing:
        tasks = plan_shards(stage, context, stage_facts(stage, context))
        store = context.layout.shared(stage.name)
        shared = {path.name for path in store.iterdir()} if store is not None else set()
        done = sum(task.entry_path.name in shared or adopt(task) is not None for task in tasks)
        lines.append(f"  shards: {len(tasks)}, of which {done} are finished and {len(tasks) - done} would be made")
    lines.extend(f"  {name}: {json.dumps(context.settings.plain[name])}" for name in stage.sections)
    return "\n".join(lines)


def _print_preview(folder: Path, count: int) -> None:
    for file in shard_files(folder):
        for row in read_table(file).slice(0, count).to_pylist():
            count -= 1
            click.echo("\n".join(f"{name:>20}  {_short(value)}" for name, value in row.items()) + "\n")
        if count <= 0:
            break


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return repr(text[:_PREVIEW_CHARACTERS]) + ("…" if len(text) > _PREVIEW_CHARACTERS else "")
