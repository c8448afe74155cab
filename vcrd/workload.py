"""How much a run asks of its models, on paper: by its parameters and by what problems and solutions are like.

Nothing is measured: counts that depend on what models answer (completions, labels) are upper bounds, unless `spent`
says how much of what is optional will be spent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from vcrd.allocation import CompletionParams
from vcrd.completions import CompleterParams
from vcrd.errors import ConfigError, did_you_mean
from vcrd.labels import LabelParams
from vcrd.prm import PrmParams
from vcrd.problems import LABEL_SPLITS, ROLLOUT_SPLITS, SPLITS, SplitParams
from vcrd.proposals import ProposalParams
from vcrd.reviews import ReviewParams
from vcrd.rollouts import RolloutParams
from vcrd.training.params import TrainParams

ASSUMED = (
    "Counted on paper: every problem, solution and step is an average one, and no rule proves a step wrong.",
    "Bytes are of token columns, before compression; stages without tokens, and starts, are not counted.",
    "evaluate_student takes the teacher's speed for all three models.",
)
"""What a count on paper rests on, beside the shape."""
_MODELS = 3
_UNPACKED = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What problems and solutions are like, on average.

    Attributes:
        prompt: Tokens of a prompt.
        solution: Tokens of a solution, whoever writes it.
        steps: Steps of a solution.
        spent: Share of the completions beyond the first ones that will be made, in [0, 1].
    """

    prompt: float
    solution: float
    steps: float
    spent: float = 1.0

    @classmethod
    def of(cls, values: Mapping[str, float]) -> Shape:
        """Read it.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        names = [item.name for item in fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(
                    f"--on-paper: unknown {name!r}{did_you_mean(name, names)}; there are {', '.join(names)}"
                )
        if missing := [name for name in names[:3] if name not in values]:
            raise ConfigError(f"--on-paper: {missing[0]} is missing; give prompt=150,solution=300,steps=6")
        shape = cls(**values)
        if not 0 <= shape.spent <= 1 or shape.steps < 1 or shape.solution < shape.steps:
            raise ConfigError(f"--on-paper: expected spent in [0, 1] and 1 <= steps <= solution, got {dict(values)}")
        return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one stage asks for.

    Attributes:
        stage: Its name.
        output: Its artefact.
        role: Whose model answers; None where no role's does.
        sharded: Whether workers share it.
        requests: To the engine.
        read: Tokens given.
        written: Tokens that are generated, or learned.
        rows: Of the artefact.
        data_bytes: Of its token columns, before compression.
    """

    stage: str
    output: str
    role: str | None = None
    sharded: bool = True
    requests: float = 0
    read: float = 0
    written: float = 0
    rows: float = 0
    data_bytes: float = 0


def split_sizes(shares: SplitParams, problems: int) -> dict[str, int]:
    """Return how many of some problems each split gets."""
    total = sum(getattr(shares, name) for name in SPLITS)
    return {name: round(problems * getattr(shares, name) / max(total, 1)) for name in SPLITS}


def workload(get: Callable[[type], Any], sizes: Mapping[str, int], shape: Shape) -> list[Work]:
    """Count what the stages with models ask for, in the order in which they run.

    Args:
        get: Gives the parameters of a type.
        sizes: Problems by split.
        shape: Of these.
    """
    run = _Run(get, sizes, shape)
    return [
        run.rollouts(),
        run.proposals(),
        run.labels(),
        *run.reviews(),
        run.scores(),
        run.completions(),
        run.training(),
        run.evaluation(),
    ]


