"""What is fuzzed of the parsers of files: parameters, cards, tables, manifests, the Hub's index, blobs of signal.

Each takes the bytes of a file as a fuzzer makes them. Files lie in memory where the machine has a place for that.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks._fuzz_text import holds
from benchmarks.claims import ROOT
from pipeline.cli import stages_of
from pipeline.params import parse_settings, read_yaml, sections_of, set_values
from vcrd.hub.index import Index
from vcrd.hub.lock import changed_since, inside, lock_text, read_stages
from vcrd.io.manifest import MANIFEST_NAME, check_files, read_manifest
from vcrd.io.parquet import read_batches, read_rows
from vcrd.io.sources import read_card, read_file_rows
from vcrd.prm.spec import SPEC_FILE, read_spec
from vcrd.problems import REFERENCES, ColumnParams, ProblemParams, SplitParams, make_problems
from vcrd.records import PROBLEMS
from vcrd.reliability.model import FILE, read_reliability
from vcrd.verifiers.domain import DomainVerifier, VerifierParams
from vcrd.verifiers.outputs import read_output, verify_output

_MOST_ROWS = 50


@cache
def scratch() -> Path:
    """Return a folder for this process alone, in memory where there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder in it is made by mkdtemp
    folder = Path(tempfile.mkdtemp(prefix="vcrd-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def written(name: str, data: bytes) -> Path:
    """Return a file of these bytes."""
    path = scratch() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


@cache
def _sections() -> dict[str, type]:
    return sections_of(stages_of("stages").values())


@cache
def _preset() -> dict[str, Any]:
    return read_yaml(ROOT / "presets/demo-math.yaml")


def read_params(data: bytes) -> None:
    """Read a parameter file, and changes to a preset, one a line."""
    if data.startswith(b"--set "):
        changes = data[6:].decode("utf-8", "surrogateescape").splitlines()
        parse_settings(set_values(_preset(), changes), _sections(), "preset")
    else:
        parse_settings(read_yaml(written("params.yaml", data)), _sections(), "params.yaml")


def read_sources(data: bytes) -> None:
    """Read a source card, and problems and outputs of models from JSON lines, compressed or not."""
    kind, data = data[:1], data[1:]
    if kind == b"y":
        read_card(written("card.yaml", data))
        return
    domain = list(REFERENCES)[kind[0] % len(REFERENCES)] if kind else "math"
    path = written("rows.jsonl.gz" if data.startswith(b"\x1f\x8b") else "rows.jsonl", data)
    rows = list(islice(read_file_rows(path), _MOST_ROWS))
    problems, rejects = make_problems(rows, _problems(domain), "fuzz", 1)
    holds(len(problems) + len(rejects) == len(rows), "a row is neither a problem nor a reject")
    json.dumps([item.row for item in rejects])
    for row in rows:
        if row.values is not None and domain == "math":
            read_output(row.values, domain, row.place)
        elif row.values is not None and domain == "instructions":
            verify_output(read_output(row.values, domain, row.place), _verifier())


@cache
def _verifier() -> DomainVerifier:
    return DomainVerifier(VerifierParams(modulus=None))


def _problems(domain: Any) -> ProblemParams:
    columns = ColumnParams(prompt="prompt", reference="reference", split="split", responses="steps")
    splits = SplitParams(train=1, prm=1, fit=1, judge=1, test=1)
    return ProblemParams(path="", domain=domain, licence="", columns=columns, limit=None, splits=splits)


def read_shard_file(data: bytes) -> None:
    """Read a shard as whatever it says it is, as problems, and as rows of a source."""
    path = written("rows.parquet", data)
    for batch in read_batches(path):
        batch.to_pylist()
    for _ in islice(read_file_rows(path), _MOST_ROWS):
        pass
    read_rows([path], PROBLEMS.schema)


def read_json_files(data: bytes) -> None:
    """Read a manifest and check the files that it names; or reliability maps; or a reward model's specification."""
    kind, data = data[:1], data[1:]
    if kind == b"r":
        read_reliability(written(FILE, data).parent)
    elif kind == b"s":
        read_spec(written(SPEC_FILE, data).parent)
    else:
        folder = written(MANIFEST_NAME, data).parent
        written("empty", b"")
        manifest = read_manifest(folder)
        holds(manifest.rows + sum(manifest.rejects.values()) >= 0, "negative counts")
        check_files(folder, manifest)


def read_index(data: bytes) -> None:
    """Read the index of a Hub's data set, and the lock entries that come with it."""
    if data.startswith(b"{"):
        index = Index.parse(data.decode("utf-8", "surrogateescape"), "vcrd.json")
        for name in index.files:
            place = (scratch() / name).resolve()
            holds(place.is_relative_to(scratch().resolve()), f"{name!r} leads out of the folder")
        Index.parse(index.as_json(), "again")
    else:
        path = written("lock.yaml", data)
        stages = inside(read_stages(path), "data/demo-math")
        changed_since(scratch(), stages)
        path.write_text(lock_text(stages), encoding="utf-8")
        holds(read_stages(path) == stages, "what was written does not read back")
