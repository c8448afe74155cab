"""Turn the user's problems into `problems`: columns mapped, ids from content, splits by hash."""

from __future__ import annotations

from itertools import count, islice
from pathlib import Path

from pipeline.cli import stage_main
from pipeline.shards import shard_file, shard_of, write_shards
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.domains import problem_rows
from vcrd.io.files import sha256_file
from vcrd.io.rejects import Reject
from vcrd.problems import ProblemParams, make_problems
from vcrd.records import PROBLEMS, Problem


def facts(context: Context) -> dict[str, object]:
    """The source's content, where it is local."""
    path = Path(context.settings.get(ProblemParams).path)
    problem_rows(path)
    files = sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]
    return {"source": [[file.name, sha256_file(file)] for file in files]}


def build(context: Context, out: Path) -> WholeResult:
    """Read, map, split and deal to shards."""
    params, settings = context.settings.get(ProblemParams), context.settings
    source, found = problem_rows(Path(params.path))
    numbers = count()
    rows = (row for row, _ in zip(islice(found, context.limit or params.limit), numbers, strict=False))
    problems, rejects = make_problems(rows, params, source, settings.seed)
    dealt: list[tuple[list[Problem], list[Reject]]] = [([], []) for _ in range(settings.run.num_shards)]
    for problem in problems:
        dealt[shard_of(problem.problem_id, len(dealt))][0].append(problem)
    for item in rejects:
        dealt[shard_of(item.record_id, len(dealt))][1].append(item)
    shards = ((shard_file(index), *items) for index, items in enumerate(dealt))
    return write_shards(out, PROBLEMS, shards, next(numbers))


STAGE = WholeStage(
    name="prepare_problems",
    version=1,
    sections={"problems": ProblemParams},
    output=PROBLEMS.name,
    paths=("problems.path",),
    facts=facts,
    build=build,
)

if __name__ == "__main__":
    stage_main("stages.prepare_problems")
