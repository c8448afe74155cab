"""Which prefixes of a rollout are worth a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from vcrd.records import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixParams:
    """How many steps of a rollout are compared."""

    max_per_rollout: Annotated[int, Ge(1)] | None
    """Null: all of them; else those around the first step that a rule proves wrong, then spread evenly."""


def choose_prefixes(rollout: Rollout, params: PrefixParams) -> list[int]:
    """Return the indices of the steps to compare, in order."""
    count = len(rollout.step_ends)
    limit = params.max_per_rollout
    if limit is None or count <= limit:
        return list(range(count))
    wrong = next((index for index, verdict in enumerate(rollout.step_verdicts) if verdict < 0), None)
    near = [] if wrong is None else [index for index in (wrong, wrong - 1, wrong + 1) if 0 <= index < count]
    spread = [int(index) for index in np.linspace(0, count - 1, limit).round()]
    return sorted(list(dict.fromkeys([*near, *spread]))[:limit])
