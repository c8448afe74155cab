"""Fitting the maps: every combination of sources, every domain and policy, from labels of some steps.

A map is fitted on the steps for which its sources are known, so a missing source drops out with weights and an
intercept of its own. The maps of a domain, and of a policy in it, are drawn towards the wider ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Lt
from numpy.typing import NDArray

from vcrd.reliability.isotonic import isotonic_knots
from vcrd.reliability.model import ANY, ReliabilityModel, ScopedMaps
from vcrd.reliability.stacking import (
    Fit,
    Pattern,
    StackingMap,
    completions_feature,
    feature_matrix,
    fit_logistic,
    fit_noisy,
    intercept_only,
    nested_subsets,
    unfitted,
)
from vcrd.reliability.table import COMPLETIONS, EvidenceTable, Flags, Floats
from vcrd.verifiers.base import INVALID

FitRows = Callable[[Flags, Pattern, Floats | None], StackingMap | None]

_SCALES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_KAPPAS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_POOLING = 1.0
_ALL_PATTERNS = 5
_PINNED_LABELS = 20.0
_HIGHEST_FLOOR = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityParams:
    """How the maps are fitted."""

    l2: Annotated[float, Gt(0)]
    """Strength of the ridge on every weight but the intercept."""
    floor: Annotated[float, Gt(0), Lt(_HIGHEST_FLOOR)]
    """Local validity of a step that a rule proved wrong, before the labels say how often the rule is right."""
    min_labels: Annotated[int, Ge(2)]
    """With fewer labels nothing is fitted and the report says so; of one kind, they tell a base rate."""
    noisy_labels: bool
    """true: labels are estimates, such as those from completions, and some are wrong; false: they are the truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTable:
    """Evidence with labels.

    Attributes:
        evidence: Of N steps.
        labels: [N], 1 sound, 0 not, nan unknown; a step without a label still tells of its value.
        groups: [N], what belongs together (a problem): never on both sides of a comparison.
    """

    evidence: EvidenceTable
    labels: Floats
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        """Return N."""
        return len(self.labels)

    def take(self, rows: NDArray[np.int64] | Flags) -> LabelledTable:
        """Return some of the rows."""
        return LabelledTable(evidence=self.evidence.take(rows), labels=self.labels[rows], groups=self.groups[rows])

    @classmethod
    def joined(cls, parts: Sequence[LabelledTable]) -> LabelledTable:
        """Return the rows of tables with the same scores, one behind the other."""
        return cls(
            evidence=EvidenceTable.joined([part.evidence for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            groups=np.concatenate([part.groups for part in parts]),
        )


def fit_reliability(table: LabelledTable, params: ReliabilityParams, provenance: Mapping[str, Any]) -> ReliabilityModel:
    """Fit local validity and value."""
    evidence = table.evidence
    open_ones = evidence.rule != INVALID
    labelled = table.take(open_ones & ~np.isnan(table.labels))
    tried = evidence.take(open_ones & (evidence.trials > 0))
    n0 = _choose_n0(labelled, params)

    def fit_value(rows: Flags, pattern: Pattern, prior: Floats | None) -> StackingMap | None:
        return _fit_value(tried.take(rows), pattern, params, prior)

    value = _fit_scopes(tried, fit_value)
    scopes = sorted(set(zip(labelled.evidence.domain.tolist(), labelled.evidence.policy.tolist(), strict=True)))
    return ReliabilityModel(
        validity=_fit_validity_scopes(labelled, n0, params),
        value=value,
        n0=n0,
        kappa=_fit_kappa(tried, value, n0),
        floor=_fit_floor(table, params.floor),
        provenance={
            **provenance,
            "sources": list(evidence.sources),
            "scopes": [list(scope) for scope in scopes],
            "labels": int((~np.isnan(table.labels)).sum()),
            "positive": int(np.nansum(table.labels)),
        },
    )


def cross_fitted(table: LabelledTable, params: ReliabilityParams, n0: float | None = None, folds: int = 5) -> Floats:
    """Return local validity [N] of every step by maps that were fitted on the other groups.

    nan where the other groups have too few labels for a map, as where there are none. The trust in completions `n0` is
    one number for all folds, by default chosen on the whole table.
    """
    if n0 is None:
        n0 = _choose_n0(table.take((table.evidence.rule != INVALID) & ~np.isnan(table.labels)), params)
    estimated = np.full(len(table), np.nan)
    fold_of = fold_groups(table.groups, folds)
    for fold in range(folds):
        inside = fold_of == fold
        if inside.any() and not inside.all():
            asked = table.evidence.take(inside)
            model = _fit_fold(table.take(~inside), asked, n0, params)
            if model.fitted:
                estimated[inside] = model.local_validity(asked)[0]
    return estimated


def _fit_fold(others: LabelledTable, asked: EvidenceTable, n0: float, params: ReliabilityParams) -> ReliabilityModel:
    """Fit local validity as `asked` needs it: the maps that read all that is known of its steps, or else every map."""
    open_ones = asked.take(asked.rule != INVALID)
    kinds = np.unique(open_ones.available(), axis=0)
    wanted = {tuple(name for name, known in zip(asked.sources, kind, strict=True) if known) for kind in kinds}
    labelled = others.take((others.evidence.rule != INVALID) & ~np.isnan(others.labels))

    def fit(only: Container[Pattern] | None) -> ReliabilityModel:
        validity = _fit_validity_scopes(labelled, n0, params, only)
        floor = _fit_floor(others, params.floor)
        return ReliabilityModel(validity=validity, value=[], n0=n0, kappa=1.0, floor=floor, provenance={})

    model = fit(wanted)
    return model if model.fitted and model.reads_all(open_ones) else fit(None)


def fold_groups(groups: NDArray[np.str_], folds: int) -> NDArray[np.int64]:
    """Return the fold [N] of every row; a group is never divided."""
    _, index = np.unique(groups, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(int(index.max()) + 1 if len(index) else 0)
    return np.asarray(shuffled[index] % folds)


def _fit_validity_scopes(
    labelled: LabelledTable, n0: float, params: ReliabilityParams, only: Container[Pattern] | None = None
) -> list[ScopedMaps]:
    def fit(rows: Flags, pattern: Pattern, prior: Floats | None) -> StackingMap | None:
        if only is not None and pattern not in only:
            return None
        return _fit_validity(labelled.take(rows), pattern, n0, params, prior)

    return _fit_scopes(labelled.evidence, fit)


def _fit_scopes(evidence: EvidenceTable, fit: FitRows) -> list[ScopedMaps]:
    """Fit all, each domain and each policy in it, where they differ; each is drawn towards the one before it."""
    everyone = np.ones(len(evidence), dtype=bool)
    made = [ScopedMaps(domain=ANY, policy=ANY, maps=_fit_patterns(evidence, everyone, None, fit))]
    domains = np.unique(evidence.domain).tolist()
    for domain in domains:
        here = evidence.domain == domain
        wider = made[0]
        if len(domains) > 1:
            wider = ScopedMaps(domain=domain, policy=ANY, maps=_fit_patterns(evidence, here, wider, fit))
            made.append(wider)
        policies = np.unique(evidence.policy[here]).tolist()
        for policy in policies if len(policies) > 1 else []:
            mine = here & (evidence.policy == policy)
            made.append(ScopedMaps(domain=domain, policy=policy, maps=_fit_patterns(evidence, mine, wider, fit)))
    return made


def _fit_patterns(evidence: EvidenceTable, rows: Flags, wider: ScopedMaps | None, fit: FitRows) -> list[StackingMap]:
    priors = {item.pattern: item for item in wider.maps if item.labels} if wider else {}
    available = evidence.available()
    maps: list[StackingMap] = []
    for pattern in _patterns(evidence.sources, available[rows]):
        columns = [evidence.sources.index(source) for source in pattern]
        known = rows & available[:, columns].all(axis=1)
        prior = np.array(priors[pattern].weights) if pattern in priors else None
        if (made := fit(known, pattern, prior)) is not None:
            maps.append(made)
        elif pattern in priors:
            maps.append(priors[pattern])
    return maps if any(not item.pattern for item in maps) else [*maps, unfitted()]


def _patterns(sources: Sequence[str], available_NS: Flags) -> list[Pattern]:
    """Return the combinations worth a map: all of few sources; of many, those that occur and their near subsets."""
    there = [source for column, source in enumerate(sources) if available_NS[:, column].any()]
    if len(there) <= _ALL_PATTERNS:
        return [subset for size in range(len(there) + 1) for subset in itertools.combinations(there, size)]
    seen = {
        tuple(source for source, known in zip(sources, row, strict=True) if known)
        for row in np.unique(available_NS, axis=0)
    }
    near = {tuple(item for item in pattern if item != left_out) for pattern in seen for left_out in pattern}
    return sorted({(), *((source,) for source in there), *seen, *near}, key=lambda item: (len(item), item))


def _enough(targets: Floats, min_labels: int) -> bool:
    return len(targets) >= min_labels and 0.0 < targets.sum() < len(targets)


def _stack(
    table: LabelledTable, pattern: Pattern, n0: float, params: ReliabilityParams, prior: Floats | None = None
) -> Fit:
    fit = fit_noisy if params.noisy_labels else fit_logistic
    precision = _precision(params, prior)
    if COMPLETIONS not in pattern:
        features = feature_matrix(table.evidence, pattern, n0)
        return fit(features, table.labels, np.ones(len(table)), precision, prior)
    subsets = nested_subsets(table.evidence.successes, table.evidence.trials)
    features = feature_matrix(table.evidence, pattern, n0)[subsets.rows]
    features[:, -1] = completions_feature(subsets.successes, subsets.trials, n0)
    return fit(features, table.labels[subsets.rows], subsets.weights, precision, prior)


def _precision(params: ReliabilityParams, prior: Floats | None) -> float:
    return params.l2 if prior is None else _POOLING


def _fit_validity(
    table: LabelledTable, pattern: Pattern, n0: float, params: ReliabilityParams, prior: Floats | None
) -> StackingMap | None:
    if not _enough(table.labels, params.min_labels):
        # Labels of one kind tell a base rate and nothing of any source; a narrower scope has its wider one's map.
        alone = not pattern and prior is None and len(table) >= params.min_labels
        return intercept_only(table.labels) if alone else None
    fit = _stack(table, pattern, n0, params, prior)
    knots = None
    if len(pattern) == 1 and pattern[0] in table.evidence.scores:
        logits = feature_matrix(table.evidence, pattern, n0)[:, -1]
        knots = None if params.noisy_labels else isotonic_knots(logits, table.labels, fold_groups(table.groups, 5))
    return _as_map(pattern, fit, len(table), knots)


def _fit_value(
    evidence: EvidenceTable, pattern: Pattern, params: ReliabilityParams, prior: Floats | None
) -> StackingMap | None:
    shares = evidence.successes / evidence.trials
    if COMPLETIONS in pattern or not _enough(shares, params.min_labels):
        return None
    features = feature_matrix(evidence, pattern, 1.0)
    fit = fit_logistic(features, shares, np.ones(len(shares)), _precision(params, prior), prior)
    return _as_map(pattern, fit, len(shares), None)


def _as_map(pattern: Pattern, fit: Fit, labels: int, knots: Sequence[Sequence[float]] | None) -> StackingMap:
    return StackingMap(
        pattern=pattern, weights=fit.weights.tolist(), covariance=fit.covariance.tolist(), labels=labels, knots=knots
    )


def _choose_n0(table: LabelledTable, params: ReliabilityParams) -> float:
    """Choose how far completions are trusted by the likelihood of the steps that have them."""
    mine = table.take(table.evidence.trials > 0)
    if not _enough(mine.labels, params.min_labels):
        return 1.0
    available = mine.evidence.available()
    pattern = tuple(name for column, name in enumerate(mine.evidence.sources) if available[:, column].all())
    plain = replace(params, noisy_labels=False)
    return min(_SCALES, key=lambda n0: _stack(mine, pattern, n0, plain).loss)


def _fit_kappa(evidence: EvidenceTable, value: Sequence[ScopedMaps], n0: float) -> float:
    """Choose the strength of the predicted value by beta-binomial likelihood, in [0.1, 8]; 1 without a fit."""
    if not any(item.labels for item in value[0].maps):
        return 1.0
    plain = ReliabilityModel(validity=value, value=value, n0=n0, kappa=1.0, floor=0.5, provenance={})
    means = np.clip(plain.predicted_value(evidence), 0.01, 0.99)
    log_gamma = np.vectorize(math.lgamma, otypes=[float])

    def log_likelihood(kappa: float) -> float:
        a, b = kappa * means, kappa * (1 - means)
        won, lost = evidence.successes, evidence.trials - evidence.successes
        after = log_gamma(a + won) + log_gamma(b + lost) - log_gamma(kappa + evidence.trials)
        return float((after - log_gamma(a) - log_gamma(b) + math.lgamma(kappa)).sum())

    return max(_KAPPAS, key=log_likelihood)


def _fit_floor(table: LabelledTable, floor: float) -> float:
    """Return how often a step is sound that a rule proves wrong: `floor`, moved by the labels of such steps."""
    labels = table.labels[(table.evidence.rule == INVALID) & ~np.isnan(table.labels)]
    return float(min((labels.sum() + floor * _PINNED_LABELS) / (len(labels) + _PINNED_LABELS), _HIGHEST_FLOOR))
