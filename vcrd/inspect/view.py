"""What the page shows, as plain values: problems, their rollouts, and at each prefix two steps side by side.

None stands for what the data set, and what lies beside it, does not say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A next step under a prefix, and all evidence for it.

    Attributes:
        text: As it was proposed.
        validity: Local validity, in [0, 1].
        sd: Its standard deviation.
        rule: 1 valid, 0 abstain, -1 invalid.
        rule_reason: Why.
        prm: The process reward model's score, in [0, 1].
        prm_missing: Why there is none.
        peer: The other proposer's score, in [0, 1].
        peer_missing: Why there is none.
        successes: Completions that reached the right answer.
        trials: Completions.
    """

    text: str
    validity: float | None = None
    sd: float | None = None
    rule: int | None = None
    rule_reason: str = ""
    prm: float | None = None
    prm_missing: str = ""
    peer: float | None = None
    peer_missing: str = ""
    successes: int | None = None
    trials: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixView:
    """A prefix of a rollout, and what is learned there.

    Attributes:
        id: Of the example, or of the prefix where it is none.
        index: Steps before it.
        note: Why it is shown otherwise than the others: no example was made of it, or nothing beside it matches.
        target: Whose step is learned; None where no example was made.
        tokens: The target's tokens as text; None where no tokenizer is at hand.
        weights: One weight for every supervised token of the target.
        value: What the target's completions multiply its strength by; 1 where they do not.
        strength: Of the target, before normalisation.
        gap: The teacher's local validity minus the student's.
        broken: Whether the prefix was lost before this step.
        prefix: Text of the prefix, where no rollout shows it.
        student: The student's step.
        teacher: The teacher's step.
    """

    id: str
    index: int
    note: str = ""
    target: str | None = None
    tokens: Sequence[str] | None = None
    weights: Sequence[float] = ()
    value: float | None = None
    strength: float | None = None
    gap: float | None = None
    broken: bool | None = None
    prefix: str | None = None
    student: StepView | None = None
    teacher: StepView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutView:
    """A solution that the student sampled, prefix by prefix.

    Attributes:
        id: Of the rollout.
        outcome: 1 right, 0 not known, -1 wrong; None where the rollout is not at hand.
        finish: Why it ended.
        rest: Text behind the last step: a step that was never finished.
        prefixes: In the order of the steps.
    """

    id: str
    outcome: int | None
    finish: str
    rest: str
    prefixes: Sequence[PrefixView]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemView:
    """A problem and its rollouts; `prompt` is None where neither the problem nor a tokenizer is at hand."""

    id: str
    domain: str
    prompt: str | None
    reference: str | None
    source: str
    licence: str
    rollouts: Sequence[RolloutView]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that a page shows.

    Attributes:
        title: Of the data set.
        notes: What a reader must know: what is left out, and what is not at hand.
        max_weight: Largest token weight shown.
        problems: In the order of the data set.
    """

    title: str
    notes: Sequence[str]
    max_weight: float
    problems: Sequence[ProblemView]

    @property
    def examples(self) -> int:
        """Training examples shown."""
        return sum(
            prefix.target is not None
            for problem in self.problems
            for rollout in problem.rollouts
            for prefix in rollout.prefixes
        )
