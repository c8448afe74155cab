"""Tokens of stages, counted off artefacts, against a count record by record."""

from collections import Counter
from pathlib import Path

import pytest

from tests.vcrd.factories import evidence
from tests.vcrd.made_run import make_run
from vcrd.io.parquet import as_row, read_table, shard_files, table_from_rows, write_table
from vcrd.records import (
    COMPLETIONS,
    EVIDENCE,
    PROPOSALS,
    ROLLOUTS,
    STUDENT_REVIEWS,
    TEACHER_REVIEWS,
    CompletionRecord,
    PeerReview,
    Rollout,
    StepProposal,
)
from vcrd.report.tokens import StageTokens, count_tokens, trained_tokens
from vcrd.training.curve import CurvePoint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with reviews of every second step, scores of every third, and completions of every fifth."""
    run = make_run(tmp_path_factory.mktemp("tokens") / "run")
    for file in shard_files(run / PROPOSALS.name):
        steps = PROPOSALS.parse(read_table(file).to_pylist())
        reviews = [
            PeerReview(
                proposal_id=step.proposal_id,
                problem_id=step.problem_id,
                logprobs=[-1.0] * len(step.token_ids) if index % 2 else [],
                missing="" if index % 2 else "not asked",
            )
            for index, step in enumerate(steps)
        ]
        completions = [
            CompletionRecord(
                completion_id=f"{step.proposal_id}/c{number}",
                proposal_id=step.proposal_id,
                round=0,
                token_ids=[3] * (number + 2),
                finish_reason="eos",
                outcome=1,
            )
            for step in steps[::5]
            for number in range(2)
        ]
        scored = [
            {**as_row(evidence(step)), "score_prm": None if index % 3 else 0.5} for index, step in enumerate(steps)
        ]
        for kind, rows in (
            (STUDENT_REVIEWS, [as_row(item) for item in reviews]),
            (TEACHER_REVIEWS, [as_row(item) for item in reviews[::-1]]),
            (COMPLETIONS, [as_row(item) for item in completions]),
            (EVIDENCE, scored),
        ):
            write_table(run / kind.name / file.name, table_from_rows(rows, kind.schema, kind.name))
    return run


def test_every_stage_has_its_tokens(run: Path) -> None:
    rollouts, steps, completions = records(run)
    prefix = {step.proposal_id: len(rollouts[step.rollout_id].prefix_ids(step.step_index)) for step in steps}
    length = {step.proposal_id: len(step.token_ids) for step in steps}
    expected: Counter[str] = Counter()
    for item in rollouts.values():
        if len(item.logprobs):
            expected["generate_rollouts prompt"] += len(item.prompt_ids)
            expected["generate_rollouts generated"] += len(item.token_ids)
    for step in steps:
        if step.proposer == "teacher":
            expected["propose_steps prompt"] += prefix[step.proposal_id]
            expected["propose_steps generated"] += length[step.proposal_id]
    for kind, stage in ((STUDENT_REVIEWS, "review_student_steps"), (TEACHER_REVIEWS, "review_teacher_steps")):
        for review in (row for file in shard_files(run / kind.name) for row in read_table(file).to_pylist()):
            if review["logprobs"]:
                expected[f"{stage} prompt"] += prefix[review["proposal_id"]]
                expected[f"{stage} scored"] += length[review["proposal_id"]]
    for row in (row for file in shard_files(run / EVIDENCE.name) for row in read_table(file).to_pylist()):
        if row["score_prm"] is not None:
            expected["score_steps prompt"] += prefix[row["proposal_id"]]
            expected["score_steps scored"] += length[row["proposal_id"]]
    for item in completions:
        expected["complete_steps prompt"] += prefix[item.proposal_id] + length[item.proposal_id]
        expected["complete_steps generated"] += len(item.token_ids)
    found = {
        f"{item.stage} {kind}": value
        for item in count_tokens(lambda name: run / name)
        for kind in ("prompt", "generated", "scored", "trained")
        if (value := getattr(item, kind))
    }
    assert found == {name: value for name, value in expected.items() if value}
    assert len(found) >= 10


def records(run: Path) -> tuple[dict[str, Rollout], list[StepProposal], list[CompletionRecord]]:
    rollouts, steps, completions = (
        kind.parse(row for file in shard_files(run / kind.name) for row in read_table(file).to_pylist())
        for kind in (ROLLOUTS, PROPOSALS, COMPLETIONS)
    )
    return {item.rollout_id: item for item in rollouts}, steps, completions


def test_a_training_counts_what_its_curve_does() -> None:
    curve = [CurvePoint(step=step, learning_rate=0.1, loss=1.0, supervised_tokens=30) for step in (1, 2)]
    assert trained_tokens("train", curve, 4.5) == [StageTokens(stage="train", prompt=270, trained=60)]
    assert trained_tokens("train", []) == []
