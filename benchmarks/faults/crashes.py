"""A crash at every named point of the commit protocol, and what is seen between the crash and the next run.

The product knows nothing of it: a `sitecustomize` that a child finds on its path wraps the calls of the operating
system by which a commit proceeds, and ends the process at one of them.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.claims import ROOT, state
from benchmarks.faults.chain import CHAIN
from benchmarks.faults.project import Project
from pipeline.stage import WholeStage
from vcrd.errors import VcrdError
from vcrd.io.manifest import check_files, read_manifest

EXIT = 86
_VARIABLE = "VCRD_FAULTS_CRASH"
_SITE = "from benchmarks.faults.crashes import install\n\ninstall()\n"


@dataclass(frozen=True)
class Point:
    """A moment: before or after a call whose path (of a rename: what it leads to) is like `path`."""

    name: str
    call: Literal["fsync", "replace", "rename"]
    moment: Literal["before", "after"]
    path: str


def points(whole: bool) -> list[Point]:
    """Return the eight points of a stage's commit, in the order in which they come."""
    shard, rejects, entry = (
        (r"/out/part-\d+\.parquet$", r"[0-9a-f]{16}/part-\d+\.parquet$", r"/out/_manifest\.json$")
        if whole
        else (r"/part-\d+-\w{16}\.parquet$", r"\.rejects\.parquet$", r"/part-\d+-\w{16}\.json$")
    )
    return [
        Point("rows written, not flushed", "fsync", "before", shard.replace("/part", r"/\.tmp-\d+-part")),
        Point("rows flushed, not named", "replace", "before", shard),
        Point("rows named", "replace", "after", shard),
        Point("rejects named", "replace", "after", rejects),
        Point("entry flushed, not named", "replace", "before", entry),
        Point("entry named", "replace", "after", entry),
        Point("old output moved away", "rename", "after", r"/\.tmp-old-\w+$"),
        Point("output in place, not measured", "rename", "after", r"^data/chain/\w+$"),
    ]


def install() -> None:
    """Arrange, in a child that the environment tells to crash, that it does."""
    value = os.environ.get(_VARIABLE)
    if value is None:
        return
    call, moment, path = value.split(" ", 2)
    original: Callable[..., Any] = getattr(os, call)

    def crashing(*args: Any, **kwargs: Any) -> Any:
        place = str(Path(f"/proc/self/fd/{args[0]}").readlink()) if call == "fsync" else os.fspath(args[1])
        hit = re.search(path, place) is not None
        if hit and moment == "before":
            os._exit(EXIT)
        result = original(*args, **kwargs)
        if hit:
            os._exit(EXIT)
        return result

    setattr(os, call, crashing)


def crash(project: Project, stage: str, point: Point) -> int:
    """Run a stage's command to its crash at a point; returns its exit code."""
    site = project.root / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(_SITE)
    path = os.pathsep.join([str(site), str(ROOT)])
    code, _ = project.stage(stage, PYTHONPATH=path, **{_VARIABLE: f"{point.call} {point.moment} {point.path}"})
    return code


def fault_after(project: Project, stage: str, point: Point, expected: dict[str, str]) -> str | None:
    """Crash a stage at a point and run it again; say what was wrong, None where nothing was."""
    code = crash(project, stage, point)
    if code != (EXIT if project.context().settings.run.workers == 1 else 1):
        return f"exit code {code} instead of a crash"
    folder = project.context().layout.folder(CHAIN[stage].output)
    try:
        if folder.exists():
            check_files(folder, read_manifest(folder))
    except VcrdError as error:
        return f"half an output is seen: {error}"
    kept, begun = project.finished(), len(project.begun())
    project.make(stage)
    if any(project.finished().get(path) != identity for path, identity in kept.items()):
        return "a finished shard was computed again"
    if len(set(project.begun()[begun:])) != len(project.begun()[begun:]):
        return "a shard was computed twice"
    if project.digests(CHAIN[stage].output) != expected:
        return "other bytes"
    return f"left behind: {project.half_visible()}" if project.half_visible() else None


def crash_everywhere(folder: Path, stages: Sequence[str] = tuple(CHAIN), workers: int = 1) -> dict[str, str | None]:
    """Crash some stages at every point, each from a project whose old output is of other parameters."""
    finished = Project(folder / "finished", "run.num_shards=3").make_all()
    old = Project(folder / "old", "run.num_shards=3", "chain.add=2", f"run.workers={workers}").make_all()
    old.set("chain.add=1")
    found: dict[str, str | None] = {}
    for stage in CHAIN:
        if stage in stages:
            expected = finished.digests(CHAIN[stage].output)
            for number, point in enumerate(points(isinstance(CHAIN[stage], WholeStage))):
                project = old.copy(folder / f"{stage}-{number}")
                found[f"{stage}: {point.name}"] = fault_after(project, stage, point, expected)
        old.make(stage)
    return found


def claims() -> Iterator[bool]:
    """Eight points of five stages."""
    with tempfile.TemporaryDirectory() as folder:
        found = crash_everywhere(Path(folder))
    for name, fault in found.items():
        if fault:
            sys.stderr.write(f"{name}: {fault}\n")
    wrong = sum(fault is not None for fault in found.values())
    yield state("crashes at points of the commit that the next run does not undo", wrong, 0, "lower", n=len(found))
