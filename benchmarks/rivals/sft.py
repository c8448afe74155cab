"""SFT on the teacher's solutions: sequence-level knowledge distillation (Kim and Rush, arXiv 1606.07947)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rivals.base import SOLUTION, Lesson, Method, first_of_each, solution_lesson

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool


def lesson(pool: Pool) -> Lesson:
    """Learn one solution of every problem, right or wrong."""
    return solution_lesson(first_of_each(pool.solutions, 1))


METHODS = (Method(name="sft", title="SFT on teacher solutions", needs=(SOLUTION,), lesson=lesson),)
