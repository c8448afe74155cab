"""Shards: which there are, what decides each, and how one is committed to scratch.

A shard in scratch is three files named after its fingerprint: rows, rejects, and an entry written last. The entry is
what makes the shard exist; it is adopted only while both checksums in it hold. Where machines share scratch through an
object store, a shard is shared when it is committed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.shared import Piece, share
from pipeline.stage import Context, ShardedStage, ShardResult, Stage, TableKind, WholeResult
from vcrd.errors import SchemaError, VcrdError
from vcrd.io.files import check_seal, fingerprint, read_json, sealed, sha256_file, write_json
from vcrd.io.manifest import FileEntry, read_manifest
from vcrd.io.parquet import as_row, table_from_rows, table_writer, write_table
from vcrd.io.rejects import REJECTS_SCHEMA, Reject, count_reasons
from vcrd.io.stores import StorePath


def shard_file(index: int) -> str:
    """Return a shard's file name: `part-00007.parquet`."""
    return f"part-{index:05d}.parquet"


def shard_of(key: str, num_shards: int) -> int:
    """Deal a record to a shard by its id alone, so that another record moves nothing."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % num_shards


@dataclass(frozen=True)
class ShardTask:
    """A shard to be made or adopted: its file, and the digest of all that decides its content."""

    file: str
    fingerprint: str
    scratch: Path
    store: StorePath | None = None

    @property
    def rows_path(self) -> Path:
        """Rows in scratch."""
        return self.scratch / f"{Path(self.file).stem}-{self.fingerprint[:16]}.parquet"

    @property
    def rejects_path(self) -> Path:
        """Rejects in scratch."""
        return self.rows_path.with_suffix(".rejects.parquet")

    @property
    def entry_path(self) -> Path:
        """The entry that makes the shard exist."""
        return self.rows_path.with_suffix(".json")

    @property
    def piece(self) -> Piece | None:
        """What of it machines share; None where they share nothing."""
        if self.store is None:
            return None
        return Piece(self.store, self.rows_path.stem, self.scratch, self._files, self._install)

    def _files(self) -> dict[str, Path]:
        paths = (self.rows_path, self.rejects_path, self.entry_path) if adopt(self) is not None else ()
        return {path.name: path for path in paths}

    def _install(self, folder: Path) -> None:
        for path in (self.rows_path, self.rejects_path, self.entry_path):
            with suppress(FileNotFoundError):  # an index that lacks one is of no whole shard
                (folder / path.name).replace(path)


def stage_facts(stage: Stage, context: Context) -> dict[str, Any]:
    """Return all that decides a stage's output, beside the inputs that it reads shard by shard."""
    settings = context.settings
    return {
        "stage": stage.name,
        "stage_version": stage.version,
        "seed": settings.seed,
        "num_shards": settings.run.num_shards,
        "params": {name: settings.plain[name] for name in stage.sections},
        "inputs": {name: read_manifest(context.inputs.folder(name)).content for name in stage.whole_inputs},
        "sample": sorted(context.only_problems) if context.only_problems is not None else None,
        **stage.facts(context),
    }


def plan_shards(stage: ShardedStage, context: Context, facts: Mapping[str, Any]) -> list[ShardTask]:
    """List a stage's shards, one for each shard of its inputs; `facts` are `stage_facts`."""
    facts = {**facts, "schema": stage.kind.schema.to_string()}
    manifests = {kind.name: read_manifest(context.inputs.folder(kind.name)) for kind in stage.sharded_inputs}
    digests = {name: {entry.file: entry.sha256 for entry in manifest.files} for name, manifest in manifests.items()}
    names = sorted(set().union(*digests.values()))
    for name, files in digests.items():
        if missing := [file for file in names if file not in files]:
            raise SchemaError(f"lacks {missing[0]}, which another input of {stage.name} has", file=name)
    scratch, store = context.layout.scratch(stage.name), context.layout.shared(stage.name)
    shards = [{**facts, "shard": {name: files[file] for name, files in digests.items()}} for file in names]
    return [ShardTask(file, fingerprint(shard), scratch, store) for file, shard in zip(names, shards, strict=True)]


def adopt(task: ShardTask) -> FileEntry | None:
    """Return the entry of a shard that is whole in scratch; None where it has to be made."""
    if not task.entry_path.is_file():
        return None
    try:
        value = read_json(task.entry_path)
        check_seal(value, ("entry", "rejects_sha256"), task.entry_path)
        entry = FileEntry(**value["entry"])
        whole = (
            entry.fingerprint == task.fingerprint
            and sha256_file(task.rows_path) == entry.sha256
            and sha256_file(task.rejects_path) == value["rejects_sha256"]
        )
    except (VcrdError, OSError, KeyError, TypeError):
        return None
    return entry if whole else None


