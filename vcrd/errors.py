"""The kinds of error: the user can fix it, the data is broken, someone else is writing, there was no more time.

Everything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable
from typing import NoReturn


class VcrdError(Exception):
    """Base of the expected errors; `exit_code` is what a command ends with."""

    exit_code = 1


class ConfigError(VcrdError):
    """The user can fix it: names the value, the limit and the remedy in one line."""

    exit_code = 2


class SchemaError(VcrdError):
    """The data is broken beyond a record: names file, column and row where they are known."""

    exit_code = 3

    def __init__(self, message: str, *, file: object = None, column: str | None = None, row: int | None = None) -> None:
        """Put what is known of the place in front of `message`, and keep both apart for who collects them."""
        self.reason, self.file, self.column, self.row = message, file, column, row
        place = [
            f"{name} {value}" for name, value in (("file", file), ("column", column), ("row", row)) if value is not None
        ]
        super().__init__(f"{', '.join(place)}: {message}" if place else message)


class BusyError(VcrdError):
    """Another process is writing the same thing; nothing was changed (EX_TEMPFAIL)."""

    exit_code = 75


class UnfinishedError(VcrdError):
    """The time given was too short; what is finished is kept, and the same command goes on (EX_TEMPFAIL)."""

    exit_code = 75


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest of `known`, or the list of them.

    >>> did_you_mean("temprature", ["temperature", "top_p"])
    "; did you mean 'temperature'?"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(given, names, n=1)
    return f"; did you mean '{nearest[0]}'?" if nearest else f"; known: {', '.join(names)}"


def first_line(error: Exception) -> str:
    """Return what an error of a library says first, for an error of ours in one line."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def one_line(error: Exception, most: int = 200) -> str:
    """Return what an error of a library says in one line of so many characters at most, for an error of ours."""
    return " ".join(str(error).split())[:most]


def leave_closed_pipe() -> NoReturn:
    """End the program: whoever read its output has seen enough (`... | head`), and the rest must not be flushed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
