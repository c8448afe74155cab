"""Turn the user's problems into `problems`: columns mapped, ids from content, splits by hash."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pipeline.cli import stage_main
from pipeline.shards import shard_file, shard_of, write_shards
from pipeline.stage import Context, WholeResult, WholeStage
from vcrd.domains import problem_rows
from vcrd.io.files import sha256_file
from vcrd.problems import ProblemParams, make_problems
from vcrd.records import PROBLEMS


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
    rows = list(islice(found, context.limit or params.limit))
    problems, rejects = make_problems(rows, params, source, settings.seed)
    count = settings.run.num_shards
    shards = [
        (
            shard_file(index),
            [problem for problem in problems if shard_of(problem.problem_id, count) == index],
            [item for item in rejects if shard_of(item.record_id, count) == index],
        )
        for index in range(count)
    ]
    return write_shards(out, PROBLEMS, shards, len(rows))


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
