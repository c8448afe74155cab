"""The fitted maps: which one judges which step, and what it says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcrd.errors import SchemaError
from vcrd.io.files import read_json
from vcrd.reliability.stacking import Pattern, StackingMap, sigmoid
from vcrd.reliability.table import EvidenceTable, Flags, Floats
from vcrd.verifiers.base import INVALID

FILE = "reliability.json"
FORMAT = "vcrd-reliability/1"
ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedMaps:
    """The maps of a domain and a policy; `*` is any."""

    domain: str
    policy: str
    maps: Sequence[StackingMap]

    def best(self, known: Sequence[str]) -> StackingMap:
        """Return the map that reads most of what is known."""
        return max((item for item in self.maps if set(item.pattern) <= set(known)), key=lambda item: len(item.pattern))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityModel:
    """Evidence to local validity, and to the value that a step is expected to have.

    Attributes:
        validity: Maps of the local validity, the widest scope first.
        value: Maps of the value, which read no completions.
        n0: Completions at which half of what they say is believed.
        kappa: Strength of the predicted value, in completions.
        floor: Local validity of a step that a rule proved wrong.
        provenance: What it was fitted on.
    """

    validity: Sequence[ScopedMaps]
    value: Sequence[ScopedMaps]
    n0: float
    kappa: float
    floor: float
    provenance: Mapping[str, Any]

    @property
    def fitted(self) -> bool:
        """Whether there were enough labels."""
        return any(item.labels for item in self.validity[0].maps)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], file: object = None) -> ReliabilityModel:
        """Read plain values back.

        Raises:
            SchemaError: They are not of a reliability model.
        """
        if not isinstance(value, Mapping) or value.get("format") != FORMAT:
            raise SchemaError(f"not a reliability model ({FORMAT}); make one with `vcrd reliability fit`", file=file)
        try:
            rest = {name: value[name] for name in ("n0", "kappa", "floor", "provenance")}
            validity, scopes = ([_read_scope(scope) for scope in value[name]] for name in ("validity", "value"))
        except KeyError as error:
            raise SchemaError(
                f"a reliability model without {error}; make it again with `vcrd reliability fit`", file=file
            ) from None
        return cls(validity=validity, value=scopes, **rest)

    def local_validity(self, table: EvidenceTable) -> tuple[Floats, Floats]:
        """Return local validity [N] and its standard deviation [N], over the completions and the fit."""
        logits, variances = self._predict(self.validity, table)
        probabilities = sigmoid(logits)
        deviations = np.minimum(probabilities * (1 - probabilities) * np.sqrt(variances), 0.5)
        proved_wrong = table.rule == INVALID
        return np.where(proved_wrong, self.floor, probabilities), np.where(proved_wrong, 0.0, deviations)

    def predicted_value(self, table: EvidenceTable) -> Floats:
        """Return the value [N] that steps are expected to have, completions left aside."""
        logits, _ = self._predict(self.value, table)
        return np.where(table.rule == INVALID, self.floor, sigmoid(logits))

    def reads_all(self, table: EvidenceTable) -> bool:
        """Tell whether every step has a map of local validity that reads all that is known of it."""
        return all(chosen.pattern == known for _, known, chosen in self._choose(self.validity, table))

    def unseen(self, table: EvidenceTable) -> Flags:
        """Return [N]: whether a step is of a domain or policy that no label was of; maps do not carry over."""
        pairs = zip(table.domain.tolist(), table.policy.tolist(), strict=True)
        return np.array([not self._saw(domain, policy) for domain, policy in pairs], dtype=bool)

    def _saw(self, domain: str, policy: str) -> bool:
        """Labels that did not say their domain or policy vouch for every one."""
        scopes = self.provenance.get("scopes", [])
        return any(known[0] in ("", domain) and known[1] in ("", policy) for known in scopes)

    def _predict(self, scopes: Sequence[ScopedMaps], table: EvidenceTable) -> tuple[Floats, Floats]:
        logits, variances = np.zeros(len(table)), np.zeros(len(table))
        for rows, _, chosen in self._choose(scopes, table):
            logits[rows], variances[rows] = chosen.predict(table.take(rows), self.n0)
        return logits, variances

    def _choose(
        self, scopes: Sequence[ScopedMaps], table: EvidenceTable
    ) -> Iterator[tuple[NDArray[np.int64], Pattern, StackingMap]]:
        """Yield the rows of each kind, what is known of them, and the map that judges them."""
        by_scope = {(scope.domain, scope.policy): scope for scope in scopes}
        available = table.available()
        kinds: dict[tuple[str, str, bytes], list[int]] = {}
        for row, (domain, policy) in enumerate(zip(table.domain.tolist(), table.policy.tolist(), strict=True)):
            kinds.setdefault((domain, policy, available[row].tobytes()), []).append(row)
        for (domain, policy, _), members in kinds.items():
            known = tuple(name for name, there in zip(table.sources, available[members[0]], strict=True) if there)
            tried = ((domain, policy), (domain, ANY), (ANY, ANY))
            yield np.array(members), known, next(by_scope[pair] for pair in tried if pair in by_scope).best(known)


def _read_scope(value: Mapping[str, Any]) -> ScopedMaps:
    maps = [StackingMap.from_json(item) for item in value["maps"]]
    return ScopedMaps(domain=value["domain"], policy=value["policy"], maps=maps)


def read_reliability(folder: Path) -> ReliabilityModel:
    """Read the maps of a `reliability` folder."""
    return ReliabilityModel.from_json(read_json(folder / FILE), file=folder / FILE)
