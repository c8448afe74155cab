"""What decides the models and problems of a domain, beside its preset."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from itertools import islice
from pathlib import Path
from typing import get_args

from vcrd.domains import DOMAINS
from vcrd.domains.base import Role
from vcrd.io.files import fingerprint, sha256_file

SHIPPED = Path("data/models")
_SAMPLE = 50


@cache
def domain_digest(name: str) -> str:
    """Return a digest of a domain's shape, of its shipped models and of a sample of its texts."""
    domain = DOMAINS[name]
    roles: tuple[Role, ...] = get_args(Role)
    texts = {role: list(islice(domain.pretraining_texts(role, _SAMPLE, 0), _SAMPLE)) for role in roles}
    weights = sorted(SHIPPED.glob(f"{name}/*/*.safetensors"))
    return fingerprint(
        {
            "shape": asdict(domain.shape),
            "texts": [domain.texts, texts],
            "seeds": domain.seeds,
            "shipped": [[path.parent.name, sha256_file(path)] for path in weights],
        }
    )
