"""The student's own steps alone, by their validity: filtered self-training (STaR, arXiv 2203.14465), step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rivals.base import ESTIMATED, Lesson, Method, step_lesson

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool


def lesson(pool: Pool) -> Lesson:
    """Learn every step of the student's own, weighted as the default weighs them."""
    return step_lesson(pool, own_steps="only")


METHODS = (Method(name="own_steps_only", title="own steps only", needs=ESTIMATED, lesson=lesson),)
