"""Presets: complete parameter files, what each is for, and how one becomes params.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.meanings import Parameter
from pipeline.params import read_yaml
from vcrd.errors import ConfigError, did_you_mean
from vcrd.io.files import write_text

PRESETS, PARAMS, KEPT = Path("presets"), Path("params.yaml"), Path(".vcrd")


@dataclass(frozen=True, slots=True)
class Preset:
    """A parameter file.

    Attributes:
        name: Of the file, and its key `preset`.
        description: The comment on its first line.
        values: What it holds.
    """

    name: str
    description: str
    values: Mapping[str, Any]


def read_presets(folder: Path = PRESETS) -> dict[str, Preset]:
    """Read all presets, by name.

    Raises:
        ConfigError: One is no YAML.
    """
    return {path.stem: read_preset(path) for path in sorted(folder.glob("*.yaml"))}


def read_preset(path: Path) -> Preset:
    """Read a parameter file.

    Raises:
        ConfigError: It is missing, or no YAML.
    """
    values = read_yaml(path)
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return Preset(path.stem, first.removeprefix("#").strip() if first.startswith("#") else "", values)


def find_preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        ConfigError: There is none; names the nearest.
    """
    known = read_presets()
    if name not in known:
        raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, known)}")
    return known[name]


def active_preset() -> str | None:
    """Return the preset of params.yaml; None where there is no such file."""
    if not PARAMS.is_file():
        return None
    try:
        return str(read_yaml(PARAMS).get("preset"))
    except ConfigError:
        return "unreadable"


def write_params(name: str, values: Mapping[str, Any]) -> Path | None:
    """Write params.yaml; return where the parameters of another preset, which it held, are kept."""
    active, kept = active_preset(), None
    if active not in (None, name):
        kept = KEPT / f"params-{active}.yaml"
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(PARAMS, kept)
    header = f"# Written by `python -m stages preset use {name}`; edit freely.\n"
    write_text(PARAMS, header + yaml.safe_dump(dict(values), sort_keys=False))
    return kept


def commented(parameters: Sequence[Parameter], values: Mapping[str, Any], indent: str = "") -> str:
    """Return values as YAML, with what each key means and may be above it; it reads back as the same values."""
    known = {item.name: item for item in parameters}
    lines = []
    for name, value in values.items():
        item = known.get(name, Parameter(name, "unknown", "This key is not known."))
        if isinstance(value, Mapping) and item.inner:
            lines += [f"{indent}{item.name}:  # {item.meaning}", commented(item.inner, value, indent + "  ")]
        else:
            lines += [f"{indent}# {item.meaning} ({item.allowed})", f"{indent}{item.name}: {inline(value)}"]
    return "\n".join(lines)


def inline(value: Any) -> str:
    r"""Return a value as YAML in one line.

    >>> inline({"template": "{prompt}\n"})
    '{template: "{prompt}\\n"}'
    """
    return yaml.dump([value], Dumper=_OneLine, default_flow_style=True, width=2**20, allow_unicode=True).strip()[1:-1]


class _OneLine(yaml.SafeDumper):
    r"""Writes a text with line ends in it as `"\n"`, where YAML's other styles would take several lines."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\n" in text else None)


_OneLine.add_representer(str, _represent_text)
