"""Uniform next-step distillation: the teacher's step under every prefix of the student's (DAgger, arXiv 1011.0686)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rivals.base import STEPS, Lesson, Method, step_lesson

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool


def lesson(pool: Pool) -> Lesson:
    """Learn every step of the teacher's, all alike."""
    return step_lesson(pool, own_steps="never", strength="uniform")


METHODS = (Method(name="uniform", title="uniform next-step", needs=STEPS, lesson=lesson),)
