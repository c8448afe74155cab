"""What a dead worker is followed by: memory asks for smaller batches at once, other deaths from the second time on."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from pipeline.engines import EngineParams
from pipeline.executors.restarts import Restarts
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.stage import Context, Shard, ShardResult
from tests.pipeline import toy
from tests.pipeline.small_engine import PARAMS
from tests.pipeline.test_runner import made, outputs
from vcrd.errors import VcrdError

STAGE = replace(toy.SQUARE, sections={**toy.SQUARE.sections, "engine": EngineParams})


def with_engine(context: Context) -> Context:
    settings = context.settings
    sections, plain = {**settings.sections, "engine": PARAMS}, {**settings.plain, "engine": asdict(PARAMS)}
    return replace(context, settings=replace(settings, sections=sections, plain=plain))


def sizes(context: Context) -> tuple[int, int]:
    params = context.settings.get(EngineParams)
    return params.batch_size, params.max_in_flight


def short_of_memory(add: int, shard: Shard) -> ShardResult:
    if shard.context.settings.get(EngineParams).batch_size > 1:
        raise MemoryError(f"no room for {shard.file}")
    return toy.work(add, shard)


@pytest.mark.parametrize(
    ("why", "memory", "expected"),
    [
        ("killed", False, [(4, 8), (2, 4), (1, 2)]),
        ("killed", True, [(2, 4), (1, 2), (1, 1)]),
        ("out of memory: CUDA", False, [(2, 4), (1, 2), (1, 1)]),
    ],
)
def test_sizes_are_halved_to_one_and_the_fourth_death_says_what_was_tried(
    tmp_path: Path, why: str, memory: bool, expected: list[tuple[int, int]]
) -> None:
    restarts, context, found = Restarts(STAGE), with_engine(toy.context(tmp_path)), []
    for _ in range(3):
        context = restarts.after_death("part-00002.parquet", context, why, "1 request in flight (r7)", memory=memory)
        found.append(sizes(context))
    assert found == expected
    tried = rf"batch_size 4 and engine.max_in_flight 8, then .*batch_size 1 and engine.max_in_flight {found[-1][1]};"
    with pytest.raises(
        VcrdError, match=rf"part-00002.parquet cost 4 workers.*\(r7\): {why}; tried.*{tried}.*run.workers"
    ):
        restarts.after_death("part-00002.parquet", context, why, "1 request in flight (r7)", memory=memory)
    assert sizes(restarts.after_death("part-00003.parquet", context, "killed", "")) == expected[-1]


def test_a_shard_for_which_memory_is_short_is_made_in_smaller_batches(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context = with_engine(toy.context(tmp_path / "short"))
    run_whole(toy.MAKE, context)
    assert run_sharded(replace(STAGE, work=short_of_memory), context, 1, Split()) is not None
    said = capfd.readouterr().err
    assert "out of memory: no room for part-00000.parquet; restart 2 of 3 with engine.batch_size 1" in said
    assert "part-00001.parquet lost" not in said, "an engine that was made smaller stays so"
    run_whole(toy.MAKE, toy.context(tmp_path / "calm"))
    run_sharded(toy.SQUARE, toy.context(tmp_path / "calm"), 1, Split())
    assert len(made(tmp_path / "short")) == 4
    short, calm = outputs(tmp_path / "short"), outputs(tmp_path / "calm")
    assert {name for name in calm if short[name] != calm[name]} == {"_manifest.json"}  # it names the parameters
