"""A pool made in a moment: drawn solutions and validities, and models that know nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.experiments.loaded import Pool
from benchmarks.experiments.pool import PoolPlace
from benchmarks.experiments.sizes import Size
from benchmarks.experiments.solutions import SAMPLES, SOLUTIONS
from tests.vcrd.factories import TOKENIZER, rollout
from tests.vcrd.made_run import make_run
from vcrd.domains.base import Habits
from vcrd.domains.demo_math import generate_problems, sample_solution
from vcrd.io.files import sha256_file, write_json
from vcrd.io.manifest import FileEntry, Manifest, write_manifest
from vcrd.io.parquet import as_row, read_rows, shard_files, table_from_rows, write_table
from vcrd.models import PretrainParams
from vcrd.records import COMPLETIONS, PROBLEMS, PROPOSALS, ROLLOUTS, VALIDITY, Artefact, Problem, Rollout
from vcrd.training.pretrain import pretrain

PROBLEMS_OF_A_POOL = 8
SIZE = Size(
    name="tiny",
    domains=("demo-math",),
    pretrain_seeds=(1,),
    distill_seeds=(1,),
    splits={"train": PROBLEMS_OF_A_POOL, "test": 2},
    optimiser_steps=3,
    step_tokens=90,
    generated_tokens=1_000_000,
)
_SHAPE = PretrainParams(
    hidden_size=16,
    layers=1,
    heads=2,
    intermediate_size=32,
    max_position=256,
    steps=1,
    batch_size=4,
    learning_rate=1e-3,
)


def tiny_pool(workspace: Path) -> Pool:
    """Write a pool of eight problems, each with a rollout and four solutions, of which some are wrong."""
    place = PoolPlace(domain="demo-math", pretrain_seed=1, distill_seed=1, size=SIZE, workspace=workspace)
    run = make_run(workspace / "made", count=PROBLEMS_OF_A_POOL)
    for kind in (PROBLEMS, ROLLOUTS, PROPOSALS, VALIDITY):
        records = kind.parse(read_rows(shard_files(run / kind.name), kind.schema))
        if kind is PROBLEMS:
            records += [_tested(*pair, index) for index, pair in enumerate(generate_problems(3, 2, 99))]
        _write(place, kind, sorted(records, key=_order))
    problems = PROBLEMS.parse(read_rows(shard_files(run / PROBLEMS.name), PROBLEMS.schema))
    _write(place, SOLUTIONS, [item for problem in problems for item in _solutions(problem)])
    _write(place, COMPLETIONS, [])
    write_json(place.folder / "tokens" / "label_steps.json", {"tokens": 1000})
    for seed, role in enumerate(("student", "teacher")):
        pretrain([("a=1+2 ?\n", "a 1+2=3 3+0=3\n#### 3")], TOKENIZER, _SHAPE, place.models / role, seed=seed)
    return Pool(place)


def _tested(prompt: str, reference: str, index: int) -> Problem:
    given = {"domain": "math", "source": "demo-math", "licence": "CC0-1.0"}
    return Problem(problem_id=f"t{index}", prompt=prompt, reference=reference, split="test", **given)


def _solutions(problem: Problem) -> list[Rollout]:
    rng = random.Random(problem.problem_id)
    texts = [sample_solution(problem.prompt, rng, Habits(slip_rate=0.2)) for _ in range(SAMPLES)]
    made = [rollout(text.splitlines(keepends=True), problem) for text in texts]
    return [replace(item, rollout_id=f"{problem.problem_id}/r{index}") for index, item in enumerate(made)]


def _order(record: Any) -> tuple[Any, ...]:
    return tuple(getattr(record, name, "") for name in ("problem_id", "rollout_id", "step_index", "proposer"))


def _write(place: PoolPlace, kind: Artefact[Any], records: Sequence[object]) -> None:
    path = place.layout.folder(kind.name) / Pool.file
    write_table(path, table_from_rows([as_row(item) for item in records], kind.schema, kind.name))
    entry = FileEntry(
        file=path.name, sha256=sha256_file(path), fingerprint="", rows=len(records), expected=len(records)
    )
    made = {"artefact": kind.name, "stage": kind.name, "stage_version": 1, "provenance": {}}
    write_manifest(path.parent, Manifest(**made, files=[entry]))
