"""Pull: everything is downloaded beside the folder, proved, and renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError

from vcrd.errors import ConfigError, SchemaError
from vcrd.hub.client import REPO_TYPE, hub_errors, open_client
from vcrd.hub.index import CARD, INDEX, LOCK, Entry, Index, check_folder
from vcrd.hub.lock import changed_since, clone_of, inside, read_stages, restore
from vcrd.io.files import fsync_path
from vcrd.io.lock import locked
from vcrd.io.manifest import MANIFEST_NAME, check_files, read_manifest
from vcrd.io.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """What a pull did.

    Attributes:
        commit: The commit that was pulled.
        files: Files in the folder.
        downloaded: Those that were not there.
        bytes: Of all files.
        restored: Stages whose lock entries are in the clone's `dvc.lock` now.
        changed: Code and parameters of the clone that differ from those that made the data.
        lock_left: Why no entries were restored; empty where they were.
    """

    commit: str
    files: int
    downloaded: int
    bytes: int
    restored: Sequence[str]
    changed: Sequence[str]
    lock_left: str


def pull(repo: str, folder: Path, *, revision: str | None = None, overwrite: bool = False) -> Pulled:
    """Bring a data set that `push` wrote into `folder`, which appears when it is whole and proved.

    A killed pull leaves a hidden folder beside it, from which the next one goes on.

    Args:
        repo: `org/name`.
        folder: A folder to make; `data/NAME` of a clone, where its lock entries are to be restored.
        revision: A branch, tag or commit.
        overwrite: Whether what is there may be replaced.

    Raises:
        ConfigError: The folder is in the way, there is no such data set, or the Hub cannot be reached.
        SchemaError: It was not written by `push`, names unsafe paths, or a checksum does not hold.
        BusyError: Another pull fills this folder.
    """
    api = open_client(repo)
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder} is no folder; give one that does not exist")
    if Path.cwd().is_relative_to(folder.resolve()):
        raise ConfigError(f"{folder} is the folder you are in, or above it; give one that does not exist")
    with hub_errors(repo):
        commit = str(api.repo_info(repo, repo_type=REPO_TYPE, revision=revision).sha)
    making = folder.parent / f".tmp-pull-{folder.name}"
    guard = folder.parent / f".lock-pull-{folder.name}"
    with locked(guard):
        try:
            downloaded = _fill(api, repo, commit, folder, making, overwrite=overwrite)
            index = Index.parse((folder / INDEX).read_text(encoding="utf-8"), folder / INDEX)
            restored, changed, left = _restore_lock(folder, index)
        finally:
            guard.unlink(missing_ok=True)
    return Pulled(
        commit=commit,
        files=len(index.files),
        downloaded=downloaded,
        bytes=sum(entry.size for entry in index.files.values()),
        restored=restored,
        changed=changed,
        lock_left=left,
    )


def _fill(api: HfApi, repo: str, commit: str, folder: Path, making: Path, *, overwrite: bool) -> int:
    """Let the folder hold this commit; return how many files had to be downloaded."""
    with hub_errors(repo):
        making.mkdir(parents=True, exist_ok=True)
        index = _read_index(api, repo, commit, making)
        whole = _is_whole(folder, making)
        if not whole and folder.exists() and any(folder.iterdir()) and not overwrite:
            shutil.rmtree(making)
            raise ConfigError(f"{folder} is not empty; give another folder, or add --overwrite")
        downloaded = 0 if whole else _download(api, repo, commit, index, making)
    if not whole:
        _prove(making, index)
        _publish(making, folder)
    shutil.rmtree(making, ignore_errors=True)
    shutil.rmtree(_aside(folder), ignore_errors=True)
    return downloaded


def _fetch(api: HfApi, repo: str, commit: str, name: str, making: Path) -> None:
    api.hf_hub_download(repo, name, repo_type=REPO_TYPE, revision=commit, local_dir=making)


def _read_index(api: HfApi, repo: str, commit: str, making: Path) -> Index:
    try:
        _fetch(api, repo, commit, INDEX, making)
    except RemoteEntryNotFoundError as error:
        raise SchemaError(f"{repo} has no {INDEX}: it was not pushed by vcrd; use datasets.load_dataset") from error
    return Index.parse((making / INDEX).read_text(encoding="utf-8"), f"{repo}/{INDEX}")


def _is_whole(folder: Path, making: Path) -> bool:
    """Tell whether the folder is already what is to be pulled: after a kill behind the renaming, or a second pull."""
    try:
        same = (folder / INDEX).read_bytes() == (making / INDEX).read_bytes()
        if same:
            check_folder(folder)
    except (OSError, SchemaError):
        return False
    return same


def _download(api: HfApi, repo: str, commit: str, index: Index, making: Path) -> int:
    """Fetch what an earlier pull has not; return how many files that were."""
    missing = [name for name, entry in index.files.items() if not _has(making / name, entry)]
    with Progress("pull", len(index.files), "file") as progress:
        progress.advance(len(index.files) - len(missing))
        for name in missing:
            _fetch(api, repo, commit, name, making)
            progress.advance(1)
    try:
        _fetch(api, repo, commit, CARD, making)
    except RemoteEntryNotFoundError:
        (making / CARD).unlink(missing_ok=True)
    return len(missing)


def _has(path: Path, entry: Entry) -> bool:
    return path.is_file() and not path.is_symlink() and Entry.of(path) == entry


def _prove(making: Path, index: Index) -> None:
    """Check every file against the index, and every artefact against its manifest; leave nothing else in it."""
    shutil.rmtree(making / ".cache", ignore_errors=True)
    check_folder(making)
    known = {INDEX, CARD, *index.files}
    for path in sorted(making.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(making).as_posix() not in known:
            path.unlink()
    read_stages(making / LOCK)
    for manifest in sorted(making.glob(f"*/{MANIFEST_NAME}")):
        check_files(manifest.parent, read_manifest(manifest.parent))
    for name in known:
        if (making / name).is_file():
            fsync_path(making / name)


def _publish(making: Path, folder: Path) -> None:
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    making.rename(folder)
    fsync_path(folder.parent)


def _aside(folder: Path) -> Path:
    """Where what is replaced lies for a moment; a pull that is killed then leaves it for the next one."""
    return folder.parent / f".tmp-old-{folder.name}"


def _restore_lock(folder: Path, index: Index) -> tuple[list[str], list[str], str]:
    clone, stages = clone_of(folder), read_stages(folder / LOCK)
    if not stages:
        return [], [], "the run that was pushed had no dvc.lock"
    if clone is None or folder.resolve().relative_to(clone).as_posix() != index.folder:
        return [], [], f"they are of {index.folder} in a clone of the project; pull into that to have them"
    stages = inside(stages, index.folder)
    changed = changed_since(clone, stages)
    if not stages:
        return [], [], f"none of them is of what lies in {index.folder} alone"
    restore(clone, stages)
    return list(stages), changed, ""
