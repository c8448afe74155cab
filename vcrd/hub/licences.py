"""Licences: carried from the problems to the card, in the Hub's own spelling where it has one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vcrd.errors import ConfigError
from vcrd.hub.contents import Contents
from vcrd.io.manifest import MANIFEST_NAME
from vcrd.io.parquet import read_table, shard_files
from vcrd.records import PROBLEMS

# https://huggingface.co/docs/hub/repositories-licenses
HUB_LICENCES = frozenset(
    {
        *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bigcode-openrail-m", "bigscience-bloom-rail-1.0"),
        *("bigscience-openrail-m", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda"),
        *("cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
        *("cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
        *("cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0"),
        *("cdla-sharing-1.0", "creativeml-openrail-m", "ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1"),
        *("eupl-1.2", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mit"),
        *("mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail", "openrail++", "osl-3.0", "other"),
        *("pddl", "postgresql", "unlicense", "wtfpl", "zlib"),
    }
)
_UNKNOWN = ("", "unknown", "none")


def sources_of(run: Path) -> Counter[tuple[str, str]]:
    """Count a run's problems by (source, licence)."""
    folder = run / PROBLEMS.name
    counts: Counter[tuple[str, str]] = Counter()
    for path in shard_files(folder) if (folder / MANIFEST_NAME).is_file() else ():
        table = read_table(path, columns=["source", "licence"])
        sources, licences = (
            [value or "" for value in table.column(name).to_pylist()] for name in ("source", "licence")
        )
        counts.update(zip(sources, licences, strict=True))
    return counts


def licences_of(contents: Contents, given: str | None) -> list[str]:
    """Return the licences of what is shared: those given, else those of the problems it is made from.

    Raises:
        ConfigError: None is known, or not for every problem.
    """
    if given is not None and given.strip():
        return [given.strip()]
    found = sources_of(contents.run)
    bare = [source for source, licence in found if licence.strip().lower() in _UNKNOWN]
    if bare or not found:
        whose = f"the problems of {bare[0]}" if bare else f"{contents.run} (no problems lie beside the data)"
        raise ConfigError(f"no licence is known of {whose}; find out under which one it may be shared: --licence NAME")
    return sorted({licence.strip() for _, licence in found})


def card_licence(licences: Sequence[str]) -> dict[str, Any]:
    """Return the card's licence fields.

    >>> card_licence(["CC0-1.0"]), card_licence(["Our own"])
    ({'license': 'cc0-1.0'}, {'license': 'other', 'license_name': 'our-own'})
    """
    names = [licence.lower() for licence in licences]
    if set(names) <= HUB_LICENCES:
        return {"license": names[0] if len(names) == 1 else names}
    return {"license": "other", "license_name": "-and-".join("-".join(name.split()) for name in names)}
