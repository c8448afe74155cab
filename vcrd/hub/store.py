"""Push to an object store: an artefact's shards first, and its manifest last, which makes it exist there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vcrd.errors import ConfigError
from vcrd.hub.checks import refuse_bad_data, telling_files
from vcrd.hub.contents import collect
from vcrd.io.files import sha256_file
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.stores import EXCLUSIVE, StorePath, as_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a push to a store did.

    Attributes:
        files: Files of the artefacts, with their manifests.
        uploaded: Those of the artefacts that were not there.
        bytes: Of all files.
        telling: Files of the run that name somebody's home folder; they are shared as they are.
    """

    files: int
    uploaded: int
    bytes: int
    telling: Sequence[str]


def publish(folder: Path, url: str, *, only: Sequence[str] = ()) -> Published:
    """Put a run's artefacts below a URL, each as a folder with its shards and its manifest.

    A killed push leaves artefacts without a manifest, which no reader of vcrd takes for one; run it again. What is
    there already stays, also what came since this push looked: somebody may be reading it.

    Args:
        folder: A run's folder, or that of one artefact.
        url: `s3://bucket/name` or `gs://bucket/name`.
        only: Artefacts to push; none for all.

    Raises:
        ConfigError: The store cannot be reached or refuses, or holds another artefact in the place of one.
        SchemaError: The data is bad.
    """
    place = as_path(url)
    if not isinstance(place, StorePath) or place.protocol not in EXCLUSIVE:
        raise ConfigError(f"expected s3://bucket/name, gs://bucket/name, or ORG/NAME of the Hub, got {url!r}")
    contents = collect(folder, only)
    refuse_bad_data(contents)
    missing = [name for name in contents.manifests if not _is_there(contents.run / name, place / name)]
    uploaded = 0
    for name in missing:
        files = [file for file in contents.files if file.startswith(f"{name}/")]
        for file in sorted(files, key=lambda file: file == f"{name}/{MANIFEST_NAME}"):
            uploaded += _put(contents.files[file], place / file)
    return Published(
        files=len(contents.files),
        uploaded=uploaded,
        bytes=sum(path.stat().st_size for path in contents.files.values()),
        telling=telling_files(contents, contents.files),
    )


def _is_there(source: Path, target: StorePath) -> bool:
    if not (target / MANIFEST_NAME).is_file():
        return False
    _refuse_another(source / MANIFEST_NAME, target / MANIFEST_NAME)
    return True


def _put(source: Path, target: StorePath) -> bool:
    """Put a file of an artefact; tell whether it was not there."""
    if target.upload_new(source):
        return True
    _refuse_another(source, target)
    return False


def _refuse_another(source: Path, target: StorePath) -> None:
    if sha256_file(target) != sha256_file(source):
        message = f"{target.parent} holds another {source.parent.name}, and somebody may be reading it"
        raise ConfigError(f"{message}; give another URL")
