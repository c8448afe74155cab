"""Logistic stacking: evidence features, and weights for them with their uncertainty.

Axis letters: N steps, F features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcrd.reliability.table import COMPLETIONS, POSITION, EvidenceTable, Floats
from vcrd.verifiers.base import VALID

Pattern = tuple[str, ...]
"""The sources that a map reads; it is fitted on the steps for which all of them are known."""

_CLIP = 1e-4
_FREE = 1e-6
_MISTAKES = (0.5, 25.0)
_EM_ROUNDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StackingMap:
    """Features to a probability.

    Attributes:
        pattern: Sources it reads.
        weights: Of intercept, rule flag and the sources, [F].
        covariance: Of the weights, [F, F].
        labels: How many it was fitted on; 0: it was not, and says one half for every step, very unsurely.
        knots: Logits of a single score and the logits of validity they map to, where an isotonic map did better.
    """

    pattern: Pattern
    weights: Sequence[float]
    covariance: Sequence[Sequence[float]]
    labels: int
    knots: Sequence[Sequence[float]] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StackingMap:
        """Read plain values back."""
        return cls(**{**value, "pattern": tuple(value["pattern"])})

    def predict(self, table: EvidenceTable, n0: float) -> tuple[Floats, Floats]:
        """Return logits [N] and their variance [N], over the fit and the completions."""
        features = feature_matrix(table, self.pattern, n0)
        weights = np.array(self.weights)
        variance = np.einsum("nf,fg,ng->n", features, np.array(self.covariance), features)
        if COMPLETIONS in self.pattern:
            noise = 1 / (table.successes + 0.5) + 1 / (table.trials - table.successes + 0.5)
            variance = variance + (weights[-1] * _trust(table.trials, n0)) ** 2 * noise
        logits = features @ weights
        if self.knots is not None:
            logits = np.interp(features[:, -1], self.knots[0], self.knots[1])
        return logits, variance


def unfitted() -> StackingMap:
    """Return the map for which there were too few labels."""
    return StackingMap(pattern=(), weights=[0.0, 0.0], covariance=[[4.0, 0.0], [0.0, 4.0]], labels=0)


def intercept_only(labels_N: Floats) -> StackingMap:
    """Return the map to the share of positive labels, with half a label of each kind added."""
    positive, negative = labels_N.sum() + 0.5, (1 - labels_N).sum() + 0.5
    covariance = [[float(1 / positive + 1 / negative), 0.0], [0.0, 0.0]]
    weights = [math.log(positive / negative), 0.0]
    return StackingMap(pattern=(), weights=weights, covariance=covariance, labels=len(labels_N))


def feature_matrix(table: EvidenceTable, pattern: Pattern, n0: float) -> Floats:
    """Return [N, F]: intercept, whether a rule passed the step, and each source of the pattern.

    Scores enter as logits, clipped to [1e-4, 1 - 1e-4]; completions as logit((s + 1/2) / (n + 1)) * n / (n + n0).
    """
    columns = [np.ones(len(table)), (table.rule == VALID).astype(float)]
    for source in pattern:
        if source == POSITION:
            columns.append(table.position)
        elif source == COMPLETIONS:
            columns.append(completions_feature(table.successes, table.trials, n0))
        else:
            columns.append(logit(np.clip(table.scores[source], _CLIP, 1 - _CLIP)))
    return np.stack(columns, axis=1)


def completions_feature(successes: NDArray[np.int64], trials: NDArray[np.int64], n0: float) -> Floats:
    """Return [N]: the logit of the share of successes, drawn to 0 where trials are few."""
    return logit((successes + 0.5) / (trials + 1)) * _trust(trials, n0)


def _trust(trials: NDArray[np.int64], n0: float) -> Floats:
    return np.asarray(trials / (trials + n0))


def logit(probabilities: Floats) -> Floats:
    """Return log(p / (1 - p))."""
    return np.asarray(np.log(probabilities) - np.log1p(-probabilities))


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))


@dataclass(frozen=True, slots=True)
class Fit:
    """Penalised loss, weights [F], covariance [F, F] (Laplace)."""

    loss: float
    weights: Floats
    covariance: Floats


def fit_logistic(
    features_NF: Floats,
    targets_N: Floats,
    weights_N: Floats,
    precision: float,
    prior: Floats | None = None,
    start: Floats | None = None,
) -> Fit:
    """Fit targets in [0, 1] by Newton's method with a normal prior on the weights.

    Args:
        features_NF: The first one is the intercept.
        targets_N: Shares of positives.
        weights_N: How much each row counts.
        precision: Of the prior. Around zero it leaves the intercept free.
        prior: Mean of the prior, [F]; None: zero.
        start: Weights to start from, [F]; None: the mean of the prior.
    """
    size = features_NF.shape[1]
    mean = np.zeros(size) if prior is None else prior
    strength = np.full(size, precision)
    if prior is None:
        strength[0] = _FREE

    def loss_of(weights: Floats) -> tuple[float, Floats]:
        """Return the loss and the probabilities [N], which share the one costly logarithm."""
        logits = features_NF @ weights
        tail = np.logaddexp(0.0, -np.abs(logits))
        entropy = np.maximum(logits, 0.0) + tail - targets_N * logits
        loss = (weights_N * entropy).sum() + 0.5 * (strength * (weights - mean) ** 2).sum()
        return float(loss), np.exp(-(np.maximum(-logits, 0.0) + tail))

    weights = mean if start is None else start
    loss, probabilities = loss_of(weights)
    while True:
        slope = features_NF.T @ (weights_N * (probabilities - targets_N)) + strength * (weights - mean)
        spread = weights_N * probabilities * (1 - probabilities)
        curvature = (features_NF * spread[:, None]).T @ features_NF + np.diag(strength)
        step = np.linalg.solve(curvature, slope)
        rate = 1.0
        while (better := loss_of(weights - rate * step))[0] > loss and rate > 1e-3:
            rate /= 2
        if loss - better[0] <= 1e-9 * (1 + abs(loss)):
            return Fit(loss, weights, np.linalg.inv(curvature))
        weights, (loss, probabilities) = weights - rate * step, better


def fit_noisy(
    features_NF: Floats, labels_N: Floats, weights_N: Floats, precision: float, prior: Floats | None = None
) -> Fit:
    """Fit labels of which some are wrong: the weights are those of the truth, not of the labels.

    Expectation-maximisation over the true labels, with one rate of mistakes for each kind, drawn to 2 % (Copas 1988;
    Raykar et al. 2010). A few wrong labels where all evidence is clear otherwise flatten the map everywhere.
    """
    fit = fit_logistic(features_NF, labels_N, weights_N, precision, prior)
    positive = labels_N > 0.5
    false_positive = false_negative = _MISTAKES[0] / _MISTAKES[1]
    for _ in range(_EM_ROUNDS):
        chance = sigmoid(features_NF @ fit.weights)
        as_valid = np.where(positive, 1 - false_negative, false_negative) * chance
        as_invalid = np.where(positive, false_positive, 1 - false_positive) * (1 - chance)
        truth = as_valid / np.maximum(as_valid + as_invalid, 1e-300)
        valid, invalid = weights_N * truth, weights_N * (1 - truth)
        false_positive = (invalid[positive].sum() + _MISTAKES[0]) / (invalid.sum() + _MISTAKES[1])
        false_negative = (valid[~positive].sum() + _MISTAKES[0]) / (valid.sum() + _MISTAKES[1])
        fit = fit_logistic(features_NF, truth, weights_N, precision, prior, start=fit.weights)
    return fit


@dataclass(frozen=True, slots=True)
class Subsets:
    """Some of the completions of each step, as [M] columns: step, successes, trials, weight (a step's sum to 1)."""

    rows: NDArray[np.int64]
    successes: NDArray[np.int64]
    trials: NDArray[np.int64]
    weights: Floats


def nested_subsets(successes: NDArray[np.int64], trials: NDArray[np.int64]) -> Subsets:
    """Return, for every step, all its completions and the outcomes that 1, 2, 4, ... of them can have.

    So that one map serves any number of completions. Which ones a smaller number takes is left open: the outcomes are
    weighted by their hypergeometric probabilities. Half of a step's weight is on all its completions.
    """
    base = int(trials.max(initial=0)) + 1
    pairs, kind = np.unique(successes * base + trials, return_inverse=True)
    parts = [_subsets_of(*divmod(pair, base)) for pair in pairs.tolist()]
    sizes = np.array([len(part) for part in parts], dtype=np.int64)
    flat = np.array([item for part in parts for item in part], dtype=float).reshape(-1, 3)
    counts = sizes[kind]
    rows = np.repeat(np.arange(len(trials)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = flat[(np.cumsum(sizes) - sizes)[kind][rows] + within]
    return Subsets(rows, chosen[:, 0].astype(np.int64), chosen[:, 1].astype(np.int64), chosen[:, 2])


def _subsets_of(won: int, tried: int) -> list[tuple[int, int, float]]:
    """Return successes, trials and weight of the subsets of one step's completions."""
    smaller = [2**power for power in range(tried.bit_length()) if 2**power < tried]
    found = [(won, tried, 0.5 if smaller else 1.0)]
    for count in smaller:
        for part in range(max(0, count - (tried - won)), min(won, count) + 1):
            chance = math.comb(won, part) * math.comb(tried - won, count - part) / math.comb(tried, count)
            found.append((part, count, 0.5 * chance / len(smaller)))
    return found
