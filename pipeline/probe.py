"""A probe: a run's own stages on a few problems of each split, in folders of their own, measured for a plan.

Each stage runs in a process of its own with the run's workers, as in a run, so that what starting costs is in it. What
engines, shards and trainings take there is noted by `vcrd.io.meter`.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing as mp
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.executors.local import die_with_parent
from pipeline.graph import stage_order
from pipeline.layout import Layout
from pipeline.params import Settings
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.shards import entry_of, shard_file
from pipeline.stage import Context, ShardedStage, Stage, WholeStage
from vcrd.errors import ConfigError
from vcrd.io.files import sha256_file
from vcrd.io.lock import locked
from vcrd.io.manifest import Manifest, read_manifest, write_manifest
from vcrd.io.meter import METER, noted_in, read_notes
from vcrd.io.parquet import read_table, shard_files, write_table
from vcrd.io.progress import say

PLACE = Path(".vcrd/probe")


@dataclass(frozen=True, slots=True)
class Call:
    """Requests that an engine was given at once: how many, and how long it took; `last` ends what a stage asked."""

    requests: int
    seconds: float
    last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProbe:
    """What one stage did in a probe.

    Attributes:
        stage: Its name.
        output: Its artefact.
        sharded: Whether workers share it.
        grows: Whether more problems are more work: it reads them, at any depth.
        sampled: Whether it saw the sample alone; what makes the problems sees all.
        splits: Whose problems are its work; empty for all.
        seconds: Of its process, from its start to its end.
        start: Of these, before and behind the work: imports, workers, loading.
        worked: Seconds of work, of all workers together.
        commit: Seconds that the commit of a shard takes beside it, which its size hardly matters for.
        shards: Shards that were made.
        role: Whose model answered; None where no engine did or where it plays no role.
        calls: Of engines.
        asked: For each sampled problem that anything was asked for: requests, tokens read, tokens written.
        ended: Share of what was written that ended before its limit; None where nothing was.
        rows: Written, by problem; empty where a row is of no problem, or the stage runs as a whole.
        all_rows: Written.
        data_bytes: Of what it wrote, without what every file has.
        file_bytes: What every shard has, whatever is in it.
    """

    stage: str
    output: str
    sharded: bool
    grows: bool
    sampled: bool
    splits: Sequence[str]
    seconds: float
    start: float
    worked: float
    commit: float
    shards: int
    role: str | None
    calls: Sequence[Call]
    asked: Mapping[str, tuple[int, int, int]]
    ended: float | None
    rows: Mapping[str, int]
    all_rows: int
    data_bytes: int
    file_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """All stages of a probe, in their order, and the problems: of the run by split, and the sampled ones' splits."""

    stages: Sequence[StageProbe]
    problems: Mapping[str, int]
    sample: Mapping[str, str]

    @property
    def sampled(self) -> Counter[str]:
        """How many problems of each split were sampled."""
        return Counter(self.sample.values())


def run_probe(
    stages: Mapping[str, Stage],
    package: str,
    settings: Settings,
    problems: str,
    size: int,
    only: Sequence[str] | None = None,
    place: Path = PLACE,
) -> Probe:
    """Run a probe and delete what it wrote.

    Args:
        stages: Of the run, by name.
        package: Where their modules are.
        settings: Of the run.
        problems: Name of the artefact whose rows have a `problem_id` and a `split`.
        size: Problems of each split in the sample, where it has as many.
        only: Stages to run; None: all.
        place: Folder to work in.

    Raises:
        ConfigError: There are fewer problems in all than `size`.
        BusyError: Another process runs one in this place.
        VcrdError: A stage failed.
    """
    with locked(place.with_suffix(".lock")):
        shutil.rmtree(place, ignore_errors=True)
        try:
            return _run_all(stages, package, settings, problems, size, only, place)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _run_all(
    stages: Mapping[str, Stage],
    package: str,
    settings: Settings,
    problems: str,
    size: int,
    only: Sequence[str] | None,
    place: Path,
) -> Probe:
    workers = min(settings.run.workers, settings.run.num_shards, size)
    small = replace(settings, run=replace(settings.run, num_shards=workers, workers=workers, max_reject_share=1.0))
    layout = Layout(settings.preset, place / "data", place / "hidden")
    source = Layout(settings.preset, place / "source", place / "hidden")
    grown, measured = downstream(stages, problems), list[StageProbe]()
    sizes, sample = Counter[str](), dict[str, str]()
    for name in stage_order(stages):
        if only is not None and name not in only:
            continue
        is_source = stages[name].output == problems
        context = Context(small, source if is_source else layout, source if is_source else layout)
        say(f"probe: {name}")
        notes = place / "notes" / name
        measured.append(_measure(stages[name], package, context, notes, grows=name in grown, sampled=not is_source))
        if is_source:
            sizes, sample = take_sample(source.folder(problems), layout.folder(problems), size, workers)
    return Probe(stages=measured, problems=sizes, sample=sample)


