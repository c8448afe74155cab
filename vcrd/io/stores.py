"""Object stores: what an `s3://`, `gs://` or `hf://` URL names, through fsspec, as a path that is read like any other.

There is no rename there, and no lock. An object appears whole or not at all, and of several that belong together the
last one that is put, only where there is none yet, makes them exist: nobody reads what it does not name. Credentials
are the driver's business alone (the environment, its own files): none passes through here.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PosixPath
from typing import Any, Self

from vcrd.errors import ConfigError, VcrdError, one_line
from vcrd.io.files import naming_full_disk

EXCLUSIVE = ("s3", "s3a", "gs", "gcs")
"""Protocols whose drivers put an object only where there is none, in one request."""
_URL = re.compile(r"([a-z][a-z0-9+]*)://.+", re.DOTALL)
_RIGHTS = "give rights to list, get, put and delete there to the credentials that the environment names"
_DELETED_AT_ONCE = 1000


def as_path(place: str | Path) -> Path:
    """Return a local path, or what a URL names, as a path.

    Raises:
        ConfigError: There is no driver for such a URL.
    """
    return StorePath.of(place) if isinstance(place, str) and _URL.fullmatch(place) else Path(place)


@lru_cache
def _connected(protocol: str, process: int) -> Any:
    """Return a client for all threads of a process; fsspec's own cache has one for each thread."""
    import fsspec

    return fsspec.filesystem(protocol)


class StorePath(PosixPath):
    """A URL whose parts are those of a path: `StorePath.of("s3://bucket/run") / "training"`.

    What reads is as in `pathlib`, and a driver's error is a `ConfigError` that names the URL; a missing object stays a
    `FileNotFoundError`. Nothing of `pathlib` writes here: `upload`, `put`, their likes that put what is new, and
    `delete_others` do.
    """

    @classmethod
    def of(cls, url: str) -> Self:
        """Read a URL.

        Raises:
            ConfigError: There is no driver for it.
        """
        path = cls(url)
        _ = path._driver
        return path

    def __str__(self) -> str:
        """Write the URL: a path has one slash where it has two."""
        return super().__str__().replace(":/", "://", 1)

    @property
    def protocol(self) -> str:
        """What stands before the colon."""
        return self.parts[0].removesuffix(":")

    @property
    def _driver(self) -> Any:
        try:
            return _connected(self.protocol, os.getpid())
        except ImportError as error:
            message = f"{self}: the driver for {self.protocol}:// is not installed ({one_line(error)})"
            raise ConfigError(f"{message}; pip install 'vcrd[stores]', or the package that it names") from error
        except ValueError as error:
            raise ConfigError(f"{self}: expected s3://, gs:// or hf:// ({one_line(error)})") from error

    def _info(self) -> str | None:
        with self._telling():
            try:
                return str(self._driver.info(str(self), refresh=True)["type"])
            except FileNotFoundError:
                return None

    def exists(self) -> bool:
        """Tell whether there is an object of this name, or any below it."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Tell whether there is an object of this name."""
        return self._info() == "file"

    def is_dir(self) -> bool:
        """Tell whether there is an object below this name."""
        return self._info() == "directory"

    def resolve(self, strict: bool = False) -> Self:
        """Return it as it is: there are no links."""
        return self

    def iterdir(self) -> Iterator[Self]:  # type: ignore[override]
        """Yield what lies directly below, in no order."""
        with self._telling():
            try:
                found = self._driver.ls(str(self), detail=False, refresh=True)
            except FileNotFoundError:
                return
        yield from self._among(found)

    def glob(self, pattern: str) -> Iterator[Self]:  # type: ignore[override]
        """Yield what lies directly below and has such a name."""
        return (path for path in self.iterdir() if fnmatch(path.name, pattern))

    def rglob(self, pattern: str) -> Iterator[Self]:  # type: ignore[override]
        """Yield the objects below, at any depth, that have such a name."""
        with self._telling():
            found = self._driver.find(str(self))
        return (path for path in self._among(found) if fnmatch(path.name, pattern))

    def _among(self, names: list[str]) -> Iterator[Self]:
        """Turn names as drivers give them into paths, without an empty object that stands for the folder itself."""
        paths = (type(self)(f"{self.protocol}://{name}") for name in names)
        return (path for path in paths if path != self)

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """Open for reading, as bytes alone; blocks are fetched as they are wanted.

        Raises:
            FileNotFoundError: There is no such object.
        """
        if mode != "rb":
            raise ConfigError(f"{self}: a store is read and not written to here; give a local path")
        with self._telling():
            return _Reader(self._driver.open(str(self), "rb"), self)

    def read_bytes(self) -> bytes:
        """Fetch an object."""
        with self._telling():
            return bytes(self._driver.cat_file(str(self)))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Fetch an object as text."""
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def download(self, target: Path) -> None:
        """Fetch an object into a local file."""
        with self._telling(), naming_full_disk(target):
            self._driver.get_file(str(self), str(target))

    def upload(self, source: Path) -> None:
        """Put a local file here, in the place of what was there."""
        with self._telling("put"):
            self._driver.put_file(str(source), str(self))

    def put(self, data: bytes) -> None:
        """Put bytes here, in the place of what was there."""
        with self._telling("put"):
            self._driver.pipe_file(str(self), data)

    def put_new(self, data: bytes) -> bool:
        """Put bytes here if there is nothing yet, in one request; tell whether there was nothing.

        Raises:
            ConfigError: The store cannot do that: between a look and a put another writer may come.
        """
        # One request, however large: drivers cut at `chunksize`, and test before the last part alone.
        return self._new(lambda: self._driver.pipe_file(str(self), data, mode="create", chunksize=len(data) + 1))

    def upload_new(self, source: Path) -> bool:
        """Put a local file here if there is nothing yet; tell whether there was nothing.

        Raises:
            ConfigError: The store cannot do that.
        """
        return self._new(lambda: self._driver.put_file(str(source), str(self), mode="create"))

    def _new(self, put: Callable[[], object]) -> bool:
        if self.protocol not in EXCLUSIVE:
            raise ConfigError(f"{self}: expected s3:// or gs://; others cannot put an object only where there is none")
        with self._telling("put"):
            try:
                put()
            except FileExistsError:
                return False
        return True

    def delete_others(self, kept: set[str]) -> None:
        """Delete what lies directly below, but for these names."""
        others = [str(path) for path in self.iterdir() if path.name not in kept]
        with self._telling("delete"):
            for start in range(0, len(others), _DELETED_AT_ONCE):
                self._driver.rm(others[start : start + _DELETED_AT_ONCE])

    @contextmanager
    def _telling(self, doing: str = "read") -> Iterator[None]:
        """Say of a driver's error where it happened and what to do; drivers raise what their libraries do."""
        try:
            yield
        except VcrdError:
            raise
        except FileNotFoundError as error:
            if doing == "read":
                raise
            raise ConfigError(f"{self}: there is no such bucket ({one_line(error)}); make it first") from error
        except PermissionError as error:
            raise ConfigError(f"{self}: refused ({one_line(error)}); {_RIGHTS}") from error
        except Exception as error:
            said = f"{type(error).__name__}: {one_line(error)}"
            remedy = "check address, network and credentials, and run it again: what is finished is kept"
            raise ConfigError(f"{self}: could not {doing} ({said}); {remedy}") from error


class _Reader(io.RawIOBase):
    """An open object; a connection that is lost while some library reads from it is told as everywhere else."""

    def __init__(self, file: Any, path: StorePath) -> None:
        self._file, self._path = file, path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._path._telling():
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()
