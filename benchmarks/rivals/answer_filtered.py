"""Teacher solutions whose final answer is right: rejection sampling, RFT (Yuan et al., arXiv 2308.01825)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rivals.base import SOLUTION, SOLUTIONS, Lesson, Method, first_of_each, solution_lesson
from vcrd.verifiers.base import VALID

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool


def lesson(pool: Pool, samples: int) -> Lesson:
    """Learn what the run's verifier calls right among so many samples of every problem."""
    return solution_lesson([item for item in first_of_each(pool.solutions, samples) if item.outcome == VALID])


METHODS = tuple(
    Method(
        name=f"answer_filtered_{samples}",
        title=f"teacher solutions filtered by answer, {samples} a problem",
        needs=(needs,),
        lesson=partial(lesson, samples=samples),
    )
    for samples, needs in ((1, SOLUTION), (4, SOLUTIONS))
)
