"""How much memory a million rows take in every stage that needs no model, and in `vcrd validate`.

Each command runs as a user would run it, with two workers, on the demo's artefacts grown to that many rows. Stages that
ask a model unless they are told otherwise are told: no reviews, no process reward model, rules alone. What is measured
is the largest sum of the resident memory of a command's processes; what they share counts for each.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.claims import ROOT, state
from benchmarks.faults.demo import MODELS
from benchmarks.faults.grown import Growth, small_run
from pipeline.layout import Layout
from pipeline.params import read_yaml, set_values
from vcrd.io.files import write_json
from vcrd.problems import LABEL_SPLITS
from vcrd.records import (
    COMPLETIONS,
    EVALUATION,
    EVIDENCE,
    LABELS,
    PROBLEMS,
    PROPOSALS,
    ROLLOUTS,
    STUDENT_REVIEWS,
    TEACHER_REVIEWS,
    VALIDITY,
    Artefact,
)

ROWS, SHARDS, BAR_GB = 1_000_000, 64, 1.5
_POLL_SECONDS = 0.05
_SET = (
    "problems.path=problems.jsonl",
    f"models.path={MODELS}",
    "run.workers=2",
    "reviews={by_teacher: false, by_student: false}",
    "prm.source=none",
)
_FIXED = ("pretrained", "models", "prm", "student", "reliability")
_PROMPT = "Natalia sold clips to {} of her friends in April, and then she sold half as many clips in May. " * 2

Splits = tuple[str, ...]
Inputs = Mapping[Artefact[Any], Splits]
TRAIN: Splits = ("train",)
LABEL: Splits = LABEL_SPLITS
TEST: Splits = ("test",)
_COUNTED: Mapping[Splits, Artefact[Any]] = {TRAIN: PROPOSALS, LABEL: LABELS, TEST: EVALUATION}
"""Of which artefact there are so many rows, in a run of problems of some splits; of the others as many as belong."""
_STEPS: Inputs = dict.fromkeys((PROBLEMS, ROLLOUTS, PROPOSALS), TRAIN)
_REVIEWS: Inputs = dict.fromkeys((STUDENT_REVIEWS, TEACHER_REVIEWS), TRAIN)
INPUTS: Mapping[str, Inputs] = {
    "prepare_models": {},
    "prepare_problems": {},
    "review_student_steps": _STEPS,
    "review_teacher_steps": _STEPS,
    "score_steps": _STEPS,
    "estimate_validity": {**_STEPS, EVIDENCE: TRAIN, COMPLETIONS: TRAIN},
    "calibrate_weights": {**_STEPS, VALIDITY: TRAIN},
    "train_prm": {**_STEPS, LABELS: LABEL},
    "write_report": {**_STEPS, **_REVIEWS, EVIDENCE: TRAIN, COMPLETIONS: TRAIN, LABELS: LABEL, EVALUATION: TEST},
    "validate": {},
    "fit_reliability": {LABELS: LABEL, EVIDENCE: LABEL},
}
"""What is grown for a command; `write_report` and `validate` also read what the commands before them wrote."""


@dataclass(frozen=True, slots=True)
class Peak:
    """What a command took.

    Attributes:
        command: A stage, or `validate`.
        gigabytes: Of resident memory at most, in all its processes.
        seconds: From its start to its end.
    """

    command: str
    gigabytes: float
    seconds: float


class Large:
    """A project in a folder of its own, with artefacts of at least so many rows."""

    def __init__(self, root: Path, small: Layout, rows: int, shards: int) -> None:
        """Write its parameters, and take over what does not grow."""
        self._root, self._small, self._rows, self._shards = root, small, rows, shards
        self._layout = Layout(small.preset, root / "data", root / ".vcrd")
        for name in _FIXED:
            shutil.copytree(small.folder(name), self._layout.folder(name))
        values = set_values(read_yaml(ROOT / "presets/demo-math.yaml"), (*_SET, f"run.num_shards={shards}"))
        write_json(root / "params.yaml", values)
        with (root / "problems.jsonl").open("w") as file:
            for number in range(rows):
                row = {"prompt": _PROMPT.format(number, number), "reference": str(number)}
                file.write(json.dumps(row) + "\n")

    def peaks(self, commands: Iterable[str] = INPUTS) -> Iterator[Peak]:
        """Run commands one after another, each on what it needs."""
        there: dict[Artefact[Any], Splits] = {}
        for name in commands:
            for kind, splits in INPUTS[name].items():
                if there.get(kind) != splits:
                    growth = Growth(self._small, self._layout, self._shards, splits)
                    growth.grow(kind, growth.copies(_COUNTED[splits], self._rows))
                    there[kind] = splits
            words = ["vcrd", name, str(self._layout.folder(""))] if name == "validate" else [f"stages.{name}"]
            most, seconds = measure([sys.executable, "-m", *words], self._root)
            yield Peak(name, most / 1e9, seconds)


def measure(command: list[str], folder: Path) -> tuple[int, float]:
    """Run a command; return the most bytes of resident memory that it and what it started held, and its seconds.

    Raises:
        RuntimeError: It failed; says what it said.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    most, started = 0, time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=said) as process:
            while process.poll() is None:
                most = max(most, _resident(process.pid))
                time.sleep(_POLL_SECONDS)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.read()[-2000:]}")
    return most, time.monotonic() - started


def _resident(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):  # they may end at any time
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def claims() -> Iterator[bool]:
    """A million rows through every stage that needs no model."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        small = small_run(root / "small").context.layout
        for peak in Large(root / "large", small, ROWS, SHARDS).peaks():
            sys.stderr.write(f"{peak}\n")
            yield state(f"GB that {peak.command} takes for {ROWS:,} rows", peak.gigabytes, BAR_GB, "lower", n=1)
