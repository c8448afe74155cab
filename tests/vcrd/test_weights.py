"""Weights keep the total of the signal, obey their bound, and refuse what cannot be."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vcrd.calibration import CONTROLS, STRENGTHS, CalibrationParams, choose_target, step_strength, target_value
from vcrd.errors import ConfigError
from vcrd.weights import solve_scale, token_weights

PARAMS = {
    "own_steps": "when_better",
    "strength": "validity",
    "tau": 1.0,
    "rho": 0.25,
    "shuffle_seed": 3,
    "value_pseudocount": None,
}
ROWS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=40)


def params(**changes) -> CalibrationParams:
    return CalibrationParams(**{**PARAMS, **changes})


@given(ROWS, st.floats(1.5, 20))
def test_the_mean_over_supervised_tokens_is_1(rows: list[tuple[float, int]], w_max: float) -> None:
    strengths = np.array([row[0] for row in rows])
    tokens = np.array([row[1] for row in rows])
    assume(strengths[strengths > 0].min(initial=1) > 1e-9)
    assume(w_max * tokens[strengths > 0].sum() > tokens.sum() * 1.001)
    scale = solve_scale(strengths, tokens, w_max)
    weights = token_weights(strengths, scale, w_max)
    assert (weights * tokens).sum() / tokens.sum() == pytest.approx(1, abs=1e-9)
    assert weights.max() <= w_max
    assert (weights[strengths == 0] == 0).all()


def test_scaling_all_strengths_changes_no_weight() -> None:
    strengths, tokens = np.array([0.1, 0.5, 0.9, 0.0]), np.array([3, 2, 5, 7])
    for factor in (0.1, 7.0):
        ours, theirs = solve_scale(strengths, tokens, 4.0), solve_scale(strengths * factor, tokens, 4.0)
        assert token_weights(strengths, ours, 4.0) == pytest.approx(token_weights(strengths * factor, theirs, 4.0))


def test_no_scale_is_an_error_that_says_what_would_do() -> None:
    with pytest.raises(ConfigError, match=r"only 10\.0% of 100 supervised tokens.*raise weights\.w_max above 10"):
        solve_scale(np.array([1.0, 0.0]), np.array([10, 90]), 4.0)
    with pytest.raises(ConfigError, match="all strengths are 0"):
        solve_scale(np.zeros(2), np.array([1, 1]), 4.0)


def test_the_target_is_the_more_valid_step_and_a_tie_goes_to_the_teacher() -> None:
    teacher, student = np.array([0.9, 0.5, 0.2]), np.array([0.5, 0.5, 0.8])
    assert choose_target(teacher, student, "when_better").tolist() == [False, False, True]
    assert choose_target(teacher, student, "when_sound").tolist() == [False, False, True]
    assert choose_target(teacher, np.array([0.6, 0.4, 0.3]), "when_sound").tolist() == [True, False, True]
    assert choose_target(teacher, student, "never").tolist() == [False] * 3
    assert choose_target(teacher, student, "only").tolist() == [True] * 3


@pytest.mark.parametrize("name", sorted(STRENGTHS))
def test_a_proved_invalid_target_has_no_strength_but_under_the_controls(name: str) -> None:
    target, other = np.array([0.9, 0.8, 0.3]), np.array([0.1, 0.9, 0.3])
    strengths = step_strength(target, other, np.ones(3), np.array([True, True, True]), params(strength=name))
    assert (strengths > 0).any() == (name in CONTROLS)


@pytest.mark.parametrize("name", ["gap_sigmoid", "bilinear", "ratio"])
def test_a_sure_gap_counts_more_than_two_sound_steps_and_these_more_than_nothing(name: str) -> None:
    sure, both = step_strength(
        np.array([1.0, 1.0]), np.array([0.0, 1.0]), np.ones(2), np.array([False, False]), params(strength=name)
    )
    assert sure > both > 0


def test_shuffled_has_the_same_strengths_elsewhere() -> None:
    target = np.linspace(0.5, 1, 50)
    value = np.linspace(1, 0.1, 50)
    shuffled = step_strength(target, target, value, np.zeros(50, bool), params(strength="shuffled"))
    there = step_strength(target, target, value, np.zeros(50, bool), params(strength="net_validity"))
    assert sorted(shuffled) == pytest.approx(sorted(there))
    assert (shuffled != there).mean() > 0.8


def test_net_validity_is_the_chance_to_be_sound_less_the_chance_not_to_be() -> None:
    target = np.array([1.0, 0.75, 0.5, 0.2])
    strengths = step_strength(target, np.ones(4), np.ones(4), np.zeros(4, bool), params(strength="net_validity"))
    assert strengths.tolist() == [1.0, 0.5, 0.0, 0.0]


def test_value_multiplies_what_completions_have_seen_and_uniform_strengths_stay() -> None:
    successes, trials = np.array([1.0, 0.0, 0.0, 3.0]), np.array([1.0, 1.0, 0.0, 4.0])
    given = params(strength="validity", value_pseudocount=0.5)
    value = target_value(successes, trials, given)
    assert value.tolist() == [0.75, 0.25, 0.5, 0.7]
    strengths = step_strength(np.full(4, 0.8), np.ones(4), value, np.array([False] * 3 + [True]), given)
    assert strengths == pytest.approx([0.6, 0.2, 0.4, 0.0])
    for off in (params(strength="validity"), params(strength="uniform", value_pseudocount=0.5)):
        assert target_value(successes, trials, off).tolist() == [1.0] * 4


def test_an_unknown_strength_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gap_sigmoid'"):
        step_strength(np.ones(1), np.ones(1), np.ones(1), np.zeros(1, bool), params(strength="gap_sigmoit"))
