"""Data of another version of the schema is read or refused with the reason, and never misread."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.claims import ROOT, state
from benchmarks.faults.project import Project
from pipeline.cli import stages_of
from pipeline.layout import Layout
from pipeline.params import parse_settings, read_yaml, sections_of
from pipeline.stage import Context
from vcrd.errors import ConfigError, SchemaError
from vcrd.io.files import sha256_file
from vcrd.io.manifest import MANIFEST_NAME, FileEntry, Manifest, read_manifest, write_manifest
from vcrd.io.parquet import write_table
from vcrd.records import ARTEFACTS

_OTHER = {pa.int32(): pa.int64(), pa.int64(): pa.int32(), pa.float32(): pa.float64(), pa.float64(): pa.float32()}


def other_schemas(schema: pa.Schema) -> Iterator[tuple[str, str, pa.Schema]]:
    """Give (what differs, the column that a message must name, the schema) of versions before or after this one."""
    for index, field in enumerate(schema):
        yield f"no {field.name} yet", field.name, schema.remove(index)
        yield f"{field.name} could be empty", field.name, schema.set(index, field.with_nullable(not field.nullable))
        narrow = pa.binary() if pa.types.is_string(field.type) else _OTHER.get(field.type, pa.string())
        yield f"{field.name} of another type", field.name, schema.set(index, field.with_type(narrow))
        renamed = schema.set(index, field.with_name(f"{field.name}_of_old"))
        yield f"{field.name} under another name", field.name, renamed
    yield "a column more", "of_new", schema.append(pa.field("of_new", pa.string()))
    if len(schema) > 1:
        yield "columns in another order", "order", pa.schema([*list(schema)[1:], schema[0]])


def misread(folder: Path) -> tuple[list[str], int]:
    """Read shards of other versions of every artefact as a stage does; returns what was wrong, and their number."""
    values = read_yaml(ROOT / "presets/demo-math.yaml")
    settings = parse_settings(values, sections_of(stages_of("stages").values()), "params.yaml")
    context = Context(settings, Layout("old", folder), Layout("old", folder))
    faults, count = [], 0
    for kind in ARTEFACTS:
        for name, column, schema in other_schemas(kind.schema):
            count += 1
            path = context.inputs.folder(kind.name) / "part-00000.parquet"
            write_table(path, schema.empty_table())
            entry = FileEntry(file=path.name, sha256=sha256_file(path), fingerprint="")
            made = Manifest(artefact=kind.name, stage="s", stage_version=1, provenance={}, files=[entry])
            write_manifest(path.parent, made)
            try:
                context.read(kind)
                faults.append(f"{kind.name}, {name}: read without a word")
            except SchemaError as error:
                if column not in str(error) or str(path) not in str(error):
                    faults.append(f"{kind.name}, {name}: refused without naming it: {error}")
    return faults, count


def older_records(folder: Path) -> list[str]:
    """Read manifests, entries and parameters of an earlier version; returns what was wrong."""
    project = Project(folder / "project", "run.num_shards=2", "chain.rows=20").make_all()
    begun, faults = len(project.begun()), []
    unsealed = [*project.root.glob(".vcrd/scratch/**/*.json"), *project.root.glob(f"data/chain/*/{MANIFEST_NAME}")]
    for path in unsealed:
        value = json.loads(path.read_text())
        value.pop("sha256", None)
        path.write_text(json.dumps(value, indent=2) + "\n")
    project.make_all()
    if len(project.begun()) != begun:
        faults.append("what was finished before entries had a checksum was computed again")
    path = project.root / "data/chain/squares" / MANIFEST_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_new": 1}))
    faults += _refused(partial(read_manifest, path.parent), SchemaError, "of_new")
    values: dict[str, Any] = read_yaml(ROOT / "presets/demo-math.yaml")
    sections = sections_of(stages_of("stages").values())
    for section in ("run", "engine", "weights"):
        for key in values[section]:
            rest = {name: value for name, value in values[section].items() if name != key}
            older = {**values, section: rest}
            faults += _refused(partial(parse_settings, older, sections, "p"), ConfigError, f"{section}.{key}")
    return faults


def _refused(work: Callable[[], object], kind: type[Exception], words: str) -> list[str]:
    try:
        work()
    except kind as error:
        return [] if words in str(error) else [f"refused without naming {words}: {error}"]
    return [f"{words} was taken without a word"]


def claims() -> Iterator[bool]:
    """Every artefact in every other version, and the records beside them."""
    with tempfile.TemporaryDirectory() as name:
        faults, count = misread(Path(name))
        records = older_records(Path(name))
    sys.stderr.writelines(f"{fault}\n" for fault in [*faults, *records])
    text = "shards of another version of the schema that are not refused with the reason"
    yield state(text, len(faults), 0, "lower", n=count)
    yield state("older manifests, entries and parameters that are misread", len(records), 0, "lower", n=1)
