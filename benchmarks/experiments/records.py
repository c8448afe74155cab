"""What the matrix writes: a row per run, planned and done."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from vcrd.records import Artefact

_KEYS = [
    ("run_id", pa.string()),
    ("domain", pa.string()),
    ("method", pa.string()),
    ("pretrain_seed", pa.int32()),
    ("distill_seed", pa.int32()),
]


def _schema(*more: tuple[str, pa.DataType]) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in (*_KEYS, *more)])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A method on a pool; with its shard's digest, all that decides the run beside the size and the preset."""

    run_id: str
    domain: str
    method: str
    pretrain_seed: int
    distill_seed: int
    method_version: int
    learning_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of it.

    Attributes:
        accuracy: Share of the `n` held-out problems that were answered rightly.
        step_validity: Share of the answers' steps that the oracle calls sound.
        optimiser_steps: As the trainer counted them.
        supervised_tokens: As they were served to it.
        generated_tokens: By teacher and student, for this method.
        seconds: Of one core, to train and to test; measured, so no two runs' are the same.
        pool_seconds: Of one core, to make what the runs of its pool share.
    """

    run_id: str
    domain: str
    method: str
    pretrain_seed: int
    distill_seed: int
    accuracy: float
    step_validity: float
    n: int
    optimiser_steps: int
    supervised_tokens: int
    generated_tokens: int
    learning_rate: float
    seconds: float
    pool_seconds: float


PLAN = Artefact("plan", PlannedRun, "run_id", _schema(("method_version", pa.int32()), ("learning_rate", pa.float64())))
RUNS = Artefact(
    "runs",
    Run,
    "run_id",
    _schema(
        ("accuracy", pa.float64()),
        ("step_validity", pa.float64()),
        ("n", pa.int32()),
        ("optimiser_steps", pa.int32()),
        ("supervised_tokens", pa.int64()),
        ("generated_tokens", pa.int64()),
        ("learning_rate", pa.float64()),
        ("seconds", pa.float64()),
        ("pool_seconds", pa.float64()),
    ),
)
GATHERED = RUNS.schema.append(pa.field("fingerprint", pa.string(), nullable=False))
"""Of finished runs that are committed: with the digest of all that decides one, by which another clone knows it."""
