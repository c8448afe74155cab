"""What a push refuses: bad data, a repository of something else, tables that would be lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from vcrd.errors import ConfigError, SchemaError
from vcrd.hub.contents import Contents
from vcrd.hub.facts import models_of
from vcrd.hub.index import INDEX, LOCK, PARAMS, PLOTS, SHARED, bytes_of
from vcrd.hub.private import tells_home
from vcrd.records import MODELS
from vcrd.validate import validate

_TEXTS = (".json", ".yaml")


def refuse_bad_data(contents: Contents) -> None:
    """Validate every artefact that is shared.

    Raises:
        SchemaError: Something is wrong with one.
    """
    for name in contents.manifests:
        [found] = validate(contents.run / name)
        if found.faults:
            raise SchemaError(
                f"{name} is bad and nothing was pushed: {found.faults[0]}; see: vcrd validate {contents.run / name}"
            )


def refuse_others(repo: str, there: Iterable[str]) -> None:
    """Files in our places are ours to replace only where our index lies beside them.

    Raises:
        ConfigError: There are some, and it does not.
    """
    if INDEX not in there and (theirs := sorted(filter(is_ours, there))):
        raise ConfigError(f"{repo} holds {theirs[0]}, which vcrd did not push and would replace; give another name")


def refuse_to_remove(repo: str, there: Iterable[str], contents: Contents) -> None:
    """Look for tables of an earlier push that are not among those to share.

    Raises:
        ConfigError: There are some.
    """
    held = {name.partition("/")[0] for name in there if "/" in name}
    if lost := sorted((held & set(SHARED)) - set(contents.manifests)):
        remedy = "push the whole run (what is there is not sent again), or remove them with --prune"
        raise ConfigError(f"{repo} holds {', '.join(lost)} of an earlier push, and this one does not; {remedy}")


def is_ours(name: str) -> bool:
    """Tell whether a path in a repository is one of those that push writes or removes."""
    return name.partition("/")[0] in (*SHARED, PLOTS) or name in (LOCK, PARAMS)


def telling_files(contents: Contents, files: Mapping[str, Path | bytes]) -> list[str]:
    """Return the files that name somebody's home folder; they cannot be changed without their checksums."""
    texts = {name: bytes_of(file).decode(errors="replace") for name, file in files.items() if name.endswith(_TEXTS)}
    if MODELS.name in contents.manifests:
        texts[f"{MODELS.name}/*.parquet"] = " ".join(model["name"] for model in models_of(contents))
    return sorted(name for name, text in texts.items() if tells_home(text))