def downstream(stages: Mapping[str, Stage], artefact: str) -> set[str]:
    """Return the stages that make an artefact or read it, at any depth: more of it is more work for them."""
    grown, outputs = set[str](), {artefact}
    for name in stage_order(stages):
        stage = stages[name]
        sharded = [kind.name for kind in stage.sharded_inputs] if isinstance(stage, ShardedStage) else []
        if stage.output == artefact or outputs & {*stage.whole_inputs, *sharded}:
            grown.add(name)
            outputs.add(stage.output)
    return grown


def take_sample(source: Path, target: Path, size: int, num_shards: int) -> tuple[Counter[str], dict[str, str]]:
    """Write the first problems of each split, by id, to a folder of their own, dealt out evenly.

    Returns:
        Problems of the source by split, and the splits of the sampled ones by id.

    Raises:
        ConfigError: The source has fewer problems than `size`.
    """
    manifest, files = read_manifest(source), shard_files(source)
    rows = [row for file in files for row in read_table(file, columns=["problem_id", "split"]).to_pylist()]
    if len(rows) < size:
        raise ConfigError(f"--probe {size}: there are {len(rows)} problems; give at most as many")
    rows.sort(key=lambda row: row["problem_id"])
    mine: dict[str, list[str]] = {}
    for row in rows:
        mine.setdefault(row["split"], []).append(row["problem_id"])
    sample = {name: split for split, names in sorted(mine.items()) for name in names[:size]}
    tables = [read_table(file) for file in files]
    chosen = pa.concat_tables(
        [table.filter(pa.compute.is_in(table["problem_id"], pa.array(sample))) for table in tables]
    )
    place = {name: number for number, name in enumerate(sample)}
    numbers = [place[name] for name in chosen["problem_id"].to_pylist()]
    target.mkdir(parents=True)
    entries = []
    for index in range(num_shards):
        part = chosen.filter(pa.array([number % num_shards == index for number in numbers]))
        write_table(target / shard_file(index), part)
        entry = entry_of(shard_file(index), rows=part.num_rows, expected=part.num_rows)
        entries.append(replace(entry, sha256=sha256_file(target / entry.file)))
    write_manifest(target, replace(manifest, files=entries))
    return Counter({split: len(names) for split, names in mine.items()}), sample


def _measure(stage: Stage, package: str, context: Context, notes: Path, *, grows: bool, sampled: bool) -> StageProbe:
    notes.mkdir(parents=True)
    started = time.perf_counter()
    with noted_in(notes), ProcessPoolExecutor(1, mp.get_context("spawn"), die_with_parent) as pool:
        again = pool.submit(_run, package, stage.name, context).result()
    seconds = time.perf_counter() - started - again
    noted = read_notes(notes)
    found = _measured(noted)
    calls = [item for item in found if item["kind"] == "call"]
    shards = [item for item in found if item["kind"] == "shard"]
    if isinstance(stage, ShardedStage):
        worked, longest = _busy(shards)
        longest += 2 * _busy([item for item in noted if item["kind"] == "warm"])[1]
    else:
        part = calls or [item for item in found if item["kind"] == "progress"]
        worked = longest = sum(item["seconds"] for item in part) if part else again
    asked = [request for item in calls for request in item["requests"]]
    written = [request for request in asked if request[3]]
    folder = context.layout.folder(stage.output)
    manifest = read_manifest(folder)
    data, fixed = _bytes(folder, manifest)
    return StageProbe(
        stage=stage.name,
        output=stage.output,
        sharded=isinstance(stage, ShardedStage),
        grows=grows,
        sampled=sampled,
        splits=stage.splits,
        seconds=seconds,
        start=max(seconds - longest, 0.0),
        worked=worked,
        commit=sum(item["commit"] for item in shards) / max(len(shards), 1),
        shards=max(len(shards), 1),
        role=next((item["role"] for item in calls), None),
        calls=[Call(len(item["requests"]), item["seconds"], item["last"]) for item in calls],
        asked=_by_problem(asked),
        ended=sum(request[2] < request[3] for request in written) / len(written) if written else None,
        rows=_rows(stage, folder),
        all_rows=manifest.rows,
        data_bytes=data,
        file_bytes=fixed,
    )


