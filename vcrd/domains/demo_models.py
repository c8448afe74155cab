"""Make the models of a demo again: `python -m vcrd.domains.demo_models OUT_DIR [DOMAIN] [ROLE]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from vcrd.domains import DOMAINS
from vcrd.domains.base import DemoDomain, Role
from vcrd.io.progress import Progress
from vcrd.training.pretrain import pretrain


def make(domain: DemoDomain, role: Role, output_dir: Path, seed: int | None = None) -> None:
    """Train one role's model into `output_dir / role`; by default the one that ships with the project."""
    seed = domain.seeds[role] if seed is None else seed
    texts = domain.pretraining_texts(role, domain.texts, seed)
    with Progress(f"{domain.name} {role}", domain.shape.steps, "step") as progress:
        pretrain(texts, domain.build_tokenizer(), domain.shape, output_dir / role, seed=seed, step=progress.advance)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)  # the result depends on it
    roles: tuple[Role, ...] = get_args(Role)
    for name, each in DOMAINS.items():
        for one in roles:
            if name in (sys.argv[2:3] or DOMAINS) and one in (sys.argv[3:] or roles):
                make(each, one, Path(sys.argv[1]) / name)
