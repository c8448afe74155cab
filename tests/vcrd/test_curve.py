"""The curve of a training: written, thinned and read back."""

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vcrd.training.curve import CURVE, POINTS, CurvePoint, read_curve, thinned, write_curve

VALUES = st.floats(0, 100).map(lambda value: float(f"{value:.6g}"))
LEARNED = st.integers(0, 10**9)


@given(st.lists(st.tuples(VALUES, VALUES, LEARNED, st.none() | VALUES, st.none() | VALUES), max_size=30))
def test_what_is_written_is_read_back(tmp_path_factory, rows: list[tuple]) -> None:
    folder = tmp_path_factory.mktemp("curve")
    names = ("learning_rate", "loss", "supervised_tokens", "nll", "kl")
    points = [CurvePoint(step=step, **dict(zip(names, row, strict=True))) for step, row in enumerate(rows)]
    write_curve(folder, points)
    assert read_curve(folder) == points


def test_a_model_from_elsewhere_has_none(tmp_path: Path) -> None:
    assert read_curve(tmp_path) == []
    assert not (tmp_path / CURVE).exists()


@given(st.lists(st.tuples(VALUES, LEARNED), min_size=1, max_size=3 * POINTS))
def test_thinning_keeps_the_tokens_the_mean_and_the_end(rows: list[tuple[float, int]]) -> None:
    points = [
        CurvePoint(step=step + 1, learning_rate=0.1, loss=loss, supervised_tokens=learned)
        for step, (loss, learned) in enumerate(rows)
    ]
    few = thinned(points)
    assert len(few) <= POINTS
    assert few[-1].step == len(rows)
    assert sum(point.supervised_tokens for point in few) == sum(learned for _, learned in rows)
    covered = [end.step - start for end, start in zip(few, [0, *(point.step for point in few)], strict=False)]
    mean = sum(point.loss * steps for point, steps in zip(few, covered, strict=True)) / len(rows)
    assert math.isclose(mean, sum(loss for loss, _ in rows) / len(rows), rel_tol=1e-9, abs_tol=1e-12)
