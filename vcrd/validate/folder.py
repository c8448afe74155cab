"""The checks of a folder: what every artefact gets, and for `training` its invariants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.manifest import MANIFEST_NAME, Manifest
from vcrd.io.parquet import read_batches, read_schema, schema_difference
from vcrd.io.stores import StorePath
from vcrd.records import ARTEFACTS, COMPACT_TRAINING_SCHEMA, TRAINING, Artefact
from vcrd.validate.files import check_files, check_manifest
from vcrd.validate.findings import Findings
from vcrd.validate.keys import KeyChecks
from vcrd.validate.training import TrainingChecks

_KINDS = {kind.name: kind for kind in ARTEFACTS}


def validate(folder: Path) -> list[Findings]:
    """Check an artefact's folder, or every artefact of a run's folder, some thousand rows at a time.

    Raises:
        ConfigError: There is nothing to check.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a run's folder or one of an artefact")
    if _is_artefact(folder):
        return [_validate_artefact(folder)]
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and _is_artefact(path)]
    if not inner:
        raise ConfigError(f"{folder} holds neither {MANIFEST_NAME} nor *.parquet, nor does a folder in it")
    return [_validate_artefact(path) for path in inner]


def _is_artefact(folder: Path) -> bool:
    if (folder / MANIFEST_NAME).is_file():
        return True
    return not isinstance(folder, StorePath) and any(folder.glob("*.parquet"))  # there, the manifest makes it exist


def _validate_artefact(folder: Path) -> Findings:
    findings = Findings(folder.resolve().name, str(folder))
    manifest = check_manifest(folder, findings)
    if manifest is not None:
        check_files(folder, manifest, findings)
    shards = sorted(folder.glob("*.parquet"))
    told = manifest.artefact if manifest is not None else findings.artefact
    kind = _kind_of(told, shards) or _KINDS.get(findings.artefact)
    if kind is not None:
        if manifest is not None and told != kind.name:
            findings.fault("manifest", f"artefact is {told!r}, but these are {kind.name}", file=MANIFEST_NAME)
        findings.artefact = kind.name
        _check_tables(folder, shards, kind, manifest, findings)
    elif shards:
        findings.not_checked("schema", f"vcrd knows no artefact {findings.artefact}")
    return findings


def _kind_of(name: str, shards: Sequence[Path]) -> Artefact[Any] | None:
    """Find the artefact by its name, else `training` by its key, for shards of whatever folder."""
    if name in _KINDS:
        return _KINDS[name]
    try:
        return TRAINING if shards and TRAINING.key in read_schema(shards[0]).names else None
    except SchemaError:
        return None


def _check_tables(
    folder: Path, shards: Sequence[Path], kind: Artefact[Any], manifest: Manifest | None, findings: Findings
) -> None:
    findings.holds("schema")
    keys = KeyChecks(kind, findings)
    training = TrainingChecks(folder, manifest, findings) if kind is TRAINING else None
    told = {entry.file: entry.rows for entry in manifest.files} if manifest is not None else {}
    for path in shards:
        try:
            rows = _check_shard(path, kind, keys, training)
        except SchemaError as error:
            findings.broken("schema", error, file=path.name)
            continue
        except ConfigError as error:
            findings.fault("schema", str(error), file=path.name)  # a link to nothing
            continue
        findings.rows += rows
        if told.get(path.name, rows) != rows:
            findings.fault("manifest", f"{rows} rows, the manifest has {told[path.name]}", file=path.name)
    keys.finish(shards)
    if training is not None:
        training.finish()


def _check_shard(path: Path, kind: Artefact[Any], keys: KeyChecks, training: TrainingChecks | None) -> int:
    """Check a shard and return its rows; what cannot be read on is raised."""
    schema = read_schema(path)
    forms = (kind.schema, COMPACT_TRAINING_SCHEMA) if kind is TRAINING else (kind.schema,)
    if not any(schema.equals(form) for form in forms):
        nearest = max(forms, key=lambda form: len(set(form.names) & set(schema.names)))
        missing = next((name for name in nearest.names if name not in schema.names), None)
        raise SchemaError(schema_difference(nearest, schema), column=missing)
    if training is not None:
        training.start_shard(path, schema)
    rows = 0
    for batch in read_batches(path):
        table = pa.Table.from_batches([batch])
        keys.add(table.column(kind.key), path.name, rows)
        if training is not None:
            training.check(table, path.name, rows)
        rows += batch.num_rows
    return rows
