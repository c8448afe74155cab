"""How long stages took: kept apart from what they write, shown and never hashed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.layout import Layout
from vcrd.io.files import read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """The last run of one stage that made anything.

    Attributes:
        stage: Its name.
        seconds: On the clock, loading of models and checks included.
        made: Shards that it made (1 of a stage that runs as a whole).
        adopted: Shards that it found finished.
        rows: In what it made.
        tokens: That an engine answered, or that a training learned, in what it made; None where nobody counted.
    """

    stage: str
    seconds: float
    made: int
    adopted: int
    rows: int = 0
    tokens: int | None = None

    def figures(self, total: float) -> dict[str, Any]:
        """Return its values with the rates, and its share of `total` seconds."""
        return {
            "stage": self.stage,
            "seconds": self.seconds,
            "share": round(self.seconds / total, 4) if total else 0.0,
            "made": self.made,
            "adopted": self.adopted,
            "rows_per_second": self._rate(self.rows),
            "tokens_per_second": self._rate(self.tokens),
        }

    def _rate(self, amount: int | None) -> float | None:
        return round(amount / self.seconds, 1) if amount and self.seconds else None


def read_times(layout: Layout, stages: Iterable[str], learned: Mapping[str, int | None]) -> list[StageTime]:
    """Read what is known of some stages.

    Args:
        layout: Of the run.
        stages: Names, in the order to return them; one that never ran here is left out.
        learned: Tokens of stages that have no engine, which count where the stage made all that it wrote.

    Raises:
        SchemaError: A file is not what a stage writes there.
    """
    found = []
    for name in stages:
        if layout.timings(name).is_file():
            values = read_json(layout.timings(name))
            values = values.pop("earlier", values)
            if values.get("tokens") is None and not values.get("adopted"):
                values["tokens"] = learned.get(name)
            found.append(StageTime(stage=name, **values))
    return found


def time_figures(times: Sequence[StageTime]) -> list[dict[str, Any]]:
    """Return a row per stage, for scripts."""
    total = sum(item.seconds for item in times)
    return [item.figures(total) for item in times]


def times_text(times: Sequence[StageTime]) -> str:
    """Return a table for a terminal."""
    lines = [f"{'stage':<20}{'seconds':>9}{'share':>7}{'made':>6}{'adopted':>9}{'rows/s':>10}{'tokens/s':>10}"]
    for item in time_figures(times):
        rates = "".join(f"{_said(item[name]):>10}" for name in ("rows_per_second", "tokens_per_second"))
        counts = f"{item['made']:>6}{item['adopted']:>9}"
        lines.append(f"{item['stage']:<20}{item['seconds']:>9.1f}{item['share']:>7.1%}{counts}{rates}")
    lines.append(f"{'in all':<20}{sum(item.seconds for item in times):>9.1f}")
    return "\n".join(lines)


def _said(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"
