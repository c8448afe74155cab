"""Pages and runs for tests and benchmarks of `vcrd inspect`."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.vcrd.factories import evidence, problem, proposal, rollout
from tests.vcrd.training_rows import training_row
from vcrd.inspect import Page, PrefixView, ProblemView, RolloutView, StepView
from vcrd.io.parquet import as_row, table_from_rows, write_table
from vcrd.io.rejects import REJECTS_SCHEMA
from vcrd.records import EVIDENCE, PROBLEMS, PROPOSALS, ROLLOUTS, TRAINING, VALIDITY, Artefact, Validity

_WORDS = ("so", " the", " sum", " of", " both", " is", " 12", "\n", " and", " hence", " (", "7", ")", " ×", " é", " 数")
_DOMAINS = ("math", "code", "instructions")

Text = Callable[[str], str]


def make_page(
    problems: int,
    *,
    rollouts: int = 2,
    steps: int = 5,
    tokens: int = 60,
    text: Text = str,
    targets: Sequence[str] = ("student", "teacher"),
) -> Page:
    """A page of `problems * rollouts * steps` examples, every text of which goes through `text`."""
    rng = random.Random(problems)

    def step(words: Sequence[str]) -> StepView:
        return StepView(
            text=text("".join(words)),
            validity=round(rng.random(), 3),
            sd=round(rng.random() / 5, 3),
            rule=rng.choice([-1, 0, 1]),
            rule_reason=text("2 equalities hold"),
            prm=rng.random(),
            peer=None,
            peer_missing=text("not_asked"),
            successes=1,
            trials=3,
        )

    def prefix(rollout_id: str, index: int) -> PrefixView:
        words = {name: rng.choices(_WORDS, k=tokens) for name in ("student", "teacher")}
        student, teacher = (step(words[name]) for name in ("student", "teacher"))
        target = rng.choice(targets)
        return PrefixView(
            id=text(f"{rollout_id}/s{index}"),
            index=index,
            target=target,
            tokens=[text(word) for word in words.get(target, [])],
            weights=[round(rng.random() * 2, 3)] * tokens,
            strength=rng.random(),
            gap=round((teacher.validity or 0) - (student.validity or 0), 6),
            broken=rng.random() < 0.1,
            student=student,
            teacher=teacher,
        )

    def rollout_view(name: str) -> RolloutView:
        prefixes = [prefix(name, index) for index in range(steps)]
        return RolloutView(id=text(name), outcome=rng.choice([-1, 1]), finish="eos", rest="", prefixes=prefixes)

    return Page(
        title=text("made up"),
        notes=[text("A part only.")],
        max_weight=2.0,
        problems=[
            ProblemView(
                id=text(f"p{index}"),
                domain=text(_DOMAINS[index % 3]),
                prompt=text(f"Problem {index}: {''.join(rng.choices(_WORDS, k=40))}"),
                reference=text("12"),
                source=text("made up"),
                licence="CC0-1.0",
                rollouts=[rollout_view(f"p{index}/r{at}") for at in range(rollouts)],
            )
            for index in range(problems)
        ],
    )


def write_run(run: Path, names: Sequence[str] = ("p0", "p1"), **changed: Any) -> Path:
    """Write a small run: of each problem a right rollout of three steps, whose second prefix made no example.

    `changed` are values of every training row. Returns the training folder.
    """
    problems = [problem(problem_id=name) for name in names]
    rollouts = [rollout(of=item) for item in problems]
    proposals, judged, valid, training, rejects = [], [], [], [], []
    for given, solved in zip(problems, rollouts, strict=True):
        for index, own in enumerate(solved.step_texts):
            for proposer, said in (("student", own), ("teacher", "b 3*4=2 2+0=2\n")):
                made = proposal(solved, index, proposer, said)
                proposals.append(made)
                judged.append(replace(evidence(made), rule_reason="2 equalities hold"))
                valid.append(_validity(judged[-1], 0.25 if proposer == "student" else 0.75))
            prefix = f"{given.prompt}\n{''.join(solved.step_texts[:index])}"
            row = training_row(f"{solved.rollout_id}/s{index}", prefix, "b 3*4=2 2+0=2\n", weight=1.5)
            if index == 1:
                rejects.append({"record_id": row["example_id"], "reason": "too_long", "message": "", "row": ""})
                continue
            training.append({**row, **_ids(solved, index), **_shown(own), **changed})
    _write(run, PROBLEMS, problems)
    _write(run, ROLLOUTS, rollouts)
    _write(run, PROPOSALS, proposals)
    _write(run, EVIDENCE, judged)
    _write(run, VALIDITY, valid)
    write_table(run / "training/part-00000.parquet", table_from_rows(training, TRAINING.schema, "x"))
    write_table(run / "rejects/calibrate_weights/rejects.parquet", table_from_rows(rejects, REJECTS_SCHEMA, "x"))
    return run / "training"


def _ids(of: Any, index: int) -> dict[str, Any]:
    names = ("rollout_id", "problem_id", "domain")
    return {**{name: getattr(of, name) for name in names}, "step_index": index}


def _shown(own: str) -> dict[str, Any]:
    values = {"student_validity": 0.25, "teacher_validity": 0.75, "relative_validity": 0.5}
    values |= {"target_value": 1.0, "step_strength": 0.75}
    return {"target": "teacher", "student_step": own, "teacher_step": "b 3*4=2 2+0=2\n", **values}


def _validity(of: Any, value: float) -> Validity:
    row = as_row(of)
    kept = {name: row[name] for name in VALIDITY.schema.names if name in row}
    found: dict[str, Any] = {
        "successes": 1,
        "trials": 3,
        "local_validity": value,
        "local_validity_sd": 0.125,
        "prefix_broken": False,
    }
    return Validity(**kept, **found)


def _write(run: Path, kind: Artefact[Any], records: Sequence[Any]) -> None:
    table = table_from_rows([as_row(item) for item in records], kind.schema, kind.name)
    write_table(run / kind.name / "part-00000.parquet", table)
