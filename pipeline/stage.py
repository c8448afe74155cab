"""What a stage is: its name, what it reads and writes, and the functions that do its work.

A *sharded* stage turns shard i of its inputs into shard i of its output, problem by problem. A *whole* stage needs all
rows at once. Both are pure: same inputs, parameters and seed, same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from pipeline.layout import Layout
from pipeline.params import Settings
from vcrd.io.manifest import FileEntry, check_file
from vcrd.io.parquet import read_batches, shard_files, stream_rows
from vcrd.io.rejects import Reject

T = TypeVar("T")


class TableKind(Protocol[T]):
    """What the conveyor must know of a kind of data set."""

    @property
    def name(self) -> str:
        """Of its folder."""

    @property
    def key(self) -> str:
        """Column of the unique id."""

    @property
    def schema(self) -> pa.Schema:
        """Of every shard."""

    def parse(self, rows: Iterable[dict[str, Any]], /) -> list[T]:
        """Turn rows into records."""


def no_progress(tokens: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Context:
    """What the functions of a stage may know of the run (picklable: it travels to workers)."""

    settings: Settings
    layout: Layout
    inputs: Layout
    limit: int | None = None
    only_problems: frozenset[str] | None = None

    def read(self, kind: TableKind[T], splits: Collection[str] | None = None) -> list[T]:
        """Read an input shard by shard, of some splits alone where these are given."""
        files = shard_files(self.inputs.folder(kind.name))
        return [record for file in files for record in self.select(kind, [file], splits)]

    def select(self, kind: TableKind[T], files: Sequence[Path], splits: Collection[str] | None = None) -> list[T]:
        """Read some shards of an input, only the sampled problems where a sample is run.

        A page checksum covers a page's data and not its header: the manifest's covers every byte.
        """
        for file in files:
            check_file(file)
        rows = stream_rows(files, kind.schema)
        if splits is not None:
            rows = (row for row in rows if row["split"] in splits)
        problems = self.only_problems
        if problems is not None and "problem_id" in kind.schema.names:
            rows = (row for row in rows if row["problem_id"] in problems)
        return kind.parse(rows)


@dataclass(frozen=True)
class Shard:
    """Shard i of every sharded input."""

    context: Context
    file: str
    progress: Callable[[int], None] = no_progress

    def read(self, kind: TableKind[T], splits: Collection[str] | None = None) -> list[T]:
        """Read this shard of an input, of some splits alone where these are given."""
        return self.context.select(kind, [self._path(kind)], splits)

    def stream(self, kind: TableKind[Any], columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Read columns of this shard of an input, so many rows at a time, of all problems."""
        check_file(self._path(kind))
        return read_batches(self._path(kind), columns, rows, kind.schema)

    def _path(self, kind: TableKind[Any]) -> Path:
        return self.context.inputs.folder(kind.name) / self.file


@dataclass(frozen=True)
class ShardResult:
    """What came of a shard: records written, rejects, and how many there should be in all."""

    records: Sequence[object]
    rejects: Sequence[Reject]
    expected: int


@dataclass(frozen=True)
class WholeResult:
    """What came of a whole stage: the files it wrote into its folder (without their checksums), and rejects.

    A build that makes many rejects writes them beside its folder, as `write_pieces` does, and gives none here.
    """

    files: Sequence[FileEntry]
    rejects: Sequence[Reject] = ()


def no_facts(context: Context) -> Mapping[str, Any]:
    """Nothing beside inputs and parameters decides the output."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Fields shared by both forms.

    Attributes:
        name: Of its module and of its key in dvc.yaml.
        version: Raised by hand when the same inputs and parameters would give another output.
        sections: Parameter sections it reads; all of them are in its fingerprint.
        output: Name of the folder it writes.
        whole_inputs: Folders of which every byte counts for every shard.
        also_reads: Folders that it reads of which only `facts` count.
        paths: Parameters that name a local path it reads.
        facts: More that decides the output (models' fingerprints), checked before anything is loaded; may refuse.
        summary: Measures for `dvc metrics`, read off the finished folder.
        sample_kind: Input whose first problems are a sample (`--limit`).
        splits: Whose problems are its work, and a sample's; empty for all that it is given.
        plots: What `dvc plots` draws: name -> entry of dvc.yaml, whose `y` has files in the output by their names.
    """

    name: str
    version: int
    sections: Mapping[str, type]
    output: str
    whole_inputs: Sequence[str] = ()
    also_reads: Sequence[str] = ()
    paths: Sequence[str] = ()
    facts: Callable[[Context], Mapping[str, Any]] = no_facts
    summary: Callable[[Context, Path], Mapping[str, Any]] | None = None
    sample_kind: TableKind[Any] | None = None
    splits: Sequence[str] = ()
    plots: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ShardedStage(Stage):
    """Shard i of the inputs becomes shard i of the output.

    Attributes:
        kind: Of the output's rows.
        sharded_inputs: Kinds of the inputs read shard by shard.
        load: Makes what every shard needs (an engine, a tokenizer), once per worker.
        work: Does one shard.
    """

    kind: TableKind[Any]
    sharded_inputs: Sequence[TableKind[Any]]
    load: Callable[[Context], Any]
    work: Callable[[Any, Shard], ShardResult]


@dataclass(frozen=True, kw_only=True)
class WholeStage(Stage):
    """Writes its output folder in one piece: `build(context, empty folder)`."""

    build: Callable[[Context, Path], WholeResult]
