"""The manifest of a data set folder: what lies in it, how it was made, and the checksums to prove it.

Rows expected = rows written + rejects, per shard and in all. A folder is whole when its `_manifest.json` is there and
every checksum in it holds, that of the manifest itself included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from vcrd.errors import SchemaError
from vcrd.io.files import check_seal, fingerprint, read_json, safe_path, sealed, sha256_file, write_json

MANIFEST_NAME = "_manifest.json"
_KEYS = ("artefact", "stage", "stage_version", "rows", "expected", "rejects", "provenance", "files")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a folder.

    Attributes:
        file: Name in the folder.
        sha256: Of its bytes.
        fingerprint: Of everything that decided its content.
        rows: Rows written (0 for a file that is no table).
        expected: Rows that inputs and parameters called for.
        rejects: Rejected rows by reason.
    """

    file: str
    sha256: str
    fingerprint: str
    rows: int = 0
    expected: int = 0
    rejects: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All files of a folder, and the stage that wrote them."""

    artefact: str
    stage: str
    stage_version: int
    provenance: Mapping[str, Any]
    files: Sequence[FileEntry]

    @property
    def rows(self) -> int:
        """Rows written in all shards."""
        return sum(entry.rows for entry in self.files)

    @property
    def expected(self) -> int:
        """Rows expected in all shards."""
        return sum(entry.expected for entry in self.files)

    @property
    def rejects(self) -> dict[str, int]:
        """Rejected rows by reason in all shards."""
        counts: Counter[str] = Counter()
        for entry in self.files:
            counts.update(entry.rejects)
        return dict(sorted(counts.items()))

    def params(self, section: str) -> dict[str, Any]:
        """Return the parameters of a section; none where the provenance has none."""
        params = self.provenance.get("params")
        found = params.get(section) if isinstance(params, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def content(self) -> str:
        """Digest of the content alone: the same bytes give the same digest, however they were made."""
        return fingerprint([[entry.file, entry.sha256] for entry in self.files])


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it, the last act of filling a folder."""
    totals = {"rows": manifest.rows, "expected": manifest.expected, "rejects": manifest.rejects}
    value = {
        "artefact": manifest.artefact,
        "stage": manifest.stage,
        "stage_version": manifest.stage_version,
        **totals,
        "provenance": dict(manifest.provenance),
        "files": [asdict(entry) for entry in manifest.files],
    }
    write_json(folder / MANIFEST_NAME, sealed(value))


def read_manifest(folder: Path) -> Manifest:
    """Read it back.

    Raises:
        ConfigError: The folder has none.
        SchemaError: It is not a manifest, or names a file outside its folder.
    """
    value = read_json(folder / MANIFEST_NAME)
    check_seal(value, _KEYS, folder / MANIFEST_NAME)
    try:
        manifest = Manifest(
            artefact=value["artefact"],
            stage=value["stage"],
            stage_version=value["stage_version"],
            provenance=value["provenance"],
            files=[FileEntry(**entry) for entry in value["files"]],
        )
    except (KeyError, TypeError) as error:
        raise SchemaError(f"not a manifest ({error!r})", file=folder / MANIFEST_NAME) from error
    if wrong := next((name for name, value, kind in _typed(manifest) if not isinstance(value, kind)), None):
        raise SchemaError(f"not a manifest ({wrong} is of another type)", file=folder / MANIFEST_NAME)
    for entry in manifest.files:
        safe_path(entry.file, folder / MANIFEST_NAME)
        if min(entry.rows, entry.expected, *entry.rejects.values()) < 0:
            raise SchemaError(f"not a manifest ({entry.file} has a count below 0)", file=folder / MANIFEST_NAME)
    return manifest


def _typed(manifest: Manifest) -> Iterator[tuple[str, object, type]]:
    """Give what a manifest says with the type that it must have: JSON may hold anything in its place."""
    yield from (("artefact", manifest.artefact, str), ("stage", manifest.stage, str))
    yield from (("stage_version", manifest.stage_version, int), ("provenance", manifest.provenance, dict))
    for entry in manifest.files:
        yield from ((name, getattr(entry, name), str) for name in ("file", "sha256", "fingerprint"))
        yield from ((name, getattr(entry, name), int) for name in ("rows", "expected"))
        yield "rejects", entry.rejects, dict
        if isinstance(entry.rejects, dict):
            yield from (("rejects", count, int) for count in entry.rejects.values())


def check_file(path: Path) -> None:
    """Compare a file's checksum with that in the manifest beside it."""
    manifest = path.parent / MANIFEST_NAME
    written = manifest.stat() if manifest.is_file() else None
    digests = _digests(path.parent, (written.st_ino, written.st_mtime_ns, written.st_size) if written else None)
    if path.name not in digests or sha256_file(path) != digests[path.name]:
        raise SchemaError("differs from the manifest's checksum; run the stage that writes it again", file=path)


@lru_cache(maxsize=16)
def _digests(folder: Path, written: tuple[int, ...] | None) -> dict[str, str]:
    """Return checksums by file, read once for each state of the manifest: every shard in it asks."""
    return {entry.file: entry.sha256 for entry in read_manifest(folder).files}


def check_files(folder: Path, manifest: Manifest) -> None:
    """Compare every file's checksum with the manifest; the first that differs is a `SchemaError`."""
    for entry in manifest.files:
        path = folder / entry.file
        if not path.is_file():
            raise SchemaError("named in the manifest but missing", file=path)
        if sha256_file(path) != entry.sha256:
            raise SchemaError("differs from the manifest's checksum", file=path)
