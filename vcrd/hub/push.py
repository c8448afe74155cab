"""Push: everything is uploaded first and becomes visible in one commit, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile

from vcrd.errors import ConfigError, SchemaError
from vcrd.hub.card import make_card
from vcrd.hub.checks import is_ours, refuse_bad_data, refuse_others, refuse_to_remove, telling_files
from vcrd.hub.client import REPO_TYPE, hub_errors, open_client
from vcrd.hub.contents import Contents, collect
from vcrd.hub.edits import keep_edits
from vcrd.hub.facts import gather
from vcrd.hub.index import CARD, INDEX, LOCK, PARAMS, PLOTS, Entry, Index, bytes_of
from vcrd.hub.licences import licences_of
from vcrd.hub.lock import LOCK_FILE, changed_since, clone_of, lock_text, makers, read_stages
from vcrd.hub.plots import draw
from vcrd.records import TRAINING

_PATHS_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did.

    Attributes:
        commit: The commit that holds it.
        files: Files in the repository that are ours.
        uploaded: Those that were not there, or not the same; 0 where nothing was to do.
        bytes: Of all files.
        private: Whether only its owners see it.
        telling: Files of the run that name somebody's home folder; they are shared as they are, unlike the card.
    """

    commit: str
    files: int
    uploaded: int
    bytes: int
    private: bool
    telling: Sequence[str]


def push(
    folder: Path,
    repo: str,
    *,
    only: Sequence[str] = (),
    licence: str | None = None,
    private: bool = True,
    prune: bool = False,
) -> Pushed:
    """Share a run's data as a data set of the Hub.

    A killed push leaves nothing that a reader sees; what it uploaded is not uploaded again. Shards of a table that the
    run no longer has go in the same commit; files of others stay, and so does what people wrote into the card. The
    tables of a repository are always of one run: one that this push does not hold is neither kept beside it nor
    removed unasked.

    Args:
        folder: A run's folder, or that of one artefact.
        repo: `org/name`; made where there is none.
        only: Artefacts to share; none for all.
        licence: In the place of those that the problems name.
        private: A repository that is made here is; one that is there must be, so that nothing is published by chance.
        prune: Whether tables of an earlier push that this one does not hold may be removed.

    Raises:
        ConfigError: No licence is known, the Hub refuses or cannot be reached, somebody else has just pushed, the
            repository has files in the places of ours, or tables that would be removed.
        SchemaError: The data is bad, or what arrived is not what was sent.
    """
    api = open_client(repo)
    contents = collect(folder, only)
    refuse_bad_data(contents)
    files = _with_card(contents, repo, licences_of(contents, licence))
    with hub_errors(repo):
        api.create_repo(repo, repo_type=REPO_TYPE, private=private, exist_ok=True)
        head = api.repo_info(repo, repo_type=REPO_TYPE)
        if private and not head.private:
            raise ConfigError(f"{repo} is public, so that everybody could read what is pushed; say so with --public")
        there = _files_there(api, repo, str(head.sha))
        refuse_others(repo, there)
        if not prune:
            refuse_to_remove(repo, there, contents)
        files[CARD] = _card_with_edits(api, repo, str(head.sha), there, bytes_of(files[CARD]))
        entries = {name: Entry.of(file) for name, file in files.items()}
        changed = [name for name, entry in entries.items() if not _is_same(there.get(name), entry, files[name])]
        gone = [name for name in there if is_ours(name) and name not in files]
        commit = str(head.sha)
        if changed or gone:
            added = [CommitOperationAdd(name, _source(files[name])) for name in changed]
            commit = _commit(api, repo, [*added, *map(CommitOperationDelete, gone)], commit)
        _verify(api, repo, commit, entries, files)
    size = sum(entry.size for entry in entries.values())
    return Pushed(
        commit=commit,
        files=len(files),
        uploaded=len(changed),
        bytes=size,
        private=bool(head.private),
        telling=telling_files(contents, files),
    )


def _with_card(contents: Contents, repo: str, licences: Sequence[str]) -> dict[str, Path | bytes]:
    """Return all files of the repository: the run's, what makes them usable elsewhere, the index, the card."""
    files: dict[str, Path | bytes] = dict(contents.files)
    clone, name = clone_of(contents.run), None
    if clone is not None:
        name = contents.run.resolve().relative_to(clone).as_posix()
        shared = [f"{name}/{artefact}" for artefact in contents.manifests]
        # What is made of `training` is for whoever pulls it to make: with its entries, nothing would be trained.
        stages = makers(read_stages(clone / LOCK_FILE), shared, behind=f"{name}/{TRAINING.name}")
        if stages:
            files[LOCK] = lock_text(stages).encode()
            if not any(item.startswith(PARAMS) for item in changed_since(clone, stages)):
                files[PARAMS] = clone / PARAMS
    facts = gather(contents)
    files |= {f"{PLOTS}/{plot}": drawn for plot, drawn in draw(facts).items()}
    index = Index(folder=name, files={path: Entry.of(file) for path, file in files.items()})
    return {**files, INDEX: index.as_json().encode(), CARD: make_card(contents, facts, repo, licences).encode()}


def _card_with_edits(api: HfApi, repo: str, revision: str, there: Mapping[str, RepoFile], card: bytes) -> bytes:
    if CARD not in there or _is_same(there[CARD], Entry.of(card), card):
        return card
    with TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo, CARD, repo_type=REPO_TYPE, revision=revision, local_dir=folder)
        theirs = Path(path).read_bytes().decode("utf-8", errors="replace")
    return keep_edits(card.decode(), theirs, first=INDEX not in there).encode()


def _source(file: Path | bytes) -> str | bytes:
    return file if isinstance(file, bytes) else str(file)


def _files_there(api: HfApi, repo: str, revision: str) -> dict[str, RepoFile]:
    found = api.list_repo_tree(repo, repo_type=REPO_TYPE, revision=revision, recursive=True)
    return {item.path: item for item in found if isinstance(item, RepoFile)}


def _is_same(there: RepoFile | None, entry: Entry, file: Path | bytes) -> bool:
    """Compare by the sha256 of a large file, and by git's own digest of a small one."""
    if there is None or there.size != entry.size:
        return False
    return there.lfs.sha256 == entry.sha256 if there.lfs is not None else there.blob_id == _git_digest(file)


def _git_digest(file: Path | bytes) -> str:
    import hashlib

    data = bytes_of(file)
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _commit(
    api: HfApi, repo: str, operations: Sequence[CommitOperationAdd | CommitOperationDelete], parent: str
) -> str:
    additions = [item for item in operations if isinstance(item, CommitOperationAdd)]
    api.preupload_lfs_files(repo, additions, repo_type=REPO_TYPE)
    made = api.create_commit(
        repo, operations, commit_message="Push with vcrd", repo_type=REPO_TYPE, parent_commit=parent
    )
    return str(made.oid)


def _verify(
    api: HfApi, repo: str, commit: str, entries: Mapping[str, Entry], files: Mapping[str, Path | bytes]
) -> None:
    """Ask the Hub for the checksums of what it holds now."""
    for names in _chunks(list(entries)):
        there = {item.path: item for item in api.get_paths_info(repo, names, repo_type=REPO_TYPE, revision=commit)}
        for name in names:
            found = there.get(name)
            if not isinstance(found, RepoFile) or not _is_same(found, entries[name], files[name]):
                raise SchemaError(f"the Hub holds something else at {commit[:8]} than was sent; push again", file=name)


def _chunks(names: list[str]) -> Iterable[list[str]]:
    return (names[start : start + _PATHS_AT_ONCE] for start in range(0, len(names), _PATHS_AT_ONCE))
