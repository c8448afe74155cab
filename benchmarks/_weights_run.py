"""What `benchmarks.weights` does in processes of their own, so that none sees another's memory; one JSON line each."""

from __future__ import annotations

import json
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks._weights_inputs import SHARDS, write_inputs
from benchmarks.claims import seconds
from pipeline.layout import Layout
from pipeline.params import RunParams, Settings
from pipeline.runner import run_whole
from pipeline.stage import Context
from stages.calibrate_weights import STAGE
from vcrd.calibration import CalibrationParams
from vcrd.examples.windows import columns_of
from vcrd.io.files import fsync_path
from vcrd.io.parquet import read_batches, shard_files, table_writer
from vcrd.records import PROPOSALS, ROLLOUTS, TRAINING, VALIDITY
from vcrd.weights import WeightParams

_KIB = 1024


def context_of(root: Path, signal: Any) -> Context:
    """Return a run in `root`, as a preset would give it."""
    calibration = CalibrationParams(
        own_steps="when_better", strength="validity", tau=1.0, rho=0.25, shuffle_seed=0, value_pseudocount=None
    )
    weights = WeightParams(w_max=4.0, broken_prefixes="drop", max_length=2048, teacher_signal=signal, keep_mass=None)
    sections = {"calibration": calibration, "weights": weights}
    plain = {"calibration": {}, "weights": {"teacher_signal": signal}}
    run = RunParams(num_shards=SHARDS, workers=1, max_reject_share=0.5)
    layout = Layout("weights", root / "data", root / "hidden")
    return Context(Settings("weights", 1, run, sections, plain), layout, layout)


def make(root: Path, rollouts: str) -> dict[str, Any]:
    """Write the inputs of so many rollouts."""
    write_inputs(context_of(root, "plain").layout, int(rollouts), 1)
    return {}


def peak(root: Path, signal: str) -> dict[str, Any]:
    """Run the stage once; return what it took at most, and what its imports had taken before."""
    before = _peak_mib()
    context = context_of(root, signal)
    shutil.rmtree(context.layout.scratch(STAGE.name), ignore_errors=True)
    took = seconds(lambda: run_whole(STAGE, context))
    most = _peak_mib()
    measures = json.loads(context.layout.metrics(STAGE.name).read_text())
    files = shard_files(context.layout.folder(TRAINING.name))
    tokens = sum(_tokens(file) for file in files)
    return {"imports": before, "peak": most, "tokens": tokens, "seconds": took, "rows": measures["rows"]["written"]}


def race(root: Path, signal: str, rounds: str) -> dict[str, Any]:
    """Run the stage and the bare reading and writing of its columns, alternating; return the seconds of both."""
    context = context_of(root, signal)
    times: dict[str, list[float]] = {"stage": [], "bare": []}
    for _ in range(int(rounds)):
        shutil.rmtree(context.layout.scratch(STAGE.name), ignore_errors=True)
        times["stage"].append(seconds(lambda: run_whole(STAGE, context)))
        times["bare"].append(bare(context, root / "bare"))
    return times


def bare(context: Context, out: Path) -> float:
    """Read the columns that the stage reads and write those that it wrote; return the seconds of both.

    Getting at what is to be written, the stage's own output, is not counted.
    """
    took = 0.0
    for kind in (ROLLOUTS, PROPOSALS, VALIDITY):
        for file in shard_files(context.layout.folder(kind.name)):
            took += seconds(partial(_read, file, columns_of(wide=True)[kind.name]))
    for file in shard_files(context.layout.folder(TRAINING.name)):
        with pq.ParquetFile(file) as source, table_writer(out / file.name, source.schema_arrow) as writer:
            for group in range(source.num_row_groups):
                took += seconds(partial(writer.write, source.read_row_group(group)))
            # The last row group waits for another one, until the end.
            took += seconds(writer.flush)
            took += seconds(partial(fsync_path, next(out.glob(".tmp-*"))))
    return took


def _read(file: Path, columns: Sequence[str]) -> None:
    for _ in read_batches(file, columns, 2048):
        pass


def _tokens(file: Path) -> int:
    return sum(len(batch["input_ids"].flatten()) for batch in read_batches(file, ["input_ids"]))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB


if __name__ == "__main__":
    work: dict[str, Callable[..., dict[str, Any]]] = {"make": make, "peak": peak, "race": race}
    sys.stdout.write(json.dumps(work[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])) + "\n")
