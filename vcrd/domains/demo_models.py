"""Make the demo's two models again: `python -m vcrd.domains.demo_models OUT_DIR` (a few minutes on two cores)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from vcrd.domains.demo_math import Role, build_tokenizer, pretraining_texts
from vcrd.io.progress import Progress
from vcrd.models import PretrainParams
from vcrd.training.pretrain import pretrain

N_TERMS = 4
TEXTS = 40_000
SEEDS = {"student": 1, "teacher": 2}
SHAPE = PretrainParams(
    hidden_size=128,
    layers=2,
    heads=4,
    intermediate_size=512,
    max_position=256,
    steps=700,
    batch_size=64,
    learning_rate=3e-3,
)


def make(output_dir: Path, role: Role) -> None:
    """Train one role's model into `output_dir / role`."""
    texts = pretraining_texts(role, N_TERMS, TEXTS, SEEDS[role])
    with Progress(role, SHAPE.steps, "step") as progress:
        pretrain(texts, build_tokenizer(), SHAPE, output_dir / role, seed=SEEDS[role], step=progress.advance)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)  # the result depends on it
    roles: tuple[Role, ...] = get_args(Role)
    for each in roles:
        if each in (sys.argv[2:] or roles):
            make(Path(sys.argv[1]), each)
