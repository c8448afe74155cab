"""Times are of what a run made, lie outside its outputs, and give rates only where something was counted."""

import json
from pathlib import Path

import pytest

from pipeline.layout import Layout
from pipeline.runner import Made, Split, record_times, run_sharded, run_whole
from pipeline.timings import StageTime, read_times, time_figures, times_text
from tests.pipeline import toy
from vcrd.io.files import read_json, write_json


def layout(root: Path) -> Layout:
    return toy.context(root).layout


def test_the_times_of_what_was_made_outlive_runs_that_only_adopt(tmp_path: Path) -> None:
    for made in (4, 0, 0):
        context = toy.context(tmp_path)
        run_whole(toy.MAKE, context)
        run_sharded(toy.SQUARE, context, 1, Split())
        assert read_json(layout(tmp_path).timings("square"))["made"] == made
        [square] = read_times(layout(tmp_path), ["square", "never ran"], {})
        assert (square.made, square.adopted, square.rows, square.tokens) == (4, 0, 36, 36)
    said = read_json(layout(tmp_path).timings("square"))
    assert "earlier" not in said["earlier"]
    assert time_figures([square])[0]["rows_per_second"] > 0


def test_what_was_made_elsewhere_has_no_rates(tmp_path: Path) -> None:
    record_times(tmp_path / "times.json", Made(), 4, 0.1)
    found = StageTime(stage="square", **read_json(tmp_path / "times.json"))
    assert (found.made, found.adopted) == (0, 4)
    assert time_figures([found])[0]["rows_per_second"] is None


def test_rates_and_shares_are_of_seconds() -> None:
    times = [
        StageTime(stage="generate", seconds=30.0, made=4, adopted=0, rows=60, tokens=3000),
        StageTime(stage="train", seconds=10.0, made=1, adopted=0),
    ]
    first, second = time_figures(times)
    assert (first["share"], first["rows_per_second"], first["tokens_per_second"]) == (0.75, 2.0, 100.0)
    assert (second["share"], second["rows_per_second"], second["tokens_per_second"]) == (0.25, None, None)
    said = times_text(times).splitlines()
    assert [line.split()[0] for line in said] == ["stage", "generate", "train", "in"]
    assert said[1].split()[1:] == ["30.0", "75.0%", "4", "0", "2.0", "100"]


@pytest.mark.parametrize(("adopted", "expected"), [(0, 500), (1, None)])
def test_a_training_has_the_tokens_that_it_learned_unless_it_was_adopted(
    tmp_path: Path, adopted: int, expected: int | None
) -> None:
    where = layout(tmp_path)
    write_json(where.timings("train"), {"seconds": 5.0, "made": 1 - adopted, "adopted": adopted})
    [found] = read_times(where, ["train"], {"train": 500})
    assert found.tokens == expected
    assert json.dumps(time_figures([found]))
