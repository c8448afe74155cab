"""Prompts that begin alike are sent together, and what that saved is told and stays out of every output."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engines.base import PrefillCount
from pipeline.runner import Split, run_sharded, run_whole
from pipeline.stage import Shard, ShardResult
from tests.pipeline import toy
from vcrd.trees import lexicographic


def shared(first: list[int], second: list[int]) -> int:
    """How many tokens two sequences begin with alike."""
    differing = (at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return next(differing, min(len(first), len(second)))


@given(st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=12))
def test_one_after_another_sequences_add_the_nodes_of_their_tree(sequences: list[list[int]]) -> None:
    ordered = [sequences[index] for index in lexicographic(sequences)]
    assert sorted(ordered) == sorted(sequences)
    before: list[int] = []
    added = 0
    for sequence in ordered:
        assert not (len(sequence) < len(before) and before[: len(sequence)] == sequence)
        added += len(sequence) - shared(before, sequence)
        before = sequence
    assert added == len({tuple(item[:end]) for item in sequences for end in range(1, len(item) + 1)})


class Reader:
    """Stands for an engine: of 1,000 tokens a shard it computes 180."""

    prefilled = PrefillCount()


def work(loaded: tuple[str, Reader], shard: Shard) -> ShardResult:
    loaded[1].prefilled += PrefillCount(1000, 180)
    return toy.work(1, shard)


@pytest.mark.parametrize("engine", [True, False])
def test_a_shards_share_is_told_beside_unchanged_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: bool
) -> None:
    stage = replace(toy.SQUARE, load=lambda context: ("layout", Reader()), work=work) if engine else toy.SQUARE
    context = toy.context(tmp_path)
    run_whole(toy.MAKE, context)
    manifest = run_sharded(stage, context, 1, Split())
    lines = [line for line in capsys.readouterr().err.splitlines() if "prompt tokens" in line]
    told = [
        f"square {Path(entry.file).stem}: 180 of 1,000 prompt tokens computed (82 % shared)" for entry in manifest.files
    ]
    assert lines == (told if engine else [])
    assert all("prompt tokens" not in path.read_text(errors="replace") for path in tmp_path.rglob("*.json"))
