"""The index that lies beside the data in a repository: every file with its checksum, and which files there may be.

What is pulled was written by somebody else: only names that `push` writes are taken, so that none leads out of the
folder, hides in it, or is one with another where letters of both cases are the same.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcrd.errors import SchemaError
from vcrd.io.files import json_text, safe_path, sha256_file
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.text import parse_json
from vcrd.records import ARTEFACTS

INDEX, CARD, LOCK, PARAMS, PLOTS = "vcrd.json", "README.md", "lock.yaml", "params.yaml", "plots"
FORMAT = "vcrd-dataset/1"
TABLES = tuple(kind.name for kind in ARTEFACTS)
MAPS = "reliability"
SHARED = (*TABLES, MAPS)
_NAMES = (
    *(rf"(?:{'|'.join(TABLES)})/{name}" for name in (re.escape(MANIFEST_NAME), r"part-[0-9]{5,9}\.parquet")),
    *(rf"{MAPS}/{name}" for name in (re.escape(MANIFEST_NAME), r"[a-z][a-z0-9_]{0,63}\.json")),
    rf"{PLOTS}/[a-z][a-z0-9_-]{{0,63}}\.png",
    *map(re.escape, (LOCK, PARAMS)),
)
_NAME = re.compile("|".join(_NAMES))
_SHA256 = re.compile("[0-9a-f]{64}")


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

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Entry:
        """Read it from JSON."""
        sha256, size = value["sha256"], value["size"]
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256) or type(size) is not int or size < 0:
            raise ValueError(f"neither a sha256 nor a size: {value}")
        return cls(sha256, size)


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
        """Read it back.

        Raises:
            SchemaError: It is no index, or names a file that `push` does not write.
        """
        try:
            value: Any = parse_json(text)
            if value["format"] != FORMAT:
                raise SchemaError(
                    f"expected format {FORMAT}, got {value['format']!r}; a newer vcrd may read it", file=file
                )
            files = {shared_path(name, file): Entry.parse(item) for name, item in value["files"].items()}
            folder = None if value["folder"] is None else safe_path(value["folder"], file)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SchemaError(f"not an index ({error!r})", file=file) from error
        return cls(folder=folder, files=files)


def bytes_of(file: Path | bytes) -> bytes:
    """Return a file's bytes; what is made for the repository alone has no file."""
    return file if isinstance(file, bytes) else file.read_bytes()


def shared_path(name: str, file: object) -> str:
    """Return a path in the repository if it is one that `push` writes.

    Raises:
        SchemaError: It is another.

    >>> shared_path("training/part-00000.parquet", "vcrd.json")
    'training/part-00000.parquet'
    """
    if not _NAME.fullmatch(name):
        raise SchemaError(f"names {name!r}, an unsafe path or none that push writes; nothing was written", file=file)
    return name


def check_folder(folder: Path) -> None:
    """Compare a folder with the index in it.

    Raises:
        SchemaError: A file is missing, is a link or lies behind one, or differs.
    """
    index = Index.parse((folder / INDEX).read_text(encoding="utf-8"), folder / INDEX)
    for name, entry in index.files.items():
        path = folder / name
        if path.is_symlink() or path.parent.is_symlink() or not path.is_file():
            raise SchemaError("is not there, or no plain file", file=path)
        if Entry.of(path) != entry:
            raise SchemaError("differs from the index's checksum", file=path)
