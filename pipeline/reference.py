"""The page that documents params.yaml, written from the sections' dataclasses, the stages and the presets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.meanings import Parameter
from pipeline.presets import Preset, inline

_HEAD = """\
# Presets and parameters

A preset is a complete parameter file in `presets/`. `preset use` checks every value and writes `params.yaml`, which you
may then edit; what `params.yaml` held of another preset is kept in `.vcrd/`. Every key has to be there, and an unknown
one is an error that names the nearest: there is no default beside what a preset says.

```sh
python -m stages preset list
python -m stages preset show gsm8k-qwen
python -m stages preset use demo-math --set train.epochs=1 --set 'proposals.stop=["\\n"]'
```

(This page is what `python -m stages preset docs` prints.)
"""
_KEYS = """\
## Keys

The value is that of most presets; the others' stand behind it. A section names the stages that read it: they run again
when one of its values changes, and so does what depends on them.
"""


def reference_page(
    parameters: Sequence[Parameter], readers: Mapping[str, Sequence[str]], presets: Mapping[str, Preset]
) -> str:
    """Return the page.

    Args:
        parameters: Keys at the top of params.yaml.
        readers: Names of the stages that read each section.
        presets: All of them.
    """
    about = [f"| `{preset.name}` | {_cell(preset.description)} |" for preset in presets.values()]
    parts = [_HEAD, "\n".join(["| preset | what it is |", "|---|---|", *about, ""]), _KEYS]
    order = list(next(iter(presets.values())).values)
    ordered = sorted(parameters, key=lambda item: order.index(item.key))
    parts.append("\n".join([*_table([item for item in ordered if not item.inner], presets), ""]))
    for section in ordered:
        if section.inner:
            who = ", ".join(f"`{name}`" for name in readers.get(section.key, ())) or "all stages"
            parts.append(f"### `{section.key}`\n\n{section.meaning} Read by {who}.\n")
            parts.append("\n".join([*_table(list(section.below()), presets), ""]))
    return "\n".join(parts)


def _table(keys: Sequence[Parameter], presets: Mapping[str, Preset]) -> Iterator[str]:
    yield from ("| key | value | it may be | meaning |", "|---|---|---|---|")
    for item in keys:
        value = "" if item.inner else _values(item.key, presets)
        yield f"| `{item.key}` | {value} | {_cell(item.allowed)} | {_cell(item.meaning)} |"


def _values(key: str, presets: Mapping[str, Preset]) -> str:
    """Return the value of most presets, and which have another; some leave out the section that the key is of."""
    found = {name: value for name, preset in presets.items() if (value := _look_up(preset.values, key)) is not None}
    if not found:
        return ""
    usual = Counter(found.values()).most_common(1)[0][0]
    others = [f"{name} {_code(value)}" for name, value in found.items() if value != usual]
    return "; ".join([_code(usual), *others])


def _look_up(values: Any, key: str) -> str | None:
    *sections, last = key.split(".")
    for name in sections:
        values = (values or {}).get(name)
    return inline(values[last]) if values else None


def _code(value: str) -> str:
    return f"`{_cell(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
