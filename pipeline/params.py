"""params.yaml: each section is a frozen dataclass that lives beside its owner; every key must be there and be known."""

from __future__ import annotations

import copy
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, Le
from pydantic import TypeAdapter, ValidationError

from vcrd.errors import ConfigError, did_you_mean
from vcrd.io.text import parse_yaml

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParams:
    """How a run is cut up; none but `num_shards` changes a byte of what it writes."""

    num_shards: Annotated[int, Ge(1), Le(4096)]
    """Shards per artefact; problems are dealt to them by id."""
    executor: Literal["local", "ray"] = "local"
    """local: processes of this machine; ray: actors on the cluster that RAY_ADDRESS names, or on this machine."""
    workers: Annotated[int, Ge(1)]
    """Processes or actors that run shards, each with an engine of its own."""
    max_reject_share: Annotated[float, Ge(0), Le(1)]
    """A stage fails where more than this share of its rows is rejected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalParams:
    """What every stage reads."""

    preset: str
    """Name of the run: its outputs lie in data/PRESET."""
    seed: int
    """Together with a record's id it decides every draw."""
    run: RunParams
    """How the run is cut up."""


_PLAIN_NAME = re.compile(r"[\w-][\w.-]*")
GLOBALS: dict[str, type] = typing.get_type_hints(GlobalParams)


@dataclass(frozen=True)
class Settings:
    """The validated parameters of a run: sections by type, and as plain values for fingerprints."""

    preset: str
    seed: int
    run: RunParams
    sections: Mapping[str, Any]
    plain: Mapping[str, Any]

    def get(self, kind: type[T]) -> T:
        """Return the section of a type."""
        return next(section for section in self.sections.values() if type(section) is kind)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; anything else is a `ConfigError`."""
    try:
        value = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing; write it with: python -m stages preset use demo-math") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected sections with parameters, got {type(value).__name__}")
    return value


def parse_settings(values: Mapping[str, Any], sections: Mapping[str, type], origin: str) -> Settings:
    """Validate a whole parameter file.

    Args:
        values: What the file holds.
        sections: Every section that some stage of the run reads, and its dataclass.
        origin: The file's name, for messages.

    Raises:
        ConfigError: A key is unknown or missing, a type is wrong or a value out of range.
    """
    kinds = {**GLOBALS, **sections}
    _check_keys(values, kinds, origin, "")
    parsed = {name: _parse(kind, values[name], origin, name) for name, kind in kinds.items()}
    if not _PLAIN_NAME.fullmatch(parsed["preset"]):
        raise ConfigError(
            f"{origin}: preset: expected letters, digits, '-', '_' and '.', not '.' first, for a folder has this name, "
            f"got {parsed['preset']!r}"
        )
    return Settings(
        preset=parsed["preset"],
        seed=parsed["seed"],
        run=parsed["run"],
        sections={name: parsed[name] for name in sections},
        plain=dict(values),
    )


def sections_of(stages: Iterable[Any]) -> dict[str, type]:
    """Return every section that some stage of the run reads."""
    return {name: kind for stage in stages for name, kind in stage.sections.items()}


def set_values(values: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Return the values with `key.path=value` changes made; values are read as YAML.

    Raises:
        ConfigError: A change is not of this form, or there is no such key.
    """
    changed = copy.deepcopy(dict(values))
    for change in changes:
        key, equals, text = change.partition("=")
        *parents, last = key.split(".")
        place: Any = changed
        for name in parents:
            place = place.get(name) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict):
            raise ConfigError(f"--set {change}: expected key=value with a key of the preset, such as train.epochs=2")
        if last not in place:
            raise ConfigError(f"--set {change}: unknown parameter {key}{did_you_mean(last, place)}")
        try:
            place[last] = _yaml_number(parse_yaml(text))
        except ValueError as error:
            raise ConfigError(f"--set {change}: the value is not YAML: {error}") from error
    return changed


def _yaml_number(value: Any) -> Any:
    """Read 1e-3 as a number, which YAML 1.1 takes for text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _parse(kind: type, value: object, origin: str, path: str) -> Any:
    _check_nested(kind, value, origin, path)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([path, *(str(part) for part in first["loc"])])
        raise ConfigError(f"{origin}: {where}: {first['msg']}, got {first['input']!r}") from error


def _check_nested(kind: Any, value: object, origin: str, path: str) -> None:
    """Check keys at every depth: pydantic would take a field's default for a missing key."""
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{origin}: {path}: expected a section with parameters, got {value!r}")
        hints = typing.get_type_hints(kind)
        _check_keys(value, {item.name: object for item in fields(kind)}, origin, path + ".")
        for name, hint in hints.items():
            if name in value:
                _check_nested(hint, value[name], origin, f"{path}.{name}")
    elif value is not None:
        for option in typing.get_args(kind):
            if is_dataclass(option):
                _check_nested(option, value, origin, path)


def _check_keys(value: Mapping[str, Any], known: Mapping[str, object], origin: str, path: str) -> None:
    for key in value:
        if key not in known:
            raise ConfigError(f"{origin}: unknown parameter {path}{key}{did_you_mean(str(key), known)}")
    for key in known:
        if key not in value:
            raise ConfigError(f"{origin}: parameter {path}{key} is missing; copy it from a file in presets/")
