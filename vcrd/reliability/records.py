"""A run's records as evidence tables, and how good the fitted maps are on its judge problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vcrd.records import Evidence, LabelledStep
from vcrd.reliability.fit import LabelledTable
from vcrd.reliability.measure import diagram, measure, raw_estimates
from vcrd.reliability.model import ReliabilityModel
from vcrd.reliability.table import EvidenceTable

NO_COMPLETIONS: Mapping[str, int] = {}


def tabulate(
    evidence: Sequence[Evidence],
    successes: Mapping[str, int] = NO_COMPLETIONS,
    trials: Mapping[str, int] = NO_COMPLETIONS,
) -> EvidenceTable:
    """Put evidence, and completions by proposal, into columns. The policy of a step is its proposer."""

    def scores(name: str) -> Any:
        return np.array([np.nan if (value := getattr(item, name)) is None else value for item in evidence], float)

    return EvidenceTable(
        scores={"score_peer": scores("score_peer"), "score_prm": scores("score_prm")},
        rule=np.array([item.rule for item in evidence], np.int64),
        position=np.array([item.position for item in evidence], float),
        successes=np.array([successes.get(item.proposal_id, 0) for item in evidence], np.int64),
        trials=np.array([trials.get(item.proposal_id, 0) for item in evidence], np.int64),
        domain=np.array([item.domain for item in evidence], np.str_),
        policy=np.array([item.proposer for item in evidence], np.str_),
    )


def labelled_table(evidence: Sequence[Evidence], labels: Sequence[LabelledStep], split: str) -> LabelledTable:
    """Bring labels and evidence of one split together; completions are those independent of the label."""
    by_id = {item.proposal_id: item for item in evidence}
    mine = [item for item in labels if item.split == split]
    successes = {item.proposal_id: sum(item.outcomes) for item in mine}
    trials = {item.proposal_id: len(item.outcomes) for item in mine}
    return LabelledTable(
        evidence=tabulate([by_id[item.proposal_id] for item in mine], successes, trials),
        labels=np.array([np.nan if item.label is None else item.label for item in mine], float),
        groups=np.array([item.problem_id for item in mine], np.str_),
    )


def judge_reliability(model: ReliabilityModel, table: LabelledTable) -> dict[str, Any]:
    """Measure a model on labelled steps it was not fitted on, beside each single source as it is."""
    evidence = table.evidence
    bare = evidence.with_completions(0 * evidence.successes, 0 * evidence.trials)
    fused = model.local_validity(evidence)[0]
    estimates = {
        "local_validity": fused,
        "without_completions": model.local_validity(bare)[0],
        **raw_estimates(evidence),
    }
    return {
        "fitted": model.fitted,
        "n": int((~np.isnan(table.labels)).sum()),
        "estimates": {name: measure(value, table.labels, table.groups) for name, value in estimates.items()},
        "diagram": diagram(fused, table.labels),
    }