def _measured(notes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what a process did between a shard and the end of its warming up for the next."""
    kept, waiting = list[dict[str, Any]](), list[dict[str, Any]]()
    for before, item in zip([None, *notes], notes, strict=False):
        if before is not None and before["process"] != item["process"]:
            kept += waiting
            waiting = []
        if item["kind"] == "warm":
            waiting = []
            continue
        waiting.append(item)
        if item["kind"] == "shard":
            kept += waiting
            waiting = []
    return kept + waiting


def _run(package: str, name: str, context: Context) -> float:
    """Run a stage as its command line does; return the seconds of work done once more only to be measured."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stage: Stage = importlib.import_module(f"{package}.{name}").STAGE
    if isinstance(stage, ShardedStage):
        run_sharded(stage, context, context.settings.run.workers, Split())
        return 0.0
    assert isinstance(stage, WholeStage), "a stage is sharded or whole"  # noqa: S101 - for the type checker
    run_whole(stage, context)
    return _repeat(stage, context)


def _repeat(stage: WholeStage, context: Context) -> float:
    """Build what nothing was noted of a second time, when all is imported; return the seconds it took."""
    out = context.layout.scratch(stage.name) / "again"
    notes = Path(os.environ[METER])
    if read_notes(notes):
        return 0.0
    out.mkdir()
    started = time.perf_counter()
    stage.build(context, out)
    return time.perf_counter() - started


def _busy(notes: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Return the seconds of all processes together, and of the one with the most."""
    busy: dict[int, float] = {}
    for item in notes:
        busy[item["process"]] = busy.get(item["process"], 0.0) + item["seconds"]
    return sum(busy.values()), max(busy.values(), default=0.0)


def _by_problem(asked: Sequence[Sequence[Any]]) -> dict[str, tuple[int, int, int]]:
    """Add up requests by problem, whose id each id begins with."""
    sums: dict[str, list[int]] = {}
    for name, read, written, _ in asked:
        mine = sums.setdefault(name.partition("/")[0], [0, 0, 0])
        for place, amount in enumerate((1, read, written)):
            mine[place] += amount
    return {name: (requests, read, written) for name, (requests, read, written) in sums.items()}


def _rows(stage: Stage, folder: Path) -> Counter[str]:
    if not isinstance(stage, ShardedStage):
        return Counter()
    keys = [read_table(file, columns=[stage.kind.key]).column(0).to_pylist() for file in shard_files(folder)]
    return Counter(key.partition("/")[0] for part in keys for key in part)


def _bytes(folder: Path, manifest: Manifest) -> tuple[int, int]:
    """Return bytes of data, and of a shard what it has whatever is in it; of a folder without tables all is data."""
    sizes = {entry.file: (folder / entry.file).stat().st_size for entry in manifest.files}
    tables = [name for name in sizes if name.endswith(".parquet")]
    data = 0
    for name in tables:
        meta = pq.ParquetFile(folder / name).metadata
        groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
        data += sum(group.column(place).total_compressed_size for group in groups for place in range(group.num_columns))
    fixed = math.ceil((sum(sizes[name] for name in tables) - data) / len(tables)) if tables else 0
    return data + sum(size for name, size in sizes.items() if name not in tables), fixed
