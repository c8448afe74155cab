"""Writing a file so that a reader sees all of it or nothing, whatever is killed when.

Guaranteed: after `atomic_path` or `atomic_write` returns, the file's bytes and its name survive a crash; before that,
the old file (or none) is what a reader sees. Not guaranteed: anything on a file system without atomic rename.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.text import parse_json

_TEMPORARY = ".tmp-"
_UNSAFE = "\\:"
_LONGEST_NAME = 200  # bytes; a temporary name is longer than the file's own
_SEAL = "sha256"


def fsync_path(path: Path) -> None:
    """Flush a file's or a folder's entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Say what there was no room for, which writers of files know and their errors do not tell.

    Raises:
        ConfigError: The disk, or a quota on it, is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"{path}: no space left on the disk; free some and run again, what is finished is kept"
        raise ConfigError(message) from error


@contextmanager
def atomic_path(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Give a temporary file's path beside `path`; what is put there is flushed, `check`ed as reopened, and renamed."""
    temporary = path.parent / f"{_TEMPORARY}{os.getpid()}-{path.name}"
    with naming_full_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            fsync_path(temporary)
            if check is not None:
                check(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_path(path.parent)


def atomic_write(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it, and rename it into place."""
    with atomic_path(path) as temporary:
        write(temporary)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, as UTF-8 and with its own line ends."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")

    atomic_write(path, write)


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Leave nothing of a folder that could not be filled."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def remove_temporaries(folder: Path) -> None:
    """Delete what killed writers left in `folder`; only the holder of its lock may call this."""
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` atomically, as `json_text` gives it."""
    write_text(path, json_text(value))


def json_text(value: Mapping[str, Any]) -> str:
    """Return `value` as JSON: keys in the order given, one newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ConfigError: There is no such file.
        SchemaError: It is not a JSON object.
    """
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing; run the stage that writes it") from error
    except ValueError as error:
        raise SchemaError(f"not JSON ({error})", file=path) from error
    if not isinstance(value, dict):
        raise SchemaError(f"expected a JSON object, got {type(value).__name__}", file=path)
    return value


def safe_path(name: object, file: object) -> str:
    """Return a relative path without anything that leads elsewhere, hides, or is no name on some machine.

    Args:
        name: What somebody else's file says.
        file: That file, for the message.

    Raises:
        SchemaError: It is another.

    >>> safe_path("training/part-00000.parquet", "vcrd.json")
    'training/part-00000.parquet'
    """
    path = PurePosixPath(name) if isinstance(name, str) else PurePosixPath("/")
    parts = path.parts
    hidden = any(part.startswith(".") for part in parts)
    long = any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts)
    steers = not path.as_posix().isprintable() or any(sign in path.as_posix() for sign in _UNSAFE)
    if not parts or path.is_absolute() or hidden or steers or long or path.as_posix() != name:
        raise SchemaError(f"names an unsafe path {name!r}", file=file)
    return path.as_posix()


def sha256_file(path: Path) -> str:
    """Return the hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its own checksum in it, so that a changed bit of it is found."""
    return {**value, _SEAL: fingerprint(value)}


def check_seal(value: Mapping[str, Any], known: Collection[str], path: Path) -> None:
    """Compare an object with the checksum in it; one from before there was any is taken if its keys are all known.

    Raises:
        SchemaError: The checksum does not hold, or a key is unknown.
    """
    content = {key: item for key, item in value.items() if key != _SEAL}
    if unknown := [key for key in content if key not in known]:
        raise SchemaError(f"unknown key {unknown[0]!r}; run the stage that writes it again", file=path)
    if _SEAL in value and value[_SEAL] != fingerprint(content):
        raise SchemaError("differs from its own checksum; run the stage that writes it again", file=path)


def fingerprint(value: object) -> str:
    """Return a hex digest of a JSON-able value; equal values have equal digests, whatever the order of their keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
