"""The entries of `dvc.lock` that say a run's artefacts are made: shared with them, so that nobody makes them again."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vcrd.errors import ConfigError, SchemaError
from vcrd.io.files import safe_path, write_text
from vcrd.io.text import parse_yaml

GRAPH, LOCK_FILE, PARAMS_FILE = "dvc.yaml", "dvc.lock", "params.yaml"
SCHEMA = "2.0"

Stages = dict[str, Any]


def clone_of(folder: Path) -> Path | None:
    """Return the nearest folder above that has a stage graph."""
    return next((path for path in folder.resolve().parents if (path / GRAPH).is_file()), None)


def read_stages(path: Path) -> Stages:
    """Return the stages of a lock file, none where there is no file.

    Raises:
        SchemaError: It is no lock file.
    """
    if not path.is_file():
        return {}
    try:
        stages = (parse_yaml(path.read_text(encoding="utf-8")) or {}).get("stages", {})
    except (ValueError, AttributeError) as error:
        raise SchemaError(f"not a lock file ({error!r})", file=path) from error
    if not isinstance(stages, dict) or not all(map(_is_entry, stages.values())):
        raise SchemaError("expected an entry for each stage, with deps, params and outs as DVC writes them", file=path)
    return stages


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    files, params = [entry.get("deps", []), entry.get("outs", [])], entry.get("params", {})
    if not all(isinstance(items, list) for items in files) or not isinstance(params, dict):
        return False
    paths = [item.get("path") if isinstance(item, dict) else None for items in files for item in items]
    keys = [key for named in params.values() for key in (named if isinstance(named, dict) else [None])]
    return all(isinstance(name, str) for name in (*paths, *keys))


def inside(stages: Stages, folder: str) -> Stages:
    """Return the stages that write into `folder` and nowhere else: what is pulled speaks for nothing else.

    >>> list(inside({"a": {"outs": [{"path": "data/x/y"}]}, "b": {"outs": [{"path": "data/z"}]}}, "data/x"))
    ['a']
    """

    def written(entry: Mapping[str, Any]) -> list[str]:
        return [out["path"] for out in entry.get("outs", [])]

    def is_inside(path: str) -> bool:
        return path.startswith(f"{folder}/") and ".." not in path.split("/")

    return {name: entry for name, entry in stages.items() if written(entry) and all(map(is_inside, written(entry)))}


def lock_text(stages: Stages) -> str:
    """Return a lock file of these stages."""
    import yaml

    return str(yaml.safe_dump({"schema": SCHEMA, "stages": stages}, sort_keys=False, allow_unicode=True))


def makers(stages: Stages, folders: Collection[str], behind: str | None = None) -> Stages:
    """Return the stages that made these folders and all before them, but none that reads `behind` or what comes of it.

    >>> chain = {"a": {"outs": [{"path": "x"}]}, "b": {"deps": [{"path": "x"}], "outs": [{"path": "y"}]}}
    >>> list(makers(chain, ["y"])), list(makers(chain, ["y"], behind="x"))
    (['a', 'b'], [])
    >>> list(makers(chain, ["x", "y"], behind="x"))
    ['a']
    """
    made_by = {out["path"]: name for name, entry in stages.items() for out in entry.get("outs", [])}

    def before(folder: str) -> set[str]:
        found: set[str] = set()
        open_ones = [made_by[folder]] if folder in made_by else []
        while open_ones:
            name = open_ones.pop()
            if name not in found:
                found.add(name)
                open_ones += [made_by[path] for path in _read_by(stages[name]) if path in made_by]
        return found

    wanted = [before(folder) for folder in folders]
    found = set().union(*(names for names in wanted if not any(behind in _read_by(stages[name]) for name in names)))
    return {name: entry for name, entry in stages.items() if name in found}


def _read_by(entry: Mapping[str, Any]) -> list[str]:
    return [item["path"] for item in entry.get("deps", [])]


def restore(clone: Path, stages: Stages) -> None:
    """Put entries into a clone's lock file; those of other stages stay as they are."""
    path = clone / LOCK_FILE
    known = read_stages(path)
    if {name: known.get(name) for name in stages} == stages:
        return
    text = lock_text({**known, **stages})
    write_text(path, text)


def changed_since(clone: Path, stages: Stages) -> list[str]:
    """Return what of a clone's code and parameters differs from what made the artefacts."""
    changed = {
        item["path"]
        for entry in stages.values()
        for item in entry.get("deps", [])
        if item["path"].endswith(".py") and item.get("md5") != _md5(clone, item["path"])
    }
    given = clone / PARAMS_FILE
    try:
        params = parse_yaml(given.read_text(encoding="utf-8")) if given.is_file() else {}
    except ValueError as error:
        raise ConfigError(f"{given} is not YAML: {error}") from error
    for entry in stages.values():
        wanted = entry.get("params", {}).get(PARAMS_FILE, {})
        changed |= {f"{PARAMS_FILE}: {key}" for key, value in wanted.items() if _value(params, key) != value}
    return sorted(changed)


def _md5(clone: Path, name: str) -> str | None:
    """Return the digest of a file in a clone; what an entry of somebody else's says lies elsewhere is not looked at."""
    try:
        path = clone / safe_path(name, LOCK_FILE)
    except SchemaError:
        return None
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else None


def _value(params: Any, key: str) -> Any:
    for part in key.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params
