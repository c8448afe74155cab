"""How many tokens each stage went through, counted off the artefacts shard by shard.

What an artefact does not keep is not counted: rejected rows, what was cut off behind a proposed step, the completions
of `label_steps` and the answers of `evaluate_student`, of which outcomes and text alone are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from vcrd.io.parquet import read_table, shard_files
from vcrd.records import (
    COMPLETIONS,
    EVIDENCE,
    PROPOSALS,
    ROLLOUTS,
    STUDENT_REVIEWS,
    TEACHER_REVIEWS,
    Artefact,
)
from vcrd.training.curve import CurvePoint

TOKEN_KINDS = ("prompt", "generated", "scored", "trained")
_PROPOSAL_COLUMNS = ("proposal_id", "rollout_id", "step_index", "proposer", "token_ids", "tail_logprob")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTokens:
    """Tokens of one stage; None where that is not its work.

    Attributes:
        stage: Its name.
        prompt: Of all that something was generated, scored or learned behind, once for each, however often it is the
            same and however often an engine read it.
        generated: Kept of what a model wrote.
        scored: Of steps that a model gave probabilities.
        trained: Learned, with repetitions.
    """

    stage: str
    prompt: int | None = None
    generated: int | None = None
    scored: int | None = None
    trained: int | None = None


def count_tokens(folder: Callable[[str], Path]) -> list[StageTokens]:
    """Count what the stages before training generated and scored.

    Args:
        folder: Where an artefact lies, by its name.

    Raises:
        ConfigError: An artefact has no shards.
        SchemaError: One cannot be read.
    """
    sums: Counter[str] = Counter()
    for file in shard_files(folder(PROPOSALS.name)):
        _count_shard(partial(_read, folder, file.name), sums)
    rollouts, proposals, completions = "generate_rollouts", "propose_steps", "complete_steps"
    scorers = ("review_student_steps", "review_teacher_steps", "score_steps")
    return [
        StageTokens(stage=rollouts, prompt=sums[f"{rollouts} prompt"], generated=sums[rollouts]),
        StageTokens(
            stage=proposals,
            prompt=sums[f"{proposals} prompt"],
            generated=sums[proposals],
            scored=sums[f"{proposals} scored"] or None,
        ),
        *(StageTokens(stage=name, prompt=sums[f"{name} prompt"], scored=sums[name]) for name in scorers),
        StageTokens(stage=completions, prompt=sums[f"{completions} prompt"], generated=sums[completions]),
    ]


def trained_tokens(stage: str, curve: Sequence[CurvePoint], context: float | None = None) -> list[StageTokens]:
    """Count what a training learned; nothing where it did not train.

    Args:
        stage: Its name.
        curve: Of the training.
        context: Tokens in front of what is learned, per learned token.
    """
    learned = sum(point.supervised_tokens for point in curve)
    prompt = None if context is None else round(context * learned)
    return [StageTokens(stage=stage, prompt=prompt, trained=learned)] if curve else []


def _count_shard(read: Callable[[Artefact[Any], Sequence[str]], pl.DataFrame], sums: Counter[str]) -> None:
    rollouts = read(ROLLOUTS, ("rollout_id", "prompt_ids", "token_ids", "step_ends", "logprobs"))
    sampled = rollouts.filter(pl.col("logprobs").list.len() > 0)  # the user brought the others
    _add(sums, "generate_rollouts", sampled.select(_length("prompt_ids", "prompt"), _length("token_ids", "tokens")))
    steps = _steps(rollouts, read(PROPOSALS, _PROPOSAL_COLUMNS))
    written = steps.filter(pl.col("proposer") == "teacher")
    _add(sums, "propose_steps", written)
    sums["propose_steps scored"] += int(
        steps.filter((pl.col("proposer") == "student") & pl.col("scored"))["tokens"].sum()
    )
    for stage, given in _scored(read):
        _add(sums, stage, steps.join(given, on="proposal_id"))
    completed = read(COMPLETIONS, ("proposal_id", "token_ids")).select("proposal_id", _length("token_ids", "written"))
    behind = completed.join(steps, on="proposal_id")
    _add(sums, "complete_steps", behind.select(prompt=pl.col("prompt") + pl.col("tokens"), tokens="written"))


def _steps(rollouts: pl.DataFrame, proposals: pl.DataFrame) -> pl.DataFrame:
    """Return of each proposal the lengths of its prefix and step, and whether the teacher's signal is on it."""
    own = rollouts.select("rollout_id", "step_ends", _length("prompt_ids", "asked"))
    before = pl.when(pl.col("step_index") > 0).then(
        pl.col("step_ends").list.get(pl.col("step_index") - 1, null_on_oob=True)
    )
    return proposals.join(own, on="rollout_id").select(
        "proposal_id",
        "proposer",
        _length("token_ids", "tokens"),
        prompt=pl.col("asked") + before.otherwise(0),
        scored=pl.col("tail_logprob").list.min() < 0,
    )


def _scored(read: Callable[[Artefact[Any], Sequence[str]], pl.DataFrame]) -> Iterator[tuple[str, pl.DataFrame]]:
    for stage, kind in (("review_student_steps", STUDENT_REVIEWS), ("review_teacher_steps", TEACHER_REVIEWS)):
        reviews = read(kind, ("proposal_id", "logprobs"))
        yield stage, reviews.filter(pl.col("logprobs").list.len() > 0).select("proposal_id")
    evidence = read(EVIDENCE, ("proposal_id", "score_prm"))
    yield "score_steps", evidence.filter(pl.col("score_prm").is_not_null()).select("proposal_id")


def _add(sums: Counter[str], stage: str, lengths: pl.DataFrame) -> None:
    sums[f"{stage} prompt"] += int(lengths["prompt"].sum())
    sums[stage] += int(lengths["tokens"].sum())


def _length(column: str, name: str) -> pl.Expr:
    return pl.col(column).list.len().cast(pl.Int64).alias(name)


def _read(folder: Callable[[str], Path], file: str, kind: Artefact[Any], columns: Sequence[str]) -> pl.DataFrame:
    frame = pl.from_arrow(read_table(folder(kind.name) / file, columns=columns))
    assert isinstance(frame, pl.DataFrame), "a table gives a frame"  # noqa: S101 - for the type checker
    return frame
