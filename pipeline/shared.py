"""Scratch that machines share through an object store: VCRD_SCRATCH=s3://bucket/run.

A *piece* is what a shard, or a whole stage, has in scratch. In the store its files are objects named after their
checksums, and an index of them, put last and only where there is none, makes the piece exist. So a writer that is
killed leaves objects that nobody reads, and of two writers of the same piece one wins, whole; the other takes that.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.files import check_seal, fsync_path, json_text, naming_full_disk, safe_path, sealed, sha256_file
from vcrd.io.progress import say
from vcrd.io.stores import EXCLUSIVE, StorePath, as_path
from vcrd.io.text import parse_json

VARIABLE = "VCRD_SCRATCH"
_AT_ONCE = 8


def shared_scratch() -> str | None:
    """Return the URL of the scratch that is shared; None where there is none.

    Raises:
        ConfigError: It is not that of a store that can put an object only where there is none.
    """
    url = os.environ.get(VARIABLE)
    if not url:
        return None
    path = as_path(url)
    if not isinstance(path, StorePath) or path.protocol not in EXCLUSIVE:
        raise ConfigError(f"{VARIABLE} must be the URL of a folder as s3://bucket/run or gs://bucket/run, got {url!r}")
    return url


@dataclass(frozen=True)
class Piece:
    """A shard, or the output of a whole stage.

    Attributes:
        store: Where it lies among those of its stage.
        name: With all that decides it in it.
        scratch: Folder of the stage on this machine.
        files: Gives its files by their names if it is whole here; else none.
        install: Takes its files out of a folder and puts them where they belong in scratch.
    """

    store: StorePath
    name: str
    scratch: Path
    files: Callable[[], Mapping[str, Path]]
    install: Callable[[Path], None]

    @property
    def index(self) -> StorePath:
        """What makes it exist."""
        return self.store / f"{self.name}.json"

    @property
    def objects(self) -> StorePath:
        """Folder of its files."""
        return self.store / self.name


def share_all(pieces: Iterable[Piece | None]) -> None:
    """Share pieces, some at a time."""
    shared = [piece for piece in pieces if piece is not None]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(share, shared))


def share(piece: Piece | None, *, made: bool = False) -> None:
    """Bring a piece to this machine if it is in the store alone, and to the store if it is here alone.

    Where both have it, the store's is the one that counts: what another machine's engine wrote may differ in a bit,
    and all must go on with the same. A piece that is damaged there is replaced if it is here, else left to be made.

    Args:
        piece: What to share; None where nothing is.
        made: Whether it was made just now, for want of one that is whole in the store.

    Raises:
        ConfigError: The store cannot be reached, or refuses.
    """
    if piece is None:
        return
    files = piece.files()
    ours = {name: sha256_file(path) for name, path in files.items()}
    theirs = None if made else _read_index(piece)
    if theirs is None and files:
        theirs = _offer(piece, files, ours)
    if theirs is None or theirs == ours or _take(piece, theirs):
        return
    say(f"{piece.index}: damaged; it is {'put' if files else 'made'} again")
    if files:
        _upload(piece, files, ours)
        piece.index.put(_index_of(ours))


def _index_of(digests: Mapping[str, str]) -> bytes:
    return json_text(sealed({"files": dict(digests)})).encode()


def _read_index(piece: Piece) -> Mapping[str, str] | None:
    """Return checksums by the files' names; of an index that is damaged none, and None where there is no index."""
    try:
        value = parse_json(piece.index.read_bytes().decode())
        check_seal(value, ("files",), piece.index)
        return {safe_path(name, piece.index): safe_path(digest, piece.index) for name, digest in value["files"].items()}
    except FileNotFoundError:
        return None
    except (SchemaError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _upload(piece: Piece, files: Mapping[str, Path], digests: Mapping[str, str]) -> None:
    for name, path in files.items():
        (piece.objects / digests[name]).upload(path)


def _offer(piece: Piece, files: Mapping[str, Path], digests: Mapping[str, str]) -> Mapping[str, str] | None:
    """Put a piece; return the index that is there then."""
    _upload(piece, files, digests)
    if not piece.index.put_new(_index_of(digests)):
        return _read_index(piece)
    with suppress(ConfigError):  # no right to delete; what killed and slower writers left does no harm
        piece.objects.delete_others(set(digests.values()))
    return digests


def _take(piece: Piece, digests: Mapping[str, str]) -> bool:
    """Fetch a piece and prove it; tell whether it is whole."""
    if not digests:
        return False
    folder = piece.scratch / f".tmp-{os.getpid()}-{piece.name}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        for name, digest in digests.items():
            target = folder / name
            with naming_full_disk(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            (piece.objects / digest).download(target)
            if sha256_file(target) != digest:
                return False
            fsync_path(target)
        piece.install(folder)
        fsync_path(piece.scratch)
    except FileNotFoundError:
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(piece.files())
