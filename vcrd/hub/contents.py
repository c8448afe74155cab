"""What of a run is shared.

A repository holds a folder for each artefact, with the shards and the manifest as they lie in the run, so that what is
pulled is what was pushed, byte for byte.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcrd.errors import ConfigError, did_you_mean
from vcrd.hub.index import SHARED, shared_path
from vcrd.io.manifest import MANIFEST_NAME, Manifest, check_files, read_manifest
from vcrd.records import MODELS


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
        names = [f"{name}/{file}" for file in (MANIFEST_NAME, *(entry.file for entry in manifest.files))]
        files |= {shared_path(path, folder / name / MANIFEST_NAME): folder / path for path in names}
        check_files(folder / name, manifest)
    return Contents(run=folder, manifests=manifests, files=files)


def _is_there(folder: Path) -> bool:
    return (folder / MANIFEST_NAME).is_file()
