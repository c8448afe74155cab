"""Small statistics: intervals, Beta posteriors, and how good probabilities are.

Axis letters: N samples.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GRID = (np.arange(2048) + 0.5) / 2048


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    >>> [round(bound, 3) for bound in wilson_interval(8, 10)]
    [0.49, 0.943]
    """
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max((centre - spread) / scale, 0.0), min((centre + spread) / scale, 1.0)


@functools.lru_cache(maxsize=4096)  # of 16 KiB each
def _beta_masses(a: float, b: float) -> NDArray[np.float64]:
    """Masses of Beta(a, b) on a grid of 2,048 cells, exact at cell centres up to normalisation."""
    log_density = (a - 1) * np.log(_GRID) + (b - 1) * np.log1p(-_GRID)
    masses = np.exp(log_density - log_density.max())
    return np.asarray(masses / masses.sum())


def beta_below(a: float, b: float, bound: float) -> float:
    """Return P(X < bound) for X ~ Beta(a, b), to about 1e-3.

    >>> round(beta_below(1, 1, 0.25), 2)
    0.25
    """
    return float(_beta_masses(a, b)[bound > _GRID].sum())


def beta_exceeds(upper: tuple[float, float], lower: tuple[float, float], factor: float = 1.0) -> float:
    """Return P(X >= factor * Y) for independent X ~ Beta(*upper), Y ~ Beta(*lower), to about 1e-3.

    >>> round(beta_exceeds((2, 2), (2, 2)), 2)
    0.5
    """
    cumulative = np.cumsum(_beta_masses(*upper)) - 0.5 * _beta_masses(*upper)
    below = np.interp(factor * _GRID, _GRID, cumulative)
    return float(1.0 - (below * _beta_masses(*lower)).sum())


def brier(probabilities_N: ArrayLike, labels_N: ArrayLike) -> float:
    """Return mean (p - y)^2."""
    return float(np.mean((np.asarray(probabilities_N, float) - np.asarray(labels_N, float)) ** 2))


def expected_calibration_error(probabilities_N: ArrayLike, labels_N: ArrayLike, bins: int = 10) -> float:
    """Return the mean gap between frequency and probability over bins of equal mass."""
    probabilities, labels = np.asarray(probabilities_N, float), np.asarray(labels_N, float)
    order = np.argsort(probabilities, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    gaps = [len(group) * abs(labels[group].mean() - probabilities[group].mean()) for group in groups]
    return float(sum(gaps) / max(len(probabilities), 1))


def auroc(scores_N: ArrayLike, labels_N: ArrayLike) -> float | None:
    """Return P(score of a positive > score of a negative), ties counting half; None where a class is empty.

    >>> auroc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    scores, labels = np.asarray(scores_N, float), np.asarray(labels_N, bool)
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def log_loss(probabilities_N: ArrayLike, labels_N: ArrayLike) -> float:
    """Return the mean negative log-likelihood of labels; probabilities are kept 1e-6 off 0 and 1."""
    probabilities = np.clip(np.asarray(probabilities_N, float), 1e-6, 1 - 1e-6)
    labels = np.asarray(labels_N, float)
    return float(-np.mean(labels * np.log(probabilities) + (1 - labels) * np.log1p(-probabilities)))
