"""Controls of this project's method: its rows and targets, with strengths that validity did not choose."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rivals.base import ESTIMATED, Lesson, Method, step_lesson

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool


def lesson(pool: Pool, strength: str) -> Lesson:
    """Learn the default's targets with a control's strengths."""
    return step_lesson(pool, strength=strength)


METHODS = (
    Method(
        name="shuffled",
        title="shuffled: the default's targets, strengths permuted",
        needs=ESTIMATED,
        lesson=partial(lesson, strength="shuffled"),
    ),
    Method(
        name="uniform_same_targets",
        title="the default's targets, strengths uniform",
        needs=ESTIMATED,
        lesson=partial(lesson, strength="uniform"),
    ),
)
