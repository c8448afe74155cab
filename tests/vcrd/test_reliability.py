"""Evidence becomes probabilities that hold on other problems; what is not known is not pretended."""

import numpy as np
import pytest

from vcrd.reliability import (
    LabelledEvidence,
    ReliabilityModel,
    ReliabilityParams,
    StepEvidence,
    fit_reliability,
    judge_reliability,
)

PARAMS = ReliabilityParams(l2=0.1, floor=0.01, min_labels=20)


def steps(count: int, seed: int, **changes) -> list[LabelledEvidence]:
    """Steps whose score is over-confident by a factor and whose completions succeed more often when they are sound."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        sound = bool(rng.random() < 0.7)
        logit = (1.2 if sound else -1.0) + rng.normal() * 1.2
        score = 1 / (1 + np.exp(-3 * logit))
        outcomes = [bool(rng.random() < (0.7 if sound else 0.15)) for _ in range(8)]
        evidence = StepEvidence(score=score, rule=0, position=float(rng.random()))
        given = {"domain": "math", "evidence": evidence, "label": int(sound), "outcomes": outcomes}
        made.append(LabelledEvidence(**{**given, **changes}))
    return made


@pytest.fixture(scope="module")
def model() -> ReliabilityModel:
    return fit_reliability(steps(400, 1), PARAMS, {"scorer": "test"})


def test_probabilities_hold_on_other_steps_and_beat_the_raw_score(model: ReliabilityModel) -> None:
    other = steps(2000, 2)
    judged = judge_reliability(model, other)
    raw = np.mean([(item.evidence.score - item.label) ** 2 for item in other])
    assert judged["without_completions"]["ece"] < 0.04
    assert judged["without_completions"]["brier"] < raw
    assert judged["with_completions"]["brier"] < judged["without_completions"]["brier"] * 0.9
    assert judged["n"] == 2000


def test_more_completions_of_one_kind_move_the_estimate_and_shrink_its_doubt(model: ReliabilityModel) -> None:
    def estimate(successes: int, trials: int) -> tuple[float, float]:
        return model.local_validity(
            "math", StepEvidence(score=0.6, rule=0, position=0.5, successes=successes, trials=trials)
        )

    values = [estimate(count, count)[0] for count in (1, 2, 4, 8)]
    assert values == sorted(values)
    assert estimate(0, 8)[0] < estimate(0, 2)[0] < estimate(2, 2)[0]
    assert estimate(16, 32)[1] < estimate(1, 2)[1]


def test_a_proved_invalid_step_is_pinned(model: ReliabilityModel) -> None:
    evidence = StepEvidence(score=0.99, rule=-1, position=0.5, successes=8, trials=8)
    assert model.local_validity("math", evidence) == (PARAMS.floor, 0.0)
    assert model.predicted_value("math", evidence) == PARAMS.floor


def test_too_few_labels_or_one_kind_say_one_half_unsurely() -> None:
    for few in (steps(5, 3), steps(100, 3, label=1), steps(100, 3, label=None, outcomes=[])):
        model = fit_reliability(few, PARAMS, {})
        assert not model.validity["*"].fitted
        validity, deviation = model.local_validity("math", StepEvidence(score=0.9, rule=0, position=0.0))
        assert validity == 0.5
        assert deviation > 0.2


def test_a_missing_score_drops_out(model: ReliabilityModel) -> None:
    mixed = steps(300, 4) + steps(300, 5, evidence=StepEvidence(score=None, rule=0, position=0.5))
    fitted = fit_reliability(mixed, PARAMS, {})
    validity, _ = fitted.local_validity("math", StepEvidence(score=None, rule=0, position=0.5))
    assert validity == pytest.approx(0.7, abs=0.08)


def test_json_gives_the_same_model_back(model: ReliabilityModel) -> None:
    evidence = StepEvidence(score=0.3, rule=0, position=0.2, successes=3, trials=5)
    again = ReliabilityModel.from_json(model.as_json())
    assert again.local_validity("math", evidence) == model.local_validity("math", evidence)
    assert again.predicted_value("elsewhere", evidence) == model.predicted_value("elsewhere", evidence)


def test_the_value_prior_is_as_strong_as_it_is_right() -> None:
    sure = [
        LabelledEvidence(domain="m", evidence=item.evidence, label=None, outcomes=[bool(item.label)] * 8)
        for item in steps(200, 6)
    ]
    assert fit_reliability(sure, PARAMS, {}).kappa < fit_reliability(steps(200, 6), PARAMS, {}).kappa
