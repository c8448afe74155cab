"""From finished runs to what is committed: Parquet, the README's table, plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from benchmarks.experiments.plots import draw_all
from benchmarks.experiments.records import GATHERED, RUNS, Run
from benchmarks.experiments.sizes import RESULTS, Size, workspace
from benchmarks.experiments.table import markdown, replaced
from benchmarks.experiments.weights import weight_histograms
from vcrd.errors import ConfigError
from vcrd.io.files import write_text
from vcrd.io.parquet import as_row, read_table, table_from_rows, write_table

PARQUET, TABLE = "quality.parquet", "quality.md"
README, IMAGES = Path("README.md"), Path("docs/images")


def read_results(folder: Path = RESULTS) -> dict[str, Run]:
    """Read the committed runs, by fingerprint."""
    table = read_table(folder / PARQUET, GATHERED)
    runs = RUNS.parse(table.select(RUNS.schema.names).to_pylist())
    return dict(zip(table["fingerprint"].to_pylist(), runs, strict=True))


def gathered(runs: Mapping[str, Run]) -> pa.Table:
    """Return the table of runs, by id, that is committed."""
    ordered = sorted(runs.items(), key=lambda item: item[1].run_id)
    rows = [{**as_row(run), "fingerprint": fingerprint} for fingerprint, run in ordered]
    return table_from_rows(rows, GATHERED, PARQUET)


def write_report(size: Size, runs: Mapping[str, Run]) -> None:
    """Write what was found: of the whole matrix where it is committed, of a smaller one beside its runs.

    Raises:
        ConfigError: No run is finished.
    """
    if not runs:
        raise ConfigError("no run is finished; make some with: make experiments")
    whole = size.name == "full"
    folder, images = (RESULTS, IMAGES) if whole else (workspace() / "results" / size.name,) * 2
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / PARQUET, gathered(runs))
    ordered = sorted(runs.values(), key=lambda run: run.run_id)
    text = markdown(ordered, size.domains)
    write_text(folder / TABLE, text + "\n")
    draw_all(ordered, size.domains, weight_histograms(size, ordered), images)
    if whole and (filled := replaced(README.read_text(encoding="utf-8"), text)) != README.read_text(encoding="utf-8"):
        write_text(README, filled)
