"""A folder against its manifest: every file there, none beside, every checksum, and no contradiction in itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vcrd.errors import SchemaError
from vcrd.io.files import fingerprint, json_text, read_json, sha256_file
from vcrd.io.manifest import MANIFEST_NAME, Manifest, read_manifest
from vcrd.validate.findings import Findings

_WHOLE_STAGE = 16
_TOTALS = ("rows", "expected", "rejects")


def check_manifest(folder: Path, findings: Findings) -> Manifest | None:
    """Read the manifest and compare its parts with one another; None where there is none that can be read."""
    if not (folder / MANIFEST_NAME).is_file():
        for check in ("manifest", "checksums"):
            findings.not_checked(check, f"there is no {MANIFEST_NAME}")
        return None
    findings.holds("manifest")
    try:
        manifest = read_manifest(folder)
        plain = read_json(folder / MANIFEST_NAME)
        wrong = list(_contradictions(manifest, plain))
        if (folder / MANIFEST_NAME).read_bytes() != json_text(plain).encode():
            wrong.append("is not spelled as vcrd writes it")
    except (SchemaError, TypeError, ValueError, AttributeError) as error:
        reason = error.reason if isinstance(error, SchemaError) else f"not a manifest ({error!r})"
        findings.fault("manifest", reason, file=MANIFEST_NAME)
        return None
    for message in wrong:
        findings.fault("manifest", message, file=MANIFEST_NAME)
    return manifest


def _contradictions(manifest: Manifest, plain: dict[str, Any]) -> Iterator[str]:
    for name in _TOTALS:
        if plain.get(name) != getattr(manifest, name):
            yield f"{name} is {plain.get(name)}, that of its files is {getattr(manifest, name)}"
    for name in ("stage", "stage_version"):
        if manifest.provenance.get(name) != getattr(manifest, name):
            yield f"{name} is {getattr(manifest, name)!r}, in the provenance {manifest.provenance.get(name)!r}"
    for entry in manifest.files:
        if entry.expected != entry.rows + sum(entry.rejects.values()):
            yield f"{entry.file}: expected {entry.expected}, but {entry.rows} rows and {entry.rejects} rejected"
        # The files of a stage that runs as a whole have the digest of the provenance; a shard's has more in it.
        digest = fingerprint(manifest.provenance)[:_WHOLE_STAGE]
        if len(entry.fingerprint) == _WHOLE_STAGE and entry.fingerprint != digest:
            yield f"{entry.file}: its fingerprint is not that of the provenance"


def check_files(folder: Path, manifest: Manifest, findings: Findings) -> None:
    """Compare what lies in the folder with what the manifest names."""
    findings.holds("checksums", f"{len(manifest.files)} files")
    for entry in manifest.files:
        path = folder / entry.file
        # By its name: a file that DVC has put there may be a link into its cache.
        if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder)):  # noqa: PTH100
            findings.fault("checksums", "lies outside the folder", file=entry.file)
        elif not path.is_file():
            findings.fault("checksums", "named in the manifest but missing", file=entry.file)
        elif sha256_file(path) != entry.sha256:
            findings.fault("checksums", "differs from the manifest's checksum", file=entry.file)
    known = {MANIFEST_NAME, *(entry.file for entry in manifest.files)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in known and not name.startswith("."):
            findings.fault("checksums", "is not named in the manifest", file=name)