def finished_since(task: ShardTask) -> FileEntry | None:
    """Return the entry of a shard that was finished since all were looked for: elsewhere, or by a worker that died.

    A worker may have died between the two: it is shared here, if it was not.
    """
    share(task.piece)
    return adopt(task)


def commit(task: ShardTask, result: ShardResult, schema: Any, key: str) -> FileEntry:
    """Write a shard's rows, then its rejects, then the entry."""
    check_counts(task.file, result.records, result.rejects, result.expected, key)
    write_table(task.rows_path, table_from_rows([as_row(record) for record in result.records], schema, task.file))
    write_rejects(task.rejects_path, result.rejects)
    entry = FileEntry(
        file=task.file,
        sha256=sha256_file(task.rows_path),
        fingerprint=task.fingerprint,
        rows=len(result.records),
        expected=result.expected,
        rejects=count_reasons(result.rejects),
    )
    proof = {"entry": asdict(entry), "rejects_sha256": sha256_file(task.rejects_path)}
    write_json(task.entry_path, sealed(proof))
    share(task.piece, made=True)
    return entry if task.store is None else adopt(task) or entry  # another machine's, where that was first


def write_rejects(path: Path, rejects: Sequence[Reject]) -> None:
    """Write rejected rows beside nothing but their kind."""
    write_table(path, table_from_rows([as_row(item) for item in rejects], REJECTS_SCHEMA, path.name))


def write_shards(
    out: Path,
    kind: TableKind[Any],
    shards: Iterable[tuple[str, Sequence[object], Sequence[Reject]]],
    expected: int,
) -> WholeResult:
    """Write the output of a whole stage as shards, given as (file, records, rejects).

    Args:
        out: Folder to write into.
        kind: Of the records.
        shards: Made one at a time.
        expected: Records and rejects in all.
    """
    entries: list[FileEntry] = []
    rejected: list[Reject] = []
    for file, records, rejects in shards:
        write_table(out / file, table_from_rows([as_row(record) for record in records], kind.schema, file))
        count = len(records) + len(rejects)
        check_counts(file, records, rejects, count, kind.key)
        entries.append(entry_of(file, rows=len(records), expected=count, rejects=count_reasons(rejects)))
        rejected.extend(rejects)
    if sum(entry.expected for entry in entries) != expected:
        raise AssertionError(f"{kind.name}: {expected} rows expected, {sum(entry.expected for entry in entries)} made")
    return WholeResult(entries, rejected)


def write_pieces(
    out: Path,
    file: str,
    schema: pa.Schema,
    pieces: Iterable[tuple[Iterable[pa.Table], Sequence[Reject]]],
    expected: int,
) -> FileEntry:
    """Write a shard of a whole stage that does not fit into memory, and its rejects beside the stage's folder.

    Args:
        out: Folder to write into.
        file: Name of the shard.
        schema: Of its rows.
        pieces: Rows and rejects, made some at a time; that no key occurs twice is theirs to see to.
        expected: Rows and rejects in all.
    """
    reasons: Counter[str] = Counter()
    rejected = out.parent / file
    with table_writer(out / file, schema) as rows, table_writer(rejected, REJECTS_SCHEMA) as rejects:
        for tables, refused in pieces:
            for table in tables:
                rows.write(table)
            rejects.write(table_from_rows([as_row(item) for item in refused], REJECTS_SCHEMA, file))
            reasons.update(item.reason for item in refused)
    if not rejects.rows:
        rejected.unlink()
    _check_count(file, rows.rows, rejects.rows, expected)
    return entry_of(file, rows=rows.rows, expected=expected, rejects=dict(sorted(reasons.items())))


def entry_of(file: str, **counts: Any) -> FileEntry:
    """Name a file of a whole stage; the runner adds its checksum."""
    return FileEntry(file=file, sha256="", fingerprint="", **counts)


def all_files(out: Path) -> list[FileEntry]:
    """Name every file that a whole stage has put into its folder."""
    return [entry_of(path.relative_to(out).as_posix()) for path in sorted(out.rglob("*")) if path.is_file()]


def check_counts(name: str, records: Sequence[object], rejects: Sequence[Reject], expected: int, key: str) -> None:
    """Hold a stage to its promise: rows expected = rows written + rejects, every id once."""
    _check_count(name, len(records), len(rejects), expected)
    if len({getattr(record, key) for record in records}) != len(records):
        raise AssertionError(f"{name}: a {key} occurs twice")


def _check_count(name: str, written: int, rejected: int, expected: int) -> None:
    if written + rejected != expected:
        raise AssertionError(f"{name}: {expected} rows expected, {written} written, {rejected} rejected")
