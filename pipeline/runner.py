"""Run a stage: plan, adopt what is finished, make the rest under a lock, assemble the output folder.

Finished work lives in scratch, which DVC does not know; outputs are copies of it. Kill anything at any moment and run
again: the output is byte-equal to an undisturbed run's, and nothing that was finished is made twice.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from pipeline.executors import run_tasks
from pipeline.shards import ShardTask, adopt, plan_shards, shard_file, stage_facts, write_rejects
from pipeline.shared import Piece, share, share_all
from pipeline.stage import Context, ShardedStage, Stage, WholeStage
from vcrd.errors import SchemaError, UnfinishedError, VcrdError
from vcrd.io.files import (
    check_seal,
    fingerprint,
    fsync_path,
    naming_full_disk,
    read_json,
    remove_temporaries,
    removed_on_failure,
    sealed,
    sha256_file,
    write_json,
)
from vcrd.io.lock import locked
from vcrd.io.manifest import Manifest, check_files, read_manifest, write_manifest
from vcrd.io.progress import Progress
from vcrd.io.stores import StorePath

_REJECTS = "rejects.json"


@dataclass(frozen=True)
class Made:
    """What a run of a stage made, beside what it adopted: shards, rows in them, tokens that an engine answered."""

    shards: int = 0
    rows: int = 0
    tokens: int | None = None


@dataclass(frozen=True)
class Split:
    """Shards whose number is `index` modulo `count`: one task of a job array."""

    index: int = 0
    count: int = 1

    def takes(self, number: int) -> bool:
        """Tell whether a shard is of this split."""
        return number % self.count == self.index


def run_sharded(
    stage: ShardedStage, context: Context, workers: int, split: Split, deadline: float = math.inf
) -> Manifest | None:
    """Run a sharded stage.

    Args:
        stage: What to run.
        context: Of the run.
        workers: Shards that are made at a time.
        split: Which shards are this task's.
        deadline: No shard is begun after so many seconds.

    Returns:
        What was assembled; None for a split that is not the whole.

    Raises:
        UnfinishedError: The deadline left shards to be made.
    """
    facts = stage_facts(stage, context)
    tasks = plan_shards(stage, context, facts)
    scratch = context.layout.scratch(stage.name)
    started = time.monotonic()
    with locked(scratch / ".lock", shared=split.count > 1), locked(scratch / f".lock-{split.index}-{split.count}"):
        if split.count == 1:
            remove_temporaries(scratch)
        mine = [task for number, task in enumerate(tasks) if split.takes(number)]
        made = _make_missing(stage, context, mine, workers, started + deadline)
        if split.count > 1:
            return None
        entries = [entry for task in tasks if (entry := adopt(task)) is not None]
        if len(entries) != len(tasks):
            raise SchemaError("a shard changed after it was written", file=scratch)
        manifest = Manifest(
            artefact=stage.output,
            stage=stage.name,
            stage_version=stage.version,
            provenance=facts,
            files=entries,
        )
        refuse_too_many_rejects(stage, context, manifest)
        rejects = {task.file: task.rejects_path for task, entry in zip(tasks, entries, strict=True) if entry.rejects}
        _publish(stage, context, {task.file: task.rows_path for task in tasks}, rejects, manifest)
        record(stage, context, manifest, made, len(tasks), time.monotonic() - started)
    return manifest


def _make_missing(stage: ShardedStage, context: Context, tasks: Sequence[ShardTask], workers: int, end: float) -> Made:
    """Make what is not there, and return what that was."""
    share_all(task.piece for task in tasks)
    todo = [task for task in tasks if adopt(task) is None]
    if not todo:
        return Made()
    made, rows, in_time = 0, 0, takewhile(lambda _: time.monotonic() < end, todo)
    with Progress(stage.name, len(tasks), "shard") as progress:
        progress.advance(len(tasks) - len(todo))
        for entry in run_tasks(stage, context, in_time, min(workers, len(todo)), progress.advance_tokens):
            progress.advance(1)
            made += 1
            rows += entry.rows
    if left := len(todo) - made:
        raise UnfinishedError(f"{stage.name}: the deadline left {left} of {len(tasks)} shards to be made; run it again")
    return Made(made, rows, progress.tokens or None)


def refuse_too_many_rejects(stage: Stage, context: Context, manifest: Manifest) -> None:
    """Fail a stage of which too much was rejected; its finished shards stay in scratch."""
    limit = context.settings.run.max_reject_share
    rejected = sum(manifest.rejects.values())
    if rejected > limit * manifest.expected:
        reasons = ", ".join(f"{reason} {count}" for reason, count in manifest.rejects.items())
        raise SchemaError(
            f"{stage.name} rejected {rejected} of {manifest.expected} rows ({reasons}); the limit is {limit:.0%}; "
            "mend the input, or raise run.max_reject_share"
        )


def _publish(
    stage: Stage, context: Context, rows: Mapping[str, Path], rejects: Mapping[str, Path], manifest: Manifest
) -> None:
    assemble(context.layout.folder(stage.output), rows, lambda folder: write_manifest(folder, manifest))
    counts = {"expected": manifest.expected, "rejected": manifest.rejects}
    assemble(context.layout.rejects(stage.name), rejects, lambda folder: write_json(folder / "counts.json", counts))


def assemble(folder: Path, files: Mapping[str, Path], finish: Callable[[Path], None]) -> None:
    """Put copies of finished files into `folder`, `finish` it, and replace what is there in one rename.

    Copies, never hard links: DVC turns what it finds in an output into a read-only cache object.
    """
    building, old = (folder.parent / f".tmp-{word}-{folder.name}" for word in ("new", "old"))
    for leftover in (building, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with naming_full_disk(folder), removed_on_failure(building):
        building.mkdir(parents=True)
        for name, source in files.items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, building / name)
        finish(building)
    if folder.exists():
        folder.rename(old)
    building.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def record(stage: Stage, context: Context, manifest: Manifest, made: Made, total: int, seconds: float) -> None:
    """Write the counts and measures for `dvc metrics`, and the clock times elsewhere."""
    counts: dict[str, Any] = {
        "rows": {"expected": manifest.expected, "written": manifest.rows, "rejected": manifest.rejects}
    }
    if stage.summary is not None:
        counts.update(stage.summary(context, context.layout.folder(stage.output)))
    write_json(context.layout.metrics(stage.name), counts)
    record_times(context.layout.timings(stage.name), made, total, seconds)


def record_times(path: Path, made: Made, total: int, seconds: float) -> None:
    """Write how long a run took; one that only adopted keeps what the run before it took to make anything."""
    times: dict[str, Any] = {"seconds": round(seconds, 3), "made": made.shards, "adopted": total - made.shards}
    times |= {"rows": made.rows, "tokens": made.tokens}
    if not made.shards and path.is_file():
        before = read_json(path)
        times["earlier"] = before.get("earlier", before)
    write_json(path, times)


def run_whole(stage: WholeStage, context: Context) -> Manifest:
    """Run a stage that needs all rows at once; its finished folder is adopted while nothing that decides it changed."""
    facts = whole_facts(stage, context)
    scratch = context.layout.scratch(stage.name)
    finished = scratch / fingerprint(facts)[:16]
    started = time.monotonic()
    with locked(scratch / ".lock"):
        remove_temporaries(scratch)
        store = context.layout.shared(stage.name)
        piece = _piece(store, finished) if store is not None else None
        share(piece)
        made = not _is_whole(finished)
        if made:
            _build(stage, context, facts, finished)
            share(piece, made=True)
        manifest = read_manifest(finished / "out")
        refuse_too_many_rejects(stage, context, manifest)
        out = finished / "out"
        rejects = {path.name: path for path in finished.glob("*.parquet")}
        _publish(stage, context, {entry.file: out / entry.file for entry in manifest.files}, rejects, manifest)
        record(stage, context, manifest, Made(1, manifest.rows) if made else Made(), 1, time.monotonic() - started)
    return manifest


def _piece(store: StorePath, finished: Path) -> Piece:
    def files() -> dict[str, Path]:
        paths = sorted(path for path in finished.rglob("*") if path.is_file()) if _is_whole(finished) else []
        return {path.relative_to(finished).as_posix(): path for path in paths}

    def install(folder: Path) -> None:
        shutil.rmtree(finished, ignore_errors=True)
        folder.rename(finished)

    return Piece(store, finished.name, finished.parent, files, install)


def whole_facts(stage: WholeStage, context: Context) -> dict[str, Any]:
    """Return all that decides the output of a whole stage."""
    return {"limit": context.limit, **stage_facts(stage, context)}


def _is_whole(finished: Path) -> bool:
    try:
        check_files(finished / "out", read_manifest(finished / "out"))
        found = _digests(finished)
        if not found and not (finished / _REJECTS).exists():
            return True
        proof = read_json(finished / _REJECTS)
        check_seal(proof, ("files",), finished / _REJECTS)
    except (VcrdError, OSError):
        return False
    return bool(proof.get("files") == found)


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.glob("*.parquet"))}


def _build(stage: WholeStage, context: Context, facts: Mapping[str, Any], finished: Path) -> None:
    building = finished.parent / f".tmp-{os.getpid()}-{finished.name}"
    out = building / "out"
    with naming_full_disk(out), removed_on_failure(building):
        out.mkdir(parents=True)
        _fill(stage, context, facts, building)
    shutil.rmtree(finished, ignore_errors=True)
    building.rename(finished)
    fsync_path(finished.parent)


def _fill(stage: WholeStage, context: Context, facts: Mapping[str, Any], building: Path) -> None:
    out = building / "out"
    result = stage.build(context, out)
    entries = [
        replace(entry, sha256=sha256_file(out / entry.file), fingerprint=fingerprint(facts)[:16])
        for entry in result.files
    ]
    for entry in entries:
        fsync_path(out / entry.file)
    if result.rejects:
        write_rejects(building / shard_file(0), result.rejects)
    write_json(building / _REJECTS, sealed({"files": _digests(building)}))
    write_manifest(
        out,
        Manifest(artefact=stage.output, stage=stage.name, stage_version=stage.version, provenance=facts, files=entries),
    )
