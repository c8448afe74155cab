"""What a validation found: checks that hold, that could not be made, and faults with their places."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from vcrd.errors import SchemaError
from vcrd.storage.rows import Flags

MAX_FAULTS = 5
Status = Literal["holds", "fails", "not checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something wrong, and where.

    Attributes:
        check: The check that found it.
        message: What was expected, and what was got.
        file: Name in the folder.
        column: Name of the column.
        row: Number of the row in the file, from 0.
    """

    check: str
    message: str
    file: str | None = None
    column: str | None = None
    row: int | None = None

    def __str__(self) -> str:
        """Place and message in one line."""
        return str(SchemaError(self.message, file=self.file, column=self.column, row=self.row))


@dataclass(slots=True)
class Findings:
    """Collects what the checks of one folder say; of each check's faults the first few are kept, all are counted."""

    artefact: str
    folder: str
    rows: int = 0
    faults: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def holds(self, check: str, detail: str = "") -> None:
        """Say that a check was made; it holds unless a fault of it was found before or is found later."""
        self.details.setdefault(check, detail)

    def not_checked(self, check: str, why: str) -> None:
        """Say that a check could not be made."""
        self.skipped.setdefault(check, why)

    def fault(self, check: str, message: str, **place: Any) -> None:
        """Add a fault."""
        self.counts[check] += 1
        if self.counts[check] <= MAX_FAULTS:
            self.faults.append(Fault(check=check, message=message, **place))

    def broken(self, check: str, error: SchemaError, *, file: str, first: int = 0) -> None:
        """Add what a reader refused; its row counts from the row `first` of the file."""
        row = None if error.row is None else first + error.row
        self.fault(check, error.reason, file=file, column=error.column, row=row)

    def status(self, check: str) -> Status:
        """Tell how a check ended."""
        if self.counts[check]:
            return "fails"
        return "holds" if check in self.details else "not checked"

    @property
    def checks(self) -> list[str]:
        """Names of all checks in the order in which they were met."""
        return list(dict.fromkeys([*self.details, *self.counts, *self.skipped]))

    def as_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        told = {**self.skipped, **self.details}
        checks = [
            {"check": name, "status": self.status(name), "faults": self.counts[name], "detail": told.get(name, "")}
            for name in self.checks
        ]
        return {
            "artefact": self.artefact,
            "folder": self.folder,
            "rows": self.rows,
            "checks": checks,
            "faults": [asdict(fault) for fault in self.faults],
        }


@dataclass(frozen=True)
class Place:
    """Some rows of a file, for faults found in many at once.

    Attributes:
        findings: Where faults go.
        file: Name in the folder.
        rows_R: Number in the file of each row at hand.
    """

    findings: Findings
    file: str
    rows_R: Any

    def refuse(self, check: str, column: str, wrong_R: Flags, message: str) -> None:
        """Add a fault for every flagged row."""
        for index in np.flatnonzero(wrong_R):
            self.findings.fault(check, message, file=self.file, column=column, row=int(self.rows_R[index]))
