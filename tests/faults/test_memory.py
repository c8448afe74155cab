"""What `python -m benchmarks.faults memory` claims of a million rows, extrapolated from two smaller numbers of them."""

from pathlib import Path

from benchmarks.faults.grown import small_run
from benchmarks.faults.memory import BAR_GB, ROWS, Large

COMMANDS = ("prepare_problems", "calibrate_weights", "write_report", "validate", "fit_reliability")
"""Those that go through all shards in one process; the others hold a shard for each worker, however many there are."""
FEW, MANY, SHARD = 10_000, 50_000, 10_000


def test_memory_grows_too_slowly_for_a_million_rows_to_reach_the_bar(tmp_path: Path) -> None:
    small = small_run(tmp_path / "small").context.layout
    few, many = (
        {
            peak.command: peak.gigabytes
            for peak in Large(tmp_path / f"{rows}", small, rows, rows // SHARD).peaks(COMMANDS)
        }
        for rows in (FEW, MANY)
    )
    slopes = {name: max(many[name] - few[name], 0) / (MANY - FEW) for name in COMMANDS}
    expected = {name: round(many[name] + slopes[name] * (ROWS - MANY), 2) for name in COMMANDS}
    assert {name: gigabytes for name, gigabytes in expected.items() if gigabytes >= BAR_GB} == {}
