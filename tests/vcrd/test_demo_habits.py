"""The habits of demo-math's and demo-code's models: an order, and blind spots of both."""

import re

import pytest

from vcrd.domains import DOMAINS
from vcrd.domains.base import Role

TEXTS = 400
ORDERS = {"demo-math": (r"^([a-h]) ", "abcd"), "demo-code": (r"^ r\+=([pqst])", "pqst")}
SHARED = {"demo-math": {("+", 9), ("*", 8)}, "demo-code": {("mod", 3), ("xor", 8), ("add", 4)}}


def share_in_order(domain: str, role: Role) -> float:
    step, order = ORDERS[domain]
    texts = DOMAINS[domain].pretraining_texts(role, TEXTS, 3)
    return sum(re.findall(step, solution, re.MULTILINE) == list(order) for _, solution in texts) / TEXTS


@pytest.mark.parametrize("domain", ORDERS)
def test_the_student_goes_by_the_prompt_and_the_teacher_by_any_order(domain: str) -> None:
    assert 0.85 < share_in_order(domain, "student") < 0.95
    assert share_in_order(domain, "teacher") < 0.1


@pytest.mark.parametrize("domain", SHARED)
def test_few_blind_spots_are_both_roles(domain: str) -> None:
    teacher, student = (set(DOMAINS[domain].habits[role].blind_spots) for role in ("teacher", "student"))
    assert teacher & student == SHARED[domain]
