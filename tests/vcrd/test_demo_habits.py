"""The habits of demo-math's models: an order, and blind spots of both."""

import re

from vcrd.domains.base import Role
from vcrd.domains.demo_math import DOMAIN

TEXTS = 400


def share_in_order(role: Role) -> float:
    texts = DOMAIN.pretraining_texts(role, TEXTS, 3)
    return sum(re.findall(r"^[a-h]", solution, re.MULTILINE) == list("abcd") for _, solution in texts) / TEXTS


def test_the_student_goes_by_the_prompt_and_the_teacher_by_any_order() -> None:
    assert 0.85 < share_in_order("student") < 0.95
    assert share_in_order("teacher") < 0.1


def test_few_blind_spots_are_both_roles() -> None:
    teacher, student = (set(DOMAIN.habits[role].blind_spots) for role in ("teacher", "student"))
    assert teacher & student == {("+", 9), ("*", 8)}
