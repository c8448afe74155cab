"""Reliability: statistical calibration. Evidence of several kinds becomes one probability that a step is sound.

Logistic stacking of what is there: the logit of the score, the rule's verdict, the position, the completions. A missing
source drops out with an intercept of its own. A second map predicts the value of a step without completions. Maps are
kept per domain; evidence from a domain without a map is judged by the map of all and flagged.

Axis letters: N steps, F features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt
from numpy.typing import NDArray

from vcrd.io.files import read_json
from vcrd.metrics import auroc, brier, expected_calibration_error
from vcrd.records import Evidence, LabelledStep
from vcrd.verifiers.base import INVALID, VALID

Floats = NDArray[np.float64]

FILE = "reliability.json"
FEATURES = ("intercept", "score", "no_score", "rule_valid", "position", "completions", "no_completions")
_VALUE_FEATURES = FEATURES[:5]
_SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_KAPPAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityParams:
    """How the maps are fitted."""

    l2: Annotated[float, Gt(0)]
    """Strength of the ridge on every weight but the intercept."""
    floor: Annotated[float, Gt(0)]
    """Local validity of a step that a rule proved wrong."""
    min_labels: Annotated[int, Ge(2)]
    """With fewer labels, or without both kinds, nothing is fitted and the report says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvidence:
    """What is known of one step: score in (0, 1) or None, rule verdict, relative position, completions."""

    score: float | None
    rule: int
    position: float
    successes: int = 0
    trials: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StackingMap:
    """Weights by feature, their covariance, and how far completions are trusted (n0).

    `fitted` is false where there were too few labels; the weights are then a cautious guess.
    """

    weights: list[float]
    covariance: list[list[float]]
    n0: float
    fitted: bool
    labels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityModel:
    """The maps of one (scorer, completer, policy): validity and value by domain, `*` for all domains."""

    validity: Mapping[str, StackingMap]
    value: Mapping[str, StackingMap]
    kappa: float
    floor: float
    provenance: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"features": list(FEATURES), **asdict(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ReliabilityModel:
        """Read plain values back."""
        maps = {
            name: {domain: StackingMap(**item) for domain, item in value[name].items()}
            for name in ("validity", "value")
        }
        return cls(**maps, kappa=value["kappa"], floor=value["floor"], provenance=value["provenance"])

    def local_validity(self, domain: str, evidence: StepEvidence) -> tuple[float, float]:
        """Return a step's local validity and its standard deviation, over the completions and the fit."""
        if evidence.rule == INVALID:
            return self.floor, 0.0
        chosen = self.validity.get(domain) or self.validity["*"]
        features = feature_row(evidence, chosen.n0)
        probability = _sigmoid(float(features @ np.array(chosen.weights)))
        variance = float(features @ np.array(chosen.covariance) @ features)
        if evidence.trials:
            noise = 1 / (evidence.successes + 0.5) + 1 / (evidence.trials - evidence.successes + 0.5)
            trust = evidence.trials / (evidence.trials + chosen.n0)
            variance += (chosen.weights[FEATURES.index("completions")] * trust) ** 2 * noise
        return probability, min(probability * (1 - probability) * math.sqrt(variance), 0.5)

    def predicted_value(self, domain: str, evidence: StepEvidence) -> float:
        """Return the value a step is expected to have, completions left aside."""
        if evidence.rule == INVALID:
            return self.floor
        chosen = self.value.get(domain) or self.value["*"]
        features = feature_row(evidence, 1.0)[: len(_VALUE_FEATURES)]
        return _sigmoid(float(features @ np.array(chosen.weights)))


def feature_row(evidence: StepEvidence, n0: float) -> Floats:
    """Return the features [F] of a step, in the order of `FEATURES`."""
    score = 0.0 if evidence.score is None else _logit(min(max(evidence.score, 1e-4), 1 - 1e-4))
    trials = evidence.trials
    completions = _logit((evidence.successes + 0.5) / (trials + 1)) * trials / (trials + n0) if trials else 0.0
    return np.array(
        [
            1.0,
            score,
            float(evidence.score is None),
            float(evidence.rule == VALID),
            evidence.position,
            completions,
            float(trials == 0),
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledEvidence:
    """A step of the fit or judge problems: its evidence (without completions), label, and completions in order."""

    domain: str
    evidence: StepEvidence
    label: int | None
    outcomes: Sequence[bool]


def step_evidence(evidence: Evidence, successes: int = 0, trials: int = 0) -> StepEvidence:
    """Put what is known of a proposal together."""
    return StepEvidence(
        score=evidence.score_prm,
        rule=evidence.rule,
        position=evidence.position,
        successes=successes,
        trials=trials,
    )


def labelled_evidence(
    evidence: Sequence[Evidence], labels: Sequence[LabelledStep], split: str
) -> list[LabelledEvidence]:
    """Bring labels and evidence of one split together; a step without a label still tells of its value."""
    by_id = {item.proposal_id: item for item in evidence}
    return [
        LabelledEvidence(
            domain=item.domain,
            evidence=step_evidence(by_id[item.proposal_id]),
            label=item.label,
            outcomes=item.outcomes,
        )
        for item in labels
        if item.split == split
    ]


def fit_reliability(
    steps: Sequence[LabelledEvidence], params: ReliabilityParams, provenance: Mapping[str, Any]
) -> ReliabilityModel:
    """Fit both maps on the `fit` problems, for every domain and for all of them together."""
    domains = {"*", *(step.domain for step in steps)}
    chosen = {name: [step for step in steps if name in ("*", step.domain)] for name in sorted(domains)}
    value = {name: _fit_value(mine, params) for name, mine in chosen.items()}
    return ReliabilityModel(
        validity={name: _fit_validity(mine, params) for name, mine in chosen.items()},
        value=value,
        kappa=_fit_kappa(steps, value["*"]),
        floor=params.floor,
        provenance=provenance,
    )


def _fit_validity(steps: Sequence[LabelledEvidence], params: ReliabilityParams) -> StackingMap:
    """Fit on nested subsets of each step's completions, so that one map serves any number of them."""
    mine = [step for step in steps if step.label is not None and step.evidence.rule != INVALID]
    labels = np.array([step.label for step in mine], float)
    if len(mine) < params.min_labels or len(set(labels.tolist())) < 2:
        return _unfitted(len(FEATURES), len(mine))
    best: tuple[float, float, Floats, Floats] | None = None
    for n0 in _SCALES:
        rows, targets, weights = [], [], []
        for step, label in zip(mine, labels, strict=True):
            subsets = _nested(step)
            rows += [feature_row(evidence, n0) for evidence in subsets]
            targets += [label] * len(subsets)
            weights += [1 / len(subsets)] * len(subsets)
        fit = _logistic(np.array(rows), np.array(targets), np.array(weights), params.l2)
        if best is None or fit[0] < best[0]:
            best = (fit[0], n0, fit[1], fit[2])
    assert best is not None
    return StackingMap(weights=best[2].tolist(), covariance=best[3].tolist(), n0=best[1], fitted=True, labels=len(mine))


def _nested(step: LabelledEvidence) -> list[StepEvidence]:
    """The step without completions, and with its first 1, 2, 4, ... of them."""
    counts = [0, *(2**power for power in range(12) if 2**power <= len(step.outcomes))]
    base = step.evidence
    return [
        StepEvidence(
            score=base.score,
            rule=base.rule,
            position=base.position,
            successes=sum(step.outcomes[:count]),
            trials=count,
        )
        for count in counts
    ]


def _fit_value(steps: Sequence[LabelledEvidence], params: ReliabilityParams) -> StackingMap:
    mine = [step for step in steps if step.outcomes and step.evidence.rule != INVALID]
    wins = np.array([sum(step.outcomes) for step in mine], float)
    tries = np.array([len(step.outcomes) for step in mine], float)
    if len(mine) < params.min_labels or wins.sum() in (0.0, tries.sum()):
        return _unfitted(len(_VALUE_FEATURES), len(mine))
    rows = np.array([feature_row(step.evidence, 1.0)[: len(_VALUE_FEATURES)] for step in mine])
    _, weights, covariance = _logistic(
        np.concatenate([rows, rows]),
        np.concatenate([np.ones(len(mine)), np.zeros(len(mine))]),
        np.concatenate([wins / tries, 1 - wins / tries]),
        params.l2,
    )
    return StackingMap(weights=weights.tolist(), covariance=covariance.tolist(), n0=1.0, fitted=True, labels=len(mine))


def _fit_kappa(steps: Sequence[LabelledEvidence], value: StackingMap) -> float:
    """Choose the strength of the predicted value by beta-binomial likelihood, in [0.1, 8]; 1 without a fit."""
    mine = [step for step in steps if step.outcomes and step.evidence.rule != INVALID]
    if not value.fitted or not mine:
        return 1.0
    rows = np.array([feature_row(step.evidence, 1.0)[: len(_VALUE_FEATURES)] for step in mine])
    means = np.clip(1 / (1 + np.exp(-(rows @ np.array(value.weights)))), 0.01, 0.99)

    def log_likelihood(kappa: float) -> float:
        return sum(
            _log_beta(kappa * mean + sum(step.outcomes), kappa * (1 - mean) + len(step.outcomes) - sum(step.outcomes))
            - _log_beta(kappa * mean, kappa * (1 - mean))
            for step, mean in zip(mine, means, strict=True)
        )

    return max(_KAPPAS, key=log_likelihood)


def _logistic(rows_NF: Floats, targets_N: Floats, weights_N: Floats, l2: float) -> tuple[float, Floats, Floats]:
    """Return penalised loss, weights [F] and their Laplace covariance [F, F]."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1 / l2, fit_intercept=True, max_iter=1000, tol=1e-8)
    model.fit(rows_NF[:, 1:], targets_N, sample_weight=weights_N)
    weights = np.concatenate([model.intercept_, model.coef_[0]])
    probabilities = np.clip(1 / (1 + np.exp(-(rows_NF @ weights))), 1e-12, 1 - 1e-12)
    likelihood = targets_N * np.log(probabilities) + (1 - targets_N) * np.log1p(-probabilities)
    ridge = np.diag([1e-6, *[l2] * (rows_NF.shape[1] - 1)])
    curvature = (rows_NF * (weights_N * probabilities * (1 - probabilities))[:, None]).T @ rows_NF + ridge
    loss = float(-(weights_N * likelihood).sum() + 0.5 * l2 * (weights[1:] ** 2).sum())
    return loss, weights, np.linalg.inv(curvature)


def _unfitted(features: int, labels: int) -> StackingMap:
    """Say one half for every step, very unsurely."""
    wide = (4.0 * np.eye(features)).tolist()
    return StackingMap(weights=[0.0] * features, covariance=wide, n0=1.0, fitted=False, labels=labels)


def judge_reliability(model: ReliabilityModel, steps: Sequence[LabelledEvidence]) -> dict[str, Any]:
    """Measure a model on the `judge` problems: with rules pinned, with the score alone, and with all evidence."""
    mine = [step for step in steps if step.label is not None]
    labels = [float(step.label or 0) for step in mine]
    full = [model.local_validity(step.domain, _nested(step)[-1])[0] for step in mine]
    bare = [model.local_validity(step.domain, step.evidence)[0] for step in mine]
    return {
        "n": len(mine),
        "base_rate": float(np.mean(labels)) if labels else None,
        "with_completions": _measures(full, labels),
        "without_completions": _measures(bare, labels),
    }


def _measures(probabilities: Sequence[float], labels: Sequence[float]) -> dict[str, float | None]:
    if not labels:
        return {"brier": None, "ece": None, "auroc": None}
    return {
        "brier": round(brier(probabilities, labels), 6),
        "ece": round(expected_calibration_error(probabilities, labels), 6),
        "auroc": auroc(probabilities, labels),
    }


def read_reliability(folder: Path) -> ReliabilityModel:
    """Read the maps of a `reliability` folder."""
    return ReliabilityModel.from_json(read_json(folder / FILE))


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
