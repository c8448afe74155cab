"""What a report is made from, drawn in a moment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tests.vcrd.training_rows import demo_rows
from vcrd.examples import BINS, SignalCounts
from vcrd.io.manifest import FileEntry, Manifest
from vcrd.records import ARTEFACTS, TRAINING
from vcrd.report import Findings
from vcrd.report.tokens import StageTokens
from vcrd.training.curve import CurvePoint

STAGES = ("prepare_problems", "generate_rollouts", "propose_steps", "evaluate_student")
PROPOSERS = ("student", "teacher")
REJECTS: dict[str, dict[str, int]] = {"propose_steps": {"empty_step": 3, "unfinished_step": 4}}


def make_findings(text: Callable[[str], str] = str, **changes: object) -> Findings:
    """Return findings of a run, every text of a model or a user among which goes through `text`."""
    rng = np.random.default_rng(3)
    rows = demo_rows(12)
    steps = [
        {"student_step": text(f"a {index}\n"), "teacher_step": text(f"b {index}\n"), "target": PROPOSERS[index % 2]}
        for index in range(len(rows))
    ]
    examples = TRAINING.parse([{**row, **step} for row, step in zip(rows, steps, strict=True)])
    validities = {name: rng.integers(0, 900, BINS) for name in PROPOSERS}
    weights = rng.integers(0, 4000, BINS)
    signal = SignalCounts(
        w_max=4.0,
        rows=int(validities["student"].sum()),
        tokens=int(weights.sum()),
        input_tokens=10 * int(weights.sum()),
        weight=float(weights.sum()),
        zero=int(weights[0] // 2),
        targets=Counter(student=500, teacher=700),
        validities=validities,
        weights=weights,
    )
    made = Findings(
        preset=text("made-run"),
        seed=1,
        manifests=[_manifest(stage, artefact.name) for stage, artefact in zip(STAGES, ARTEFACTS, strict=False)],
        evaluation={
            "before": _accuracy(0.391, 0.808),
            "after": _accuracy(0.858, 0.968),
            "teacher": _accuracy(0.505, 0.864),
        },
        judged=_judged(text),
        prm=text("trained on 926 of 1592 steps"),
        signal=signal,
        tokens=[
            StageTokens(stage="generate_rollouts", prompt=24_960, generated=60_516),
            StageTokens(stage="review_student_steps", prompt=215_973, scored=50_427),
            StageTokens(stage="train_student", prompt=344_964, trained=80_514),
        ],
        curves={
            "student": [_point(step) for step in range(2, 402, 2)],
            "prm": [_point(step, parts=False) for step in (1, 2, 3)],
        },
        examples=examples,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def _manifest(stage: str, artefact: str) -> Manifest:
    rejects = REJECTS.get(stage, {})
    entry = FileEntry(
        file="part-00000.parquet",
        sha256="",
        fingerprint="",
        rows=960,
        expected=960 + sum(rejects.values()),
        rejects=rejects,
    )
    return Manifest(artefact=artefact, stage=stage, stage_version=1, provenance={}, files=[entry])


def _accuracy(value: float, steps: float) -> dict[str, float]:
    return {"n": 1000, "accuracy": value, "low": value - 0.03, "high": value + 0.025, "step_validity": steps}


def _judged(text: Callable[[str], str]) -> dict[str, object]:
    measure = {"value": 0.034, "low": 0.012, "high": 0.044}
    unknown = {"value": None, "low": None, "high": None}
    rows = [
        {"bin": index, "n": 31, "lowest": low, "highest": low + 0.1, "mean_probability": low + 0.05, "share_sound": low}
        for index in range(10)
        for low in [index / 10]
    ]
    estimates = {
        "local_validity": {"n": 311, "brier": measure, "ece": measure, "auroc": measure},
        text("score_mine"): {"n": 0, "brier": unknown, "ece": unknown, "auroc": unknown},
    }
    return {"fitted": True, "n": 311, "estimates": estimates, "diagram": rows}


def _point(step: int, *, parts: bool = True) -> CurvePoint:
    loss = 0.05 + math.exp(-step / 100)
    known = {"nll": loss * 1.1, "kl": None if step % 3 == 0 else loss * 0.7} if parts else {}
    return CurvePoint(step=step, learning_rate=5e-4 * (1 - step / 500), loss=loss, supervised_tokens=756, **known)
