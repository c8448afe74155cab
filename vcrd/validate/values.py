"""The columns of `training` rows that say where a weight comes from: ids, validities, target, strength."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vcrd.calibration import CONTROLS, STRENGTHS, CalibrationParams, choose_target
from vcrd.errors import ConfigError
from vcrd.validate.findings import Place

_EXACT = 1e-6
_RELATIVE = 1e-5


def _numbers(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy().astype(np.float64)


def check_values(table: pa.Table, place: Place, calibration: Mapping[str, Any] | None) -> None:
    """Check a row's ids, validities and strength; with the run's parameters also how they follow from one another."""
    _check_ids(table, place)
    student_R, teacher_R = (_numbers(table, f"{name}_validity") for name in ("student", "teacher"))
    for name, values_R in (("student_validity", student_R), ("teacher_validity", teacher_R)):
        place.refuse("validities", name, ~((values_R >= 0) & (values_R <= 1)), "expected a probability in [0, 1]")
    differ_R = ~(abs(_numbers(table, "relative_validity") - (teacher_R - student_R)) <= _EXACT)
    place.refuse("validities", "relative_validity", differ_R, "expected teacher_validity - student_validity")
    value_R, strength_R = _numbers(table, "target_value"), _numbers(table, "step_strength")
    place.refuse("strengths", "target_value", ~((value_R > 0) & (value_R <= 1)), "expected a probability in (0, 1]")
    bad_R = ~(np.isfinite(strength_R) & (strength_R >= 0))
    place.refuse("strengths", "step_strength", bad_R, "expected a finite strength >= 0")
    own_R = np.array(table.column("target").to_pylist(), object) == "student"
    params = _params(calibration)
    if params is None:
        why = "the manifest does not name the parameters of the calibration"
        for check in ("targets", "strengths"):
            place.findings.not_checked(check, why)
        return
    place.findings.holds("targets", f"own_steps: {params.own_steps}")
    expected_R = choose_target(teacher_R, student_R, params.own_steps)
    place.refuse("targets", "target", own_R != expected_R, f"not what own_steps: {params.own_steps} chooses")
    target_R, other_R = np.where(own_R, student_R, teacher_R), np.where(own_R, teacher_R, student_R)
    _check_strengths(target_R, other_R, value_R, strength_R, params, place)


def _check_ids(table: pa.Table, place: Place) -> None:
    place.findings.holds("ids")
    target = table.column("target")
    known_R = np.asarray(pc.is_in(target, pa.array(["student", "teacher"])))
    place.refuse("ids", "target", ~known_R, "expected student or teacher")
    index_R = table.column("step_index").to_numpy()
    place.refuse("ids", "step_index", index_R < 0, "expected a step's number, from 0")
    rollouts, problems = table.column("rollout_id").to_pylist(), table.column("problem_id").to_pylist()
    expected = [f"{rollout}/s{index}" for rollout, index in zip(rollouts, index_R, strict=True)]
    wrong_R = np.array(table.column("example_id").to_pylist(), object) != np.array(expected, object)
    place.refuse("ids", "example_id", wrong_R, "expected rollout_id/s and step_index")
    apart = [not rollout.startswith(f"{name}/r") for rollout, name in zip(rollouts, problems, strict=True)]
    place.refuse("ids", "rollout_id", np.array(apart, bool), "expected problem_id/r and a number")


def _params(calibration: Mapping[str, Any] | None) -> CalibrationParams | None:
    try:
        return CalibrationParams(**calibration) if calibration else None
    except (TypeError, ConfigError):
        return None


def _check_strengths(
    target_R: Any, other_R: Any, value_R: Any, strength_R: Any, params: CalibrationParams, place: Place
) -> None:
    name = params.strength
    if name == "shuffled" or name not in STRENGTHS:
        place.findings.not_checked("strengths", f"{name} is no function of a row")
        return
    place.findings.holds("strengths", name)
    expected_R = STRENGTHS[name](target_R, other_R, params) * value_R
    same_R = abs(strength_R - expected_R) <= _RELATIVE * abs(expected_R) + _EXACT
    # A step that a rule proved wrong has none, and the rows do not say which those are.
    proved_R = np.zeros_like(same_R) if name in CONTROLS else strength_R == 0
    place.refuse("strengths", "step_strength", ~(same_R | proved_R), f"not what {name} makes of validities and value")
