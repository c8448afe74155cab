"""What work took, noted by the processes of a probe for the one that started them: `python -m stages plan` reads it.

Nothing is noted but where the environment names a folder for it, and nothing that is noted decides an output.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

METER = "VCRD_METER"
"""Environment variable: the folder of notes."""


def metering() -> bool:
    """Tell whether this process belongs to a probe."""
    return METER in os.environ


def note(kind: str, **values: Any) -> None:
    """Write down one piece of work, in this process's own file."""
    if folder := os.environ.get(METER):
        with (Path(folder) / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "process": os.getpid(), **values}) + "\n")


def read_notes(folder: Path) -> list[dict[str, Any]]:
    """Return the notes of all processes, each process's in its order."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@contextmanager
def noted_in(folder: Path) -> Iterator[None]:
    """Let processes that are started meanwhile note their work in a folder of this machine."""
    before = os.environ.get(METER)
    os.environ[METER] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[METER]
        else:
            os.environ[METER] = before
