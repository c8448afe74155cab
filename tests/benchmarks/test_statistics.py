"""Intervals, p-values and Holm's correction against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.experiments.statistics import bootstrap, holm, paired

VALUES = st.lists(st.floats(-1, 1), min_size=2, max_size=8)


def test_two_runs_resampled_by_hand() -> None:
    """Means of two draws from {0, 1} are 0, 1/2 and 1 with chances 1/4, 1/2 and 1/4: a quarter is not above 0.

    That is -0.6745 of a normal deviate, -0.4769 of Student's with one degree, whose p is 1 - 2 atan(0.4769) / pi.
    """
    found = bootstrap([0.0, 1.0])
    assert (found.mean, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)
    assert found.p == pytest.approx(1 - 2 * math.atan(0.4769) / math.pi, abs=0.01)


def test_three_runs_resampled_by_hand() -> None:
    """Of the 27 draws of three from {-1, 2, 2} one has mean -1 and six have mean 0: 7/27 are not above 0.

    That is -0.6456 of a normal deviate, -0.5271 of Student's with two degrees: 1/2 + t / (2 sqrt(2 + t^2)) on one side.
    """
    found = bootstrap([-1.0, 2.0, 2.0])
    assert found.p == pytest.approx(1 - 0.5271 / math.sqrt(2 + 0.5271**2), abs=0.01)
    assert (found.low, found.high) == (-1.0, 2.0)


def test_equal_runs_leave_no_doubt_but_that_of_the_resamples() -> None:
    found = bootstrap([0.25] * 10)
    assert (found.low, found.high) == (0.25, 0.25)
    assert 0 < found.p < 0.004, "what eleven rivals can be corrected for"


def test_one_run_tells_nothing() -> None:
    found = bootstrap([0.25])
    assert (found.mean, found.low, found.high, found.p) == (0.25, -1.0, 1.0, 1.0)


def test_no_difference_is_no_evidence() -> None:
    assert bootstrap([0.0] * 10).p == 1.0


@given(VALUES)
def test_the_other_way_round_is_the_other_sign(values: list[float]) -> None:
    one, other = (bootstrap([sign * value for value in values], resamples=2000) for sign in (1, -1))
    assert one.mean == pytest.approx(-other.mean)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p == other.p


@given(VALUES, st.floats(-1, 1))
def test_a_shift_moves_the_interval(values: list[float], shift: float) -> None:
    one, other = (bootstrap([value + by for value in values], resamples=2000) for by in (0, shift))
    assert (other.low, other.high) == pytest.approx((one.low + shift, one.high + shift))


def test_runs_are_paired_by_their_seeds() -> None:
    first = {(1, 1): 0.9, (1, 2): 0.5, (2, 1): 0.7}
    second = {(2, 1): 0.6, (1, 1): 0.7, (2, 2): 0.1}
    assert paired(first, second) == pytest.approx([0.2, 0.1])


def test_holm_by_hand() -> None:
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never below the one before: 0.02, 0.03, 0.06, 0.06."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert found == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8})["a"] == 1.0
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6))
def test_holm_never_lowers_and_never_exceeds_bonferroni(p_values: dict[str, float]) -> None:
    for name, adjusted in holm(p_values).items():
        assert p_values[name] <= adjusted <= min(1.0, len(p_values) * p_values[name]) + 1e-12


def test_intervals_of_ten_runs_hold_the_mean_nearly_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    found = [bootstrap(rng.normal(size=10), resamples=1000) for _ in range(400)]
    assert 0.91 < np.mean([each.low <= 0 <= each.high for each in found]) < 0.98
