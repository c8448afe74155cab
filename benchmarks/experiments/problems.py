"""The problems of a pool: its own to learn from, and held-out ones that no pool learns from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.experiments.sizes import DEV_SEED, Size
from vcrd.domains.base import DemoDomain
from vcrd.errors import ConfigError
from vcrd.io.sources import read_card

_TEST, _DEV, _POOL = 9_000_001, 9_000_002, 9_100_000


def pool_problems(domain: DemoDomain, size: Size, distill_seed: int) -> list[dict[str, str]]:
    """Return rows of prompt, reference and split.

    The held-out problems are those of the test set in every pool but the development pool, which has its own; neither
    set is ever among the problems of a pool.

    Raises:
        ConfigError: The domain has not enough distinct problems.
    """
    held: dict[str, list[tuple[str, str]]] = {}
    count = size.splits["test"]
    for name, seed in (("test", _TEST), ("dev", _DEV)):
        taken = {prompt for pairs in held.values() for prompt, _ in pairs}
        held[name] = _distinct(domain, count, seed, taken)
    taken = {prompt for pairs in held.values() for prompt, _ in pairs}
    own = [split for split, number in size.splits.items() if split != "test" for _ in range(number)]
    made = zip(own, _distinct(domain, len(own), _POOL + distill_seed, taken), strict=True)
    tested = held["dev" if distill_seed == DEV_SEED else "test"]
    return [_row(pair, split) for split, pair in made] + [_row(pair, "test") for pair in tested]


def _distinct(domain: DemoDomain, count: int, seed: int, taken: set[str]) -> list[tuple[str, str]]:
    found = list(islice(_fresh(domain, count + len(taken), seed, taken), count))
    if len(found) < count:
        raise ConfigError(f"{domain.name} has not {count} problems beside {len(taken)} others; lower the splits")
    return found


def _fresh(domain: DemoDomain, count: int, seed: int, taken: set[str]) -> Iterator[tuple[str, str]]:
    card: dict[str, Any] = {**read_card(Path(f"data/inputs/{domain.name}.yaml")), "count": count, "seed": seed}
    pairs = domain.generate_problems(*(card[name] for name in domain.arguments))
    return (pair for pair in pairs if pair[0] not in taken)


def _row(pair: tuple[str, str], split: str) -> dict[str, str]:
    return {"prompt": pair[0], "reference": pair[1], "split": split}
