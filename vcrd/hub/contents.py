"""What of a run is shared, and the index that lies beside it in the repository: every file with its checksum.

A repository holds a folder for each artefact, with the shards and the manifest as they lie in the run, so that what is
pulled is what was pushed, byte for byte. The index names all of them and is read first.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vcrd.errors import ConfigError, SchemaError, did_you_mean
from vcrd.io.files import json_text, sha256_file
from vcrd.io.manifest import MANIFEST_NAME, Manifest, check_files, read_manifest
from vcrd.records import ARTEFACTS, MODELS

INDEX, CARD, LOCK, PARAMS, PLOTS = "vcrd.json", "README.md", "lock.yaml", "params.yaml", "plots"
FORMAT = "vcrd-dataset/1"
TABLES = tuple(kind.name for kind in ARTEFACTS)
SHARED = (*TABLES, "reliability")
_UNSAFE = "\\:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What is shared of a run.

    Attributes:
        run: The run's folder.
        manifests: Of the artefacts that are shared.
        files: Path in the repository -> file.
    """

    run: Path
    manifests: Mapping[str, Manifest]
    files: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file's checksum and size in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, file: Path | bytes) -> Entry:
        """Measure a file, or the bytes of one."""
        if isinstance(file, bytes):
            return cls(hashlib.sha256(file).hexdigest(), len(file))
        return cls(sha256_file(file), file.stat().st_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """All files of a repository but the card, which people may edit.

    Attributes:
        folder: The run's folder in its clone (`data/demo-math`); None where it lies in none.
        files: Path in the repository -> entry.
    """

    folder: str | None
    files: Mapping[str, Entry]

    def as_json(self) -> str:
        """Return it as JSON."""
        files = {
            name: {"sha256": self.files[name].sha256, "size": self.files[name].size} for name in sorted(self.files)
        }
        return json_text({"format": FORMAT, "folder": self.folder, "files": files})

    @classmethod
    def parse(cls, text: str, file: object) -> Index:
        """Read it back; a path that could lead out of the folder is refused.

        Raises:
            SchemaError: It is no index, or names such a path.
        """
        try:
            value: Any = json.loads(text)
            if value["format"] != FORMAT:
                raise SchemaError(
                    f"expected format {FORMAT}, got {value['format']!r}; a newer vcrd may read it", file=file
                )
            files = {
                safe_path(name, file): Entry(str(item["sha256"]), int(item["size"]))
                for name, item in value["files"].items()
            }
            folder = None if value["folder"] is None else safe_path(value["folder"], file)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"not an index ({error!r})", file=file) from error
        for name in files:
            if any(parent.as_posix() in files for parent in PurePosixPath(name).parents):
                raise SchemaError(f"names an unsafe path {name!r}, a part of which is a file", file=file)
        return cls(folder=folder, files=files)


def safe_path(name: object, file: object) -> str:
    """Return a relative path without anything that leads elsewhere.

    Raises:
        SchemaError: It is another.

    >>> safe_path("training/part-00000.parquet", "vcrd.json")
    'training/part-00000.parquet'
    """
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    parts = path.parts
    hidden = any(part.startswith(".") for part in parts)
    steers = not path.as_posix().isprintable() or any(sign in path.as_posix() for sign in _UNSAFE)
    if not parts or path.is_absolute() or hidden or steers or path.as_posix() != name:
        raise SchemaError(f"names an unsafe path {name!r}; nothing of it was written", file=file)
    return path.as_posix()


def collect(folder: Path, only: Sequence[str] = ()) -> Contents:
    """Find what is shared of a run, or of one artefact's folder, and prove it by the manifests.

    Args:
        folder: A run's folder, or that of an artefact in it (and of the models, which training needs).
        only: Names of artefacts; none for all tables and the reliability maps.

    Raises:
        ConfigError: There is nothing to share, or no artefact of such a name.
        SchemaError: A file differs from its manifest.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give a run's folder, or one of its artefacts")
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - "." has a name and a parent, and links stay as they are
    if (folder / MANIFEST_NAME).is_file():
        folder, only = folder.parent, (folder.name, *only)
    for name in only:
        if name not in SHARED:
            raise ConfigError(f"{name!r} is not shared{did_you_mean(name, SHARED)}")
        if not (folder / name / MANIFEST_NAME).is_file():
            raise ConfigError(f"{folder / name} has no {MANIFEST_NAME}; run the stage that writes it")
    wanted = {*only, MODELS.name} if only else set(SHARED)
    manifests = {name: read_manifest(folder / name) for name in SHARED if _is_there(folder / name) and name in wanted}
    if not set(manifests) - {MODELS.name}:
        raise ConfigError(
            f"{folder} holds no artefact of a run; expected folders such as training/ with {MANIFEST_NAME}"
        )
    files: dict[str, Path] = {}
    for name, manifest in manifests.items():
        check_files(folder / name, manifest)
        files |= {f"{name}/{file}": folder / name / file for file in _files(manifest, folder / name)}
    return Contents(run=folder, manifests=manifests, files=files)


def _is_there(folder: Path) -> bool:
    return (folder / MANIFEST_NAME).is_file()


def _files(manifest: Manifest, folder: Path) -> list[str]:
    names = [safe_path(entry.file, folder / MANIFEST_NAME) for entry in manifest.files]
    return [MANIFEST_NAME, *names]


def check_folder(folder: Path) -> None:
    """Compare a folder with the index in it.

    Raises:
        SchemaError: A file is missing, is a link, or differs.
    """
    index = Index.parse((folder / INDEX).read_text(encoding="utf-8"), folder / INDEX)
    for name, entry in index.files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file():
            raise SchemaError("is not there, or no plain file", file=path)
        if Entry.of(path) != entry:
            raise SchemaError("differs from the index's checksum", file=path)
