"""From a `training` folder to an exported one: all of it or nothing, and rows in = rows out + rejects."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcrd.errors import ConfigError, SchemaError, did_you_mean
from vcrd.export.axolotl_kd import AXOLOTL_KD
from vcrd.export.llama_factory import LLAMA_FACTORY
from vcrd.export.ms_swift import MS_SWIFT
from vcrd.export.rows import has_teacher, read_shard, sound_rows
from vcrd.export.target import Target, Writer
from vcrd.export.trl import TRL
from vcrd.io.files import fsync_path, write_text
from vcrd.io.parquet import artefact_folder, shard_files
from vcrd.io.progress import Progress
from vcrd.io.rejects import Reject, count_reasons
from vcrd.records import TRAINING
from vcrd.rows import TokenView
from vcrd.tokenization import load_tokenizer

TARGETS: Mapping[str, Target] = {
    "trl": TRL,
    "ms-swift": MS_SWIFT,
    "llama-factory": LLAMA_FACTORY,
    "axolotl-kd": AXOLOTL_KD,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What became of the rows.

    Attributes:
        rows: Rows read.
        written: Rows written.
        rejects: Rejected rows by reason.
        lost: What was dropped, as asked, and why.
    """

    rows: int
    written: int
    rejects: Mapping[str, int]
    lost: Sequence[str]


def export_training(
    source: Path,
    to: str,
    output: Path,
    *,
    drop: Sequence[str] = (),
    tokenizer: str | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a `training` data set in the columns of another trainer; rejects go to `OUTPUT.rejects.jsonl`.

    Args:
        source: A run's folder, or its `training` folder.
        to: A name of `TARGETS`.
        output: The folder to make; it appears when it is whole.
        drop: What of "teacher" and "weights" the target has no place for and may be left behind.
        tokenizer: The student's, a folder or a Hub name, for targets that need it.
        overwrite: Whether `output` may be replaced.

    Raises:
        ConfigError: There is nothing to read, the target cannot carry it, or `output` is in the way.
        SchemaError: A shard is broken, or no row of it could be written.
    """
    if to not in TARGETS:
        raise ConfigError(f"no export to {to!r}{did_you_mean(to, TARGETS)}")
    target, folder = TARGETS[to], artefact_folder(source, TRAINING.name)
    _check_output(output, folder, overwrite)
    files = shard_files(folder)
    lost = _check_losses(to, target, read_shard(files[0]), drop)
    loaded = _load_tokenizer(to, target, tokenizer)
    making = output.parent / f".tmp-{os.getpid()}-{output.name}"
    making.mkdir(parents=True)
    try:
        writer = target.open(making, [file.stem for file in files], loaded)
        rows, rejects = _write_shards(files, writer, loaded)
        if rows == len(rejects):
            first = f"; the first: {rejects[0].record_id}, {rejects[0].message}" if rejects else ""
            raise SchemaError(f"none of {rows} rows could be exported to {to}{first}", file=folder)
        _publish(making, output)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    _write_rejects(output, rejects)
    return Exported(rows=rows, written=rows - len(rejects), rejects=count_reasons(rejects), lost=lost)


def _write_shards(files: Sequence[Path], writer: Writer, tokenizer: Any) -> tuple[int, list[Reject]]:
    rows, rejects = 0, []
    with Progress("export", len(files), "shard") as progress:
        for file in files:
            table = read_shard(file)
            rows += table.num_rows
            table, bad = sound_rows(table)
            if tokenizer is not None and table.num_rows:
                check_vocabulary(table, len(tokenizer), file)
            rejects += [*bad, *writer.add(table, file.stem)]
            progress.advance(1)
    writer.close()
    return rows, rejects


def _check_losses(to: str, target: Target, table: pa.Table, drop: Sequence[str]) -> list[str]:
    teacher = has_teacher(table)
    if target.needs_teacher and not teacher:
        raise ConfigError(
            f"{to} distils the teacher's candidates, and this data set has none; export to trl or ms-swift"
        )
    there = [name for name in target.lost if name == "weights" or teacher]
    if needless := sorted(set(drop) - set(target.lost)):
        raise ConfigError(f"--drop {needless[0]}: {to} has a place for it, nothing needs to be dropped")
    for name in there:
        if name not in drop:
            raise ConfigError(f"{to} cannot carry the {name}: {target.lost[name]}; to go on without, add --drop {name}")
    return [f"without the {name}: {target.lost[name]}" for name in there]


def _load_tokenizer(to: str, target: Target, name: str | None) -> Any:
    if not target.needs_tokenizer:
        return None
    if name is None:
        raise ConfigError(f"{to} needs --tokenizer (the student's folder): {target.needs_tokenizer}")
    return load_tokenizer(name)


def check_vocabulary(table: pa.Table, size: int, file: Path) -> None:
    """Refuse token ids that a tokenizer of `size` ids has not.

    Raises:
        ConfigError: An id is too large: the tokenizer is another.
        SchemaError: An id is below 0, which no tokenizer has.
    """
    ids_T = TokenView(table).ids_T
    smallest, largest = int(ids_T.min()), int(ids_T.max())
    if smallest < 0:
        raise SchemaError(f"has the token id {smallest}; see: vcrd validate", file=file, column="input_ids")
    if largest >= size:
        raise ConfigError(f"{file} has the token id {largest}, the tokenizer has {size} ids; give the student's own")


def _check_output(output: Path, folder: Path, overwrite: bool) -> None:
    if output.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise ConfigError(f"{output} holds the data set that is to be exported; give another --output")
    if not output.exists():
        return
    if not output.is_dir():
        raise ConfigError(f"{output} is a file; give a folder that does not exist")
    held = list(output.iterdir())
    if held and not overwrite:
        raise ConfigError(f"{output} is not empty; give another folder, or add --overwrite")
    if any(item.is_dir() for item in held):
        raise ConfigError(f"{output} has folders in it, which no export has; remove it by hand")


def _publish(making: Path, output: Path) -> None:
    aside = making.with_name(f"{making.name}.old")
    if output.exists():
        output.rename(aside)
    try:
        making.rename(output)
    except OSError:
        if aside.exists():
            aside.rename(output)
        raise
    fsync_path(output.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _write_rejects(output: Path, rejects: Sequence[Reject]) -> None:
    path = output.with_name(f"{output.name}.rejects.jsonl")
    path.unlink(missing_ok=True)
    if rejects:
        lines = [{"record_id": item.record_id, "reason": item.reason, "message": item.message} for item in rejects]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_text(path, text)
