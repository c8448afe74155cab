"""A finished pool, as methods read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.experiments.pool import PoolPlace, tokens_of
from benchmarks.experiments.solutions import SOLUTIONS
from benchmarks.rivals import base
from pipeline.layout import Layout
from pipeline.params import Settings
from pipeline.shards import shard_file
from pipeline.stage import Context, Shard
from vcrd.allocation import FINAL
from vcrd.domains import DOMAINS
from vcrd.io.parquet import read_table
from vcrd.records import COMPLETIONS, PROBLEMS, PROPOSALS, ROLLOUTS, VALIDITY, Artefact, Problem, Rollout

T = TypeVar("T")


class Pool:
    """What all methods share; read on demand, once.

    Attributes:
        place: Where it lies.
        settings: Its parameters.
        file: The one shard of every artefact.
    """

    file = shard_file(0)

    def __init__(self, place: PoolPlace) -> None:
        """Take a pool that `make_pool` made."""
        self.place = place
        self.settings: Settings = place.settings()
        self._context = Context(self.settings, place.layout, place.layout)

    @property
    def layout(self) -> Layout:
        """Folders of the artefacts."""
        return self.place.layout

    def read(self, kind: Artefact[T]) -> list[T]:
        """Read an artefact."""
        return self._context.read(kind)

    def stream(self, kind: Artefact[Any], columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Read columns of an artefact, so many rows at a time."""
        return Shard(self._context, self.file).stream(kind, columns, rows)

    @cached_property
    def problems(self) -> dict[str, Problem]:
        """All problems, by id."""
        return {problem.problem_id: problem for problem in self.read(PROBLEMS)}

    @property
    def tested(self) -> list[Problem]:
        """The held-out problems."""
        return [problem for problem in self.problems.values() if problem.split == "test"]

    @cached_property
    def rollouts(self) -> list[Rollout]:
        """The student's solutions of the train problems."""
        return [rollout for rollout in self.read(ROLLOUTS) if rollout.split == "train"]

    @cached_property
    def solutions(self) -> list[Rollout]:
        """The teacher's solutions of the train problems."""
        return self.read(SOLUTIONS)

    @cached_property
    def oracle_validity(self) -> NDArray[np.float64]:
        """Exact validity of every proposal, in the order of the estimated ones."""
        folder = self.layout.folder
        columns = ["proposal_id", "rollout_id", "step_index"]
        judged = read_table(folder(VALIDITY.name) / self.file, columns=columns).to_pylist()
        rows = read_table(folder(PROPOSALS.name) / self.file, columns=["proposal_id", "text"]).to_pylist()
        texts = {row["proposal_id"]: row["text"] for row in rows}
        rollouts = {rollout.rollout_id: rollout for rollout in self.rollouts}
        found = []
        for row in judged:
            rollout = rollouts[row["rollout_id"]]
            before = rollout.step_texts[: row["step_index"]]
            found.append(self.is_valid(rollout, before, texts[row["proposal_id"]]))
        return np.array(found, float)

    @cached_property
    def estimated_validity(self) -> NDArray[np.float64]:
        """Estimated validity of every proposal."""
        table = read_table(self.layout.folder(VALIDITY.name) / self.file, columns=["local_validity"])
        return np.asarray(table["local_validity"].to_numpy(), float)

    def is_valid(self, solution: Rollout, before: Sequence[str], step: str) -> bool:
        """Ask the domain's oracle about a step of a solution's problem."""
        oracle = DOMAINS[self.place.domain].step_is_valid
        return oracle(self.problems[solution.problem_id].prompt, before, step)

    @cached_property
    def generated(self) -> dict[str, int]:
        """Tokens that were generated, by what for."""
        train, rest = _tokens(self.read(ROLLOUTS))
        proposed, labelled = _tokens([item for item in self.read(PROPOSALS) if item.proposer == "teacher"])
        completions = [len(item.token_ids) for item in self.read(COMPLETIONS) if item.finish_reason != FINAL]
        return {
            base.ROLLOUTS: train,
            base.PROPOSALS: proposed,
            base.LABELS: rest + labelled + tokens_of(self.place, "label_steps"),
            base.COMPLETIONS: sum(completions),
            base.SOLUTION: sum(len(item.token_ids) for item in base.first_of_each(self.solutions, 1)),
            base.SOLUTIONS: sum(len(item.token_ids) for item in self.solutions),
        }


def _tokens(items: Sequence[Any]) -> tuple[int, int]:
    """Return the tokens of train problems, and of all others."""
    train = sum(len(item.token_ids) for item in items if item.split == "train")
    return train, sum(len(item.token_ids) for item in items) - train
