"""Both steps of each prefix brought together; a prefix that cannot be compared or trained on is a reject.

Axis letters: G prefixes of a window, N those that become examples, R rollouts, V validities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcrd.examples.windows import Ints, Window
from vcrd.io.rejects import Reject, reject
from vcrd.storage.rows import lengths_of, starts_of
from vcrd.verifiers.base import INVALID
from vcrd.weights import WeightParams

PAIR = np.dtype(
    [
        ("student", np.float32),
        ("teacher", np.float32),
        ("student_invalid", np.bool_),
        ("teacher_invalid", np.bool_),
        ("student_tokens", np.int32),
        ("teacher_tokens", np.int32),
        ("student_successes", np.uint16),
        ("teacher_successes", np.uint16),
        ("student_trials", np.uint16),
        ("teacher_trials", np.uint16),
    ]
)
"""What decides on a prefix's target and weight: of both steps the local validity, whether a rule proved it invalid, its
tokens and its completions. All that is kept of every prefix of the corpus, 26 bytes."""


@dataclass(frozen=True)
class Paired:
    """The prefixes of a window.

    Attributes:
        window: What they are of.
        pairs: Of those that become examples, of type `PAIR`.
        student_N: Row of the student's validity; the teacher's is the next one.
        before_N: Tokens of the rollout before the step.
        rejects: The others.
    """

    window: Window
    pairs: NDArray[np.void]
    student_N: Ints
    before_N: Ints
    rejects: list[Reject]


def pair_up(window: Window, params: WeightParams) -> Paired:
    """Bring both proposals of each prefix of a window together.

    Raises:
        SchemaError: A step is none of its rollout's.
    """
    first_G = np.flatnonzero(np.diff(window.prefix_V, prepend=-1))
    both_G = np.diff(first_G, append=len(window.prefix_V)) == 2
    before_G = _tokens_before(window, first_G)
    prompt_G = lengths_of(window.rollouts.batch["prompt_ids"])[window.rollout_V[first_G]]
    tokens_V = lengths_of(window.proposals.batch["token_ids"])[window.proposal_V]
    longest_G = prompt_G + before_G + np.maximum(tokens_V[first_G], tokens_V[first_G + both_G])
    broken_G = window.validities.numbers("prefix_broken")[first_G] & (params.broken_prefixes == "drop")
    keep_G = both_G & ~broken_G & (longest_G <= params.max_length)

    def refused(place: int) -> Reject:
        name = window.validities.batch["prefix_id"][first_G[place]].as_py()
        if not both_G[place]:
            missing = "student" if window.teacher_V[first_G[place]] else "teacher"
            return reject(name, f"no_{missing}_step", "its proposal was rejected")
        if broken_G[place]:
            return reject(name, "prefix_broken", "weights.broken_prefixes is drop")
        return reject(name, "too_long", f"{longest_G[place]} tokens, weights.max_length is {params.max_length}")

    rejects = [refused(place) for place in np.flatnonzero(~keep_G).tolist()]
    student_N = first_G[keep_G]
    return Paired(window, _pairs(window, student_N, tokens_V), student_N, before_G[keep_G], rejects)


def _pairs(window: Window, student_N: Ints, tokens_V: Ints) -> NDArray[np.void]:
    pairs_N = np.empty(len(student_N), PAIR)
    numbers = window.validities.numbers
    columns = {
        "": numbers("local_validity"),
        "_invalid": numbers("rule") == INVALID,
        "_tokens": tokens_V,
        "_successes": numbers("successes"),
        "_trials": numbers("trials"),
    }
    for name, row_N in (("student", student_N), ("teacher", student_N + 1)):
        for suffix, values_V in columns.items():
            pairs_N[name + suffix] = values_V[row_N]
    return pairs_N


def _tokens_before(window: Window, first_G: Ints) -> Ints:
    """Return how many tokens of its rollout lie before each step."""
    ends = window.rollouts.batch["step_ends"]
    counts_R, starts_R1 = lengths_of(ends), starts_of(lengths_of(ends))
    rollout_G, step_G = window.rollout_V[first_G], window.validities.numbers("step_index")[first_G].astype(np.int64)
    wrong_V = np.zeros(len(window.prefix_V), bool)
    wrong_V[first_G] = step_G > counts_R[rollout_G]
    window.validities.refuse("expected a step of its rollout", "step_index", wrong_V)
    end_of = np.concatenate([[0], ends.flatten().to_numpy(zero_copy_only=False).astype(np.int64)])
    return np.where(step_G > 0, end_of[starts_R1[rollout_G] + step_G], 0)
