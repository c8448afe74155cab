"""How large the matrix is: its seeds, its problems, and what every run may spend."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vcrd.domains import DOMAINS

RESULTS = Path("benchmarks/results")
DEV_SEED = 0
"""The distillation seed of the pool that methods are tuned on; its held-out problems are the development set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One size of the matrix.

    Attributes:
        domains: Which are run.
        pretrain_seeds: Of student and teacher.
        distill_seeds: Of problems, samples and training.
        splits: Problems of a pool, by split; `test` are the same in all pools.
        optimiser_steps: Of every run.
        step_tokens: Supervised tokens of every optimiser step.
        generated_tokens: What teacher and student together may generate for a run.
        noisy_seeds: Distillation seeds of the runs that only the plot against validity noise needs.
        learning_rates: Each method is run with each of them; none: with the one it was tuned to.
    """

    name: str
    domains: tuple[str, ...]
    pretrain_seeds: tuple[int, ...]
    distill_seeds: tuple[int, ...]
    splits: dict[str, int]
    optimiser_steps: int
    step_tokens: int
    generated_tokens: int = 3_000_000
    noisy_seeds: tuple[int, ...] = ()
    learning_rates: tuple[float, ...] = ()


_SPLITS = {"train": 320, "prm": 40, "fit": 25, "judge": 5, "test": 1000}
SIZES = {
    size.name: size
    for size in (
        Size(
            name="full",
            domains=tuple(DOMAINS),
            pretrain_seeds=(1, 2),
            distill_seeds=(1, 2, 3, 4, 5),
            splits=_SPLITS,
            optimiser_steps=200,
            step_tokens=400,
            noisy_seeds=(1, 2),
        ),
        Size(
            name="dev",
            domains=tuple(DOMAINS),
            pretrain_seeds=(1,),
            distill_seeds=(DEV_SEED,),
            splits=_SPLITS,
            optimiser_steps=200,
            step_tokens=400,
            learning_rates=(3.125e-5, 6.25e-5, 1.25e-4, 2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3),
        ),
        Size(
            name="small",
            domains=("demo-math",),
            pretrain_seeds=(1,),
            distill_seeds=(1,),
            splits={"train": 96, "prm": 20, "fit": 15, "judge": 5, "test": 200},
            optimiser_steps=60,
            step_tokens=400,
            noisy_seeds=(1,),
        ),
    )
}


def workspace() -> Path:
    """Return the folder of models, pools and finished runs: VCRD_EXPERIMENTS, or one that git ignores."""
    return Path(os.environ.get("VCRD_EXPERIMENTS", ".vcrd/experiments"))