class _Run:
    """A run on paper: S steps of L tokens behind a prompt of P, of which C are compared."""

    def __init__(self, get: Callable[[type], Any], sizes: Mapping[str, int], shape: Shape) -> None:
        self._get, self._shape = get, shape
        self._per_problem: int = get(RolloutParams).per_problem
        most = get(ProposalParams).prefixes.max_per_rollout
        self._all_steps = most is None or most >= shape.steps
        self._compared: float = shape.steps if self._all_steps else most
        self._step = shape.solution / shape.steps
        self._prefix = shape.prompt + (shape.solution - self._step) / 2
        self._candidates = get(ProposalParams).top_k_logprobs
        self._problems = sizes

    def _rollouts(self, *splits: str) -> float:
        return self._per_problem * sum(self._problems[split] for split in splits)

    def rollouts(self) -> Work:
        """The student's solutions."""
        count, shape = self._rollouts(*ROLLOUT_SPLITS), self._shape
        return Work(
            stage="generate_rollouts",
            output="rollouts",
            role="student",
            requests=count,
            read=count * shape.prompt,
            written=count * shape.solution,
            rows=count,
            data_bytes=count * (4 * shape.prompt + 8 * shape.solution),
        )

    def proposals(self) -> Work:
        """The teacher's step behind each prefix, and where it is wanted its signal on the student's."""
        count = self._rollouts(*ROLLOUT_SPLITS) * self._compared
        signal = 8 * self._candidates + 4
        own = self._get(ProposalParams).score_own_steps
        return Work(
            stage="propose_steps",
            output="proposals",
            role="teacher",
            requests=count * (2 if own else 1),
            read=count * (self._prefix * (2 if own else 1) + self._step * own),
            written=count * self._step,
            rows=2 * count,
            data_bytes=count * self._step * (2 * 8 + signal * (2 if own else 1)),
        )

    def labels(self) -> Work:
        """Completions before and behind each step of the label problems; a last step's outcome is known."""
        params, rollouts = self._get(LabelParams), self._rollouts(*LABEL_SPLITS)
        sources = self._sources() + (1 if self._all_steps else self._compared)
        each = params.first + self._shape.spent * max(params.completions - params.first, 0)
        tested = self._rollouts("fit", "judge") * self._sources() * params.independent
        count = rollouts * sources * each + tested
        rows = rollouts * 2 * self._compared
        return self._completed("label_steps", "labels", count, rows=rows, data_bytes=count)

    def _sources(self) -> float:
        """Steps of a rollout and its proposals that do not end the solution."""
        return 2 * self._compared * (1 - 1 / self._shape.steps)

    def _completed(self, stage: str, output: str, count: float, *, rows: float, data_bytes: float) -> Work:
        half = self._shape.solution / 2
        role = self._get(CompleterParams).role
        read, written = count * (self._shape.prompt + half), count * half
        return Work(
            stage=stage,
            output=output,
            role=role,
            requests=count,
            read=read,
            written=written,
            rows=rows,
            data_bytes=data_bytes,
        )

    def _judged(self) -> float:
        return self._rollouts("train", "fit", "judge")

    def reviews(self) -> list[Work]:
        """The teacher reads each rollout in one pass, the student each of the teacher's steps."""
        params, rollouts = self._get(ReviewParams), self._judged()
        steps = rollouts * self._compared
        own, other = rollouts * params.by_teacher, steps * params.by_student
        written = steps * self._step * 4
        return [
            Work(
                stage="review_student_steps",
                output="student_reviews",
                role="teacher",
                requests=own,
                read=own * (self._shape.prompt + self._shape.solution),
                rows=steps,
                data_bytes=written * params.by_teacher,
            ),
            Work(
                stage="review_teacher_steps",
                output="teacher_reviews",
                role="student",
                requests=other,
                read=other * (self._prefix + self._step),
                rows=steps,
                data_bytes=written * params.by_student,
            ),
        ]

    def scores(self) -> Work:
        """A pass over each rollout, and one over each of the teacher's steps."""
        rollouts, scored = self._judged(), self._get(PrmParams).source != "none"
        steps = rollouts * self._compared
        whole = self._shape.prompt + self._shape.solution
        return Work(
            stage="score_steps",
            output="evidence",
            requests=(rollouts + steps) * scored,
            read=(rollouts * whole + steps * (self._prefix + self._step)) * scored,
            rows=2 * steps,
            data_bytes=2 * steps * 16,
        )

    def completions(self) -> Work:
        """Completions of the train problems' steps: the first ones, and what more the budget allows."""
        params, rollouts = self._get(CompletionParams), self._rollouts("train")
        first = min(params.initial * self._sources(), params.budget_per_rollout)
        count = rollouts * (first + self._shape.spent * (params.budget_per_rollout - first))
        written = count * self._shape.solution / 2
        return self._completed("complete_steps", "completions", count, rows=count, data_bytes=4 * written)

    def training(self) -> Work:
        """What is learned: trees where rows are packed, else every row by itself."""
        params, rollouts = self._get(TrainParams), self._rollouts("train")
        rows = rollouts * self._compared
        as_rows = rows * (self._prefix + self._step)
        as_trees = self._problems["train"] * self._shape.prompt + rollouts * (
            self._shape.solution + self._compared * self._step
        )
        written = params.epochs * (as_rows if params.packing == _UNPACKED else min(as_trees, as_rows))
        return Work(
            stage="train_student",
            output="training",
            sharded=False,
            written=written,
            rows=rows,
            data_bytes=as_rows * 16 + rows * self._step * 8 * self._candidates,
        )

    def evaluation(self) -> Work:
        """Answers of three models to the test problems, the dearest of which is the teacher."""
        count = _MODELS * self._problems["test"]
        return Work(
            stage="evaluate_student",
            output="evaluation",
            role="teacher",
            sharded=False,
            requests=count,
            read=count * self._shape.prompt,
            written=count * self._shape.solution,
            rows=count,
        )
