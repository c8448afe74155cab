"""Reliability: statistical calibration. Evidence of several kinds becomes one probability that a step is sound.

Logistic stacking of what is there: the logits of the scores, the rule's verdict, the position, the completions. A
second stacking predicts the value of a step without completions.
"""

from vcrd.reliability.fit import LabelledTable, ReliabilityParams, cross_fitted, fit_reliability
from vcrd.reliability.measure import brier_difference, diagram, measure, raw_estimates
from vcrd.reliability.model import FILE, ReliabilityModel, read_reliability
from vcrd.reliability.records import judge_reliability, labelled_table, tabulate
from vcrd.reliability.table import EvidenceTable, evidence_table, is_evidence, read_labels

__all__ = [
    "FILE",
    "EvidenceTable",
    "LabelledTable",
    "ReliabilityModel",
    "ReliabilityParams",
    "brier_difference",
    "cross_fitted",
    "diagram",
    "evidence_table",
    "fit_reliability",
    "is_evidence",
    "judge_reliability",
    "labelled_table",
    "measure",
    "raw_estimates",
    "read_labels",
    "read_reliability",
    "tabulate",
]
