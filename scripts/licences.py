"""Are the licences of what the project needs among those that it accepts ([tool.vcrd.licences] in pyproject.toml)?

    python -m scripts.licences

Every installed package that the project or one of its extras leads to is looked at, with all that these need in turn;
what else lies in the environment is not. Offline. Exits 1 and names every package whose licence is not accepted.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def needed(requirements: Iterable[str]) -> set[str]:
    """Return the names of the installed packages that requirements lead to."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    open_ones = [(Requirement(text), "") for text in requirements]
    while open_ones:
        requirement, extra = open_ones.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        try:
            further = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            continue  # of an extra that this machine has not
        found.add(name)
        for chosen in ("", *requirement.extras):
            if (name, chosen) not in seen:
                seen.add((name, chosen))
                open_ones += [(item, chosen) for item in further]
    return found


def is_accepted(licence: str, accepted: Iterable[str]) -> bool:
    """Tell whether a licence, or one side of a choice, is accepted; what is joined must be accepted as a whole.

    >>> is_accepted("MIT OR GPL-2.0", ["MIT"]), is_accepted("MIT AND GPL-2.0", ["MIT"])
    (True, False)
    """
    names = {_bare(name) for name in accepted}
    sides = re.split(r"\s+OR\s+", licence.strip().splitlines()[0])
    return any(all(_bare(part) in names for part in re.split(r"\s+AND\s+|;", side)) for side in sides)


def _bare(name: str) -> str:
    return " ".join(re.sub(r"[()]", " ", name).lower().split())


def refused(licences: Mapping[str, str], rules: Mapping[str, Any]) -> dict[str, str]:
    """Return what is not accepted: packages with their licences."""
    return {
        name: licence
        for name, licence in sorted(licences.items())
        if name not in rules["packages"] and not is_accepted(licence, rules["accept"])
    }


def installed_licences(names: Iterable[str]) -> dict[str, str]:
    """Return the licence that each installed package states."""
    command = [sys.executable, "-m", "piplicenses", "--with-system", "--format=json", "--packages", *sorted(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {canonicalize_name(item["Name"]): item["License"] or "none" for item in json.loads(done.stdout)}


def main() -> bool:
    """Look at all; say what is not accepted."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, rules = settings["project"], settings["tool"]["vcrd"]["licences"]
    extras = (text for extra in project["optional-dependencies"].values() for text in extra)
    names = needed([*project["dependencies"], *extras])
    found = installed_licences(names)
    bad = refused(found, rules) | dict.fromkeys(names - set(found), "not known")
    for name, licence in bad.items():
        sys.stderr.write(f"{name}: {licence!r} is not accepted; use another, or say in pyproject.toml why\n")
    sys.stderr.write(f"licences: {len(found)} packages, {len(bad)} not accepted\n")
    return not bad


if __name__ == "__main__":
    sys.exit(not main())
