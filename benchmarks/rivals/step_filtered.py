"""Teacher solutions filtered by step validity: rejection sampling by process (Lightman et al., arXiv 2305.20050).

The filter is the exact oracle of the domain, which no user has: the strongest that this rival can be.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rivals.base import SOLUTION, SOLUTIONS, Lesson, Method, first_of_each, solution_lesson

if TYPE_CHECKING:
    from benchmarks.experiments.loaded import Pool
    from vcrd.records import Rollout


def lesson(pool: Pool, samples: int) -> Lesson:
    """Learn solutions up to their first unsound step, among so many samples of every problem."""
    solutions = first_of_each(pool.solutions, samples)
    return solution_lesson(solutions, [sound_tokens(pool, item) for item in solutions])


def sound_tokens(pool: Pool, solution: Rollout) -> int:
    """Return how many tokens of a solution lie before its first unsound step."""
    steps = solution.step_texts
    wrong = (index for index, step in enumerate(steps) if not pool.is_valid(solution, steps[:index], step))
    first = next(wrong, len(steps))
    return solution.step_ends[first - 1] if first else 0


METHODS = tuple(
    Method(
        name=f"step_filtered_{samples}",
        title=f"teacher solutions filtered by step validity (oracle), {samples} a problem",
        needs=(needs,),
        lesson=partial(lesson, samples=samples),
    )
    for samples, needs in ((1, SOLUTION), (4, SOLUTIONS))
)
