"""Isotonic maps of a single score: for many labels, and only where they predict better than two parameters do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcrd.reliability.stacking import fit_logistic, logit, sigmoid
from vcrd.reliability.table import Floats

MIN_LABELS = 1000
"""Below about this many labels, two parameters are the better map."""


def isotonic_knots(logits_N: Floats, labels_N: Floats, folds_N: NDArray[np.int64]) -> list[list[float]] | None:
    """Return an isotonic map of logits to logits, or None where a logistic one has the lower cross-validated loss."""
    if len(labels_N) <= MIN_LABELS:
        return None
    isotonic, logistic = np.zeros(len(labels_N)), np.zeros(len(labels_N))
    features = np.stack([np.ones(len(logits_N)), logits_N], axis=1)
    for fold in np.unique(folds_N):
        inside = folds_N == fold
        if labels_N[~inside].min() == labels_N[~inside].max():
            return None
        knots = _fit(logits_N[~inside], labels_N[~inside])
        isotonic[inside] = np.interp(logits_N[inside], knots[0], knots[1])
        fit = fit_logistic(features[~inside], labels_N[~inside], np.ones(int((~inside).sum())), 0.1)
        logistic[inside] = features[inside] @ fit.weights
    return _fit(logits_N, labels_N) if _loss(isotonic, labels_N) < _loss(logistic, labels_N) else None


def _fit(logits_N: Floats, labels_N: Floats) -> list[list[float]]:
    """Pool adjacent violators; a block's share is drawn off 0 and 1 by half a label of each kind."""
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(logits_N, kind="stable")
    inputs = logits_N[order]
    levels = IsotonicRegression().fit_transform(inputs, labels_N[order])
    _, block, counts = np.unique(levels, return_inverse=True, return_counts=True)
    shares = (levels * counts[block] + 0.5) / (counts[block] + 1)
    shares = np.maximum.accumulate(shares)
    edges = np.r_[True, (np.diff(block) != 0)] | np.r_[(np.diff(block) != 0), True]
    return [inputs[edges].tolist(), logit(shares[edges]).tolist()]


def _loss(logits_N: Floats, labels_N: Floats) -> float:
    probabilities = np.clip(sigmoid(logits_N), 1e-9, 1 - 1e-9)
    return float(-np.mean(labels_N * np.log(probabilities) + (1 - labels_N) * np.log1p(-probabilities)))
