"""The curve of a training: a small CSV beside the model, over optimiser steps, with no clock on it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

CURVE = "training_curve.csv"
POINTS = 200
"""So many points at most, however long the training."""
_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """What was learned since the last point.

    Attributes:
        step: Optimiser steps done.
        learning_rate: Of the last of them.
        loss: Mean over them.
        supervised_tokens: Learned in them, with repetitions.
        nll: Per unit of weight, in nats; None where the training has no such part.
        kl: Per unit of weight of the tokens that have a teacher's signal, in nats; None where there are none.
    """

    step: int
    learning_rate: float
    loss: float
    supervised_tokens: int
    nll: float | None = None
    kl: float | None = None


CURVE_COLUMNS = tuple(item.name for item in fields(CurvePoint))


def thinned(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Merge neighbours of one loss alone, equally many each, until there are no more than `POINTS`.

    >>> [point.step for point in thinned([CurvePoint(step=step, learning_rate=0.1, loss=1.0, supervised_tokens=2)
    ...                                   for step in range(1, 402)])][-2:]
    [399, 401]
    """
    every = max(-(-len(points) // POINTS), 1)
    return [
        replace(
            some[-1],
            loss=sum(point.loss for point in some) / len(some),
            supervised_tokens=sum(point.supervised_tokens for point in some),
        )
        for start in range(0, len(points), every)
        for some in [points[start : start + every]]
    ]


def write_curve(folder: Path, points: Sequence[CurvePoint]) -> None:
    """Write it beside a model."""
    with (folder / CURVE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, CURVE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for point in points:
            values = asdict(point)
            writer.writerow(
                {name: f"{value:.{_DIGITS}g}" if isinstance(value, float) else value for name, value in values.items()}
            )


def read_curve(folder: Path) -> list[CurvePoint]:
    """Read it back; empty where the model was not trained here."""
    if not (folder / CURVE).is_file():
        return []
    with (folder / CURVE).open(newline="", encoding="utf-8") as file:
        return [
            CurvePoint(
                step=int(row["step"]),
                learning_rate=float(row["learning_rate"]),
                loss=float(row["loss"]),
                supervised_tokens=int(row["supervised_tokens"]),
                nll=float(row["nll"]) if row["nll"] else None,
                kl=float(row["kl"]) if row["kl"] else None,
            )
            for row in csv.DictReader(file)
        ]
